"""The only bridge between Optuna and the engine: a trial becomes settings, a training, reports, an outcome."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from optitune.common.text import plural
from optitune.sampling.forecast import LR_AHEAD
from optitune.sampling.parameters import is_first, known_good_parameters, suggest
from optitune.sampling.repeats import repeat_of
from optitune.sampling.stuck import stays_at
from optitune.searching import trial_checkpoint
from optitune.space.configuration import Configuration, ScheduleSettings
from optitune.storage import studies, trials
from optitune.study.records import Outcome
from optitune.study.settings import StudySettings
from optitune.study.steps import compared_step, evaluations_per_epoch, usual_steps
from optitune.tasks.dividing import Share
from optitune.tasks.metrics import Metric
from optitune.tasks.splits import SearchData
from optitune.tasks.task import Task
from optitune.training.build import lr_ahead
from optitune.training.loops import begin
from optitune.training.plan import Plan, training_plan
from optitune.training.progress import Diverged, Progress
from optitune.training.run import Run

CHECKPOINT_SHARE = 0.05
"""What share of a trial's time checkpoints may take; where they would take more, some evaluations go without."""

FAIR_CHANCE_STEPS = 100
"""How many steps every network is given before it may be called stuck, besides an epoch and a third of its training."""


class ReturnedToQueue(Exception):
    """The trial was stopped from outside and has no outcome yet."""


@dataclass(frozen=True)
class Result:
    """How a trial ended: `value` is the metric on all validation examples, None unless complete.

    Attributes:
        seconds, epochs: how long it trained.
    """

    outcome: Outcome
    value: float | None
    reason: str
    seconds: float
    epochs: float


def _given_result(trial: optuna.Trial, before: FrozenTrial, reported: Collection[int]) -> Result:
    """Give a trial the curve and the end of another one, since its training would repeat that one's to the last bit."""
    trial.set_user_attr(trials.SAME_AS, before.number)
    for step, value in sorted(before.intermediate_values.items()):
        if step not in reported:
            trial.report(value, step)
    own = before.user_attrs.get(trials.REASON)
    reason = f"same configuration as trial {before.number}" + (f": {own}" if own else "")
    final = before.value if before.state == TrialState.COMPLETE else None
    return Result(trials.outcome(before), final, reason, 0.0, 0.0)


def is_stuck(trial: optuna.Trial, step: int, level: float, metric: Metric) -> bool:
    """Whether a trial that is no better than guessing will stay so; see `optitune.sampling.stuck.stays_at`.

    Args:
        trial: running.
        step: its last reported one.
        level: value of guessing.
        metric: of the task.
    """
    others = trial.study.get_trials(deepcopy=False)
    return stays_at(level, others[trial.number], step, others, metric.direction == "maximize", metric.ideal)


def is_known_good(trial: optuna.Trial, settings: StudySettings) -> bool:
    """Whether a trial has the known-good settings of its optimizer."""
    return any(is_first(first, trial.params) for first in known_good_parameters(settings))


def changes_ahead(schedule: ScheduleSettings, epochs: int, evaluations: int, usual: int) -> dict[str, float]:
    """By how many powers of ten the learning rate will still change, for each reported step; see `LR_AHEAD`.

    Args:
        schedule: of the trial.
        epochs: length of the trial.
        evaluations: how many there are in an epoch.
        usual: reported steps of an epoch with the study's batch size.
    """
    ahead = [round(change, 2) for change in lr_ahead(schedule, epochs, evaluations)]
    steps = [compared_step(point / evaluations, evaluations, usual) for point in range(1, len(ahead) + 1)]
    reported = [(step, change) for step, change in zip(steps, ahead, strict=True) if step is not None]
    return {str(step): change for (step, change), (_, following) in pairwise(reported) if change != following}


def trial_plan(
    configuration: Configuration, settings: StudySettings, task: Task, data: SearchData, run: int = 0
) -> Plan:
    """The plan of a trial's training.

    Args:
        configuration: of the trial.
        settings: of the study, with the precision decided.
        task: what is trained.
        data: whose sizes decide how often an epoch is evaluated.
        run: k to train from the study's seed + k.
    """
    assert settings.precision != "auto"
    evaluations = evaluations_per_epoch(len(data.train), len(data.validation))
    return training_plan(configuration, task, settings.epochs, settings.seed + run, settings.precision, evaluations)


