"""The only bridge between Optuna and the engine: a trial becomes settings, a training, reports, an outcome."""

from collections.abc import Callable, Container
from dataclasses import dataclass
from math import isfinite
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from optitune import schedules, search_space, study
from optitune.building import build_loss
from optitune.configuration import JOINED, Configuration, OptimizerSettings, ScheduleSettings, TrainingSettings
from optitune.engine import QUICK_EXAMPLES, Diverged, Plan, Progress, Training, steps_per_epoch
from optitune.metrics import Metric
from optitune.optimizers import Optimizer
from optitune.pruner import OPTIMIZER
from optitune.records import Outcome
from optitune.search_space import EVERY, KNOBS, LR_FACTOR, SearchSpace, group
from optitune.settings import StudySettings
from optitune.space import Choice, Fixed, Float, Range
from optitune.task_data import SearchData
from optitune.tasks import Task, build

EVALUATIONS_PER_EPOCH = 4
"""How often an epoch is interrupted to evaluate, at most."""

EVALUATION_SHARE = 0.05
"""What share of the training's time evaluations within it may take, an example judged counting as a third of one
trained on: it goes forward only."""

FAIR_CHANCE_STEPS = 100
"""How many steps every network is given before it may be called stuck, besides an epoch and a third of its training."""

SCHEDULE = "schedule"


class GivenBack(Exception):
    """The trial was stopped from outside and has no outcome yet."""


@dataclass(frozen=True)
class Result:
    """How a trial ended: `value` is the metric on all validation examples, None unless complete."""

    outcome: Outcome
    value: float | None
    reason: str
    seconds: float


def _suggest(trial: optuna.Trial, parameter: str, value_range: Range, unit: float = 1.0) -> Any:
    """Draw a value from `value_range`, in multiples of `unit`."""
    if isinstance(value_range, Fixed):
        return value_range.value
    if isinstance(value_range, Choice):
        return trial.suggest_categorical(parameter, value_range.options)
    if isinstance(value_range, Float):
        low, high = value_range.low, value_range.high
        if value_range.scale == "complement":
            drawn = 1 - trial.suggest_float(parameter, 1 - high, 1 - low, log=True)
            # 1 - (1 - x) may leave the range by a rounding error
            return min(max(drawn, low), high)
        return unit * trial.suggest_float(parameter, low / unit, high / unit, log=value_range.scale == "log")
    return trial.suggest_int(parameter, value_range.low, value_range.high)


def _unit(row: Optimizer, parameter: str) -> float:
    """What a parameter is a multiple of."""
    return row.lr if parameter == LR_FACTOR else 1.0


def suggest(trial: optuna.Trial, settings: StudySettings, space: SearchSpace) -> Configuration:
    """Draw the optimizer, its lr as a multiple of its known-good one, its other settings, schedule, and the rest."""
    name = trial.suggest_categorical(OPTIMIZER, settings.optimizers)
    row, ranges = space.rows[name], space.optimizers[name]

    def drawn(owner: str, key: str, value_range: Range) -> Any:
        parameter = space.parameters.get((owner, key), "")
        return _suggest(trial, parameter, value_range, unit=_unit(row, parameter))

    values: dict[str, Any] = {}
    # lr first; last those that depend on another one
    for key in sorted(ranges, key=lambda each: (each in row.needs, each != "lr")):
        if key not in row.needs or values[row.needs[key]] > 0:
            values[key] = drawn(name, key, ranges[key])
    several = len(settings.schedules) > 1
    schedule = schedules.find(
        trial.suggest_categorical(SCHEDULE, settings.schedules) if several else settings.schedules[0]
    )
    shape = {key: drawn(schedule.name, key, each) for key, each in space.schedules[schedule.name].items()}
    fed = {
        key: drawn(EVERY, key, each) for key, each in space.training.items() if key != "warmup" or not schedule.warms_up
    }
    own = any(each.name == name for each in settings.optimizer)
    return Configuration(
        optimizer=OptimizerSettings(
            name=name,
            settings=row.arguments(values),
            path=row.path if own else "",
            traits=row.traits if own else (),
        ),
        schedule=ScheduleSettings(
            name=schedule.name, settings=schedule.arguments(shape), warmup=fed.pop("warmup", 0.0)
        ),
        training=TrainingSettings(
            loss=settings.loss or "cross-entropy",
            decay_biases=settings.decay_biases,
            groups={pattern: drawn(EVERY, group(pattern), each) for pattern, each in space.groups.items()},
            **fed,
        ),
    )


