"""A search that may become ours: whose turn it is among the optimizers, and where within one to look next.

A Gaussian process over all trials of all optimizers (`process`) tells what each place is worth; pruned trials count as
what they would have come to (`forecast`). Within an optimizer, the next configuration is the one of the greatest
expected improvement on that optimizer's own best (Jones et al. 1998, J. Global Optimization 13:455).
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import optuna
import process
from coordinates import Array, Coordinates, Derived, value_at
from forecast import Ahead, Forecast
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import norm, qmc

from optitune.pruner import OPTIMIZER

Allocation = Literal["equal", "racing", "free"]

MOST = 150
"""How many trials are learned from: the best half of them and the latest; what a draw costs grows with them."""

SPREAD = 256
"""Candidates all over an optimizer's space."""

LEADERS, STEPS, NEAR = 4, (0.15, 0.05), 16
"""Candidates near an optimizer's best trials: around how many, how far away, how many of each."""

DRAWS = 256
"""How often it is drawn whose best may be the best, to say how probable that is."""

UNDECIDED = (TrialState.RUNNING, TrialState.WAITING)


class JointSampler(BaseSampler):
    """Draws for several optimizers that compete in one study, each with hyperparameters of its own or shared ones.

    The optimizer is a categorical parameter that is suggested first. In a study without one, all trials are of one
    kind. Draws follow from the seed and the trial's number, and from the trials before it.

    Args:
        seed: of everything drawn.
        allocation: `equal` gives every optimizer the same number of training steps; `racing` gives none to those that
            are the best with a probability below `error`, shared out among them; `free` goes where the greatest
            improvement on the best of all is expected.
        ideal: the value that cannot be passed, where there is one; see `forecast.height`.
        by: the parameter that names the optimizer.
        initial: trials of an optimizer that are spread evenly before any is chosen by what is known.
        derived: further coordinates that a model sees of parameters.
        error: see `allocation`.
        ahead: see `forecast.Forecast`.
    """

    def __init__(
        self,
        seed: int = 0,
        allocation: Allocation = "equal",
        ideal: float | None = None,
        by: str = OPTIMIZER,
        initial: int = 2,
        derived: Derived | None = None,
        error: float = 0.05,
        ahead: Ahead | None = None,
    ) -> None:
        self._seed = seed
        self._allocation = allocation
        self._ideal = ideal
        self._by = by
        self._initial = initial
        self._derived = derived
        self._error = error
        self._ahead = ahead
        self._drawn: dict[str, Any] = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Choose the optimizer; the space is what its trials have had so far."""
        self._rng = np.random.default_rng((self._seed, trial.number))
        known = _Known(study, trial, self._by)
        if not known.spaces:
            return {}
        name = self._turn(known)
        self._drawn = self._drawn_for(known, name)
        return {parameter: known.distributions[parameter] for parameter in self._drawn}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {name: self._drawn[name] for name in search_space}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """What no trial before has had."""
        if param_name == self._by and isinstance(param_distribution, CategoricalDistribution):
            return param_distribution.choices[trial.number % len(param_distribution.choices)]
        generator = np.random.default_rng((self._seed, trial.number, *param_name.encode()))
        return value_at(param_distribution, float(generator.random()))

    def _turn(self, known: "_Known") -> Any:
        """The optimizer that has been given the least so far, of those that may still win."""
        competing = known.optimizers
        if self._allocation == "free" and (name := self._freely(known)) is not None:
            return name
        if self._allocation == "racing" and (chances := self._chances(known)):
            competing = [name for name in competing if chances[name] >= self._error / (len(competing) - 1)]
        return min(competing, key=lambda name: known.spent[name])

    def _freely(self, known: "_Known") -> Any:
        """The optimizer of the greatest expected improvement on the best of all; None while too little is known."""
        if min(known.counts.values()) == 0 or (model := self._model(known)) is None:
            return None
        best = max(model.best_of(name) for name in known.optimizers)
        return max(
            known.optimizers,
            key=lambda name: improvement(*model.worth(name, self._candidates(known, name, model)), best).max(),
        )

    def _drawn_for(self, known: "_Known", name: Any) -> dict[str, Any]:
        """The next configuration of an optimizer; only its name where nothing is known of its space."""
        chosen = {self._by: name} if known.splits else {}
        space = known.spaces.get(name)
        if not space:
            return chosen
        begun = known.counts[name]
        if begun < self._initial or (model := self._model(known)) is None:
            # one sequence for each optimizer, so that its points keep apart from each other
            sequence = qmc.Sobol(len(space), rng=np.random.default_rng((self._seed, known.optimizers.index(name))))
            if begun:
                sequence.fast_forward(begun)
            return {**chosen, **known.parameters(name, sequence.random()[0])}
        points = self._candidates(known, name, model)
        gain = improvement(*model.worth(name, points), model.best_of(name))
        return {**chosen, **known.parameters(name, points[int(np.argmax(gain))])}

    def _candidates(self, known: "_Known", name: Any, model: "_Model") -> Array:
        """Points all over an optimizer's cube, and near its best trials."""
        size = len(known.spaces[name])
        spread = qmc.Sobol(size, rng=self._rng).random(SPREAD)
        near = [
            leader + step * self._rng.standard_normal((NEAR, size)) * (self._rng.random((NEAR, size)) < 0.7)
            for leader in model.leaders(name)
            for step in STEPS
        ]
        return np.clip(np.vstack([spread, *near]), 0.0, 1.0 - 1e-9)

    def _chances(self, known: "_Known") -> dict[Any, float]:
        """How probable it is of each optimizer that its best is the best of all; nothing while too little is known."""
        if min(known.counts[name] for name in known.optimizers) < self._initial or len(known.optimizers) < 2:
            return {}
        if (model := self._model(known)) is None:
            return {}
        bests = []
        for name in known.optimizers:
            points = np.vstack([self._candidates(known, name, model)[::2], model.places(name)])
            mean, covariance = model.joint(name, points)
            root = np.linalg.cholesky(covariance + 1e-6 * np.eye(len(mean)))
            bests.append((mean + self._rng.standard_normal((DRAWS, len(mean))) @ root.T).max(axis=1))
        wins = np.bincount(np.argmax(bests, axis=0), minlength=len(bests)) / DRAWS
        return dict(zip(known.optimizers, wins.tolist(), strict=True))

    def _model(self, known: "_Known") -> "_Model | None":
        if known.model is None and known.told >= 3:
            known.model = _Model(known, self._ideal, self._derived, self._ahead)
        return known.model


