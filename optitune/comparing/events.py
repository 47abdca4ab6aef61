"""What the workers of a comparison report."""

from dataclasses import dataclass
from math import inf

from optitune.statistics.runs import RunId
from optitune.workers.events import Event


@dataclass(frozen=True)
class RunProgress(Event):
    """An evaluation of a run: epochs done, a fraction within one, the metric's value, and steps done."""

    key: RunId
    epoch: float
    value: float
    step: int = 0

    @property
    def place(self) -> tuple[RunId, float]:
        return self.key, self.epoch


@dataclass(frozen=True)
class RunFinished(Event):
    """A run has ended: its value, or in words where it diverged."""

    key: RunId
    value: float
    diverged: str

    @property
    def place(self) -> tuple[RunId, float]:
        return self.key, inf