def first_parameters(settings: StudySettings) -> list[dict[str, Any]]:
    """The known-good settings as Optuna's parameters, in the order in which they are tried."""
    space = settings.space()
    parameters = []
    for first in search_space.known_good(space, settings.epochs):
        owned = {(first.optimizer, name): value for name, value in first.values.items()}
        owned |= {(first.schedule, name): value for name, value in first.shape.items()}
        owned |= {(EVERY, name): value for name, value in first.training.items()}
        owned |= {(EVERY, group(pattern)): value for pattern, value in first.groups.items()}
        ranges = {(owner, name): value_range for owner, name, value_range in space.owned()}
        drawn = {OPTIMIZER: first.optimizer, SCHEDULE: first.schedule}
        for place, value in owned.items():
            if place in space.parameters:
                parameter = space.parameters[place]
                drawn[parameter] = _encoded(value, ranges[place], _unit(space.rows[first.optimizer], parameter))
        parameters.append(drawn)
    return parameters


def _encoded(value: Any, value_range: Range, unit: float) -> Any:
    if isinstance(value_range, Float):
        return round(1 - value, 12) if value_range.scale == "complement" else value / unit
    return value


def owned_values(configuration: Configuration) -> dict[tuple[str, str], Any]:
    """A configuration's hyperparameters by owner and name, as the ranges have them."""
    optimizer, schedule, training = configuration.optimizer, configuration.schedule, configuration.training
    values: dict[tuple[str, str], Any] = {}
    for owner, settings in ((optimizer.name, optimizer.settings), (schedule.name, schedule.settings)):
        for name, value in settings.items():
            parts = JOINED.get(name, (name,))
            values |= zip([(owner, part) for part in parts], value if isinstance(value, list) else [value], strict=True)
    values |= {(EVERY, name): getattr(training, name) for name in KNOBS if name != "warmup"}
    values |= {(EVERY, group(pattern)): value for pattern, value in training.groups.items()}
    return {**values, (EVERY, "warmup"): schedule.warmup}


def _given_result(trial: optuna.Trial, before: FrozenTrial, reported: Container[int]) -> Result:
    """Give a trial the curve and the end of another one, whose training would be repeated to the last bit."""
    trial.set_user_attr(study.SAME_AS, before.number)
    for step, value in sorted(before.intermediate_values.items()):
        if step not in reported:
            trial.report(value, step)
    own = before.user_attrs.get(study.REASON)
    reason = f"same configuration as trial {before.number}" + (f": {own}" if own else "")
    final = before.value if before.state == TrialState.COMPLETE else None
    return Result(before.user_attrs[study.OUTCOME], final, reason, 0.0)


def evaluations_per_epoch(train_examples: int, validation_examples: int) -> int:
    """How often to evaluate in an epoch: less often on few examples, so that it takes little of the time."""
    judged = min(QUICK_EXAMPLES, validation_examples)
    return max(1, min(EVALUATIONS_PER_EPOCH, round(3 * EVALUATION_SHARE * train_examples / judged)))


def no_progress(metric: Metric, value: float, targets: torch.Tensor | None, examples: int) -> str:
    """Why a value is no better than knowing nothing, in words; empty where it is better, or that cannot be told."""
    if metric.stuck is None or targets is None:
        return ""
    if metric.score(value) > metric.score(metric.stuck(targets, examples)):
        return ""
    return f"{metric.name} {value:.4g} is no better than guessing"