def improvement(mean: Array, deviation: Array, best: float) -> Array:
    """By how much places are expected to surpass the best, (n,)."""
    above = (mean - best) / deviation
    return np.asarray(deviation * (above * norm.cdf(above) + norm.pdf(above)))


class _Known:
    """What the trials before one tell, read once.

    Attributes:
        optimizers: all that compete, as far as is known.
        splits: whether there is a parameter that names them.
        spaces: of each that had a trial, the parameters that any of its trials had.
        distributions: by parameter, that of the latest trial.
        spent: in whole trainings, by optimizer; a trial under way counts as a whole one.
        counts: of trials, by optimizer.
        told: trials that ended.
    """

    def __init__(self, study: optuna.Study, trial: FrozenTrial, by: str) -> None:
        self.study = study
        self.by = by
        self.trials = [
            each
            for each in study.get_trials(deepcopy=False)
            if each.number != trial.number and each.state != TrialState.FAIL and each.distributions
        ]
        self.model: _Model | None = None
        self.distributions: dict[str, BaseDistribution] = {}
        self.spaces: dict[Any, dict[str, BaseDistribution]] = {}
        for each in self.trials:
            self.distributions |= each.distributions
            space = self.spaces.setdefault(self.of(each), {})
            space |= {name: one for name, one in each.distributions.items() if name != by}
        choice = self.distributions.get(by)
        self.splits = isinstance(choice, CategoricalDistribution)
        self.optimizers: list[Any] = list(choice.choices) if isinstance(choice, CategoricalDistribution) else [None]
        longest = max((each.last_step or 0 for each in self.trials), default=0) or 1
        self.spent = dict.fromkeys(self.optimizers, 0.0)
        self.counts = dict.fromkeys(self.optimizers, 0)
        for each in self.trials:
            done = 1.0 if each.state in UNDECIDED or each.last_step is None else each.last_step / longest
            self.spent[self.of(each)] += done
            self.counts[self.of(each)] += 1
        self.told = sum(each.state not in UNDECIDED for each in self.trials)

    def of(self, trial: FrozenTrial) -> Any:
        return trial.params.get(self.by)

    def parameters(self, name: Any, point: Array) -> dict[str, Any]:
        space = self.spaces[name].items()
        return {key: value_at(each, place) for (key, each), place in zip(space, point.tolist(), strict=True)}


