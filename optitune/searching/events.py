"""What the workers of a search report, and a study that is watched as if they did."""

from dataclasses import dataclass
from math import inf

from optitune.workers.events import Event


@dataclass(frozen=True)
class Note(Event):
    """Something that the user should know."""

    text: str


@dataclass(frozen=True)
class TrialStarted(Event):
    """The worker trains a trial; `since` says for how many seconds already, where another process saw it begin."""

    number: int
    optimizer: str
    lr: float
    since: float = 0.0


@dataclass(frozen=True)
class TrialProgress(Event):
    """An evaluation of the trial that the worker trains.

    Attributes:
        number: of the trial.
        epoch: epochs done, a fraction within one.
        value: of the metric; None where there was nothing to evaluate on.
        fresh: whether it was just made; not where a watched study had it already.
        step: steps done; 0 where the study is watched.
    """

    number: int
    optimizer: str
    lr: float
    epoch: float
    value: float | None
    fresh: bool = True
    step: int = 0

    @property
    def place(self) -> tuple[int, float]:
        return self.number, self.epoch


@dataclass(frozen=True)
class TrialFinished(Event):
    """A trial is complete, pruned or diverged."""

    number: int

    @property
    def place(self) -> tuple[int, float]:
        return self.number, inf


@dataclass(frozen=True)
class TrialFailed(Event):
    """A trial raised an error, and why in a line."""

    number: int
    reason: str


@dataclass(frozen=True)
class TrialLeft(Event):
    """A trial is no longer the worker's, and has not been ended by it."""

    number: int


@dataclass(frozen=True)
class StudySized(Event):
    """How many finished trials a watched study is to have, and how many workers are at it."""

    target: int
    workers: int
