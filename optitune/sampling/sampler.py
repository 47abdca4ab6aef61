"""How the next configuration is drawn: by ours, fair to every optimizer, or by a sampler of Optuna's."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import exp, log
from types import MappingProxyType
from typing import Any

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from torch.quasirandom import SobolEngine

from optitune.sampling.allocation import UNDECIDED, Allocation, competitors, turn
from optitune.sampling.forecast import OPTIMIZER

AT_A_TIME = 64
"""How many points of a sequence are made at once."""

EXHAUSTED = 1_000
"""After how many points that were all drawn before a space has no others."""

Space = Mapping[str, BaseDistribution]
"""Distributions by parameter."""


class FairSampler(BaseSampler):
    """Draws for several optimizers that compete in one study, so that each one's best is found.

    The known-good settings come first. Then the optimizer that has been given the fewest training steps is next, and
    its configuration is the next point of a scrambled Sobol sequence of its own (Owen 1998, J. Complexity 14:466): such
    points leave no hole in any few of the hyperparameters. Which search this was chosen against, and by what, is in
    docs/search-quality.md.

    The optimizer is a categorical parameter that has to be suggested first; a study without one has one sequence.
    Draws follow from the seed and from the trials before: a study that was stopped goes on as if it had not been, and
    no two workers draw the same.

    Args:
        seed: of all sequences.
        allocation: `equal` gives every optimizer the same number of training steps; `racing` drops those that
            would hardly win any more (`optitune.sampling.allocation.racing`).
        ideal: the value that cannot be passed, where there is one; for racing.
        by: the parameter that names the optimizer.
        known_good: parameters by name, for trial 0, 1, ...
        spaces: distributions by optimizer, where they are known beforehand; else those that its trials have had.
    """

    def __init__(
        self,
        seed: int = 0,
        allocation: Allocation = "equal",
        ideal: float | None = None,
        by: str = OPTIMIZER,
        known_good: Sequence[Mapping[str, Any]] = (),
        spaces: Mapping[Any, Space] | None = None,
    ) -> None:
        self._seed = seed
        self._allocation = allocation
        self._ideal = ideal
        self._by = by
        self._known_good = known_good
        self._spaces = spaces or {}
        self._drawn: dict[int, dict[str, Any]] = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Choose the optimizer and its configuration; the space is what they are drawn from."""
        if trial.number < len(self._known_good):
            return {}
        before = [each for each in study.get_trials(deepcopy=False) if each.number < trial.number]
        choices = self._choices(before)
        if choices is None:
            return {}
        # one that was drawn before and has to be trained again stays with its optimizer
        name = (
            trial.params[self._by]
            if self._by in trial.params
            else turn(
                self._allocation,
                competitors(before, choices, study.direction == StudyDirection.MAXIMIZE, self._ideal, self._by),
            )
        )
        # what failed is not drawn again either: it would fail again
        own = [each for each in before if each.params.get(self._by) == name]
        space = dict(self._spaces.get(name, {})) or {
            parameter: one for each in own for parameter, one in each.distributions.items() if parameter != self._by
        }
        # others' trials whose parameters are about to be drawn, perhaps from the same sequence
        undrawn = sum(
            each.state in UNDECIDED
            and each.params.get(self._by, name) == name
            and not space.keys() & each.params.keys()
            for each in before
        )
        self._drawn[trial.number] = self._next(space, [each.params for each in own], choices.index(name), undrawn)
        if choices == [None]:
            return space
        self._drawn[trial.number][self._by] = name
        return {self._by: CategoricalDistribution(choices), **space}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._drawn.pop(trial.number, {})

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Known-good settings, and what no trial before has had."""
        if trial.number < len(self._known_good) and param_name in self._known_good[trial.number]:
            return self._known_good[trial.number][param_name]
        if param_name == self._by and isinstance(param_distribution, CategoricalDistribution):
            return param_distribution.choices[trial.number % len(param_distribution.choices)]
        generator = np.random.default_rng((self._seed, trial.number, *param_name.encode()))
        return value_at(param_distribution, float(generator.random()))

    def _choices(self, before: Iterable[FrozenTrial]) -> list[Any] | None:
        """All that compete; [None] in a study without optimizers, None where nothing is known yet."""
        known = [each for each in before if each.distributions]
        if not known:
            return list(self._spaces) or None
        choice = known[-1].distributions.get(self._by)
        return list(choice.choices) if isinstance(choice, CategoricalDistribution) else [None]

    def _next(self, space: Space, drawn: Sequence[Mapping[str, Any]], sequence: int, skip: int) -> dict[str, Any]:
        """The first point of a sequence that no trial has had, after as many as others are about to draw."""
        if not space:
            return {}
        had: dict[tuple[str, ...], set[tuple[Any, ...]]] = {}
        for each in drawn:
            # a trial need not have all: some depend on others
            if keys := tuple(name for name in space if name in each):
                had.setdefault(keys, set()).add(tuple(each[name] for name in keys))
        for number, point in enumerate(points(space, self._seed, sequence)):
            new = not any(tuple(point[name] for name in keys) in values for keys, values in had.items())
            skip -= new
            if skip < 0 or number >= len(drawn) + EXHAUSTED:
                return point
        raise AssertionError("a sequence has no end")


def points(space: Space, seed: int, sequence: int) -> Iterator[dict[str, Any]]:
    """The parameters at the points of a scrambled Sobol sequence, one after another without end."""
    engine = SobolEngine(len(space), scramble=True, seed=_seed(seed, sequence))  # type: ignore[no-untyped-call]
    while True:
        for point in engine.draw(AT_A_TIME, dtype=torch.float64).tolist():
            yield {name: value_at(each, place) for (name, each), place in zip(space.items(), point, strict=True)}


def value_at(distribution: BaseDistribution, place: float) -> Any:
    """The value at a place from 0 to 1 along a distribution's own scale."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[min(int(place * len(distribution.choices)), len(distribution.choices) - 1)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.log:
        value = exp((1 - place) * log(low) + place * log(high))
        value = round(value) if isinstance(distribution, IntDistribution) else value
    elif step is None:
        value = low + place * (high - low)
    else:
        value = low + step * int(place * (round((high - low) / step) + 1))
    return min(max(value, low), high)


def _seed(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


class PerTrialSeedSampler(BaseSampler):
    """Another sampler, whose draws of a trial follow from the study's seed and the trial's number alone.

    So workers draw different ones, and a study that was stopped goes on as if it had not been. (One generator per
    process would repeat its first draws after every start.)

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

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._of(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

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
"""Optuna's samplers by name, each built from a seed. A quasi-random sequence is kept whole by one seed throughout.
Those that cannot draw from a space whose hyperparameters depend on the optimizer are left out: cmaes and grid."""
