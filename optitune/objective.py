"""The only bridge between Optuna and the engine: a trial becomes settings, a training, reports, an outcome."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from optitune import optimizers, schedules, study
from optitune.configuration import Configuration, OptimizerSettings, ScheduleSettings, known_good
from optitune.engine import QUICK_IMAGES, Diverged, Plan, Progress, Training, guessing
from optitune.pruner import OPTIMIZER
from optitune.records import Outcome
from optitune.settings import StudySettings
from optitune.space import Choice, Float, Range
from optitune.tasks import SearchData, Task, build

EVALUATIONS_PER_EPOCH = 4
"""How often an epoch is interrupted to evaluate, at most."""

EVALUATION_SHARE = 0.05
"""What share of the training's time evaluations within it may take, an image judged counting as a third of one
trained on: it goes forward only."""

FAIR_CHANCE_STEPS = 100
"""How many steps every network is given before it may be called stuck, besides an epoch and a third of its training."""

LR_FACTOR = "lr_factor"
SCHEDULE = "schedule"


class GivenBack(Exception):
    """The trial was stopped from outside and has no outcome yet."""


@dataclass(frozen=True)
class Result:
    """How a trial ended: `value` is the accuracy on all validation images, None unless complete."""

    outcome: Outcome
    value: float | None
    reason: str
    seconds: float


def _parameter(name: str, value_range: Range) -> str:
    """A hyperparameter's name in Optuna, shared by all optimizers that have it, so that the dashboard's plots fill."""
    return f"one_minus_{name}" if isinstance(value_range, Float) and value_range.scale == "complement" else name


def _suggest(trial: optuna.Trial, name: str, value_range: Range) -> Any:
    parameter = _parameter(name, value_range)
    if isinstance(value_range, Choice):
        return trial.suggest_categorical(parameter, value_range.options)
    if isinstance(value_range, Float):
        if value_range.scale == "complement":
            drawn = 1 - trial.suggest_float(parameter, 1 - value_range.high, 1 - value_range.low, log=True)
            # 1 - (1 - x) may leave the range by a rounding error
            return min(max(drawn, value_range.low), value_range.high)
        return trial.suggest_float(parameter, value_range.low, value_range.high, log=value_range.scale == "log")
    return trial.suggest_int(parameter, value_range.low, value_range.high)


def suggest(trial: optuna.Trial, settings: StudySettings) -> Configuration:
    """Draw the optimizer, its lr as a multiple of its known-good one, its other settings, and the schedule."""
    row = optimizers.find(trial.suggest_categorical(OPTIMIZER, settings.optimizers))
    lr = row.ranges["lr"]
    assert isinstance(lr, Float)
    values = {"lr": row.lr * trial.suggest_float(LR_FACTOR, lr.low / row.lr, lr.high / row.lr, log=True)}
    for name, value_range in row.ranges.items():
        allowed = name not in row.needs or values[row.needs[name]] > 0
        if name != "lr" and allowed:
            values[name] = _suggest(trial, name, value_range)
    schedule = schedules.find(
        trial.suggest_categorical(SCHEDULE, settings.schedules)
        if len(settings.schedules) > 1
        else settings.schedules[0]
    )
    shape = {name: _suggest(trial, name, value_range) for name, value_range in schedule.ranges(settings.epochs).items()}
    return Configuration(
        optimizer=OptimizerSettings(name=row.name, settings=row.arguments(values)),
        schedule=ScheduleSettings(name=schedule.name, settings={**schedule.fixed(settings.epochs), **shape}),
    )


def first_parameters(settings: StudySettings) -> list[dict[str, Any]]:
    """The known-good settings as Optuna's parameters, in the order in which they are tried."""
    schedule = schedules.find(settings.schedules[0])
    ranges_of_schedule = schedule.ranges(settings.epochs)
    parameters = []
    for name, values, shape in known_good(settings.epochs, settings.optimizers, schedule.name):
        row = optimizers.find(name)
        drawn = {OPTIMIZER: name, SCHEDULE: schedule.name, LR_FACTOR: values["lr"] / row.lr}
        parameters.append(drawn | _encoded(values, row.ranges) | _encoded(shape, ranges_of_schedule))
    return parameters


