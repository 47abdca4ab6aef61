"""What the workers of a full training report."""

from dataclasses import dataclass
from math import inf

from optitune.retraining.records import EpochRecord
from optitune.workers.events import Event


@dataclass(frozen=True)
class SeedProgress(Event):
    """An epoch of the training with the seed of that number, from 0; `fresh` unless an earlier process trained it."""

    seed: int
    row: EpochRecord
    fresh: bool

    @property
    def place(self) -> tuple[int, float]:
        return self.seed, self.row.epoch


@dataclass(frozen=True)
class SeedFinished(Event):
    """The training with the seed of that number, from 0, was tested, and came to that value."""

    seed: int
    value: float

    @property
    def place(self) -> tuple[int, float]:
        return self.seed, inf
