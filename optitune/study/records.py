"""Trials as plain rows without Optuna, for reports and statistics."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import inf
from statistics import fmean
from typing import Any, Literal, get_args

from optitune.space.configuration import Configuration
from optitune.study import repeated

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
        run: from which further seed it was trained, k for the study's seed + k; 0 for that seed itself.
        repeats: number of the trial whose configuration it repeats from another seed; None where it repeats none.
        runs: over how many runs of its configuration `value` and `score` are means: 1, but of what `best` gives.
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
    run: int = 0
    repeats: int | None = None
    runs: int = 1

    @property
    def optimizer(self) -> str | None:
        return self.configuration.optimizer.name if self.configuration else None

    @property
    def which_run(self) -> str:
        """Which run of an earlier trial's settings it is, in words; empty where it is none."""
        return "" if self.repeats is None else f"run {self.run + 1} of the settings of trial {self.repeats}"


@dataclass(frozen=True)
class Standing:
    """How one optimizer stands in a search: the columns of every table of standings.

    Attributes:
        optimizer: its name.
        value: of its best configuration, the mean where that was trained from several seeds; None without one.
        runs: over how many runs that is the mean; 0 without one.
        lr: of that configuration.
        trial: number of the trial that trained it first.
        finished: how many of its trials were trained to their end or ended early.
        pruned: how many of those were pruned.
        diverged: how many of those diverged.
        failed: how many of its trials failed; they are not among the finished.
        epochs: of all its trials together.
        best: its best configuration, see `best`.
    """

    optimizer: str
    value: float | None
    runs: int
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


@dataclass(frozen=True)
class Tried:
    """A configuration with its complete runs.

    Attributes:
        runs: its complete trials, one a seed, the study's own seed first.
        diverged: how many further runs of it diverged.
    """

    runs: tuple[TrialRecord, ...]
    diverged: int = 0

    @property
    def scores(self) -> tuple[float, ...]:
        return tuple(row.score or 0.0 for row in self.runs)

    @property
    def record(self) -> TrialRecord:
        """Its first trial, whose `value` and `score` are replaced by the means over all its runs."""
        if len(self.runs) == 1:
            return self.runs[0]
        mean = fmean(row.value or 0.0 for row in self.runs)
        return replace(self.runs[0], value=mean, score=fmean(self.scores), runs=len(self.runs))


def repeats(records: Iterable[TrialRecord]) -> str:
    """How many finished trials repeat others, in words; empty where none does."""
    number = sum(row.repeats is not None and row.outcome in FINISHED for row in records)
    if not number:
        return ""
    return f"{number} of them {'repeats' if number == 1 else 'repeat'} an earlier trial's settings from another seed"


def tried(records: Iterable[TrialRecord]) -> list[Tried]:
    """The complete configurations of a study, each with all its runs; copies of a result are no runs."""
    rows = sorted(records, key=lambda row: (row.run, row.number))
    complete = [row for row in rows if row.outcome == "complete" and row.score is not None]
    there = {row.number for row in complete}
    found: dict[int, dict[int, TrialRecord]] = {}
    for row in complete:
        if row.same_as not in there:
            found.setdefault(row.number if row.repeats is None else row.repeats, {}).setdefault(row.run, row)
    diverged = Counter(row.repeats for row in rows if row.outcome == "diverged")
    return [Tried(tuple(runs.values()), diverged[number]) for number, runs in found.items()]


def ranked(records: Iterable[TrialRecord]) -> list[Tried]:
    """The complete configurations of a study, the best first.

    It is best which is expected to score highest from other seeds (`repeated.expected`); of equal ones the earliest.
    What diverged from another seed comes after all that did not.
    """
    found = tried(records)
    places = _places(found)
    return [found[at] for at in sorted(range(len(found)), key=lambda at: (places[at], found[at].runs[0].number))]


def _places(found: Sequence[Tried]) -> list[tuple[bool, float]]:
    """What configurations are ranked by, less is better."""
    spread = repeated.noise([each.scores for each in found])
    return [(each.diverged > 0, -repeated.expected(each.scores, spread)) for each in found]


def best(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The first trial of the best configuration, see `ranked`; its `value` is the mean over its `runs`."""
    return next((each.record for each in ranked(records)), None)


LAST: tuple[tuple[bool, float], None] = (True, inf), None
"""The place of an optimizer without a complete trial, behind all others."""


def standings(records: Iterable[TrialRecord], optimizers: Iterable[str]) -> list[Standing]:
    """One row per optimizer, the best first, those without a complete trial last."""
    rows = list(records)
    by_optimizer: defaultdict[str | None, list[TrialRecord]] = defaultdict(list)
    for row in rows:
        by_optimizer[row.optimizer].append(row)
    found = ranked(rows)
    leaders: dict[str | None, tuple[tuple[bool, float], TrialRecord]] = {}
    for place, each in zip(_places(found), found, strict=True):
        leaders.setdefault(each.runs[0].optimizer, (place, each.record))
    table = []
    for name in optimizers:
        own, (_, leader) = by_optimizer[name], leaders.get(name, LAST)
        number, epochs = counts(own), sum(row.epochs for row in own)
        ended = {outcome: number[outcome] for outcome in ("finished", "pruned", "diverged", "failed")}
        value, runs, trial = (leader.value, leader.runs, leader.number) if leader else (None, 0, None)
        lr = leader.configuration.lr if leader and leader.configuration else None
        table.append(Standing(name, value, runs, lr, trial, **ended, epochs=epochs, best=leader))
    # equal ones keep the order of the names
    return sorted(table, key=lambda row: leaders.get(row.optimizer, LAST)[0])


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
