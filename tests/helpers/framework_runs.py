"""Runs of training loops that other packages' Trainers train."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from optitune.sampling.parameters import known_good
from optitune.space.configuration import Configuration
from optitune.study.settings import StudySettings
from optitune.tasks import loading
from optitune.tasks.loop_task import LoopTask
from optitune.training import probe
from optitune.training.loops import Loop
from optitune.training.plan import training_plan
from optitune.training.progress import Progress
from optitune.training.run import Run

EPOCHS = 3
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def ran(
    loop: Callable[[Any], None],
    configuration: Configuration,
    folder: Path,
    stop_after: int = 1_000,
    prune_after: int = 1_000,
    seed: int = 5,
    device: str = "cpu",
) -> Run:
    """Train a loop for `EPOCHS` epochs, from the checkpoint in the folder if there is one.

    Args:
        loop: to train.
        configuration: of the training.
        folder: of checkpoint and files.
        stop_after: after how many reports of this process it is stopped, to be taken up.
        prune_after: after how many reports in all it is pruned.
        seed: of the training.
        device: to train on.
    """
    task = LoopTask(train=loop, name="loop").judged_by("accuracy")
    new_reports = 0

    def report(history: list[Progress], new: bool) -> bool:
        nonlocal new_reports
        new_reports += new
        return len(history) >= prune_after

    run = Run(
        training_plan(configuration, task, EPOCHS, seed, "fp32"),
        report,
        lambda: new_reports >= stop_after,
        folder / "checkpoint",
        "the same",
        device=torch.device(device),
        folder=folder / "files",
    )
    run.run(Loop(task))
    return run


def values(run: Run) -> list[tuple[float, float, float, float | None]]:
    """Epoch, learning rate, value and loss of each report."""
    return [(row.epoch, row.lr, row.validation.value if row.validation else 0.0, row.train_loss) for row in run.history]


def passes_with_all_that_compete(example: str) -> int:
    """How many optimizers an example's loop was called for a first time with."""
    task = loading.find(f"{EXAMPLES / example}:train", Path())
    assert isinstance(task, LoopTask)
    tries = list(known_good(StudySettings()).values())
    found = probe.tried(task.judged_by("accuracy"), tries, EPOCHS, "fp32", torch.device("cpu"), wanted={"schedule"})
    assert isinstance(found, LoopTask)
    assert found.known.lacks == ()
    return len(tries)
