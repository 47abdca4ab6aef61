"""Which optimizer to take, and how sure that is: pure functions of a comparison's runs.

A round trains every optimizer from one seed and judges it on one part of the data, which no other round holds out. So
the differences of two optimizers, a round each, carry the luck of seeds and of examples together, and are independent
but for what their training examples share. Runs that were trained elsewhere may share nothing.

Decisions rest on intervals for the mean difference of a pair that hold at every look (`optitune.statistics.looks`).
From the same intervals follows what a choice can cost: the largest upper bound of how much better another may be, the
`loss` of choosing the leader. `epsilon` is what matters in practice: a pair whose interval lies within +- epsilon is
equal for practical purposes, and a leader whose loss is at most epsilon is good enough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, nan
from statistics import median
from typing import Literal

import numpy as np

from optitune.common.summary import Summary, summarise
from optitune.statistics.differences import Difference, PairedRounds, Pairs, Relation, SeparateRuns
from optitune.statistics.looks import ERROR, Looks
from optitune.statistics.probability_best import Estimate, estimates
from optitune.statistics.runs import PREFER, UNTIL, Prefer, Run, Until, finalists_runs

CHEAPER = 0.95
"""Share of another's cost up to which an optimizer is worth further runs for being cheaper."""

Status = Literal["clear", "tied", "good enough", "undecided"]

Rule = Literal["planned rounds", "any number of rounds", "any number of rounds, Cauchy prior"]
"""How it was judged: the last was version 0.1's."""


@dataclass(frozen=True)
class Place:
    """An optimizer's place in a comparison.

    Attributes:
        optimizer: its name.
        value: metric over its own rounds; None where all runs diverged. Its interval is that of
            `optitune.statistics.probability_best`, which holds for the leader too; for one with a diverged run it is
            Student's t interval.
        loss: over the same rounds.
        diverged: number of diverged runs; one is enough to be out.
        best: probability that it is truly the best; 0 for those that are out.
        to_leader: its difference to the leader; None for the leader itself, and without a common round.
        out: whether it gets no further runs: it diverged, or is worse than another one.
        regret: how much better another one that is still in may be, at most; infinite while nothing is known, and of
            a comparison of version 0.1.
    """

    optimizer: str
    value: Summary | None
    loss: Summary | None
    diverged: int
    best: float
    to_leader: Difference | None
    out: bool
    regret: float = inf


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison.

    Attributes:
        status: the strongest that holds: `clear`, the leader is better than all others; `tied`, those that are not
            worse equal each other for practical purposes; `good enough`, none is better than the leader by more than
            epsilon; or `undecided`.
        leader: name of the optimizer of the least loss, of those that are not out.
        places: of all optimizers, the leader first, those that are out last.
        differences: of all pairs.
        epsilon: largest difference that does not matter.
        error: probability that the truly best is ever found worse than another.
        runs: number of runs of the finalists themselves.
        loss: how much better than the leader another one that is still in may be, at most; infinite while nothing is
            known, 0 where it is clear.
        rule: how it was judged.
        rounds: planned; None where none were.
        wanted: names of those that another round is needed of; none where it is decided.
        next_runs: how many runs another round of them takes; 0 where it is decided, or no rounds are left.
        next_loss: what the loss is expected to be after it, were means and spreads to stay.
    """

    status: Status
    leader: str
    places: tuple[Place, ...]
    differences: tuple[Difference, ...]
    epsilon: float
    error: float
    runs: int
    loss: float = inf
    rule: Rule = "any number of rounds, Cauchy prior"
    rounds: int | None = None
    wanted: tuple[str, ...] = ()
    next_runs: int = 0
    next_loss: float = inf

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


def judge(
    runs: Sequence[Run],
    optimizers: Sequence[str],
    sign: int,
    epsilon: float,
    rounds: int | None,
    limits: tuple[float, float] = (-inf, inf),
    *,
    paired: bool = True,
    until: Until = UNTIL,
    prefer: Prefer = PREFER,
) -> Verdict | None:
    """Judge which optimizer to take.

    Args:
        runs: of the finalists themselves and perhaps of variants, which are left out.
        optimizers: names of the finalists.
        sign: 1 where higher values of the metric are better, -1 where lower ones are.
        epsilon: largest difference that does not matter, in the metric's unit.
        rounds: how many were planned before the first run; None where none were.
        limits: smallest and largest possible value of the metric.
        paired: whether runs of a round share seed and examples.
        until: what is enough to be decided.
        prefer: what an optimizer is taken for among those that are as good as the best; the cheaper ones get further
            runs until it is known whether they are.

    Returns:
        None where every optimizer has a diverged run, or none at all.
    """
    own = {name: finalists_runs(runs, name) for name in optimizers}
    finished = {name: [run for run in each if not run.diverged] for name, each in own.items()}
    names = tuple(optimizers)
    sound = np.array([len(finished[name]) == len(own[name]) for name in names])
    if not any(own[name] for name, whole in zip(names, sound, strict=True) if whole):
        return None
    pairs: Pairs = (PairedRounds if paired else SeparateRuns)(list(finished.values()), sign)
    spent = np.array([_cost(finished[name], prefer) for name in names])
    # a cheaper one may be worse by as much as does not matter
    looks = Looks(pairs, sound, epsilon, rounds, drops=None if prefer == "value" else spent[:, None] >= spent[None, :])
    regret = looks.regret()
    alive = [name for name, still in zip(names, looks.alive, strict=True) if still]
    known = _estimates(
        {name: own[name] for name in names if own[name] and finished[name] == own[name]}, sign, epsilon, limits, paired
    )
    chances = sum(each.best for name, each in known.items() if name in alive)

    def behind(name: str) -> float:
        return -known[name].mean if name in known else inf

    def standing(name: str) -> tuple[float, float]:
        return float(regret[names.index(name)]), behind(name)

    leader = min(alive, key=standing)
    sds = pairs.sds()
    differences = tuple(looks.difference(names, row, float(sds[row])) for row in range(len(sds)))
    by_pair = {(each.one, each.other): each for each in differences}
    by_pair |= {(each.other, each.one): each.reversed() for each in differences}

    def place(name: str) -> Place:
        done = finished[name]
        to_leader = by_pair.get((name, leader))
        return Place(
            optimizer=name,
            value=_value([run.value for run in done], known.get(name), sign, limits) if done else None,
            loss=summarise([run.loss for run in done]) if done and all(isfinite(run.loss) for run in done) else None,
            diverged=len(own[name]) - len(done),
            best=known[name].best / (chances or 1) if name in alive and name in known else 0.0,
            to_leader=to_leader if to_leader is not None and to_leader.rounds else None,
            out=name not in alive,
            regret=float(regret[names.index(name)]),
        )

    order = sorted(names, key=lambda name: (name != leader, name not in alive, behind(name)))
    others = [name for name in alive if name != leader and by_pair[name, leader].relation != "worse"]
    tied = all(by_pair[one, other].relation == "equal" for one in (leader, *others) for other in others if one != other)
    loss = float(regret[names.index(leader)])
    status: Status = "undecided"
    if not others:
        status, loss = "clear", 0.0
    elif tied:
        status = "tied"
    elif loss <= epsilon:
        status = "good enough"
    wanted = _wanted(status, leader, others, by_pair, until)
    if prefer != "value":
        costs, regrets = (dict(zip(names, each.tolist(), strict=True)) for each in (spent, regret))
        wanted = _wanted_for_costs(wanted, costs, regrets, by_pair, alive, leader, epsilon)
    if rounds is not None:
        wanted = tuple(name for name in wanted if len(own[name]) < rounds)
    going_on = np.array([name in wanted for name in names])
    return Verdict(
        status=status,
        leader=leader,
        places=tuple(place(name) for name in order),
        differences=differences,
        epsilon=epsilon,
        error=ERROR,
        runs=sum(map(len, own.values())),
        loss=loss,
        rule="any number of rounds" if rounds is None else "planned rounds",
        rounds=rounds,
        wanted=wanted,
        next_runs=len(wanted),
        next_loss=min(loss, looks.next_regret(names.index(leader), going_on)) if wanted else loss,
    )


def _cost(runs: Sequence[Run], prefer: Prefer) -> float:
    """What a run usually costs: seconds, or bytes of the optimizer's state; 0 where it does not count."""
    if prefer == "value" or not runs:
        return 0.0
    return float(median(run.seconds if prefer == "time" else run.state_bytes for run in runs))


