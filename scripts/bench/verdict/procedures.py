"""Procedures that say which of several optimizers are better, from the values of their runs so far: optitune's verdict
and what people do instead.

AdaStop (Mathieu et al. 2023, arXiv:2306.10882) is written here from its description: a group-sequential permutation
test, stepped down over all pairs. The package `adastop` 0.1.3 makes its bound from the signed differences instead of
their sizes, so that its error is about twice the level asked for; `signed` does the same, and decided 238 of 240
comparisons of 2 to 4 normal samples as the package does (the rest differ by the permutations that were drawn).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import sqrt

import numpy as np
from scipy import special

from optitune.statistics.verdict import judge
from scripts.bench.verdict.records import Floats, Question
from scripts.bench.verdict.worlds import run

ERROR = 0.05
FIRST = 3
"""The rounds before the first look."""

PERMUTATIONS = 10_000
"""At most, of AdaStop: the package's default."""

TIED = 1 + 1e-9
"""Sums of the same numbers in another order differ by rounding alone."""

Values = Mapping[str, Floats]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Said:
    """What a procedure says at one look.

    Attributes:
        better: pairs of the better one and the worse one.
        wanted: who trains next; nobody where it is decided.
        status: in words.
        loss: how much better than the leader another one may be; nan where the procedure does not say.
    """

    better: frozenset[Pair]
    wanted: tuple[str, ...]
    status: str
    loss: float = float("nan")


@dataclass(frozen=True)
class Procedure:
    """One row of the tables.

    Attributes:
        name: in words.
        looks: after which rounds it looks, of a planned number.
        say: from values so far, the question and the planned number of rounds.
        fixed: whether it looks once, after all rounds.
    """

    name: str
    looks: Callable[[int], Sequence[int]]
    say: Callable[[Values, Question, int], Said]
    fixed: bool = False


def follow(procedure: Procedure, question: Question, rounds: int) -> Iterator[tuple[int, int, Said]]:
    """A comparison of recorded runs: rounds so far, runs so far and what is said, look for look until it is decided."""
    trained = dict.fromkeys(question.arms, 0)
    wanted: Sequence[str] = tuple(question.arms)
    for look in procedure.looks(rounds):
        trained |= dict.fromkeys(wanted, look)
        said = procedure.say({name: question.arms[name][:some] for name, some in trained.items()}, question, rounds)
        yield look, sum(trained.values()), said
        if not said.wanted:
            return
        wanted = said.wanted


