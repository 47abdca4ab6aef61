"""Trainings whose true values are known, and comparisons of them by the very code that makes and judges real ones:
`optitune.statistics.verdict.judge`, and `opening` and `step` of `optitune.statistics.runs` for who trains next.

Made-up trainings: every example held out has a difficulty that all optimizers share, and every run has luck of its own
with it. Both are normal, and a run is wrong where their sum, weighted by `SHARED` and its rest, passes the optimizer's
threshold. A run's seed moves the threshold by a normal number, such that its accuracy moves by 0.055 percentage points
(pp). So the accuracy of an optimizer over all examples and seeds is known exactly. Every round has fresh examples and
seeds: as many examples as MNIST gives each of a comparison's rounds, or 57, about as few as the digits do.

Spreads are as measured for SGD against Adam on MNIST's CNN: 0.055 pp from seed to seed, and 0.058 pp of standard error
that 5,000 images leave in the difference of two optimizers that are always judged on them; `OWN` is what of the luck
belongs to optimizer and image there, not to the run. The luck of runs with images comes on top of the measured 0.055,
so that this world is a little noisier than MNIST was, not less.

Recorded trainings, `studies/curves-*.jsonl.gz`: of each optimizer the best configuration of those that were trained
again with fresh seeds, their mean taken for the truth. A run is that mean and what another run of the same optimizer
differed from its configuration's mean by.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from typing import Any, Protocol

import numpy as np
from scipy import stats

from optitune.comparing.plan import ROUNDS, opening, step
from optitune.statistics.differences import Difference
from optitune.statistics.runs import Run, RunId, Until
from optitune.statistics.verdict import Verdict, judge
from scripts.bench.quality.record import path, read

EPSILON = 0.001
"""What `optitune compare` takes for a difference of accuracies that does not matter."""

PP = 0.01
"""A percentage point."""

SEED = 0.055 * PP
SHARED, OWN = 0.9904, 0.0083
ACCURACY = 0.991

MNIST, DIGITS = 55_000 // ROUNDS, 57
"""How many examples a round holds out."""

MOMENTS = {4: "4 rounds", 8: "8 rounds", ROUNDS: "the end"}
"""When a comparison is looked at: after so many rounds, or where it ended before."""


class World(Protocol):
    """Where trainings come from: the true values, and all runs of a round."""

    @property
    def truths(self) -> Mapping[str, float]: ...

    def round(self, number: int, generator: np.random.Generator) -> list[Run]: ...


def run(number: int, name: str, value: float, each: Any = None) -> Run:
    return Run(RunId(number, name), "", value, 0.0, 1.0, 0, 1, (), each)


@dataclass(frozen=True)
class MadeUp:
    """Optimizers of these true accuracies.

    Attributes:
        fold: how many examples a round holds out.
        seed: the standard deviation that seeds give to an accuracy.
        shared: how much of the luck with an example belongs to the example.
        told: whether runs say what they made of each example.
    """

    truths: Mapping[str, float]
    fold: int = MNIST
    seed: float = SEED
    shared: float = SHARED
    told: bool = True

    def __post_init__(self) -> None:
        for name, truth in self.truths.items():
            if not 0 < truth < 1:
                raise ValueError(f"{name} = {truth}: an accuracy of made-up trainings lies between 0 and 1")

    @cached_property
    def shift(self) -> float:
        """The standard deviation of a threshold."""
        usual = float(np.mean(list(self.truths.values())))
        return self.seed / float(stats.norm.pdf(stats.norm.isf(1 - usual)))

    @cached_property
    def thresholds(self) -> Any:
        return sqrt(1 + self.shift**2) * stats.norm.isf(1 - np.array(list(self.truths.values())))

    def round(self, number: int, generator: np.random.Generator) -> list[Run]:
        names = list(self.truths)
        difficulty = generator.standard_normal(self.fold, dtype=np.float32)
        luck = generator.standard_normal((len(names), self.fold), dtype=np.float32)
        latent = np.float32(sqrt(self.shared)) * difficulty + np.float32(sqrt(1 - self.shared)) * luck
        right = (latent <= self.drawn_thresholds(generator)).astype(np.float32)
        values = right.mean(1, dtype=np.float64).tolist()
        return [
            run(number, name, value, each if self.told else None)
            for name, value, each in zip(names, values, right, strict=True)
        ]

    def drawn_thresholds(self, generator: np.random.Generator) -> Any:
        """Those of a run of each, (optimizers, 1)."""
        moved = self.thresholds + self.shift * generator.standard_normal(len(self.truths))
        return moved[:, None].astype(np.float32)


def equals(count: int) -> dict[str, float]:
    return {f"o{number}": ACCURACY for number in range(count)}


def one_better(count: int, by: float) -> dict[str, float]:
    return {**equals(count), f"o{count // 2}": ACCURACY + by}


def coarse(told: bool = True) -> MadeUp:
    """Three that are the same, and rounds of so few examples that many differences are exactly 0."""
    return MadeUp(dict.fromkeys(("o0", "o1", "o2"), 0.97), fold=DIGITS, shared=0.9, told=told)


MOST_RESIDUALS = 15
"""Of an optimizer: those of its best configurations, as a finalist's would be."""


