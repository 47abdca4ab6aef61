"""How the next configuration is drawn: known-good settings first, then a sampler of Optuna's."""

from collections.abc import Callable, Container, Mapping, Sequence
from heapq import nlargest
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

MOST = 1_000
"""How many finished trials our sampler learns from; the cost of TPE grows with every one more."""

LEADERS = 25
"""How many of them are the best of all, the others the latest: TPE calls no more than 25 good."""

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def forgotten(trials: Sequence[FrozenTrial], direction: StudyDirection) -> set[int]:
    """The numbers of those ended trials, of more than `MOST`, that are neither among the best nor the latest."""
    ended = [trial for trial in trials if trial.state in ENDED]
    if len(ended) <= MOST:
        return set()
    sign = 1 if direction == StudyDirection.MAXIMIZE else -1
    complete = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    leaders = {trial.number for trial in nlargest(LEADERS, complete, key=lambda trial: sign * trial.values[0])}
    return {trial.number for trial in ended[: LEADERS - MOST]} - leaders


class _Remembered:
    """A study as a sampler sees it while it draws one trial: with these trials and no others."""

    def __init__(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        self._study = study
        self._trials = trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]


class WindowedTPE(TPESampler):
    """TPE that costs the same however long the study: beyond `MOST` trials it forgets old ones that are not the best.

    Optuna's own weights fade the old ones out likewise. Up to `MOST` trials it draws just what TPE draws.
    """

    _number = -1
    _kept: Sequence[FrozenTrial] = ()

    def _remembered(self, study: optuna.Study, trial: FrozenTrial) -> optuna.Study:
        """The study itself as long as nothing is forgotten, so that TPE is left to its own ways."""
        if trial.number != self._number:
            trials = study._get_trials(deepcopy=False, use_cache=True)
            without = forgotten(trials, study.direction)
            kept = [each for each in trials if each.number not in without] if without else []
            self._number, self._kept = trial.number, kept
        return cast(optuna.Study, _Remembered(study, self._kept)) if self._kept else study

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(self._remembered(study, trial), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(self._remembered(study, trial), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return super().sample_independent(self._remembered(study, trial), trial, param_name, param_distribution)


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = MappingProxyType(
    {
        "optitune": lambda seed: WindowedTPE(seed=seed),
        "tpe": lambda seed: TPESampler(seed=seed),
        "random": lambda seed: RandomSampler(seed=seed),
        "qmc": lambda seed: QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False),
        "gp": lambda seed: GPSampler(seed=seed, warn_independent_sampling=False),
        "nsgaii": lambda seed: NSGAIISampler(seed=seed),
    }
)
"""Samplers by name, each built from a seed. Those of Optuna that cannot draw from a space whose
hyperparameters depend on the optimizer are left out: cmaes and grid."""

ONE_SEED = ("qmc",)
"""Samplers whose draws form one sequence, kept whole by one seed for the whole study."""


class KnownGoodFirst(BaseSampler):
    """Known-good settings for the first trials, then the draws of another sampler.

    The draws of a trial follow from the study's seed and the trial's number alone: workers draw
    different ones, and a study that was stopped goes on as if it had not been. (One generator per
    process would repeat its first draws after every start.)

    Args:
        make: builds the sampler from a seed.
        seed: of the study.
        known_good: parameters by name, for trial 0, 1, ...
        reseed: False for samplers that need one seed throughout.
    """

    def __init__(
        self,
        make: Callable[[int], BaseSampler],
        seed: int,
        known_good: Sequence[Mapping[str, Any]] = (),
        reseed: bool = True,
    ) -> None:
        self._make = make
        self._seed = seed
        self._known_good = known_good
        self._reseed = reseed
        self._sampler = make(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if self._reseed:
            self._sampler = self._make(int(np.random.SeedSequence((self._seed, trial.number)).generate_state(1)[0]))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if trial.number < len(self._known_good):
            return {}
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if trial.number < len(self._known_good) and param_name in self._known_good[trial.number]:
            return self._known_good[trial.number][param_name]
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)


def build_sampler(name: str, seed: int, known_good: Sequence[Mapping[str, Any]]) -> BaseSampler:
    """The sampler called `name`, starting from `known_good`."""
    return KnownGoodFirst(SAMPLERS[name], seed, known_good, reseed=name not in ONE_SEED)
