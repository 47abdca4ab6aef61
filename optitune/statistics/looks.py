"""A look after every round: which optimizers are out, and between what the differences of the others lie.

What must not happen is that the truly best is found worse than another one, of which there are k - 1 (comparisons with
the best, Hsu 1981, Annals of Statistics 9:1026). At every look each pair's interval is made at `ERROR` divided by the
number of those still in, for either side. That the number may fall as optimizers leave, instead of staying that of all
of them, is a step-down as Holm's (1979, Scandinavian Journal of Statistics 6:65); for these boundaries it is shown by
simulation (docs/verdict.md), not proven.

A claim of equality is about the best and each other one still in: it is made at `ERROR` divided by their number less
one, by a boundary of its own.
"""

from math import inf

import numpy as np
from numpy.typing import NDArray

from optitune.statistics import sequential_test
from optitune.statistics.differences import Difference, Pairs, Relation
from optitune.statistics.spread import degrees

ERROR = 0.05
"""Probability that the truly best is ever found worse than another."""


class Looks:
    """What is known after the last round, having looked after every one.

    Attributes:
        alive: which are still in, (k,).
        gain: how much better the optimizer of a row may be than that of a column, at most, (k, k).
        within: what a true difference is shown not to exceed, (k, k).
        equal: which pairs differ by no more than epsilon, (k, k).

    Args:
        pairs: of optimizers.
        sound: which optimizers did not diverge, (k,).
        epsilon: largest difference that does not matter, in the metric's unit.
        rounds: planned; None for an open end.
        slack: how much worse one may be and yet stay in.
    """

    def __init__(
        self, pairs: Pairs, sound: NDArray[np.bool_], epsilon: float, rounds: int | None, slack: float = 0.0
    ) -> None:
        k = len(sound)
        self._pairs, self._rounds, self._sound = pairs, rounds, sound
        self.alive = sound.copy()
        self.gain = np.full((k, k), inf)
        self.within = np.full((k, k), inf)
        self.equal = np.zeros((k, k), dtype=bool)
        np.fill_diagonal(self.gain, 0.0)
        for n in _rounds_looked_at(sequential_test.first_look(rounds), pairs.latest):
            self._look(n, epsilon, slack)

    def _tails(self, n: int, still: int) -> tuple[float, float]:
        """The tails of an interval for the difference, and of one for a claim of equality."""
        level = ERROR / max(2, still)
        if self._rounds is None:
            tail = sequential_test.open_ended(n, float(degrees(n, still > 2)), level)
            return tail, tail
        planned = max(n, self._rounds)
        return (
            sequential_test.constant(planned, level),
            sequential_test.falling(n, planned, ERROR / max(1, still - 1)),
        )

    def _look(self, n: int, epsilon: float, slack: float) -> None:
        pairs, still = self._pairs, int(self.alive.sum())
        chosen = self.alive[pairs.first] & self.alive[pairs.second] & pairs.has(n)
        if still < 2 or not chosen.any():
            return
        one, other = pairs.first[chosen], pairs.second[chosen]
        mean = pairs.means(n)[chosen]
        tail, tail_equal = self._tails(n, still)
        width = pairs.half_widths(n, tail, chosen)
        for i, j, high in ((one, other, mean + width), (other, one, width - mean)):
            self.gain[i, j] = np.minimum(self.gain[i, j], high)
        # of intervals that hold together two exclude each other: the later one knows more
        crossed = self.gain[one, other] < -self.gain[other, one]
        for i, j, high in ((one, other, mean + width), (other, one, width - mean)):
            self.gain[i[crossed], j[crossed]] = high[crossed]
        if tail_equal != tail:
            width = pairs.half_widths(n, tail_equal, chosen)
        by_gain = np.maximum(self.gain[one, other], self.gain[other, one])
        within = np.minimum(np.minimum(self.within[one, other], np.abs(mean) + width), by_gain)
        self.within[one, other] = self.within[other, one] = within
        self.equal = (self.within <= epsilon) & np.isfinite(self.within)
        worse = (self.gain < -slack) & ~self.equal & self.alive[:, None] & self.alive[None, :]
        kept = self.alive & ~worse.any(1)
        # should everybody have been beaten by somebody, all go on
        self.alive = kept if kept.any() else self.alive

    def regret(self) -> NDArray[np.float64]:
        """How much better another one that is still in may be, at most, (k,)."""
        k = len(self.alive)
        among = self.alive[:, None] & ~np.eye(k, dtype=bool)
        worst = np.where(among, self.gain, -inf).max(0, initial=-inf)
        return np.where(self._sound, np.maximum(worst, 0.0), inf)

    def next_gain(self, leader: int, wanted: NDArray[np.bool_]) -> float:
        """How much better than the leader another one is expected to be at most, after another round of those wanted.

        Args:
            leader: place of an optimizer that is still in.
            wanted: which are to be trained, (k,).
        """
        pairs = self._pairs
        expected = 0.0
        for row in np.flatnonzero((pairs.first == leader) | (pairs.second == leader)):
            other = int(pairs.second[row] if pairs.first[row] == leader else pairs.first[row])
            if not self.alive[other]:
                continue
            high, n = float(self.gain[other, leader]), int(pairs.rounds[row])
            if wanted[leader] and wanted[other] and n >= sequential_test.first_look(self._rounds):
                still = self.alive[pairs.first] & self.alive[pairs.second] & pairs.has(n)
                tail, _ = self._tails(n, int(self.alive.sum()))
                width = float(pairs.half_widths(n, tail, still, further=1)[int(still[:row].sum())])
                ahead = float(pairs.means(n)[row]) * (1 if pairs.first[row] == leader else -1)
                high = min(high, width - ahead)
            expected = max(expected, high)
        return expected

    def difference(self, names: tuple[str, ...], row: int, sd: float) -> Difference:
        """The difference of a pair, as it is known now.

        Args:
            names: of the optimizers.
            row: of the pair.
            sd: standard deviation of a round's difference.
        """
        i, j = int(self._pairs.first[row]), int(self._pairs.second[row])
        low, high = -float(self.gain[j, i]), float(self.gain[i, j])
        relation: Relation = "undecided"
        if self.equal[i, j]:
            relation = "equal"
        elif low > 0:
            relation = "better"
        elif high < 0:
            relation = "worse"
        rounds = int(self._pairs.rounds[row])
        mean = float(self._pairs.means(self._pairs.latest)[row]) if rounds else 0.0
        return Difference(names[i], names[j], rounds, mean, sd, low, high, relation, float(self.within[i, j]))


EACH_LOOKED_AT = 100
"""Rounds after each of which one looks; later, after so many hundredths more, and after the last."""


def _rounds_looked_at(first: int, latest: int) -> list[int]:
    found = list(range(first, min(latest, EACH_LOOKED_AT) + 1))
    while found and found[-1] < latest:
        found.append(min(latest, found[-1] + max(1, found[-1] // 50)))
    return found