def usual_steps(settings: StudySettings, examples: int) -> int:
    """The optimizer steps of an epoch, by which trials are compared: of several batch sizes, those of the first."""
    training = settings.space().training
    first = {name: search_space.start(training[name], KNOBS[name].start) for name in ("batch_size", "accumulation")}
    return steps_per_epoch(examples, TrainingSettings(**first))


def compared_step(epoch: float, evaluations: int, usual: int) -> int | None:
    """The step that a point of a training is reported at: the same for every batch size.

    Args:
        epoch: how far the training is.
        evaluations: of an epoch.
        usual: steps of an epoch, by which trials are compared.

    Returns:
        None where a later point has the same step, which only one can be reported at.
    """

    def step(point: int) -> int:
        whole, within = divmod(point, evaluations)
        return whole * usual + (max(1, round(usual * within / evaluations)) if within else 0)

    point = round(epoch * evaluations)
    later = step(point + 1) if point % evaluations else None
    return None if step(point) == later else step(point)


def plan(configuration: Configuration, settings: StudySettings, task: Task, data: SearchData) -> Plan:
    """How a trial of this configuration is trained."""
    if settings.precision == "auto":
        raise ValueError("the precision of a study is settled before its first trial")
    training = configuration.training
    return Plan(
        configuration,
        build_loss(training, task.own_loss),
        task.judge,
        settings.epochs,
        settings.seed,
        settings.precision,
        evaluations=evaluations_per_epoch(len(data.train), len(data.validation)),
        judge=build_loss(training.model_copy(update={"label_smoothing": 0.0}), task.own_loss),
    )


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
        settings: with precision and loss settled.
        data: on `device`.
        reported: steps that an earlier attempt at this trial, killed since, has reported already.
        on_progress: called with the configuration at the start (progress None) and at every evaluation.
        stopping: asked at every evaluation whether to stop.

    Raises:
        GivenBack: `stopping` said so; the trial is as before, with its parameters drawn.
    """
    configuration = suggest(trial, settings, settings.space())
    trial.set_user_attr(study.DEVICE, str(device))
    trial.set_user_attr("lr", configuration.lr)
    trial.set_user_attr(study.CONFIGURATION, configuration.model_dump(mode="json"))
    on_progress(configuration, None)
    before = study.trained_before(trial.study, configuration.model_dump(mode="json"), str(device))
    if before is not None:
        return _given_result(trial, before, reported)
    metric = task.judge
    how = plan(configuration, settings, task, data)
    training = Training(build(task, settings.seed, device), how, data.train, data.validation)
    usual = usual_steps(settings, len(data.train))
    targets = data.validation.targets
    seconds = value = 0.0
    try:
        for progress in training.run():
            assert progress.validation is not None
            seconds, value = progress.seconds, progress.validation.value
            step = compared_step(progress.epoch, how.evaluations, usual)
            judged = step is not None and step not in reported
            if judged:
                trial.report(value, step)  # type: ignore[arg-type]
            on_progress(configuration, progress)
            if progress.epoch == settings.epochs:
                break
            if stopping():
                raise GivenBack
            fair = progress.epoch >= max(1.0, settings.epochs / 3) and progress.step >= FAIR_CHANCE_STEPS
            if fair and (why := no_progress(metric, value, targets, progress.validation.examples)):
                return Result("pruned", None, f"no progress after {progress.epoch:g} epochs: {why}", seconds)
            # what an earlier attempt reported later than this would be judged now
            if judged and trial.should_prune():
                reason = (
                    f"pruned at epoch {progress.epoch:g}: {metric.name} {value:.4g} is behind what this pruner keeps"
                )
                return Result("pruned", None, reason, seconds)
    except Diverged as diverged:
        # told with the worst value there is, so that the sampler learns to stay away
        worst = metric.lowest if metric.direction == "maximize" else metric.highest
        step = max(1, diverged.step * usual // training.steps_per_epoch)
        if isfinite(worst) and step not in reported:
            trial.report(worst, step)
        return Result("diverged", None, str(diverged), training.seconds)
    return Result("complete", value, "", seconds)
