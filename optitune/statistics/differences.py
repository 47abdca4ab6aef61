"""Differences of two optimizers, and the intervals that hold them however often one looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optitune.statistics.runs import Run
from optitune.statistics.sequential_test import half_width

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
    """

    one: str
    other: str
    rounds: int
    mean: float
    sd: float
    low: float
    high: float
    relation: Relation

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
        )


def difference(
    rounds: Sequence[tuple[Run, Run]], one: str, other: str, sign: int, epsilon: float, alpha: float
) -> Difference:
    """The difference of two optimizers, from the rounds that both finished.

    Args:
        rounds: runs of `one` and of `other`, a pair per round.
        one: name of an optimizer.
        other: name of another one.
        sign: 1 where higher values of the metric are better, -1 where lower ones are.
        epsilon: largest difference that does not matter, in the metric's unit.
        alpha: error probability of the interval.
    """
    values = sign * np.array([first.value - second.value for first, second in rounds], dtype=np.float64)
    examples = [_paired_errors(first, second) for first, second in rounds]
    low, high, sd = -inf, inf, inf
    for n in range(2, len(values) + 1):
        mean, sd = float(values[:n].mean()), _sd(values[:n], examples[:n])
        margin = half_width(sd, n, alpha)
        low, high = max(low, mean - margin), min(high, mean + margin)
        if low > high:
            # of intervals that hold together two exclude each other: the later one knows more
            low, high = mean - margin, mean + margin
    relation: Relation = "undecided"
    if -epsilon <= low and high <= epsilon:
        relation = "equal"
    elif low > 0:
        relation = "better"
    elif high < 0:
        relation = "worse"
    mean = float(values.mean()) if len(values) else 0.0
    return Difference(one, other, len(values), mean, sd, low, high, relation)


class PairedErrors(NamedTuple):
    """Differences of two runs on the same examples.

    Attributes:
        squares: sum of squared differences.
        examples: their number.
        most: largest squared difference; where all are 0, the largest possible one.
    """

    squares: float
    examples: int
    most: float


def _paired_errors(one: Run, other: Run) -> PairedErrors | None:
    """The differences of two runs on the same examples; None where examples have no values of their own."""
    if one.each is None or other.each is None:
        return None
    each, others = one.each.astype(np.float64), other.each.astype(np.float64)
    squares = np.square(each - others)
    possible = np.square(np.concatenate([each, others])).max()
    return PairedErrors(float(squares.sum()), len(squares), float(squares.max() or possible))


def _sd(values: NDArray[np.float64], examples: Sequence[PairedErrors | None]) -> float:
    """The standard deviation of a round's difference, not less than what its examples make by themselves.

    Few rounds may agree by chance, above all where a round has few examples, and a t statistic would take that for
    certainty. The examples' own spread is taken as if one more of them had differed as much as any did, so that it is
    never 0. Where examples have no values, differences that are the same show how coarse they are.
    """
    sample = float(values.var(ddof=1))
    known = [each for each in examples if each is not None]
    if len(known) < len(examples):
        return max(sqrt(sample), _grain(values))
    number = sum(each.examples for each in known)
    one_more = max([each.most for each in known if each.squares] or [each.most for each in known])
    spread = (sum(each.squares for each in known) + one_more) / number
    return sqrt(max(sample, spread * len(known) / number))


def _grain(values: NDArray[np.float64]) -> float:
    """The least step between differences where some are the same, as those of continuous values never are.

    Infinite where all are 0: their step is unknown.
    """
    largest = float(np.abs(values).max())
    if not largest:
        return inf
    if len(np.unique(np.round(values / largest, 9))) == len(values):
        return 0.0
    return largest * float(np.diff(np.unique(np.append(np.round(np.abs(values) / largest, 9), 0.0))).min())
