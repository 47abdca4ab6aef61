"""The file of a trial's checkpoint: where it lies, what decides its numbers, and when it is removed."""

import re
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from optitune.common import files
from optitune.tasks.splits import SearchData
from optitune.training.plan import Plan

FOLDER = "checkpoints"

FILE_NAME = re.compile(r"trial-(\d+)\.safetensors")


def identity(plan: Plan, data: SearchData, device: torch.device, versions: Mapping[str, str]) -> dict[str, Any]:
    """All that decides a trial's numbers: a checkpoint with another identity is not used.

    Args:
        plan: of the training.
        data: to train and judge on.
        device: to train on.
        versions: of the packages, by name.
    """
    return {
        "configuration": plan.configuration.model_dump(mode="json"),
        "epochs": plan.epochs,
        "evaluations": plan.evaluations,
        "seed": plan.seed,
        "precision": plan.precision,
        "data": data.checksum,
        "train_examples": len(data.train),
        "device": device.type,
        "versions": dict(versions),
    }


def path_of(folder: Path, number: int) -> Path:
    """Where the checkpoint of that trial lies, within the folder of its study."""
    return folder / FOLDER / f"trial-{number}.safetensors"


def remove(path: Path) -> None:
    """Remove a checkpoint, and what was being written of it when a process died.

    Raises:
        OptituneError: it cannot be removed.
    """
    files.sweep(path.parent, re.escape(path.stem), re.escape(path.suffix))
    with files.explained(path, "remove"):
        path.unlink(missing_ok=True)


def sweep(folder: Path, unfinished: Callable[[], Container[int]]) -> None:
    """Remove the checkpoints of trials that have ended without their worker's knowing.

    Args:
        folder: of the study.
        unfinished: reads the numbers of the trials that have not ended; after the files are listed, or it would not
            know of a trial that another search has begun meanwhile.
    """
    there = [(path, found) for path in (folder / FOLDER).glob("*") if (found := FILE_NAME.fullmatch(path.name))]
    numbers = unfinished()
    for path, found in there:
        if int(found[1]) not in numbers:
            # a folder of that name, or one that is not ours to change
            with suppress(OSError):
                path.unlink()
    files.sweep(folder / FOLDER, r"trial-\d+", r"\.safetensors")
