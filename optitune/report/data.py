"""What a report's figures show, as plain rows of trials and runs; nothing is drawn here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from optitune.common.summary import Summary
from optitune.retraining.records import SeedResult
from optitune.statistics.runs import Run, finalists_runs
from optitune.study.records import Outcome, TrialRecord, counts
from optitune.study.steps import reported_epoch

ENOUGH = 10
"""Of how many finished trials of an optimizer the importance of its settings is given."""

REACH = 4.0
"""How many times as wide as what matters an axis may become for the sake of the rest."""


def better_half(values: Iterable[float], sign: int) -> list[float]:
    """The better half of the values, two at least: what a figure must show apart."""
    order = sorted(values, key=lambda value: -sign * value)
    return order[: max(2, -(-len(order) // 2))]


def window(inner: Sequence[float], others: Iterable[float] = ()) -> tuple[float, float]:
    """Between what an axis runs: all of `inner` is on it, and of the others what does not squeeze it.

    Args:
        inner: at least one.
    """
    known = [value for value in inner if isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    reach = REACH * (high - low) or inf
    near = [value for value in others if isfinite(value) and low - reach <= value <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


@dataclass(frozen=True)
class Band:
    """An optimizer's runs at each evaluation: their median, and between what the middle half of them lies."""

    optimizer: str
    epochs: tuple[float, ...]
    middle: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    runs: int


def bands(runs: Sequence[Run], optimizers: Iterable[str]) -> list[Band]:
    """A band for each optimizer that has a run without divergence."""
    found = []
    for name in optimizers:
        curves = [
            {point.epoch: point.value for point in run.curve}
            for run in finalists_runs(runs, name)
            if not run.diverged and run.curve
        ]
        if not curves:
            continue
        # runs of one plan are judged at the same points
        epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
        heights = [[curve[epoch] for curve in curves] for epoch in epochs]
        low, middle, high = (tuple(row) for row in np.quantile(heights, (0.25, 0.5, 0.75), axis=1).tolist())
        found.append(Band(name, tuple(epochs), middle, low, high, len(curves)))
    return found


@dataclass(frozen=True)
class Curve:
    """A trial's learning curve: (epoch, value) at each evaluation."""

    optimizer: str
    outcome: Outcome
    points: tuple[tuple[float, float], ...]


def search_curves(trials: Sequence[TrialRecord]) -> list[Curve]:
    """The curves of the trials that were trained and did not diverge.

    Steps become epochs by a trial that is complete: its last step is the end of its last epoch.
    """
    trained = [row for row in trials if row.curve and row.same_as is None and row.outcome in ("complete", "pruned")]
    an_epoch = reported_epoch(trained)
    if an_epoch is None:
        return []
    return [
        Curve(row.optimizer or "", row.outcome, tuple((step / an_epoch, value) for step, value in row.curve))
        for row in trained
    ]


@dataclass(frozen=True)
class LrPoint:
    """A trial by its learning rate; `value` is the last that was seen, None where it diverged."""

    lr: float
    value: float | None
    outcome: Outcome


@dataclass(frozen=True)
class Basin:
    """An optimizer's trials by learning rate.

    Attributes:
        best: value of its trials.
        good: from what lr to what its complete trials came as near to the best of them as does not matter; None
            without a comparison, which alone says what that is, or for fewer than two.
    """

    optimizer: str
    points: tuple[LrPoint, ...]
    best: float
    good: tuple[float, float] | None


def basins(
    trials: Iterable[TrialRecord], optimizers: Iterable[str], sign: int, epsilon: float | None = None
) -> list[Basin]:
    """The basin of each optimizer that has a trial with a value: its values by learning rate.

    Args:
        trials: the study's trials, finished and running.
        optimizers: names, in the order in which rows are to come.
        sign: 1 where more of the metric is better, -1 where less is.
        epsilon: difference of the metric that does not matter; None where it is not known.
    """
    records = [row for row in trials if row.outcome in ("complete", "pruned", "diverged") and row.same_as is None]
    found = []
    for name in optimizers:
        points = [
            LrPoint(row.configuration.lr, last_seen(row), row.outcome)
            for row in records
            if row.configuration is not None and row.optimizer == name
        ]
        complete = [p.value for p in points if p.value is not None and p.outcome == "complete"]
        scores = [sign * value for value in complete or [p.value for p in points if p.value is not None]]
        if scores:
            found.append(Basin(name, tuple(points), sign * max(scores), _good(points, sign, epsilon)))
    return found


