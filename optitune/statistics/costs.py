"""Costs of an optimizer: time, memory, and sensitivity to its settings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, median

from optitune.statistics.runs import HALF, KNOWN_GOOD, TWICE, VARIANTS, Run, finalists_runs
from optitune.study.records import TrialRecord


@dataclass(frozen=True)
class Reached:
    """The time until runs reached a target value of the metric.

    Attributes:
        rounds: number of runs.
        reached: number of runs that reached the target.
        epochs: until then, the median of the runs that did; None where fewer than half did.
        seconds: of training until then, the median of the same runs; None where epochs is.
    """

    rounds: int
    reached: int
    epochs: float | None
    seconds: float | None


@dataclass(frozen=True)
class Change:
    """The effect of another setting on the metric.

    Attributes:
        rounds: that it is the mean of.
        change: of the metric, negative where it is worse; None where a run diverged.
    """

    rounds: int
    change: float | None


@dataclass(frozen=True)
class Cost:
    """The costs of an optimizer.

    Attributes:
        optimizer: its name.
        seconds: median seconds of a training; None without a run.
        epoch_seconds: median seconds of an epoch; None without a run.
        target: time until the target was reached.
        state: bytes of optimizer state per byte of weights; None without a run.
        half: effect of half the learning rate; None where it was not tried.
        twice: effect of twice the learning rate; None where it was not tried.
        tuning: effect of the known-good settings in place of the tuned ones; None where they were not tried.
        diverged: share of its ended trials in the search that diverged; None without any.
    """

    optimizer: str
    seconds: float | None
    epoch_seconds: float | None
    target: Reached
    state: float | None
    half: Change | None
    twice: Change | None
    tuning: Change | None
    diverged: float | None


def target_of(runs: Sequence[Run], optimizers: Iterable[str], sign: int) -> float | None:
    """The mean value of the weakest optimizer, which all others reach on average too.

    Args:
        runs: of a comparison.
        optimizers: names of those to consider.
        sign: 1 where higher values are better, -1 where lower ones are.

    Returns:
        A value of the metric; None where no run finished.
    """
    means = [
        fmean(run.value for run in own)
        for name in optimizers
        if (own := [run for run in finalists_runs(runs, name) if not run.diverged])
    ]
    return min(means, key=lambda value: sign * value, default=None)


def reached(runs: Sequence[Run], target: float, sign: int) -> Reached:
    """Measure the time until runs reached a target.

    Args:
        runs: of one optimizer.
        target: value of the metric.
        sign: 1 where higher values are better, -1 where lower ones are.
    """
    points = [next((point for point in run.curve if sign * (point.value - target) >= 0), None) for run in runs]
    there = [point for point in points if point is not None]
    if not there or 2 * len(there) < len(runs):
        return Reached(len(runs), len(there), None, None)
    return Reached(
        len(runs), len(there), median(point.epoch for point in there), median(point.seconds for point in there)
    )


def change(runs: Sequence[Run], optimizer: str, variant: str, sign: int) -> Change | None:
    """Measure the effect of a variant of an optimizer's configuration.

    Args:
        runs: of a comparison.
        optimizer: its name.
        variant: one of `runs.VARIANTS`.
        sign: 1 where higher values are better, -1 where lower ones are.

    Returns:
        The effect over the rounds that have both runs; None without any.
    """
    tuned = {run.key.round: run for run in finalists_runs(runs, optimizer)}
    pairs = [(run, tuned[run.key.round]) for run in finalists_runs(runs, optimizer, variant) if run.key.round in tuned]
    if not pairs:
        return None
    if any(run.diverged or base.diverged for run, base in pairs):
        return Change(len(pairs), None)
    return Change(len(pairs), sign * fmean(run.value - base.value for run, base in pairs))


def costs(
    runs: Sequence[Run],
    optimizers: Iterable[str],
    trials: Iterable[TrialRecord],
    epochs: int,
    target: float | None,
    sign: int,
    untuned: Mapping[str, bool],
) -> dict[str, Cost]:
    """The costs of each optimizer, by name.

    Args:
        runs: of the comparison.
        optimizers: their names.
        trials: of the search.
        epochs: of a run.
        target: value of the metric; None where there is none.
        sign: 1 where higher values are better, -1 where lower ones are.
        untuned: whether an optimizer's best configuration is its known-good one, by name.
    """
    records = list(trials)
    found = {}
    for name in optimizers:
        own = [run for run in finalists_runs(runs, name) if not run.diverged]
        ended = [row for row in records if row.optimizer == name and row.outcome in ("complete", "pruned", "diverged")]
        found[name] = Cost(
            optimizer=name,
            seconds=median(run.seconds for run in own) if own else None,
            epoch_seconds=median(run.seconds / epochs for run in own) if own else None,
            target=reached(own, target, sign) if target is not None else Reached(len(own), 0, None, None),
            state=own[0].state_bytes / max(1, own[0].weight_bytes) if own else None,
            half=change(runs, name, HALF, sign),
            twice=change(runs, name, TWICE, sign),
            tuning=Change(len(own), 0.0) if untuned.get(name) else change(runs, name, KNOWN_GOOD, sign),
            diverged=sum(row.outcome == "diverged" for row in ended) / len(ended) if ended else None,
        )
    return found


SURE = 2.0
"""Standard errors by which other settings of an optimizer have to be better before it is called not tuned to the end.
"""


@dataclass(frozen=True)
class Untuned:
    """Other settings of an optimizer that are better than those that the search found.

    Attributes:
        optimizer: its name.
        variant: one of `runs.VARIANTS`.
        better: by how much, in the metric's unit.
        rounds: that it is the mean of.
    """

    optimizer: str
    variant: str
    better: float
    rounds: int


def untuned(
    runs: Sequence[Run], optimizers: Iterable[str], sign: int, epsilon: float, spread: float
) -> tuple[Untuned, ...]:
    """Find optimizers that are not tuned to the end: other settings are better in each of several rounds, by more than
    matters, and by more than chance makes of it.

    Args:
        runs: of a comparison.
        optimizers: names of those to look at.
        sign: 1 where higher values are better, -1 where lower ones are.
        epsilon: what difference does not matter.
        spread: standard deviation of a round's difference.

    Returns:
        The best variant of each such optimizer.
    """
    found = []
    for name in optimizers:
        tuned = {run.key.round: run for run in finalists_runs(runs, name) if not run.diverged}
        better = []
        for variant in VARIANTS:
            own = [run for run in finalists_runs(runs, name, variant) if run.key.round in tuned]
            gains = [sign * (run.value - tuned[run.key.round].value) for run in own]
            if len(gains) < 2 or any(run.diverged for run in own) or min(gains) <= 0:
                continue
            gain = fmean(gains)
            if gain > max(epsilon, SURE * spread / sqrt(len(gains))):
                better.append(Untuned(name, variant, gain, len(gains)))
        if better:
            found.append(max(better, key=lambda each: each.better))
    return tuple(found)
