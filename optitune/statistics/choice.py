"""Which optimizer to take: of those that are as good as the best perhaps a cheaper one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, inf, log
from typing import Literal

from optitune.common.summary import summarise
from optitune.statistics.runs import Prefer, Run, paired

Kind = Literal["time", "memory"]

KINDS: tuple[Kind, ...] = ("time", "memory")

WORTH = 0.8
"""Share of the leader's time or memory up to which a cheaper optimizer is worth a word although nobody asked for it."""

SAME = 0.01
"""Memory that differs by less, as a share, is called equal."""


@dataclass(frozen=True)
class Ratio:
    """A cost of one optimizer as a share of another's.

    Attributes:
        mean: geometric mean over the rounds that both finished; of memory, which is the same in all rounds, its ratio.
        low: lower end of Student's 95 % interval; None for a single round.
        high: its upper end.
    """

    mean: float
    low: float | None
    high: float | None

    @property
    def less(self) -> bool:
        """Whether the cost is less for sure."""
        return self.high is not None and self.high < 1

    @property
    def alike(self) -> bool:
        """Whether the two costs cannot be distinguished."""
        return self.low is None or self.high is None or self.low <= 1 <= self.high


def ratio(runs: Sequence[Run], one: str, other: str, kind: Kind) -> Ratio | None:
    """The cost of a training of one optimizer as a share of another's; None where it is not known.

    Args:
        runs: of a comparison; a pair of each round serves, since a round's runs share their machine's load.
        one: name of an optimizer.
        other: name of another one.
        kind: `time`, the seconds of a training, or `memory`, the bytes of the optimizer's state.
    """
    pairs = [
        (run, its)
        for run, its in paired(runs, one, other)
        if (min(run.seconds, its.seconds) if kind == "time" else min(run.weight_bytes, its.weight_bytes)) > 0
    ]
    if not pairs:
        return None
    if kind == "memory":
        state, others = pairs[0][0].state_bytes, pairs[0][1].state_bytes
        share = state / others if others else inf if state else 1.0
        # counters of steps are no reason to take another optimizer
        share = 1.0 if abs(share - 1) < SAME else share
        return Ratio(share, share, share)
    found = summarise([log(run.seconds / its.seconds) for run, its in pairs])
    if found.low is None or found.high is None:
        return Ratio(exp(found.mean), None, None)
    return Ratio(exp(found.mean), exp(found.low), exp(found.high))


@dataclass(frozen=True)
class Recommendation:
    """The optimizer to take, and what others would save.

    Attributes:
        optimizer: its name.
        leader: the one of the smallest possible loss.
        prefer: by what one is taken of those that are as good as the best.
        good: names of those that are as good as the best, the leader first: worse by no more than epsilon.
        shares: of those that are not out, by kind and name: time and memory of a training as shares of the leader's.
        equal: names of those as good whose costs cannot be distinguished from those of the one to take.
        kind: the cost by which the front is made.
        front: the best, perhaps one between, and the cheapest that is as good; empty where none saves anything.
        cheaper: where cost was not asked for, the cheapest of those as good, or else of those that are not out, if it
            saves a fifth or more of time or memory; None without one.
        saves: what that one saves.
    """

    optimizer: str
    leader: str
    prefer: Prefer = "value"
    good: tuple[str, ...] = ()
    shares: Mapping[Kind, Mapping[str, Ratio]] = field(default_factory=dict)
    equal: tuple[str, ...] = ()
    kind: Kind = "time"
    front: tuple[str, ...] = ()
    cheaper: str | None = None
    saves: Kind = "time"


def recommend(
    runs: Sequence[Run], leader: str, losses: Mapping[str, float], epsilon: float, prefer: Prefer = "value"
) -> Recommendation:
    """Say which optimizer to take: the leader, or of those that are as good as the best the cheapest.

    Costs that cannot be distinguished are called equal: of them the one is taken that can lose least.

    Args:
        runs: of the comparison.
        leader: name of the one of the smallest possible loss.
        losses: how much better than this one another can be at most, by name, of those that are not out.
        epsilon: what loss does not matter.
        prefer: value, time or memory.
    """
    good = (leader, *(name for name in losses if name != leader and losses[name] <= epsilon))
    shares = {
        kind: {name: each for name in losses if name != leader and (each := ratio(runs, name, leader, kind))}
        for kind in KINDS
    }

    def cheapest(kind: Kind) -> tuple[str, tuple[str, ...]]:
        """The cheapest of those as good, and those whose costs cannot be distinguished from its."""
        known = {leader: 1.0, **{name: shares[kind][name].mean for name in good if name in shares[kind]}}
        first = min(known, key=lambda name: (known[name], losses.get(name, inf)))
        near = [name for name in known if name != first and _alike(ratio(runs, name, first, kind))]
        # what is not known to be cheaper than the leader is no reason to leave it
        able = [name for name in (first, *near) if name == leader or shares[kind][name].less] or [leader]
        taken = min(able, key=lambda name: (losses.get(name, inf), name != leader))
        return taken, tuple(name for name in (first, *near) if name != taken)

    kinds = KINDS if prefer == "value" else (prefer,)
    kind = next((kind for kind in kinds if cheapest(kind)[0] != leader), kinds[0])
    taken, equal = cheapest(kind)
    front: tuple[str, ...] = ()
    if taken != leader:
        between = [
            name
            for name in good
            if name in shares[kind] and shares[kind][name].less and losses[name] < losses[taken] and name != taken
        ]
        front = (leader, *sorted(between, key=lambda name: losses[name])[:1], taken)
    cheaper: str | None = None
    saves: Kind = "time"
    if prefer == "value":
        worth = [
            (name not in good, kind != "time", shares[kind][name].mean, name, kind)
            for kind in KINDS
            for name in shares[kind]
            if shares[kind][name].less and shares[kind][name].mean <= WORTH and losses[name] < inf
        ]
        if worth:
            *_, cheaper, saves = min(worth)
        taken, equal = leader, ()
    return Recommendation(taken, leader, prefer, good, shares, equal, kind, front, cheaper, saves)


def _alike(found: Ratio | None) -> bool:
    return found is not None and found.alike
