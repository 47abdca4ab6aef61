"""Which optimizers are distinguishable, and how sure that is: pure functions of a comparison's runs.

A round trains every optimizer from one seed and judges it on one part of the data, which no other round holds out. So
the differences of two optimizers, a round each, carry the luck of seeds and of examples together, and are independent
but for what their training examples share.

Decisions rest on intervals for the mean difference of a pair that hold after every round at once
(`optitune.statistics.sequential_test`). What must not happen is that the truly best is found worse than another one, of
which there are k - 1: comparisons with the best (Hsu 1981, Annals of Statistics 9:1026). Every pair's interval is made
at 2 / k of `ERROR`, half of it for either side, so that this ever happens with a probability of `ERROR` at most,
however often one looks and whatever is dropped when; of two that are the same, one is called better as rarely.
`epsilon` is what matters in practice: a pair whose interval lies within +- epsilon is equal for practical purposes.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import Literal

import numpy as np

from optitune.common.summary import Summary, summarise
from optitune.statistics.differences import Difference, Relation, difference
from optitune.statistics.runs import Run, finalists_runs, paired
from optitune.statistics.sequential_test import half_width

ERROR = 0.05
"""Probability that the truly best is ever found worse than another."""

DRAWS, SPREADS = 20_000, 400
"""Number of draws behind the probabilities of being best, and of standard deviations drawn for them."""

Status = Literal["clear", "tied", "undecided"]


@dataclass(frozen=True)
class Place:
    """An optimizer's place in a comparison.

    Attributes:
        optimizer: its name.
        value: metric over its own rounds, with Student's t interval, which is not valid for repeated looks; None where
            all runs diverged.
        loss: over the same rounds.
        diverged: number of diverged runs; one is enough to be out.
        best: probability that it is truly the best; 0 for those that are out.
        to_leader: its difference to the leader; None for the leader itself, and without a common round.
        out: whether it gets no further runs: it diverged, or is worse than another one.
    """

    optimizer: str
    value: Summary | None
    loss: Summary | None
    diverged: int
    best: float
    to_leader: Difference | None
    out: bool


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison.

    Attributes:
        status: `clear`, the leader is better than all others; `tied`, those that are not worse equal it for practical
            purposes; or `undecided`.
        leader: name of the optimizer of the highest estimate, of those that are not out.
        places: of all optimizers, the leader first, those that are out last.
        differences: of all pairs.
        epsilon: largest difference that does not matter.
        error: probability that the truly best is ever found worse than another.
        runs: number of runs of the finalists themselves.
        more_runs: estimated number of further runs until it is decided; 0 where it is.
    """

    status: Status
    leader: str
    places: tuple[Place, ...]
    differences: tuple[Difference, ...]
    epsilon: float
    error: float
    runs: int
    more_runs: int

    def place(self, optimizer: str) -> Place:
        return next(place for place in self.places if place.optimizer == optimizer)

    def related(self, relation: Relation) -> tuple[str, ...]:
        """The names of those that are not out and have this relation to the leader."""
        return tuple(
            place.optimizer
            for place in self.places
            if not place.out and place.to_leader is not None and place.to_leader.relation == relation
        )

    @property
    def to_leader(self) -> tuple[Difference, ...]:
        """The differences to the leader, in the order of the places."""
        return tuple(place.to_leader for place in self.places if place.to_leader is not None)

    @property
    def contenders(self) -> tuple[str, ...]:
        """The names of those that are not out."""
        return tuple(place.optimizer for place in self.places if not place.out)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of those that another round is needed of: the leader and the undecided ones, or none."""
        undecided = tuple(
            place.optimizer
            for place in self.places
            if not place.out
            and place.optimizer != self.leader
            and (place.to_leader is None or place.to_leader.relation == "undecided")
        )
        return (self.leader, *undecided) if undecided else ()


def judge(
    runs: Sequence[Run], optimizers: Sequence[str], sign: int, epsilon: float, limits: tuple[float, float] = (-inf, inf)
) -> Verdict | None:
    """Judge which optimizers are better than others.

    Args:
        runs: of the finalists themselves and perhaps of variants, which are left out.
        optimizers: names of the finalists.
        sign: 1 where higher values of the metric are better, -1 where lower ones are.
        epsilon: largest difference that does not matter, in the metric's unit.
        limits: smallest and largest possible value of the metric.

    Returns:
        None where every optimizer has a diverged run, or none at all.
    """
    own = {name: finalists_runs(runs, name) for name in optimizers}
    sound = [name for name in optimizers if not any(run.diverged for run in own[name])]
    if not any(own[name] for name in sound):
        return None
    alpha = 2 * ERROR / max(2, len(optimizers))
    pairs = {
        (one, other): difference(paired(runs, one, other), one, other, sign, epsilon, alpha)
        for position, one in enumerate(optimizers)
        for other in optimizers[position + 1 :]
    }
    pairs |= {(other, one): each.reversed() for (one, other), each in pairs.items()}
    beaten = {one for (one, other), each in pairs.items() if each.relation == "worse" and other in sound}
    # should everybody have been beaten by somebody, all go on
    alive = [name for name in sound if name not in beaten] or sound
    estimates = _Estimates({name: own[name] for name in sound if own[name]}, sign)
    leader = max(alive, key=lambda name: estimates.mean.get(name, -inf))
    # those that are out, often the noisiest, say nothing of the others
    chances = _Estimates({name: own[name] for name in alive if own[name]}, sign).best(epsilon)

    def place(name: str) -> Place:
        finished = [run for run in own[name] if not run.diverged]
        return Place(
            optimizer=name,
            value=summarise([run.value for run in finished], *limits) if finished else None,
            loss=summarise([run.loss for run in finished]) if finished else None,
            diverged=len(own[name]) - len(finished),
            best=chances.get(name, 0.0),
            to_leader=pairs[name, leader] if name != leader and pairs[name, leader].rounds else None,
            out=name not in alive,
        )

    order = sorted(optimizers, key=lambda name: (name != leader, name not in alive, -estimates.mean.get(name, -inf)))
    places = tuple(place(name) for name in order)
    relations = {pairs[name, leader].relation for name in alive if name != leader}
    status: Status = "undecided" if "undecided" in relations else "tied" if relations else "clear"
    return Verdict(
        status=status,
        leader=leader,
        places=places,
        differences=tuple(
            each for (one, other), each in pairs.items() if optimizers.index(one) < optimizers.index(other)
        ),
        epsilon=epsilon,
        error=ERROR,
        runs=sum(map(len, own.values())),
        more_runs=_more_runs([pairs[name, leader] for name in alive if name != leader], epsilon, alpha),
    )


def _more_runs(pairs: Sequence[Difference], epsilon: float, alpha: float) -> int:
    """About how many more runs would decide these pairs with the leader, were means and spreads to stay."""
    more = [
        _rounds_needed(abs(each.mean), each.sd, epsilon, alpha, each.rounds) - each.rounds
        for each in pairs
        if each.relation == "undecided" and each.rounds > 1 and isfinite(each.sd)
    ]
    return sum(more) + max(more, default=0)


def _rounds_needed(mean: float, sd: float, epsilon: float, alpha: float, now: int) -> int:
    """After how many rounds a difference would be seen, or seen to be less than epsilon."""

    def decided(n: int) -> bool:
        margin = half_width(sd, n, alpha)
        return margin < mean or mean + margin <= epsilon

    return bisect_left(range(1_000_000), True, lo=now + 1, key=decided)


class _Estimates:
    """Every optimizer's value as if all had finished the same rounds: a round's seed and examples are easy or hard
    for all alike, so an optimizer that left early is not judged by the rounds it happened to meet.

    The model is additive, optimizer + round + noise, fitted by least squares.

    Args:
        runs: of every optimizer, at least one.
        sign: 1 where more is better.
    """

    def __init__(self, runs: Mapping[str, Sequence[Run]], sign: int) -> None:
        self._names = list(runs)
        rounds = sorted({run.key.round for own in runs.values() for run in own})
        cells = [
            (column, rounds.index(run.key.round), sign * run.value)
            for column, own in enumerate(runs.values())
            for run in own
        ]
        wide = len(self._names)
        design = np.zeros((len(cells), wide + len(rounds)))
        for row, (column, number, _) in enumerate(cells):
            design[row, column] = design[row, wide + number] = 1
        # one optimizer's mean and all rounds' effects may be shifted against each other: the rounds' sum to zero
        design[:, wide:-1] -= design[:, -1:]
        design = design[:, :-1]
        values = np.array([value for _, _, value in cells])
        solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
        residuals = values - design @ solution
        self._df = len(values) - int(rank)
        self._variance = float(residuals @ residuals) / self._df if self._df else 0.0
        self._means = solution[:wide]
        self._unscaled = np.linalg.pinv(design.T @ design)[:wide, :wide]
        self.mean = dict(zip(self._names, self._means.tolist(), strict=True))

    def best(self, scale: float) -> dict[str, float]:
        """How probable it is for each to be the best.

        By a hierarchical model (Gelman et al. 2013, Bayesian Data Analysis, chapter 5): true values are normal about a
        common mean, with a spread that is half-Cauchy of this scale, so that the luckiest of several is not believed
        in full. The draws are the same for the same runs.

        Args:
            scale: what spread of true values would be no surprise.
        """
        k = len(self._names)
        if k == 1:
            return {self._names[0]: 1.0}
        if not self._df:
            return dict.fromkeys(self._names, 1 / k)
        from scipy.stats import halfcauchy

        generator = np.random.default_rng(0)
        # contrasts, turned so that they are independent: what a round does to all falls away
        centre = np.eye(k) - 1 / k
        basis = np.linalg.svd(centre)[0][:, : k - 1]
        sizes, directions = np.linalg.eigh(basis.T @ self._unscaled @ basis)
        basis = basis @ directions
        y = basis.T @ self._means
        smallest = np.finfo(float).tiny
        spreads = max(self._variance, smallest) * self._df / generator.chisquare(self._df, SPREADS)
        noise = spreads[:, None] * np.maximum(sizes, 0) + smallest
        scale = scale or sqrt(max(self._variance, smallest))
        taus = scale * np.geomspace(1e-3, 1e3, 121)
        total = taus[None, :, None] ** 2 + noise[:, None, :]
        likelihood = -0.5 * (np.log(total) + y**2 / total).sum(-1)
        weight = likelihood + halfcauchy.logpdf(taus, scale=scale) + np.log(taus)
        cumulated = np.cumsum(np.exp(weight - weight.max(1, keepdims=True)), 1)
        levels = generator.random((SPREADS, DRAWS // SPREADS)) * cumulated[:, -1:]
        chosen = (cumulated[:, None, :] < levels[:, :, None]).sum(-1).clip(max=len(taus) - 1)
        between = taus[chosen][:, :, None] ** 2
        kept = between / (between + noise[:, None, :])
        drawn = kept * y + np.sqrt(kept * noise[:, None, :]) * generator.standard_normal((*chosen.shape, k - 1))
        drawn = drawn.reshape(-1, k - 1) @ basis.T
        winners = np.bincount(drawn.argmax(1), minlength=k)
        return dict(zip(self._names, (winners / len(drawn)).tolist(), strict=True))
