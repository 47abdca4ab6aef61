"""How the next configuration is drawn: known-good settings first, then a sampler of Optuna's."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = MappingProxyType(
    {
        "optitune": lambda seed: TPESampler(seed=seed),
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
