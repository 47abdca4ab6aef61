"""A look after every round: which optimizers are out, and between what the differences of the others lie.

What must not happen is that the truly best is found worse than another one, of which there are k - 1 (comparisons with
the best, Hsu 1981, Annals of Statistics 9:1026). At every look each pair's interval is made at `ERROR` divided by the
number of those still in, for either side. That the number may fall as optimizers leave, instead of staying that of all
of them, is a step-down as Holm's (1979, Scandinavian Journal of Statistics 6:65); for these boundaries it is shown by
simulation (docs/verdict.md), not proven.

A claim that a difference is not larger than something, be it what a choice can cost or equality, is about the best and
each other one still in: it is made at `ERROR` divided by their number less one, by boundaries of its own, since such
claims need later rounds.
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
        gain: how much better the optimizer of a row may be than that of a column, at most, by the bounds that decide
            who is out, (k, k).
        cost: the same by the bounds of what a choice can cost, (k, k).
        within: what a true difference is shown not to exceed, (k, k).
        equal: which pairs differ by no more than epsilon, (k, k).

    Args:
        pairs: of optimizers.
        sound: which optimizers did not diverge, (k,).
        epsilon: largest difference that does not matter, in the metric's unit.
        rounds: planned; None for an open end.
        drops: whether an optimizer of a row leaves as soon as it is worse than that of a column, (k, k), and not only
            when it is worse by more than epsilon; None for all.
    """

    def __init__(
        self,
        pairs: Pairs,
        sound: NDArray[np.bool_],
        epsilon: float,
        rounds: int | None,
        drops: NDArray[np.bool_] | None = None,
    ) -> None:
        k = len(sound)
        self._pairs, self._rounds, self._sound = pairs, rounds, sound
        self._drops = np.ones((k, k), dtype=bool) if drops is None else drops
        self.alive = sound.copy()
        self.gain = np.full((k, k), inf)
        self.cost = np.full((k, k), inf)
        self.within = np.full((k, k), inf)
        self.equal = np.zeros((k, k), dtype=bool)
        np.fill_diagonal(self.gain, 0.0)
        np.fill_diagonal(self.cost, 0.0)
        for n in _rounds_looked_at(sequential_test.first_look(rounds), pairs.latest):
            self._look(n, epsilon)

    def _tails(self, n: int, still: int) -> tuple[float, float, float]:
        """The tails of intervals: for a difference, for what a choice can cost, and for a claim of equality."""
        level = ERROR / max(2, still)
        if self._rounds is None:
            tail = sequential_test.open_ended(n, degrees(n, still), level)
            return tail, tail, tail
        planned, claims = max(n, self._rounds), ERROR / max(1, still - 1)
        return (
            sequential_test.constant(planned, level),
            sequential_test.falling(n, planned, claims, "loss"),
            sequential_test.falling(n, planned, claims, "equality"),
        )

    def _look(self, n: int, epsilon: float) -> None:
        pairs, still = self._pairs, int(self.alive.sum())
        chosen = self.alive[pairs.first] & self.alive[pairs.second] & pairs.has(n)
        if still < 2 or not chosen.any():
            return
        one, other = pairs.first[chosen], pairs.second[chosen]
        mean = pairs.means(n)[chosen]
        width, width_loss, width_equal = (pairs.half_widths(n, tail, chosen) for tail in self._tails(n, still))
        _narrow(self.gain, one, other, mean, width)
        _narrow(self.cost, one, other, mean, width_loss)
        by_bounds = [np.maximum(each[one, other], each[other, one]) for each in (self.gain, self.cost)]
        either = np.minimum.reduce([np.abs(mean) + width_equal, *by_bounds])
        within = np.minimum(self.within[one, other], either)
        self.within[one, other] = self.within[other, one] = within
        self.equal = (self.within <= epsilon) & np.isfinite(self.within)
        worse = (self.gain < 0) & ~self.equal & self.alive[:, None] & self.alive[None, :]
        worse &= self._drops | (self.gain < -epsilon)
        kept = self.alive & ~worse.any(1)
        # should everybody have been beaten by somebody, all go on
        self.alive = kept if kept.any() else self.alive

    def _unbeaten(self) -> NDArray[np.bool_]:
        """Which of those still in are not worse than another one, (k,)."""
        return self.alive & ~((self.gain < 0) & ~self.equal & self.alive[None, :]).any(1)

    def regret(self) -> NDArray[np.float64]:
        """How much better another one that is still in may be, at most, (k,)."""
        k = len(self.alive)
        # one that is worse than another is not the best, even where it stays in for being cheap
        among = self._unbeaten()[:, None] & ~np.eye(k, dtype=bool)
        # where two are said to be equal, that is known of their difference as well
        cost = np.where(self.equal, np.minimum(self.cost, self.within), self.cost)
        worst = np.where(among, cost, -inf).max(0, initial=-inf)
        return np.where(self._sound, np.maximum(worst, 0.0), inf)

    def next_regret(self, leader: int, wanted: NDArray[np.bool_]) -> float:
        """What is expected to be the leader's regret after another round of those wanted.

        Args:
            leader: place of an optimizer that is still in.
            wanted: which are to be trained, (k,).
        """
        pairs, unbeaten = self._pairs, self._unbeaten()
        expected = 0.0
        for row in np.flatnonzero((pairs.first == leader) | (pairs.second == leader)):
            other = int(pairs.second[row] if pairs.first[row] == leader else pairs.first[row])
            if not unbeaten[other]:
                continue
            high, n = float(self.cost[other, leader]), int(pairs.rounds[row])
            if wanted[leader] and wanted[other] and n >= sequential_test.first_look(self._rounds):
                still = self.alive[pairs.first] & self.alive[pairs.second] & pairs.has(n)
                _, tail, _ = self._tails(n + 1, int(self.alive.sum()))
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


def _narrow(
    bounds: NDArray[np.float64],
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    mean: NDArray[np.float64],
    width: NDArray[np.float64],
) -> None:
    """Intersect intervals with those of another look; of two that exclude each other the later one knows more."""
    bounds[one, other] = np.minimum(bounds[one, other], mean + width)
    bounds[other, one] = np.minimum(bounds[other, one], width - mean)
    crossed = bounds[one, other] < -bounds[other, one]
    bounds[one[crossed], other[crossed]] = (mean + width)[crossed]
    bounds[other[crossed], one[crossed]] = (width - mean)[crossed]


EACH_LOOKED_AT = 100
"""Rounds after each of which one looks; later, after so many hundredths more, and after the last."""


def _rounds_looked_at(first: int, latest: int) -> list[int]:
    found = list(range(first, min(latest, EACH_LOOKED_AT) + 1))
    while found and found[-1] < latest:
        found.append(min(latest, found[-1] + max(1, found[-1] // 50)))
    return found
