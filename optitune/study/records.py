"""Trials as plain rows without Optuna, for reports and statistics."""

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
    """A trial of a study.

    Attributes:
        number: Optuna's, from 0.
        outcome: "diverged" means that a loss was nan or infinite.
        configuration: None before it is drawn.
        value: metric on all validation examples after the last epoch; None unless complete.
        reason: why it ended early or failed, in words.
        curve: (step, validation metric) of each evaluation; steps are the same for every batch size.
        seconds: of training; None where it has not ended.
        same_as: number of the trial of equal configuration that the result was copied from; None where it was trained.
        epochs: of training; 0 where it has not ended.
        score: value, its sign turned where lower values are better, so that higher is better.
        began: start, by the clock of the machine that trained it.
        ended: end, by the same clock.
        from_study: name of the study that it was taken from; None where it was trained in this one.
        from_trial: its number there.
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
    from_study: str | None = None
    from_trial: int | None = None

    @property
    def optimizer(self) -> str | None:
        return self.configuration.optimizer.name if self.configuration else None


@dataclass(frozen=True)
class Standing:
    """How one optimizer stands in a search: the columns of every table of standings.

    Attributes:
        optimizer: its name.
        value: of its best complete trial; None without one.
        lr: of that trial.
        trial: its number.
        finished: how many of its trials were trained to their end or ended early.
        pruned: how many of those were pruned.
        diverged: how many of those diverged.
        failed: how many of its trials failed; they are not among the finished.
        epochs: of all its trials together.
        best: its best complete trial.
    """

    optimizer: str
    value: float | None
    lr: float | None
    trial: int | None
    finished: int
    pruned: int
    diverged: int
    failed: int
    epochs: float
    best: TrialRecord | None


@dataclass(frozen=True)
class Failing:
    """An optimizer with failed trials alone: their number and the reason of the last one."""

    optimizer: str
    failed: int
    reason: str

    def sentence(self) -> str:
        """The failure in words."""
        every = "its only trial" if self.failed == 1 else f"all {self.failed} of its trials"
        return f"{self.optimizer}: {every} failed, the last with {self.reason}"


def counts(records: Iterable[TrialRecord]) -> dict[str, int]:
    """The number of trials by outcome, and of all `finished` ones: complete, pruned or diverged."""
    found = Counter(row.outcome for row in records)
    by_outcome = {outcome: found[outcome] for outcome in get_args(Outcome)}
    return {"finished": sum(by_outcome[outcome] for outcome in FINISHED), **by_outcome}


def best(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The complete trial of highest score; of equal ones a trained rather than a copied one, then the earliest."""
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
        leader = best(own)
        value, trial = (leader.value, leader.number) if leader else (None, None)
        lr = leader.configuration.lr if leader and leader.configuration else None
        table.append(Standing(name, value, lr, trial, **ended, epochs=epochs, best=leader))
    return sorted(table, key=lambda row: -(row.best.score or 0.0) if row.best else inf)


def failing(records: Sequence[TrialRecord], optimizers: Iterable[str]) -> list[Failing]:
    """The optimizers with failed trials and no finished one."""
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
