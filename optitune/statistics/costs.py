"""What an optimizer costs, beside what it reaches: time, memory, and how much it hangs on its settings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean, median

from optitune.statistics.runs import HALF, KNOWN_GOOD, TWICE, Run, finalists_runs
from optitune.study.records import TrialRecord


@dataclass(frozen=True)
class Reached:
    """How soon a target was reached; medians over the rounds that did, None where not half of them did.

    Attributes:
        rounds: how many there were.
        reached: in how many.
    """

    rounds: int
    reached: int
    epochs: float | None
    seconds: float | None


@dataclass(frozen=True)
class Change:
    """What another setting does to the metric: the mean over so many rounds; negative where it is worse.

    `change` is None where one of them diverged.
    """

    rounds: int
    change: float | None


@dataclass(frozen=True)
class Cost:
    """What an optimizer costs.

    Attributes:
        epoch_seconds: of an epoch, the median over its runs.
        target: how soon it was reached.
        state: bytes that the optimizer keeps for every byte of weights.
        half, twice: what half and twice the lr do.
        tuning: what the known-good settings give away against the tuned ones: how much tuning gained.
        diverged: the share of its trials in the search that did; None where it had none.
    """

    optimizer: str
    epoch_seconds: float | None
    target: Reached
    state: float | None
    half: Change | None
    twice: Change | None
    tuning: Change | None
    diverged: float | None


def target_of(runs: Sequence[Run], optimizers: Iterable[str], sign: int) -> float | None:
    """What the weakest of these optimizers reaches, on average; None where none finished."""
    means = [
        fmean(run.value for run in own)
        for name in optimizers
        if (own := [run for run in finalists_runs(runs, name) if not run.diverged])
    ]
    return min(means, key=lambda value: sign * value, default=None)


def reached(runs: Sequence[Run], target: float, sign: int) -> Reached:
    """How soon runs of one optimizer reached a value of the metric."""
    points = [next((point for point in run.curve if sign * (point.value - target) >= 0), None) for run in runs]
    there = [point for point in points if point is not None]
    if not there or 2 * len(there) < len(runs):
        return Reached(len(runs), len(there), None, None)
    return Reached(
        len(runs), len(there), median(point.epoch for point in there), median(point.seconds for point in there)
    )


def change(runs: Sequence[Run], optimizer: str, variant: str, sign: int) -> Change | None:
    """What a variant of an optimizer's configuration does, from the rounds that have both; None without any."""
    itself = {run.key.round: run for run in finalists_runs(runs, optimizer)}
    pairs = [
        (run, itself[run.key.round]) for run in finalists_runs(runs, optimizer, variant) if run.key.round in itself
    ]
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
    """What each optimizer costs.

    Args:
        runs: of the comparison.
        trials: of the search.
        epochs: of a run.
        target: of the metric; None where there is none.
        sign: 1 where more is better, -1 where less is.
        untuned: whether an optimizer's best configuration is its known-good one.
    """
    records = list(trials)
    found = {}
    for name in optimizers:
        own = [run for run in finalists_runs(runs, name) if not run.diverged]
        ended = [row for row in records if row.optimizer == name and row.outcome in ("complete", "pruned", "diverged")]
        found[name] = Cost(
            optimizer=name,
            epoch_seconds=median(run.seconds / epochs for run in own) if own else None,
            target=reached(own, target, sign) if target is not None else Reached(len(own), 0, None, None),
            state=own[0].state_bytes / max(1, own[0].weight_bytes) if own else None,
            half=change(runs, name, HALF, sign),
            twice=change(runs, name, TWICE, sign),
            tuning=Change(len(own), 0.0) if untuned.get(name) else change(runs, name, KNOWN_GOOD, sign),
            diverged=sum(row.outcome == "diverged" for row in ended) / len(ended) if ended else None,
        )
    return found


QUICKER, LIGHTER = 0.9, 0.9
"""What share of another one's time or memory is worth a recommendation."""


@dataclass(frozen=True)
class Recommendation:
    """Which optimizer to take, and why.

    Attributes:
        seconds, state: its share of the leader's time to the target and of its memory, where that is why.
    """

    optimizer: str
    seconds: float | None = None
    state: float | None = None


def recommend(leader: str, tied: Sequence[str], costs: Mapping[str, Cost]) -> Recommendation:
    """The quickest of those that are equal to the leader; of those as quick, the one that keeps the least."""
    base = costs[leader]

    def seconds(name: str) -> float:
        if not base.target.seconds:
            return 1.0
        found = costs[name].target.seconds
        # one that does not get there is not quick
        return inf if found is None else found / base.target.seconds

    def state(name: str) -> float:
        found = costs[name].state
        return found / base.state if found is not None and base.state else 1.0

    quickest = min([leader, *tied], key=seconds)
    if seconds(quickest) > QUICKER:
        quickest = min([leader, *tied], key=lambda name: state(name) if seconds(name) <= 1 / QUICKER else 1.0)
        if state(quickest) > LIGHTER:
            return Recommendation(leader)
    gained = {"seconds": seconds(quickest) if seconds(quickest) <= QUICKER else None,
              "state": state(quickest) if state(quickest) <= LIGHTER else None}  # fmt: skip
    return Recommendation(quickest, **gained)