@dataclass(frozen=True)
class Recorded:
    """Each optimizer's best recorded configuration, and what runs of that optimizer differed by."""

    truths: Mapping[str, float]
    residuals: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, task: str, without: Sequence[str] = ()) -> "Recorded":
        repeated: dict[tuple[str, int], list[float]] = {}
        for curve in read(path(task))[1]:
            if curve.origin == "again" and curve.optimizer not in without:
                repeated.setdefault((curve.optimizer, curve.number), []).append(curve.final)
        truths: dict[str, float] = {}
        residuals: dict[str, list[float]] = {}
        for (name, _), values in sorted(repeated.items(), key=lambda item: -float(np.mean(item[1]))):
            mean, own = float(np.mean(values)), residuals.setdefault(name, [])
            truths.setdefault(name, mean)
            if len(own) < MOST_RESIDUALS:
                # a mean of so few lies too near to them
                own += [(value - mean) * sqrt(len(values) / (len(values) - 1)) for value in values]
        return cls(truths, residuals)

    def round(self, number: int, generator: np.random.Generator) -> list[Run]:
        return [
            run(number, name, truth + float(generator.choice(self.residuals[name])))
            for name, truth in self.truths.items()
        ]


def compared(
    world: World, generator: np.random.Generator, epsilon: float = EPSILON, until: Until = "clear"
) -> Iterator[Verdict]:
    """One comparison: the verdict after its first rounds, and after every further step until it ends."""
    names = tuple(world.truths)
    rounds: dict[int, dict[RunId, Run]] = {}
    runs: dict[RunId, Run] = {}
    keys = opening(names, runs, ROUNDS)
    while keys:
        for key in keys:
            if key.round not in rounds:
                rounds[key.round] = {each.key: each for each in world.round(key.round, generator)}
            runs[key] = rounds[key.round][key]
        found = judged(list(runs.values()), world, epsilon, until)
        yield found
        keys = step(found.wanted, runs, ROUNDS, workers=2)


def fixed(world: World, rounds: int, generator: np.random.Generator) -> Verdict:
    """The verdict after so many rounds of all."""
    return judged([each for number in range(rounds) for each in world.round(number, generator)], world, EPSILON)


def judged(runs: Sequence[Run], world: World, epsilon: float, until: Until = "clear") -> Verdict:
    found = judge(runs, tuple(world.truths), 1, epsilon, ROUNDS, (0.0, 1.0), until=until)
    assert found is not None
    return found


def rounds_of(found: Verdict) -> int:
    """How many rounds there were."""
    return max(len(place.value.each) for place in found.places if place.value)


def is_wrong(pair: Difference, truths: Mapping[str, float], epsilon: float) -> bool:
    """Whether what is said of a pair is not so."""
    apart = truths[pair.one] - truths[pair.other]
    so = {"better": apart > 0, "worse": apart < 0, "equal": abs(apart) <= epsilon, "undecided": True}
    return not so[pair.relation]


@dataclass
class Outcome:
    """What became of one comparison.

    Attributes:
        last: its last verdict.
        ordered: whether any pair was ever called better or worse.
        wrong: whether anything that is not so was ever said of a pair.
        covered: whether the intervals of all pairs held the truth after every step.
        told: rounds and runs when the best was first called better than all others; None where it never was.
        looks: the verdicts at `MOMENTS`.
    """

    last: Verdict
    ordered: bool = False
    wrong: bool = False
    covered: bool = True
    told: tuple[int, int] | None = None
    looks: dict[int, Verdict] = field(default_factory=dict)


def outcome(world: World, verdicts: Iterable[Verdict], epsilon: float = EPSILON) -> Outcome:
    """What became of a comparison in this world."""
    seen = list(verdicts)
    found, best = Outcome(seen[-1]), max(world.truths, key=lambda name: world.truths[name])
    for each in seen:
        for pair in each.differences:
            found.ordered |= pair.relation in ("better", "worse")
            found.wrong |= is_wrong(pair, world.truths, epsilon)
            found.covered &= pair.low <= world.truths[pair.one] - world.truths[pair.other] <= pair.high
        if found.told is None and each.status == "clear" and each.leader == best:
            found.told = rounds_of(each), each.runs
        for most in MOMENTS:
            if rounds_of(each) <= most:
                found.looks[most] = each
    return found


def holds(found: Verdict, truths: Mapping[str, float], names: Iterable[str] | None = None) -> list[bool]:
    """Whether the intervals of these optimizers' values hold their true ones."""
    values = [(found.place(name).value, truths[name]) for name in names or truths]
    return [
        value.low <= truth <= value.high
        for value, truth in values
        if value is not None and value.low is not None and value.high is not None
    ]
