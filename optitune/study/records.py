"""Plain rows about trials and trainings, free of Optuna: what reports and statistics read."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Any, Literal, get_args

from optitune.space.configuration import Configuration

Outcome = Literal["complete", "pruned", "diverged", "failed", "running", "waiting"]
FINISHED: tuple[Outcome, ...] = ("complete", "pruned", "diverged")


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: as Optuna counts, from 0.
        outcome: what became of it; "diverged" is a loss that was nan or infinite.
        configuration: what was trained; None before it was drawn.
        value: the task's metric on all validation examples after the last epoch; None unless complete.
        score: the same as something of which more is better: -value where less is.
        began, ended: when, by the clock of the machine that trained it.
        reason: why it ended early or was not trained, in words.
        curve: (step, validation metric) at each evaluation; steps are counted alike for every batch size.
        seconds: how long it trained; None where it has not ended.
        epochs: the same; 0 where it has not ended.
        same_as: the trial of the same configuration whose result this one was given; None where it was trained.
    """

    number: int
    outcome: Outcome
    configuration: Configuration | None
    value: float | None
    reason: str
    curve: tuple[tuple[int, float], ...]
    seconds: float | None
    same_as: int | None = None
    epochs: float = 0.0
    score: float | None = None
    began: datetime | None = field(default=None, compare=False)
    ended: datetime | None = field(default=None, compare=False)

    @property
    def optimizer(self) -> str | None:
        return self.configuration.optimizer.name if self.configuration else None


@dataclass(frozen=True)
class Standing:
    """How one optimizer stands: over how many trials of how many epochs together, and its best complete one.

    `failed` ones are not among the `finished`.
    """

    optimizer: str
    finished: int
    pruned: int
    diverged: int
    failed: int
    epochs: float
    best: TrialRecord | None


@dataclass(frozen=True)
class Failing:
    """An optimizer all of whose trials failed, and why the last one did."""

    optimizer: str
    failed: int
    reason: str

    def sentence(self) -> str:
        """It in words."""
        every = "its only trial" if self.failed == 1 else f"all {self.failed} of its trials"
        return f"{self.optimizer}: {every} failed, the last with {self.reason}"


def counts(records: Iterable[TrialRecord]) -> dict[str, int]:
    """Trials by outcome, with `finished` for all that need no more training."""
    found = Counter(row.outcome for row in records)
    by_outcome = {outcome: found[outcome] for outcome in get_args(Outcome)}
    return {"finished": sum(by_outcome[outcome] for outcome in FINISHED), **by_outcome}


def best(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The complete trial of highest score; of equals the earliest, and one that was trained before its repetitions."""
    complete = [row for row in records if row.outcome == "complete" and row.score is not None]
    return max(complete, key=lambda row: (row.score or 0.0, row.same_as is None, -row.number), default=None)


def standings(records: Iterable[TrialRecord], optimizers: Iterable[str]) -> list[Standing]:
    """One row per optimizer, the best first, those without a complete trial last."""
    by_optimizer: defaultdict[str | None, list[TrialRecord]] = defaultdict(list)
    for row in records:
        by_optimizer[row.optimizer].append(row)
    table = []
    for name in optimizers:
        own = by_optimizer[name]
        number, epochs = counts(own), sum(row.epochs for row in own)
        ended = {outcome: number[outcome] for outcome in ("finished", "pruned", "diverged", "failed")}
        table.append(Standing(optimizer=name, **ended, epochs=epochs, best=best(own)))
    return sorted(table, key=lambda row: -(row.best.score or 0.0) if row.best else inf)


def failing(records: Sequence[TrialRecord], optimizers: Iterable[str]) -> list[Failing]:
    """The optimizers of which trials failed and none finished."""
    found = []
    for name in optimizers:
        own = [row for row in records if row.optimizer == name]
        failed = [row for row in own if row.outcome == "failed"]
        if failed and not any(row.outcome in FINISHED for row in own):
            found.append(Failing(name, len(failed), failed[-1].reason))
    return found


def plain(configuration: Configuration) -> dict[str, Any]:
    """A configuration as `--json` shows it."""
    schedule = configuration.schedule
    warmup = {"warmup": schedule.warmup} if schedule.warmup else {}
    return {
        "optimizer": configuration.optimizer.name,
        "settings": dict(configuration.optimizer.settings),
        "schedule": {"name": schedule.name, **schedule.settings, **warmup},
        "training": configuration.training.model_dump(),
    }
