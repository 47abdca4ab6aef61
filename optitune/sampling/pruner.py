"""Which trials end early: those forecast to stay behind their own optimizer's best, or a pruner of Optuna's."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optitune.sampling.forecast import OPTIMIZER, Forecast

WARMUP = 20
"""How many optimizer steps every trial is given: after fewer, even a good learning rate need not show."""


class ForecastPruner(BasePruner):
    """Prune a trial that will hardly come to as much as the best of its own optimizer, as far as finished ones tell.

    A trial is compared with its own optimizer's alone, so that each one's best is found, and by what it will come to
    rather than by where it stands, so that neither slow starters nor learning rates that fall late are cut off: see
    `optitune.sampling.forecast.Forecast`. One that is ahead of all its optimizer's goes on whatever is forecast. While
    fewer than five trials have finished, nothing is pruned.

    It serves in any Optuna study. Where the learning rate changes while a trial goes on, tell it at the trial's start:
    `trial.set_user_attr("lr_ahead", {"200": -2.0, "300": -1.0})` says that up to step 200 the learning rate is still
    to fall by two powers of ten, then up to step 300 by one.

    Args:
        ideal: the value that cannot be passed, such as 1.0 of an accuracy or 0.0 of a loss, where there is one.
        sure: by how many standard deviations the forecast must stay behind.
        warmup: up to which step no trial is judged.
        by: the parameter that names the optimizer; a study without one is one group.
    """

    def __init__(self, ideal: float | None = None, sure: float = 0.5, warmup: int = 0, by: str = OPTIMIZER) -> None:
        self._ideal = ideal
        self._sure = sure
        self._warmup = warmup
        self._by = by
        self._known: tuple[optuna.Study, int, Forecast] | None = None
        self.why = ""
        """Why the last trial that was pruned was."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step <= self._warmup:
            return False
        forecast = self._forecast(study)
        best, expected = forecast.best_of(trial.params.get(self._by)), forecast.at(trial, step)
        if best is None or expected is None or forecast.leads(trial, step):
            return False
        luck = expected.score + self._sure * expected.variance**0.5
        if luck >= best:
            return False
        group = trial.params.get(self._by)
        comes_to, at_most, bar = (forecast.score.value(score) for score in (expected.score, luck, best))
        self.why = (
            f"forecast to end at {comes_to:.4g}, with luck at {at_most:.4g}; "
            f"{'the' if group is None else f'{group} has the'} best {bar:.4g}"
        )
        return True

    def _forecast(self, study: optuna.Study) -> Forecast:
        """Made anew when a trial has finished since."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if self._known is None or self._known[0] is not study or self._known[1] != len(complete):
            maximize = study.direction == StudyDirection.MAXIMIZE
            self._known = study, len(complete), Forecast(complete, maximize, self._ideal, self._by)
        return self._known[2]


PRUNERS: Mapping[str, Callable[[int, int, float | None], BasePruner]] = MappingProxyType(
    {
        "optitune": lambda last, epoch, ideal: ForecastPruner(ideal, warmup=WARMUP),
        "none": lambda last, epoch, ideal: NopPruner(),
        "median": lambda last, epoch, ideal: MedianPruner(),
        "percentile": lambda last, epoch, ideal: PercentilePruner(25.0),
        "successive-halving": lambda last, epoch, ideal: SuccessiveHalvingPruner(min_resource=epoch),
        "hyperband": lambda last, epoch, ideal: HyperbandPruner(min_resource=epoch, max_resource=last),
    }
)
"""Pruners by name, each built from the last step of a trial, the steps of one epoch, and the ideal value."""


def build_pruner(name: str, last: int, epoch: int, ideal: float | None = None) -> BasePruner:
    """The pruner called `name`, for trials of `last` training steps, `epoch` of them an epoch.

    Args:
        ideal: the metric's value that cannot be passed, where there is one.
    """
    return PRUNERS[name](last, epoch, ideal)
