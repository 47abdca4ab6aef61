"""Differences of two optimizers, and of all pairs of several after every round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from optitune.statistics.runs import Run
from optitune.statistics.sequential_test import student
from optitune.statistics.spread import PRIOR_ROUNDS, half_widths

Relation = Literal["better", "worse", "equal", "undecided"]


@dataclass(frozen=True)
class Difference:
    """The difference of two optimizers in the metric's unit: positive where `one` is better.

    Attributes:
        one: name of an optimizer.
        other: name of another one.
        rounds: number of rounds that both finished.
        mean: over the rounds.
        sd: standard deviation of a round's difference, at least that of its examples.
        low: lower end of the interval for the true mean, valid after every round.
        high: its upper end.
        relation: of `one` to `other`.
        within: what the true difference is shown not to exceed, in either direction, valid after every round; infinite
            where nothing is known, or of a comparison of version 0.1.
    """

    one: str
    other: str
    rounds: int
    mean: float
    sd: float
    low: float
    high: float
    relation: Relation
    within: float = float("inf")

    def reversed(self) -> "Difference":
        """The difference of `other` to `one`."""
        opposite: Mapping[Relation, Relation] = {"better": "worse", "worse": "better"}
        return Difference(
            self.other,
            self.one,
            self.rounds,
            -self.mean,
            self.sd,
            -self.high,
            -self.low,
            opposite.get(self.relation, self.relation),
            self.within,
        )


class Pairs:
    """Differences of all pairs after every number of rounds.

    Attributes:
        first: of each pair, the place of one optimizer, (pairs,).
        second: the place of the other, (pairs,).
        rounds: how many each pair has, (pairs,).
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    rounds: NDArray[np.int64]

    @property
    def latest(self) -> int:
        """The last round after which there is something to look at."""
        return int(self.rounds.max(initial=0))

    def has(self, n: int) -> NDArray[np.bool_]:
        """Which pairs have something new after round n, (pairs,)."""
        return self.rounds >= n

    def means(self, n: int) -> NDArray[np.float64]:
        """The mean difference after round n, (pairs,)."""
        raise NotImplementedError

    def half_widths(self, n: int, tail: float, chosen: NDArray[np.bool_], further: int = 0) -> NDArray[np.float64]:
        """Half the widths of intervals for these pairs.

        Args:
            n: the round.
            tail: probability beyond either end.
            chosen: of the pairs, (pairs,): those still in, which moderate each other's spread.
            further: rounds that are yet to come, whose spread is taken to be as it is.
        """
        raise NotImplementedError

    def sds(self) -> NDArray[np.float64]:
        """The standard deviation of a round's difference, (pairs,); infinite where it is unknown."""
        raise NotImplementedError