def run_trial(
    trial: optuna.Trial,
    settings: StudySettings,
    task: Task,
    data: SearchData,
    device: torch.device,
    reported: Collection[int],
    on_progress: Callable[[Configuration, Progress | None], None],
    stopping: Callable[[], bool],
    checkpoint: Path | None = None,
    folder: Path | None = None,
) -> Result:
    """Train a trial's configuration and report to its study.

    One that was trained before is given the same result, or, where the sampler drew it to be repeated, trained from
    another seed, and then to its end.

    Args:
        trial: asked for, and running.
        settings: with precision and loss settled.
        data: on `device`.
        reported: steps that an earlier attempt at this trial, killed since, has reported already.
        on_progress: called with the configuration at the start (progress None) and at every evaluation, before
            it is reported.
        stopping: asked at every evaluation whether to stop.
        checkpoint: the file where an earlier attempt left off, and where this one does; None to keep none.
        folder: for files of a loop's own; None for none.

    Raises:
        ReturnedToQueue: `stopping` said so; another attempt goes on from the checkpoint.
    """
    configuration = suggest(trial, settings, settings.space())
    again = repeat_of(trial)
    if again is not None:
        trial.set_user_attr(trials.REPEATS, again.number)
        trial.set_user_attr(trials.RUN, again.run)
    run = again.run if again is not None else 0
    trial.set_user_attr(trials.DEVICE, str(device))
    trial.set_user_attr("lr", configuration.lr)
    trial.set_user_attr(trials.CONFIGURATION, configuration.model_dump(mode="json"))
    on_progress(configuration, None)
    if again is None:
        before = trials.trained_before(trial.study, configuration.model_dump(mode="json"), str(device))
        if before is not None:
            return _given_result(trial, before, reported)
    metric = task.judge
    how = trial_plan(configuration, settings, task, data, run)
    usual = usual_steps(settings, len(data.train))
    if settings.pruner == "optitune" and (
        ahead := changes_ahead(configuration.schedule, settings.epochs, how.evaluations, usual)
    ):
        trial.set_user_attr(LR_AHEAD, ahead)
    training = begin(task, how, data.train, data.validation, device)
    targets = data.validation.targets
    may_be_stuck = settings.pruner == "optitune" and not is_known_good(trial, settings)
    identity = trial_checkpoint.identity(how, data, device, studies.versions())
    latest = max(reported, default=0)
    pruned: list[str] = []

    def on_report(history: list[Progress], new: bool) -> bool:
        progress = history[-1]
        assert progress.validation is not None
        value = progress.validation.value
        step = compared_step(progress.epoch, how.evaluations, usual)
        if new:
            on_progress(configuration, progress)
        if step is not None and step not in reported:
            trial.report(value, step)
        fair = progress.epoch >= max(1.0, settings.epochs / 3) and progress.step >= FAIR_CHANCE_STEPS
        # what an earlier attempt reported later than this would be judged now
        if progress.epoch == settings.epochs or again is not None or step is None or step < latest:
            return False
        if may_be_stuck and fair:
            level, sign = training.guessing(metric, progress.validation, targets)
            if level is not None and is_stuck(trial, step, level, metric):
                pruned.append(
                    f"no progress after {plural(progress.epoch, 'epoch')}: {sign}, and {metric.name} "
                    f"{metric.unit.value(value)} is no better than guessing, which all others that learned had "
                    "surpassed by then"
                )
                return True
        if trial.should_prune():
            why = getattr(trial.study.pruner, "why", "") or "behind what this pruner keeps"
            pruned.append(f"pruned at epoch {progress.epoch:g}: {metric.name} {metric.unit.value(value)}, {why}")
        return bool(pruned)

    trained = Run(
        how,
        on_report,
        stopping,
        checkpoint,
        identity,
        device=device,
        share=Share("search", settings.train_examples, checksum=data.checksum),
        folder=folder,
        wait=lambda took: took / CHECKPOINT_SHARE,
        durable=False,
    )
    try:
        trained.run(training)
    except Diverged as diverged:
        # reported with the worst value there is, so that the sampler learns to stay away
        worst = metric.lowest if metric.direction == "maximize" else metric.highest
        step = max(1, diverged.step * usual // training.steps_per_epoch)
        if isfinite(worst) and step not in reported:
            trial.report(worst, step)
        epochs = diverged.step / training.steps_per_epoch
        return Result("diverged", None, str(diverged), trained.seconds, epochs)
    last = trained.history[-1] if trained.history else None
    if last is not None and pruned:
        return Result("pruned", None, pruned[0], last.seconds, last.epoch)
    if last is None or last.validation is None or not trained.done:
        raise ReturnedToQueue
    return Result("complete", last.validation.value, "", last.seconds, settings.epochs)