def common_depth(rows: Iterable[Basin], sign: int) -> float:
    """How far below its best each basin is to be seen: most complete trials of all of them are."""
    below = [
        sign * (row.best - point.value)
        for row in rows
        for point in row.points
        if point.value is not None and point.outcome == "complete"
    ]
    return 1.2 * float(np.quantile(below, 0.9)) if below and max(below) > 0 else 1.0


def last_seen(row: TrialRecord) -> float | None:
    """The last value of a trial; None where it diverged or was never judged."""
    if row.outcome == "diverged":
        return None
    seen = row.value if row.value is not None else row.curve[-1][1] if row.curve else None
    return seen if seen is not None and isfinite(seen) else None


def _good(points: Iterable[LrPoint], sign: int, epsilon: float | None) -> tuple[float, float] | None:
    complete = [
        (sign * point.value, point.lr) for point in points if point.outcome == "complete" and point.value is not None
    ]
    if epsilon is None or not complete:
        return None
    best = max(complete)[0]
    near = [lr for score, lr in complete if score >= best - epsilon]
    return (min(near), max(near)) if len(near) > 1 else None


@dataclass(frozen=True)
class Climb:
    """The best of an optimizer so far: after its so many trials, and so many seconds that they trained."""

    optimizer: str
    trials: tuple[int, ...]
    seconds: tuple[float, ...]
    best: tuple[float, ...]


def climbs(records: Iterable[TrialRecord], optimizers: Iterable[str], sign: int) -> list[Climb]:
    """The best value so far by trials and by seconds, for each optimizer with a complete trial.

    Args:
        records: the study's trials, finished and running.
        optimizers: names, in the order in which rows are to come.
        sign: 1 where more of the metric is better, -1 where less is.
    """
    rows = sorted((row for row in records if row.outcome in ("complete", "pruned", "diverged")), key=lambda r: r.number)
    found = []
    for name in optimizers:
        steps: list[tuple[int, float, float]] = []
        seconds, best = 0.0, -inf
        for count, row in enumerate((row for row in rows if row.optimizer == name), start=1):
            seconds += row.seconds or 0.0
            if row.outcome == "complete" and row.value is not None:
                best = max(best, sign * row.value)
            if best > -inf:
                steps.append((count, seconds, sign * best))
        if steps:
            trials, spent, values = zip(*steps, strict=True)
            found.append(Climb(name, trials, spent, values))
    return found


@dataclass(frozen=True)
class Share:
    """What an optimizer had of the budget: trials of the search by outcome, their epochs and seconds; and runs.

    `runs` are those of the comparison, variants included.
    """

    optimizer: str
    complete: int
    pruned: int
    diverged: int
    epochs: float
    seconds: float
    runs: int


def shares(trials: Sequence[TrialRecord], runs: Iterable[Run], optimizers: Iterable[str]) -> list[Share]:
    """What each optimizer had of the budget: trials, epochs and seconds.

    Args:
        trials: the study's trials, finished and running.
        runs: of the comparison; none where there is none.
        optimizers: names, in the order in which rows are to come.
    """
    ran = [run.key.optimizer for run in runs]
    found = []
    for name in optimizers:
        own = [row for row in trials if row.optimizer == name]
        number, epochs = counts(own), sum(row.epochs for row in own)
        seconds = sum(row.seconds or 0.0 for row in own)
        found.append(
            Share(name, number["complete"], number["pruned"], number["diverged"], epochs, seconds, ran.count(name))
        )
    return found


def agreement(value: float, other: Summary, sign: int) -> str:
    """Say where a value lies in relation to another estimate's interval; empty where that has none.

    Args:
        value: of the metric.
        other: the other estimate.
        sign: 1 where more of the metric is better, -1 where less is.
    """
    if other.low is None or other.high is None:
        return ""
    if other.low <= value <= other.high:
        return "within"
    return "better than" if sign * (value - other.mean) > 0 else "worse than"


def confusion_counts(seeds: Sequence[SeedResult]) -> list[list[int]]:
    """Confusion matrices of several seeds, added up: rows are true classes, columns answers; none without classes."""
    matrices = [seed.confusion_matrix for seed in seeds]
    classes = range(max(map(len, matrices), default=0))
    return [
        [sum(each[true][said] for each in matrices if max(true, said) < len(each)) for said in classes]
        for true in classes
    ]
