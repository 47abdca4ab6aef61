"""What workers report to their parent: a class for each kind of event, all of which pickle.

Each stage adds its own classes, beside its workers.
"""

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """A report of a worker.

    Attributes:
        worker: its number, from 0.
    """

    worker: int

    @property
    def place(self) -> tuple[Hashable, float] | None:
        """A training and how many of its epochs are done, infinity once it has ended; None in an event of none."""
        return None


@dataclass(frozen=True)
class Output(Event):
    """A line that the worker's process printed."""

    text: str


@dataclass(frozen=True)
class Done(Event):
    """The worker has returned; `stopped` where it had been asked to stop."""

    stopped: bool


@dataclass(frozen=True)
class Failed(Event):
    """The worker has raised an error.

    Attributes:
        message: for the user.
        usage: whether it is a `UsageError`.
        bug: traceback of its cause; empty where that is no bug.
    """

    message: str
    usage: bool
    bug: str


@dataclass(frozen=True)
class RankDied(Event):
    """A process that trains with the worker's others has died, and the worker ends of the same cause."""

    cause: str


@dataclass(frozen=True)
class Retired(Event):
    """The worker is about to return, and a fresh process is to take its place."""
