"""Samplers: ours, which shares trials among optimizers and draws Sobol points, and Optuna's by name."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import log
from types import MappingProxyType
from typing import Any

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from torch.quasirandom import SobolEngine

from optitune.sampling.allocation import UNDECIDED, able, competitors, turn
from optitune.sampling.forecast import OPTIMIZER, Expected, Forecast
from optitune.sampling.model import Axis, Observed, is_lr
from optitune.sampling.proposal import WIDENED, Proposals
from optitune.sampling.repeats import is_due, next_repeat

AT_A_TIME = 64
"""Points of a sequence that are generated at once."""

EXHAUSTED = 1_000
"""Points that were all drawn before, after which a space counts as used up and points repeat."""

FEWEST = 6
"""Ended trials that the model needs."""

TO_THE_BEST = 0.5
"""Share of the trials that go to the optimizer whose candidates promise most to improve on the best of all; the others
go to the one that has cost least, so that each has at least about half of an equal share."""

FILLING = 0.5
"""Number of an optimizer's trials at which every other one is a space-filling point; that share shrinks."""

Space = Mapping[str, BaseDistribution]
"""Distributions by parameter."""


class FairSampler(BaseSampler):
    """An Optuna sampler that shares the trials of a study among several optimizers, and tunes each.

    It begins with the configurations that are to be tried first. Then half of the trials go to the optimizer whose
    trials have cost least so far, in training steps or in steps times `costs`, and half to the one that promises most,
    for its cost, to improve on the best of all. The configuration is the one that a model of all trials expects to
    improve most on that optimizer's best (`optitune.sampling.model`, `optitune.sampling.proposal`), or, ever more
    rarely, the next point of that optimizer's own scrambled Sobol sequence (Owen 1998, J. Complexity 14:466), which
    covers any few hyperparameters evenly. Learning rates start near the known-good ones, where there are any.
    docs/search-quality.md compares it with other samplers.

    The optimizer must be a categorical parameter that is suggested first; a study without one has one sequence. Draws
    follow from the seed and the earlier trials: a study that is resumed continues as if it had not been stopped, and
    no two workers draw the same.

    Args:
        seed: of all sequences.
        ideal: best possible value of the metric; None where there is none.
        by: name of the parameter that holds the optimizer.
        known_good: parameters by name of settings that are known to work, one set for each optimizer; learning rates
            start near theirs.
        first_tries: parameters by name for trial `first`, `first` + 1, ...; None for `known_good`.
        first: number of the first trial that is drawn; those before came from elsewhere.
        spaces: distributions by optimizer and parameter, where known in advance; by default those of earlier trials.
        repeats: whether some trials repeat the best ones and the best of the known-good settings
            (`optitune.sampling.repeats`); for objectives that train a trial with the parameters of an earlier one from
            another seed.
        costs: of a training step of each optimizer, in any unit, so that every one gets the same share of the cost
            rather than of the steps; 1 where an optimizer is not named.

    Example:
        >>> study = optuna.create_study(sampler=optitune.FairSampler(seed=0))
        >>> def objective(trial):
        ...     name = trial.suggest_categorical("optimizer", ["sgd", "adam"])
        ...     return train(name, trial.suggest_float("lr", 1e-4, 1e-1, log=True))
    """

    def __init__(
        self,
        seed: int = 0,
        ideal: float | None = None,
        by: str = OPTIMIZER,
        known_good: Sequence[Mapping[str, Any]] = (),
        spaces: Mapping[Any, Space] | None = None,
        first: int = 0,
        repeats: bool = False,
        costs: Mapping[Any, float] | None = None,
        first_tries: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self._seed = seed
        self._costs = costs
        self._ideal = ideal
        self._by = by
        self._known_good = known_good
        tries = known_good if first_tries is None else first_tries
        self._first_tries = {first + place: parameters for place, parameters in enumerate(tries)}
        self._spaces = spaces or {}
        self._drawn: dict[int, dict[str, Any]] = {}
        self.repeats = repeats

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Choose the trial's optimizer and configuration; the distributions that they are drawn from."""
        if trial.number in self._first_tries:
            return {}
        others = [each for each in study.get_trials(deepcopy=False) if each.number != trial.number]
        before = [each for each in others if each.number < trial.number]
        choices = self._choices(before)
        if choices is None:
            return {}
        maximize = study.direction == StudyDirection.MAXIMIZE
        if (
            self.repeats
            and is_due(trial.number)
            and (again := next_repeat(before, self._known_good, maximize)) is not None
        ):
            self._drawn[trial.number] = dict(again.params)
            return dict(again.distributions)
        generator = np.random.default_rng((self._seed, trial.number))
        proposals = self._proposals(before, choices, maximize, generator)
        if self._by in trial.params:
            # one that was drawn before and has to be trained again stays with its optimizer
            name = trial.params[self._by]
        else:
            found = competitors(before, choices, self._by, self._costs)
            if proposals is not None and generator.random() < TO_THE_BEST:
                name = self._most_promising([each.name for each in able(found)], proposals)
            else:
                name = turn(found)
        # what failed is not drawn again either: it would fail again
        own = [each for each in before if each.params.get(self._by) == name]
        space = self._spaces_of(before, [name])[name]
        # others' trials whose parameters are about to be drawn, perhaps from the same sequence
        undrawn = sum(
            each.state in UNDECIDED
            and each.params.get(self._by, name) == name
            and not space.keys() & each.params.keys()
            for each in before
        )
        had = [each.params for each in own]
        filling = proposals is None or generator.random() < FILLING / (FILLING + len(own))
        # of those that began later, some may have drawn already
        alike = [each.params for each in others if each.params.get(self._by) == name]
        fresh = (
            point
            for point in ([] if filling or proposals is None else proposals.of(name)[1])
            # a trial need not have all: some depend on others
            if not any(all(params[key] == value for key, value in point.items() if key in params) for params in alike)
        )
        self._drawn[trial.number] = next(fresh, {}) or self._next(name, space, had, choices.index(name), undrawn)
        if choices == [None]:
            return dict(space)
        self._drawn[trial.number][self._by] = name
        return {self._by: CategoricalDistribution(choices), **space}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The configuration that `infer_relative_search_space` has chosen.

        Args:
            study: of the trial.
            trial: to be given parameters.
            search_space: distributions by parameter.
        """
        return self._drawn.pop(trial.number, {})

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The configurations to try first, and random values of parameters that no earlier trial had.

        Args:
            study: of the trial.
            trial: to be given a parameter.
            param_name: of the parameter.
            param_distribution: of the parameter.
        """
        if param_name in self._first_tries.get(trial.number, {}):
            return self._first_tries[trial.number][param_name]
        if param_name == self._by and isinstance(param_distribution, CategoricalDistribution):
            return param_distribution.choices[trial.number % len(param_distribution.choices)]
        generator = np.random.default_rng((self._seed, trial.number, *param_name.encode()))
        return Axis(param_distribution).drawn(float(generator.random()))

    def _choices(self, before: Iterable[FrozenTrial]) -> list[Any] | None:
        """All competing optimizers; [None] in a study without any, None where nothing is known yet."""
        known = [each for each in before if each.distributions]
        if not known:
            return list(self._spaces) or None
        choice = known[-1].distributions.get(self._by)
        return list(choice.choices) if isinstance(choice, CategoricalDistribution) else [None]

    def _most_promising(self, names: Sequence[Any], proposals: Proposals) -> Any:
        """The optimizer of which most improvement is expected for its cost (Snoek et al. 2012, NeurIPS 25)."""
        cost = self._costs or {}
        return max(names, key=lambda name: proposals.of(name, overall=True)[0] - log(cost.get(name, 1.0)))

    def _proposals(
        self, before: Sequence[FrozenTrial], choices: Sequence[Any], maximize: bool, generator: np.random.Generator
    ) -> Proposals | None:
        """What the trials so far say of others; None where they are too few."""
        ended = [each for each in before if each.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        if len(ended) < FEWEST:
            return None
        forecast = Forecast(before, maximize, self._ideal, self._by)
        axes = {name: self._axes(name, own) for name, own in self._spaces_of(before, choices).items()}
        observed = [
            Observed(each.params.get(self._by), each.params, *expected)
            for each in ended
            if each.params.get(self._by) in axes
            if (expected := forecast(each) or _last(forecast, each)) is not None
        ]
        pending = [
            Observed(each.params.get(self._by), each.params, 0.0)
            for each in before
            if each.state == TrialState.RUNNING and each.params.get(self._by) in axes and each.params
        ]
        if not observed or any(not own for own in axes.values()):
            return None
        return Proposals(axes, observed, pending, generator)

    def _spaces_of(self, before: Sequence[FrozenTrial], choices: Sequence[Any]) -> Mapping[Any, Space]:
        """The distributions of every optimizer."""
        found: dict[Any, dict[str, BaseDistribution]] = {name: dict(self._spaces.get(name, {})) for name in choices}
        for each in before:
            own = found.get(each.params.get(self._by))
            if own is not None and each.params.get(self._by) not in self._spaces:
                own |= {key: one for key, one in each.distributions.items() if key != self._by}
        return found

    def _axes(self, name: Any, space: Space) -> dict[str, Axis]:
        first = next((each for each in self._known_good if each.get(self._by) == name), {})
        return {key: Axis(one, first.get(key), is_lr(key)) for key, one in space.items()}

    def _next(
        self, name: Any, space: Space, drawn: Sequence[Mapping[str, Any]], sequence: int, skip: int
    ) -> dict[str, Any]:
        """The first point of a sequence that no trial has had, after `skip` such points."""
        if not space:
            return {}
        had: dict[tuple[str, ...], set[tuple[Any, ...]]] = {}
        for each in drawn:
            # a trial need not have all: some depend on others
            if keys := tuple(name for name in space if name in each):
                had.setdefault(keys, set()).add(tuple(each[name] for name in keys))
        for number, point in enumerate(points(space, self._seed, sequence, self._axes(name, space))):
            new = not any(tuple(point[name] for name in keys) in values for keys, values in had.items())
            skip -= new
            if skip < 0 or number >= len(drawn) + EXHAUSTED:
                return point
        raise AssertionError("a sequence has no end")


def _last(forecast: Forecast, trial: FrozenTrial) -> Expected | None:
    """The last score of a trial that no forecast is possible for."""
    step = trial.last_step
    return None if step is None else Expected(forecast.score(trial.intermediate_values[step]), 0.0)


def points(
    space: Space, seed: int, sequence: int, axes: Mapping[str, Axis] = MappingProxyType({})
) -> Iterator[dict[str, Any]]:
    """Iterate over the points of a scrambled Sobol sequence, without end, as parameters by name.

    Args:
        space: distributions by parameter.
        seed: of the study.
        sequence: number of the sequence, from 0.
        axes: by parameter, through whose priors the points go; without, they go through the distributions evenly.
    """
    every = {name: axes.get(name) or Axis(each) for name, each in space.items()}
    engine = SobolEngine(len(space), scramble=True, seed=_seed(seed, sequence))  # type: ignore[no-untyped-call]
    while True:
        for point in engine.draw(AT_A_TIME, dtype=torch.float64).tolist():
            yield {name: axis.drawn(place, WIDENED) for (name, axis), place in zip(every.items(), point, strict=True)}


def _seed(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _delegated(name: str) -> Any:
    """A method that calls the one of the trial's own sampler."""

    def method(self: "PerTrialSeedSampler", study: optuna.Study, trial: FrozenTrial, *rest: Any) -> Any:
        return getattr(self._of(trial), name)(study, trial, *rest)

    return method


class PerTrialSeedSampler(BaseSampler):
    """A wrapper of another sampler that seeds it anew for each trial, from the study's seed and the trial's number.

    So workers draw different configurations, and a resumed study does not repeat its first draws.

    Args:
        make: builds the sampler from a seed.
        seed: of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._samplers: dict[int, BaseSampler] = {}

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._samplers:
            self._samplers[trial.number] = self._make(_seed(self._seed, trial.number))
        return self._samplers[trial.number]

    before_trial = _delegated("before_trial")
    infer_relative_search_space = _delegated("infer_relative_search_space")
    sample_relative = _delegated("sample_relative")
    sample_independent = _delegated("sample_independent")

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._of(trial).after_trial(study, trial, state, values)
        del self._samplers[trial.number]


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = MappingProxyType(
    {
        "tpe": lambda seed: PerTrialSeedSampler(lambda each: TPESampler(seed=each), seed),
        "tpe-group": lambda seed: PerTrialSeedSampler(
            lambda each: TPESampler(seed=each, multivariate=True, group=True, constant_liar=True), seed
        ),
        "random": lambda seed: PerTrialSeedSampler(lambda each: RandomSampler(seed=each), seed),
        "qmc": lambda seed: QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False),
        "gp": lambda seed: PerTrialSeedSampler(
            lambda each: GPSampler(seed=each, warn_independent_sampling=False), seed
        ),
        "nsgaii": lambda seed: PerTrialSeedSampler(lambda each: NSGAIISampler(seed=each), seed),
    }
)
"""Optuna's samplers by name, each a function of the seed; a quasi-random sequence has one seed throughout. cmaes and
grid are left out: they cannot draw from a space whose hyperparameters depend on the optimizer."""