def _encoded(values: Mapping[str, Any], ranges: Mapping[str, Range]) -> dict[str, Any]:
    encoded = {}
    for name, value in values.items():
        if name != "lr":
            parameter = _parameter(name, ranges[name])
            encoded[parameter] = value if parameter == name else round(1 - value, 12)
    return encoded


def _given_result(trial: optuna.Trial, before: FrozenTrial, reported: Container[int]) -> Result:
    """Give a trial the curve and the end of another one, whose training would be repeated to the last bit."""
    trial.set_user_attr(study.SAME_AS, before.number)
    for step, accuracy in sorted(before.intermediate_values.items()):
        if step not in reported:
            trial.report(accuracy, step)
    own = before.user_attrs.get(study.REASON)
    reason = f"same configuration as trial {before.number}" + (f": {own}" if own else "")
    value = before.value if before.state == TrialState.COMPLETE else None
    return Result(before.user_attrs[study.OUTCOME], value, reason, 0.0)


def evaluations_per_epoch(train_images: int, validation_images: int) -> int:
    """How often to evaluate in an epoch: less often on few images, so that it takes little of the time."""
    judged = min(QUICK_IMAGES, validation_images)
    return max(1, min(EVALUATIONS_PER_EPOCH, round(3 * EVALUATION_SHARE * train_images / judged)))


def run_trial(
    trial: optuna.Trial,
    settings: StudySettings,
    task: Task,
    data: SearchData,
    device: torch.device,
    reported: Container[int],
    on_progress: Callable[[Configuration, Progress | None], None],
    stopping: Callable[[], bool],
) -> Result:
    """Train a trial's configuration and report to its study; one that was trained before is given the same result.

    Args:
        trial: asked, not yet told.
        data: on `device`.
        reported: steps that an earlier attempt at this trial, killed since, has reported already.
        on_progress: called with the configuration at the start (progress None) and at every evaluation.
        stopping: asked at every evaluation whether to stop.

    Raises:
        GivenBack: `stopping` said so; the trial is as before, with its parameters drawn.
    """
    if settings.precision == "auto":
        raise ValueError("the precision of a study is settled before its first trial")
    configuration = suggest(trial, settings)
    trial.set_user_attr(study.DEVICE, str(device))
    trial.set_user_attr("lr", configuration.lr)
    trial.set_user_attr(study.CONFIGURATION, configuration.model_dump())
    on_progress(configuration, None)
    before = study.trained_before(trial.study, configuration.model_dump(), str(device))
    if before is not None:
        return _given_result(trial, before, reported)
    plan = Plan(
        configuration,
        task.loss,
        settings.epochs,
        settings.batch_size,
        settings.seed,
        settings.precision,
        evaluations=evaluations_per_epoch(len(data.train), len(data.validation)),
    )
    training = Training(build(task, settings.seed, device), plan, data.train, data.validation)
    seconds = value = 0.0
    try:
        for progress in training.run():
            assert progress.validation is not None
            seconds, value = progress.seconds, progress.validation.accuracy
            if progress.step not in reported:
                trial.report(value, progress.step)
            on_progress(configuration, progress)
            if progress.epoch == settings.epochs:
                break
            if stopping():
                raise GivenBack
            limit = guessing(data.validation.labels, progress.validation.images)
            fair = progress.epoch >= max(1.0, settings.epochs / 3) and progress.step >= FAIR_CHANCE_STEPS
            if value <= limit and fair:
                reason = f"no progress: accuracy {value:.3f} after {progress.epoch:g} epochs is no better than guessing"
                return Result("pruned", None, reason, seconds)
            # what an earlier attempt reported later than this would be judged now
            if progress.step not in reported and trial.should_prune():
                reason = f"pruned at epoch {progress.epoch:g}: accuracy {value:.4f} is behind what this pruner keeps"
                return Result("pruned", None, reason, seconds)
    except Diverged as diverged:
        # told with the worst value, so that the sampler learns to stay away
        if diverged.step not in reported:
            trial.report(0.0, diverged.step)
        return Result("diverged", None, str(diverged), training.seconds)
    return Result("complete", value, "", seconds)