def summary(better: frozenset[Pair], names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """In words, who of these is out and who trains next, where only better and worse are said."""
    out = {worse for _, worse in better}
    left = [name for name in names if name not in out]
    if len(left) == 1:
        return "clear", ()
    return f"undecided, {len(out)} of {len(names)} out", tuple(left or names)


def verdict(values: Values, question: Question, rounds: int | None, paired: bool = False) -> Said:
    names = tuple(values)
    runs = [run(number, name, float(value)) for name in names for number, value in enumerate(values[name])]
    found = judge(runs, names, question.sign, question.epsilon, rounds, paired=paired, until="clear")
    assert found is not None
    better = {(each.one, each.other) for each in found.differences if each.relation == "better"}
    better |= {(each.other, each.one) for each in found.differences if each.relation == "worse"}
    out = sum(place.out for place in found.places)
    status = found.status if found.status == "clear" else f"{found.status}, {out} of {len(names)} out"
    return Said(frozenset(better), found.wanted, status, found.loss)


def p_value(one: Floats, other: Floats) -> float:
    """Two-sided, of Welch's t-test."""
    squares = one.var(ddof=1) / len(one), other.var(ddof=1) / len(other)
    apart, square = abs(float(one.mean() - other.mean())), float(sum(squares))
    if not square:
        return float(apart == 0)
    df = square**2 / (squares[0] ** 2 / (len(one) - 1) + squares[1] ** 2 / (len(other) - 1))
    return 2 * float(special.stdtr(df, -apart / sqrt(square)))


def welch(values: Values, question: Question, rounds: int, corrected: bool = False) -> Said:
    """Welch's t-test of each pair, perhaps at the level divided by the number of pairs (Bonferroni)."""
    pairs = list(combinations(values, 2))
    level = ERROR / len(pairs) if corrected else ERROR
    better = frozenset(
        (one, other) if question.sign * (values[one].mean() - values[other].mean()) > 0 else (other, one)
        for one, other in pairs
        if p_value(values[one], values[other]) <= level
    )
    status, left = summary(better, list(values))
    return Said(better, left, status)


@cache
def halves(block: int) -> Floats:
    """What runs of a block count for in the difference of two means, for every way to call half of them the first's;
    the true way first; (ways, 2 * block)."""
    ways = list(combinations(range(2 * block), block))
    signs = np.full((len(ways), 2 * block), -1 / block)
    for row, way in enumerate(ways):
        signs[row, list(way)] = 1 / block
    return signs


def adastop(values: Values, question: Question, rounds: int, most: int = 5, signed: bool = False) -> Said:
    """AdaStop after the blocks of runs so far, at `ERROR` for all pairs together.

    Args:
        values: so far.
        question: gives the sign.
        rounds: planned.
        most: runs of a block.
        signed: whether the bound is made from signed differences, as the package makes it.
    """
    block = min(most, rounds)
    looks, ways, generator = rounds // block, halves(block), np.random.default_rng(0)
    size = (lambda sums: sums.max(0)) if signed else (lambda sums: np.abs(sums).max(0))
    undecided = list(combinations(values, 2))
    sums = np.zeros((len(undecided), 1))
    better: set[Pair] = set()
    spent, bound, plural = 0.0, np.inf, 1
    for look in range(looks):
        until = (look + 1) * block
        if not undecided or any(len(values[name]) < until for pair in undecided for name in pair):
            break
        sums = sums[:, np.abs(sums).max(0) <= bound * TIED]
        here = np.array([np.concatenate([values[name][until - block : until] for name in pair]) for pair in undecided])
        added = here @ ways.T
        if len(ways) ** (look + 1) < PERMUTATIONS:
            plural = len(ways) ** (look + 1)
            sums = (sums[:, None, :] + added[:, :, None]).reshape(len(undecided), -1)
        else:
            chosen = generator.integers(len(ways), size=sums.shape)
            chosen[:, 0] = 0
            sums = sums + np.take_along_axis(added, chosen, 1)
        apart = sums[:, 0]
        still, level, new = list(range(len(undecided))), ERROR * (look + 1) / looks, 0.0
        while still:
            sizes = np.sort(size(sums[still]))
            left = spent + np.arange(len(sizes))[::-1] / plural
            allowed = np.flatnonzero(left <= level)
            bound, new = (float(sizes[allowed[0]]), float(left[allowed[0]] - spent)) if len(allowed) else (np.inf, 0.0)
            largest = max(still, key=lambda at: abs(apart[at]))
            if not abs(apart[largest]) > bound * TIED:
                break
            one, other = undecided[largest]
            better.add((one, other) if question.sign * apart[largest] > 0 else (other, one))
            still.remove(largest)
        spent += new
        undecided, sums = [undecided[at] for at in still], sums[still]
    status, _ = summary(frozenset(better), list(values))
    wanted = tuple(name for name in values if any(name in pair for pair in undecided))
    return Said(frozenset(better), () if status == "clear" else wanted, status)


def each_round(rounds: int) -> Sequence[int]:
    return range(min(FIRST, rounds), rounds + 1)


def at_the_end(rounds: int) -> Sequence[int]:
    return (rounds,)


def blocks(most: int) -> Callable[[int], Sequence[int]]:
    return lambda rounds: range(min(most, rounds), rounds + 1, min(most, rounds))


def without_end(values: Values, question: Question, rounds: int) -> Said:
    del rounds
    return verdict(values, question, None)


PROCEDURES = (
    Procedure("verdict", each_round, verdict),
    Procedure("verdict, any number of rounds", each_round, without_end),
    Procedure("a t-test at every look", each_round, welch),
    Procedure("Welch at fixed n, Bonferroni", at_the_end, lambda *said: welch(*said, corrected=True), fixed=True),
    Procedure("AdaStop, blocks of 2", blocks(2), lambda *said: adastop(*said, most=2)),
    Procedure("AdaStop, blocks of 5", blocks(5), adastop),
    Procedure("the same as adastop 0.1.3 has it", blocks(5), lambda *said: adastop(*said, signed=True)),
)
