"""What a search needs to know of a training loop of the user's own before it begins."""

from collections.abc import Callable
from pathlib import Path

import torch

from optitune.common.schema import validated
from optitune.sampling.parameters import known_good
from optitune.study.settings import StudySettings
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.task import Task
from optitune.training import probe
from optitune.training.run_facts import OF_THE_LOOP
from optitune.workers import loop_probe

FACTORS = (0.1, 10.0)
"""Range of the learning rate of an optimizer with a name, as a multiple of the trial's."""


def tried(task: Task, settings: StudySettings, device: torch.device) -> Task:
    """A loop's task with the facts of its first call, in this process; any other task unchanged.

    Args:
        task: of the study.
        settings: of the study, without `auto`.
        device: to train on.

    Raises:
        UsageError: the loop does something that a loop must not.
    """
    assert settings.precision != "auto"
    if not isinstance(task, LoopTask):
        return task
    tries = list(known_good(settings).values())
    return probe.tried(task, tries, settings.epochs, settings.precision, device, settings.train_examples)


def tried_apart(
    task: Task,
    source: str | None,
    data_dir: Path,
    settings: StudySettings,
    device: torch.device,
    studies_dir: Path,
    on_tick: Callable[[], None] = lambda: None,
    ranks: int = 1,
) -> Task:
    """The same, in a process of its own; see `optitune.workers.loop_probe.tried_apart`.

    Args:
        task: of the study.
        source: where workers have it from; None for a task that was given as an object.
        data_dir: where torchvision's files lie.
        settings: of the study, without `auto`.
        device: to train on.
        studies_dir: folder of all studies.
        on_tick: called a few times a second.
        ranks: how many processes train a trial together.

    Raises:
        UsageError: the loop does something that a loop must not.
    """
    assert settings.precision != "auto"
    if not isinstance(task, LoopTask):
        return task
    fields = StudySettings.model_fields
    wanted = {name for name in OF_THE_LOOP if getattr(settings, name) != fields[name].default}
    if settings.loss == task.loss_name:
        wanted.discard("loss")
    if settings.schedules != ("constant",) or settings.warmup != fields["warmup"].default:
        wanted.add("schedule")
    call = loop_probe.FirstCall(
        tuple(known_good(settings).values()),
        settings.epochs,
        settings.precision,
        str(device),
        settings.own_paths(),
        studies_dir,
        settings.train_examples,
        frozenset(wanted),
        ranks,
    )
    return loop_probe.tried_apart(task, source, data_dir, call, on_tick)


def with_factors(settings: StudySettings, task: Task, where: str) -> StudySettings:
    """Settings with a range for the learning rate of each optimizer that has a name, unless the study says one.

    Args:
        settings: of a new study.
        task: of the study, with its facts.
        where: what an error names as their place.
    """
    if not isinstance(task, LoopTask):
        return settings
    said = tuple(settings.groups)
    own = {
        f"{name}.*": list(FACTORS)
        for name in task.known.optimizers
        if name and not any(each.startswith(f"{name}.") for each in said)
    }
    if not own:
        return settings
    return validated(StudySettings, {**settings.document(), "groups": {**settings.groups, **own}}, where)
