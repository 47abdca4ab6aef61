"""Pruners: ours, which ends trials forecast to stay behind their own optimizer's best, and Optuna's by name."""

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
"""Optimizer steps before which no trial is pruned: even a good learning rate may not show earlier."""


class ForecastPruner(BasePruner):
    """An Optuna pruner that ends trials whose forecast final value is worse than their optimizer's best.

    Trials are compared within their own optimizer, so that the best of each is found, and by their forecast rather than
    their present value, so that neither slow starters nor late drops of the learning rate are cut off (see
    `optitune.sampling.forecast.Forecast`). A trial that is ahead of all complete ones of its optimizer is never pruned,
    nor one that stands no lower than one of the best quarter of them stood at that step, nor any while fewer than five
    trials are complete.

    It works in any Optuna study. Where a schedule changes the learning rate, record the changes at the trial's start:
    `trial.set_user_attr("lr_ahead", {"200": -2.0, "300": -1.0})` means that up to step 200 the learning rate is still
    to fall by two powers of ten, and from there up to step 300 by one.

    Args:
        ideal: best possible value, such as 1.0 of an accuracy or 0.0 of a loss; None where there is none.
        sure: number of standard deviations by which the forecast must stay behind.
        warmup: last step up to which no trial is pruned.
        by: name of the parameter that holds the optimizer; a study without it is one group.

    Example:
        >>> study = optuna.create_study(direction="maximize", pruner=optitune.ForecastPruner(ideal=1.0))
    """

    def __init__(self, ideal: float | None = None, sure: float = 0.5, warmup: int = 0, by: str = OPTIMIZER) -> None:
        self._ideal = ideal
        self._sure = sure
        self._warmup = warmup
        self._by = by
        self.written: Callable[[float], str] = "{:.4g}".format
        """How a value is written in `why`."""
        self._known: tuple[optuna.Study, int, Forecast] | None = None
        self.why = ""
        """The reason for which the last trial was pruned, in words."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step <= self._warmup:
            return False
        forecast = self._forecast(study)
        best, expected = forecast.best_of(trial.params.get(self._by)), forecast.at(trial, step)
        if best is None or expected is None or forecast.leads(trial, step):
            return False
        luck = expected.score + self._sure * expected.variance**0.5
        if luck >= best or forecast.may_catch_up(trial, step):
            return False
        group = trial.params.get(self._by)
        comes_to, at_most, bar = (self.written(forecast.score.value(score)) for score in (expected.score, luck, best))
        self.why = (
            f"forecast to end at {comes_to}, with luck at {at_most}; "
            f"{'the' if group is None else f'{group} has the'} best {bar}"
        )
        return True

    def _forecast(self, study: optuna.Study) -> Forecast:
        """The forecast of the study, fitted again when another trial is complete."""
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
"""Pruners by name, each a function of the last step of a trial, the steps of one epoch, and the ideal value."""


def build_pruner(name: str, last: int, epoch: int, ideal: float | None = None) -> BasePruner:
    """Build the pruner called `name`.

    Args:
        name: a key of `PRUNERS`.
        last: last step of a trial.
        epoch: steps of an epoch.
        ideal: best possible value of the metric; None where there is none.
    """
    return PRUNERS[name](last, epoch, ideal)