class _Model:
    """A Gaussian process over the trials of a study."""

    def __init__(self, known: _Known, ideal: float | None, derived: Derived | None, ahead: Ahead | None) -> None:
        forecast = Forecast(known.study, known.trials, ideal, known.by, ahead)
        ended = [(trial, forecast(trial)) for trial in known.trials if trial.state not in UNDECIDED]
        if len(ended) > MOST:
            best = sorted(ended, key=lambda each: -each[1].height)[: MOST // 2]
            chosen = {trial.number for trial, _ in best}
            latest = [each for each in ended if each[0].number not in chosen][len(chosen) - MOST :]
            ended = best + latest
        self._coordinates = Coordinates(known.spaces, derived)
        self._index = {name: number for number, name in enumerate(known.optimizers)}
        self._names = [known.of(trial) for trial, _ in ended]
        self._points = [self._coordinates.places(known.of(trial), trial.params) for trial, _ in ended]
        heights = np.array([each.height for _, each in ended])
        values, unit = standardised(heights)
        unsure = np.array([each.variance for _, each in ended]) / unit**2
        self._values = values
        x, of = self._seen(self._names, self._points)
        self._posterior = process.fit(x, of, values, unsure, self._coordinates.lengths())
        running = [trial for trial in known.trials if trial.state in UNDECIDED]
        if running:
            # other workers' trials count as if they came out as expected, so that nobody draws the same again
            names = [known.of(trial) for trial in running]
            xs, ofs = self._seen(
                names,
                [self._coordinates.places(name, trial.params) for name, trial in zip(names, running, strict=True)],
            )
            self._posterior = self._posterior.with_more(xs, ofs)

    def _seen(self, names: Sequence[Any], points: Sequence[Array]) -> tuple[Array, Any]:
        x = np.vstack([self._coordinates.columns(name, point[None]) for name, point in zip(names, points, strict=True)])
        return x, np.array([self._index[name] for name in names])

    def _asked(self, name: Any, points: Array) -> tuple[Array, Any]:
        return self._coordinates.columns(name, points), np.full(len(points), self._index[name])

    def worth(self, name: Any, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of what points of an optimizer's cube come to, (n,) each."""
        return self._posterior(*self._asked(name, points))

    def joint(self, name: Any, points: Array) -> tuple[Array, Array]:
        """Mean, (n,), and covariance, (n, n), of the same."""
        return self._posterior.joint(*self._asked(name, points))

    def places(self, name: Any) -> Array:
        """The points of an optimizer's trials, (n, parameters)."""
        return np.array([point for each, point in zip(self._names, self._points, strict=True) if each == name])

    def best_of(self, name: Any) -> float:
        """What the best of an optimizer's trials is worth, its luck taken off."""
        if name not in self._names:
            return float(self._values.min())
        return float(self.worth(name, self.places(name))[0].max())

    def leaders(self, name: Any) -> Array:
        """The points of an optimizer's best trials, (`LEADERS` or fewer, parameters)."""
        own = [number for number, each in enumerate(self._names) if each == name]
        ranked = sorted(own, key=lambda number: -self._values[number])[:LEADERS]
        return np.array([self._points[number] for number in ranked])


def standardised(heights: Array) -> tuple[Array, float]:
    """Heights about their median in units of what the better half is spread by, and that unit.

    How bad the worse half is matters less than how good the better one: it is pulled in to where a normal
    distribution has its ranks (as the half-rank warping of Song et al. 2024, arXiv:2408.11527).
    """
    middle = float(np.median(heights))
    unit = float(np.sqrt(np.mean((heights[heights >= middle] - middle) ** 2))) or 1.0
    values = (heights - middle) / unit
    ranks = (np.argsort(np.argsort(heights)) + 0.5) / len(heights)
    return np.where(heights < middle, np.maximum(values, norm.ppf(ranks)), values), unit