def _wanted(
    status: Status, leader: str, others: Sequence[str], pairs: Mapping[tuple[str, str], Difference], until: Until
) -> tuple[str, ...]:
    """The names of those that another round is needed of: the leader, and all that something is undecided of."""
    if status in ("clear", "tied") or (status == "good enough" and until == "good-enough"):
        return ()
    among = (leader, *others)
    return tuple(
        name for name in among if any(name != other and pairs[name, other].relation == "undecided" for other in among)
    )


def _wanted_for_costs(
    wanted: tuple[str, ...],
    costs: Mapping[str, float],
    regret: Mapping[str, float],
    pairs: Mapping[tuple[str, str], Difference],
    alive: Sequence[str],
    leader: str,
    epsilon: float,
) -> tuple[str, ...]:
    """The same where a cheaper one is to be taken if it is as good: also those that are not known to be, or not to be.

    Args:
        wanted: whatever the costs are.
        costs: by name.
        regret: by name.
        pairs: differences, by names.
        alive: names of those that may be as good as the best.
        leader: of them.
        epsilon: largest difference that does not matter.
    """
    good = [name for name in alive if regret[name] <= epsilon]
    if not good:
        return wanted
    least = min(costs[name] for name in good)
    open_ones = [name for name in alive if name not in good and costs[name] <= CHEAPER * least]
    if not open_ones:
        return wanted
    # of others that may still be better by more than epsilon too few rounds may be common
    better = [name for name in alive if any(name != each and pairs[name, each].high > epsilon for each in open_ones)]
    return tuple(dict.fromkeys((*wanted, leader, *open_ones, *better)))


def _estimates(
    runs: Mapping[str, Sequence[Run]], sign: int, epsilon: float, limits: tuple[float, float], paired: bool
) -> dict[str, Estimate]:
    """What is known of each optimizer's value, times the sign, by name."""
    rounds = sorted({run.key.round for own in runs.values() for run in own})
    column = {number: place for place, number in enumerate(rounds)}
    columns = len(rounds) if paired else max(map(len, runs.values()))
    values = np.full((len(runs), columns), nan)
    for row, own in enumerate(runs.values()):
        for number, run in enumerate(own):
            values[row, column[run.key.round] if paired else number] = sign * run.value
    low, high = sorted(sign * limit for limit in limits)
    return dict(zip(runs, estimates(values, epsilon, paired, (low, high)), strict=True))


def _value(values: Sequence[float], known: Estimate | None, sign: int, limits: tuple[float, float]) -> Summary:
    """The mean of an optimizer's runs, in an interval that holds its true value also where it leads."""
    found = summarise(values, *limits)
    if known is None or known.low is None or known.high is None or found.low is None:
        return found
    low, high = sorted((sign * known.low, sign * known.high))
    return replace(found, low=min(low, found.mean), high=max(high, found.mean))
