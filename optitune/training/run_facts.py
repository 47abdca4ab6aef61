"""What a training loop of the user's own can ask of its run: settings, seed, device, stage, folder."""

from pathlib import Path
from typing import Any

import torch

from optitune.common.files import make_folder
from optitune.errors import UsageError
from optitune.space.configuration import Precision, flat
from optitune.tasks.dividing import Share, Stage
from optitune.training.ranks import Peers
from optitune.training.resume import Record


def files_of(folder: Path, name: str) -> Path:
    """Where files of a loop's own lie, within the folder of a study.

    Args:
        folder: of the study.
        name: of the training.
    """
    return folder / "files" / name


OF_THE_LOOP = ("batch_size", "accumulation", "label_smoothing", "loss")
"""Settings that a loop of the user's own has to read, or they do nothing."""


class Facts(Record):
    """The facts of one training.

    Args:
        record: of `Record`.
        device: to train on.
        share: which part of the data it gets.
        folder: for files of the loop's own; None for none.
        peers: the processes that train together.
        options: of `Record`.

    Attributes:
        read: the settings that the loop has read, by name.
    """

    def __init__(
        self, *record: Any, device: torch.device, share: Share, folder: Path | None, peers: Peers, **options: Any
    ) -> None:
        super().__init__(*record, **options)
        self._device = device
        self._share = share
        self._folder = folder
        self.peers = peers
        self.read: set[str] = set()

    @property
    def seed(self) -> int:
        """Of this training; torch, numpy and Python are seeded with it, and anew in every epoch."""
        return self.plan.seed

    @property
    def device(self) -> torch.device:
        """To train on."""
        return self._device

    @property
    def rank(self) -> int:
        """Which of the processes that train together this is, from 0; 0 where there is one."""
        return self.peers.rank

    @property
    def ranks(self) -> int:
        """How many processes train together."""
        return self.peers.ranks

    @property
    def stage(self) -> Stage:
        """`search`, `compare` or `retrain`."""
        return self._share.stage

    @property
    def precision(self) -> Precision:
        """`fp32`, or `bf16` for a loop that uses `torch.autocast`."""
        return self.plan.precision

    @property
    def settings(self) -> dict[str, Any]:
        """The whole configuration as a plain dict: `optimizer`, `lr`, `beta1`, `schedule`, `batch_size`, and so on."""
        self.read.update(OF_THE_LOOP, ("settings",))
        configuration = self.plan.configuration
        return {"optimizer": configuration.optimizer.name, **flat(configuration, ("optimizer",))}

    @property
    def batch_size(self) -> int:
        """Examples per batch, where the study is to decide it."""
        self.read.add("batch_size")
        return self.plan.configuration.training.batch_size

    @property
    def folder(self) -> Path:
        """A folder of this training for files of the loop's own; a training that is taken up again has the same."""
        if self._folder is None:
            raise UsageError("run.folder: this training has no folder")
        return make_folder(self._folder)

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return int(self.history[-1].epoch) if self.history else 0
