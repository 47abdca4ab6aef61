"""Which trials end early: those behind the median of their own optimizer, or a pruner of Optuna's."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import accumulate
from statistics import median
from types import MappingProxyType
from typing import Any

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.trial import FrozenTrial, TrialState

OPTIMIZER = "optimizer"
"""The parameter that names a trial's optimizer."""


class MedianOfSameOptimizer(BasePruner):
    """Prune a trial whose best value so far is below the median of its own optimizer's trials at that step.

    The rule of Golovin et al. 2017 (Google Vizier, KDD), kept within one optimizer: some learn slower at
    first and would be stopped by the others' medians before they catch up.

    What has ended never changes, so each ended trial is looked at once, however often running ones are judged.

    Args:
        compared: how many earlier trials of the same optimizer must have come as far.
        warmup: steps of a trial that are never judged.
    """

    def __init__(self, compared: int = 3, warmup: int = 0) -> None:
        self._compared = compared
        self._warmup = warmup
        self._study: optuna.Study | None = None
        self._seen: set[int] = set()
        self._best: defaultdict[tuple[Any, int], list[float]] = defaultdict(list)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step <= self._warmup:
            return False
        better = max if study.direction == optuna.study.StudyDirection.MAXIMIZE else min
        own = better(trial.intermediate_values.values())
        self._look(study, better)
        others = self._best[trial.params.get(OPTIMIZER), step]
        if len(others) < self._compared:
            return False
        return bool(own != better(own, median(others)))

    def _look(self, study: optuna.Study, better: Callable[..., float]) -> None:
        """Note of every trial that has ended since the last look how good it was so far at each of its steps."""
        if study is not self._study:
            self._study, self._seen, self._best = study, set(), defaultdict(list)
        for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
            if other.number not in self._seen:
                self._seen.add(other.number)
                values = sorted(other.intermediate_values.items())
                for (step, _), best in zip(values, accumulate((value for _, value in values), better), strict=True):
                    self._best[other.params.get(OPTIMIZER), step].append(best)


PRUNERS: Mapping[str, Callable[[int, int], BasePruner]] = MappingProxyType(
    {
        "optitune": lambda last, epoch: MedianOfSameOptimizer(warmup=epoch),
        "none": lambda last, epoch: NopPruner(),
        "median": lambda last, epoch: MedianPruner(),
        "percentile": lambda last, epoch: PercentilePruner(25.0),
        "successive-halving": lambda last, epoch: SuccessiveHalvingPruner(min_resource=epoch),
        "hyperband": lambda last, epoch: HyperbandPruner(min_resource=epoch, max_resource=last),
    }
)
"""Pruners by name, each built from the last step of a trial and the steps of one epoch."""


def build_pruner(name: str, last: int, epoch: int) -> BasePruner:
    """The pruner called `name`, for trials of `last` training steps, `epoch` of them an epoch."""
    return PRUNERS[name](last, epoch)