def _cumulated(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and sample variance of the first 1, 2, ... of each row; nan from where values are missing."""
    n = np.arange(1, values.shape[1] + 1)
    centre = values[:, :1]
    moved = values - centre
    mean = np.cumsum(moved, 1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (np.cumsum(moved**2, 1) - n * mean**2) / (n - 1)
    return mean + centre, np.where(n > 1, np.maximum(variance, 0.0), np.nan)


class PairedRounds(Pairs):
    """Pairs of runs of the same rounds, which share seed and examples.

    Args:
        runs: of each optimizer, those that did not diverge.
        sign: 1 where higher values of the metric are better, -1 where lower ones are.
    """

    def __init__(self, runs: Sequence[Sequence[Run]], sign: int) -> None:
        places = list(combinations(range(len(runs)), 2))
        self.first, self.second = np.array(places, dtype=np.int64).reshape(-1, 2).T
        by_round = [{run.key.round: run for run in own} for own in runs]
        common = [sorted(by_round[i].keys() & by_round[j].keys()) for i, j in places]
        self.rounds = np.array([len(each) for each in common], dtype=np.int64)
        longest = max(1, *map(len, common)) if common else 1
        values = np.full((len(places), longest), np.nan)
        floor = np.full((len(places), longest), np.nan)
        for row, ((i, j), numbers) in enumerate(zip(places, common, strict=True)):
            pairs = [(by_round[i][number], by_round[j][number]) for number in numbers]
            values[row, : len(pairs)] = [sign * (one.value - other.value) for one, other in pairs]
            floor[row, : len(pairs)] = _floors(pairs)
        self._mean, self._variance = _cumulated(values)
        self._floor = floor
        for row, number in enumerate(self.rounds):
            # differences that are the same show how coarse they are where examples have no values of their own
            _not_finer(self._variance[row], values[row, :number], np.isnan(floor[row]))

    def means(self, n: int) -> NDArray[np.float64]:
        column = np.minimum(self.rounds, n) - 1
        return np.where(self.rounds > 0, self._mean[np.arange(len(column)), column], 0.0)

    def half_widths(self, n: int, tail: float, chosen: NDArray[np.bool_], further: int = 0) -> NDArray[np.float64]:
        variance, floor = self._variance[chosen, n - 1], self._floor[chosen, n - 1]
        spreads = np.maximum(variance, np.nan_to_num(floor))
        among = len(np.unique(np.concatenate([self.first[chosen], self.second[chosen]])))
        width = half_widths(tail, variance, n, floor, float(spreads.mean()), among)
        return width * sqrt(n / (n + further))

    def sds(self) -> NDArray[np.float64]:
        column = np.maximum(self.rounds - 1, 0)
        row = np.arange(len(column))
        return np.where(
            self.rounds > 1,
            np.sqrt(np.maximum(self._variance[row, column], np.nan_to_num(self._floor[row, column]))),
            np.inf,
        )


class SeparateRuns(Pairs):
    """Pairs of optimizers whose runs share nothing (Welch 1947, Biometrika 34:28).

    A moderated variance is a weighted sum of those of all optimizers, which are independent: its degrees of freedom
    follow from the weights (Satterthwaite 1946, Biometrics 2:110), so that few runs don't count several times.

    Args:
        runs: of each optimizer, those that did not diverge.
        sign: 1 where higher values of the metric are better, -1 where lower ones are.
    """

    def __init__(self, runs: Sequence[Sequence[Run]], sign: int) -> None:
        places = list(combinations(range(len(runs)), 2))
        self.first, self.second = np.array(places, dtype=np.int64).reshape(-1, 2).T
        self._number = np.array([len(own) for own in runs], dtype=np.int64)
        # what the shorter one has not, the longer one cannot be held against
        self.rounds = np.minimum(self._number[self.first], self._number[self.second])
        values = np.full((len(runs), max(1, *map(len, runs)) if runs else 1), np.nan)
        for row, own in enumerate(runs):
            values[row, : len(own)] = [sign * run.value for run in own]
        self._mean, self._variance = _cumulated(values)
        for row, number in enumerate(self._number):
            _not_finer(self._variance[row], values[row, :number] - values[row, :1], np.full(number, True), share=0.5)

    @property
    def latest(self) -> int:
        return int(self._number.max(initial=0))

    def has(self, n: int) -> NDArray[np.bool_]:
        longer = np.maximum(self._number[self.first], self._number[self.second])
        return np.asarray((self.rounds > 1) & (longer >= n))

    def _of(self, table: NDArray[np.float64], places: NDArray[np.int64], n: int) -> NDArray[np.float64]:
        return np.asarray(table[places, np.maximum(np.minimum(self._number[places], n) - 1, 0)])

    def means(self, n: int) -> NDArray[np.float64]:
        return np.nan_to_num(self._of(self._mean, self.first, n) - self._of(self._mean, self.second, n))

    def half_widths(self, n: int, tail: float, chosen: NDArray[np.bool_], further: int = 0) -> NDArray[np.float64]:
        one, other = self.first[chosen], self.second[chosen]
        still = np.unique(np.concatenate([one, other]))
        number = np.minimum(self._number, n)
        variance = self._of(self._variance, np.arange(len(number)), n)
        prior = PRIOR_ROUNDS if len(still) > 2 else 0
        # what every optimizer's variance counts for in a pair's squared error: its own two, and all in what is typical
        weights = np.zeros((len(one), len(number)))
        for side in (one, other):
            counted = (prior + number[side] - 1) * (number[side] + further)
            weights[np.arange(len(one)), side] += (number[side] - 1) / counted
            weights[:, still] += (prior / len(still) / counted)[:, None]
        parts = weights * np.where(weights > 0, variance, 0.0)
        squared = parts.sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = squared**2 / (parts**2 / np.maximum(number - 1, 1)).sum(1)
        freedom = np.where(np.isfinite(freedom), freedom, number[one] - 1)
        return np.asarray(np.where(np.isinf(squared), np.inf, student(tail, freedom) * np.sqrt(squared)))

    def sds(self) -> NDArray[np.float64]:
        latest = int(self._number.max(initial=1))
        both = self._of(self._variance, self.first, latest) + self._of(self._variance, self.second, latest)
        return np.where(self.rounds > 1, np.sqrt(both), np.inf)


def _floors(pairs: Sequence[tuple[Run, Run]]) -> Any:
    """Variance of a round's difference that its examples alone make, over the first 1, 2, ... rounds.

    Few rounds may agree by chance, above all where a round has few examples. The examples' own spread is taken as if
    one more of them had differed as much as any did, so that it is never 0. It is nan from the first round on whose
    examples have no values.
    """
    squares, examples, most = np.full((3, len(pairs)), np.nan)
    possible = np.zeros(len(pairs))
    for place, (one, other) in enumerate(pairs):
        if one.each is None or other.each is None or len(one.each) != len(other.each):
            break
        apart = one.each - other.each
        squares[place] = float(np.dot(apart, apart))
        examples[place] = len(apart)
        largest = max(float(apart.max()), -float(apart.min()))
        most[place] = largest**2
        if not largest:
            possible[place] = max(float(np.abs(one.each).max()), float(np.abs(other.each).max())) ** 2
    seen = np.maximum.accumulate(most) if len(pairs) else most
    one_more = np.where(seen > 0, seen, np.maximum.accumulate(possible)) if len(pairs) else seen
    number = np.cumsum(examples)
    return (np.cumsum(squares) + one_more) / number * np.arange(1, len(pairs) + 1) / number


FEW = 50
"""Rounds up to which a spread may be too small because values are coarse."""


def _not_finer(variance: Any, values: NDArray[np.float64], alone: Any, share: float = 1.0) -> None:
    """Make a variance of the first 1, 2, ... values no less than their coarseness makes it.

    Args:
        variance: is changed.
        values: that it is of.
        alone: where nothing else is known of the values' spread.
        share: of the coarseness' square.
    """
    coarse = len(np.unique(values)) < len(values)
    for n in range(2, len(values) + 1):
        if alone[n - 1] and (n <= FEW and coarse):
            variance[n - 1] = max(variance[n - 1], share * _grain(values[:n]) ** 2)
        elif alone[n - 1] and not variance[n - 1]:
            variance[n - 1] = np.inf


def _grain(values: NDArray[np.float64]) -> float:
    """The least step between differences where some are the same, as those of continuous values never are.

    Infinite where all are 0: their step is unknown.
    """
    largest = float(np.abs(values).max())
    if not largest:
        return float("inf")
    if len(np.unique(np.round(values / largest, 9))) == len(values):
        return 0.0
    return largest * float(np.diff(np.unique(np.append(np.round(np.abs(values) / largest, 9), 0.0))).min())
