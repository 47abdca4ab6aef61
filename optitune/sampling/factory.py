"""Build the sampler and the pruner that a study's settings name."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from optitune.sampling.forecast import OPTIMIZER
from optitune.sampling.parameters import first_parameters, is_first, known_good_parameters, spaces
from optitune.sampling.pruner import ForecastPruner, build_pruner
from optitune.sampling.sampler import SAMPLERS, FairSampler
from optitune.study.settings import StudySettings
from optitune.study.steps import usual_steps
from optitune.tasks.metrics import Metric


def sampler_of(
    settings: StudySettings,
    metric: Metric,
    taken: Sequence[Mapping[str, Any]] = (),
    costs: Mapping[str, float] | None = None,
) -> BaseSampler:
    """The sampler that the settings name: ours, or Optuna's of that name.

    Args:
        settings: of the study.
        metric: that trials report.
        taken: parameters of the trials that the study began with; what is among them is not tried first again.
        costs: of an epoch of each optimizer, as the study keeps them; None where it counts epochs.
    """
    if settings.sampler != "optitune":
        return SAMPLERS[settings.sampler](settings.seed)
    # of each optimizer the settings of its paper; further ones are not to be measured against
    known_good = {first[OPTIMIZER]: first for first in reversed(known_good_parameters(settings))}
    return FairSampler(
        settings.seed,
        ideal=metric.ideal,
        known_good=list(known_good.values()),
        first_tries=[first for first in first_parameters(settings) if not any(is_first(first, each) for each in taken)],
        spaces=spaces(settings),
        first=len(taken),
        repeats=True,
        costs=costs if settings.budget_in == "seconds" else None,
    )


def pruner_of(settings: StudySettings, metric: Metric, examples: int) -> BasePruner:
    """The pruner that the settings name: ours, or Optuna's of that name.

    Args:
        settings: of the study.
        metric: that trials report.
        examples: number of training examples of a trial, which gives the steps per epoch.
    """
    epoch = usual_steps(settings, examples)
    pruner = build_pruner(settings.pruner, settings.epochs * epoch, epoch, metric.ideal)
    if isinstance(pruner, ForecastPruner):
        pruner.written = metric.unit.value
    return pruner
