"""Where a trial was at its last evaluation, on disk, so that another process can go on from there."""

import re
import time
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from optitune.common import checkpoint, files
from optitune.errors import OptituneError
from optitune.tasks.splits import SearchData
from optitune.training.engine import Progress, Training
from optitune.training.evaluation import Evaluation
from optitune.training.plan import Plan

SHARE = 0.05
"""What share of a trial's time checkpoints may take; where they would take more, some evaluations go without."""

FOLDER = "checkpoints"

FILE_NAME = re.compile(r"trial-(\d+)\.safetensors")


class TrialCheckpoint:
    """The checkpoint of one trial.

    Args:
        path: of its file.
        identity: all that decides the trial's numbers; a checkpoint of anything else is not taken up.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._identity = dict(identity)
        self._next = 0.0

    def load(self, training: Training) -> Progress | None:
        """Put `training` to where the checkpoint has it; None, and the training untouched, where there is none.

        A damaged one is removed: the trial then begins anew.
        """
        if not self.path.exists():
            return None
        try:
            kept = checkpoint.load(self.path)
            if kept["identity"] != self._identity:
                return None
            told = kept["progress"]
            progress = Progress(**{**told, "validation": Evaluation(**told["validation"])})
        except (OptituneError, KeyError, TypeError):
            self.remove()
            return None
        training.load_state_dict(kept["training"])
        return progress

    def save(self, training: Training, progress: Progress, at_once: bool = False) -> None:
        """Keep where the training is now.

        Args:
            training: at the evaluation of `progress`.
            progress: with an evaluation.
            at_once: even if the last one was written a moment ago.

        Raises:
            OptituneError: the file cannot be written.
        """
        began = time.perf_counter()
        if began < self._next and not at_once:
            return
        assert progress.validation is not None
        judged = {key: getattr(progress.validation, key) for key in ("loss", "value", "examples", "same")}
        told = {**vars(progress), "validation": {**judged, "predicted": None}}
        state = {"identity": self._identity, "progress": told, "training": training.state_dict()}
        # one that a crash of the machine damages costs a trial's time, to wait for the disk costs every trial's
        checkpoint.save(state, self.path, durable=False)
        ended = time.perf_counter()
        self._next = ended + (ended - began) / SHARE

    def remove(self) -> None:
        """Remove it, and what was being written of it when a process died.

        Raises:
            OptituneError: it cannot be removed.
        """
        files.sweep(self.path.parent, re.escape(self.path.stem), re.escape(self.path.suffix))
        with files.explained(self.path, "remove"):
            self.path.unlink(missing_ok=True)


def identity(plan: Plan, data: SearchData, device: torch.device, versions: Mapping[str, str]) -> dict[str, Any]:
    """All that decides a trial's numbers."""
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
