"""Are probabilities of being best, and the bounds of a leader's value, as honest as they say?

Normal runs of optimizers whose true values are drawn anew for every comparison: an optimizer's own noise of 0.09
percentage points (pp) a run, a round's difficulty of 0.18 pp that all share, about as on MNIST. Epsilon is 0.1 pp. A
hopeless optimizer is 3 pp behind and has ten times the noise. Where spreads are unequal, their logarithms are normal
with a standard deviation of 0.45.

    python -m scripts.bench.verdict.probabilities [--comparisons 2000] [--quick] [--seed 0]

Prints tables and one line of JSON. Shares are in percent with their standard error.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optitune.common.summary import summarise
from optitune.statistics.probability_best import Estimate, estimates
from scripts.bench.verdict.calibrate import Row, patched, share, table, with_error

EPSILON, NOISE, DIFFICULTY, BEHIND, NOISIER, UNEQUAL = 0.1, 0.09, 0.18, 3.0, 10, 0.45
SURE = 0.995

FEW = {"DRAWS": 1_500, "SPREADS": 60}
"""Fewer draws than a verdict takes: thousands of comparisons are averaged over."""


@dataclass(frozen=True)
class Normal:
    """Normal runs. All in pp.

    Attributes:
        k: how many optimizers.
        rounds: how many all of them finish.
        spread: standard deviation of true values.
        hopeless: how many more there are that are far behind and noisy.
        unequal: standard deviation of the logarithm of the noise.
        difficulty: standard deviation of what is common to all runs of a round.
    """

    k: int
    rounds: int
    spread: float = 0.1
    hopeless: int = 0
    unequal: float = 0.0
    difficulty: float = DIFFICULTY

    def drawn(self, generator: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """True values, and those of all runs, of shape (optimizers, rounds)."""
        truths = self.spread * generator.standard_normal(self.k + self.hopeless)
        noise = NOISE * np.exp(self.unequal * generator.standard_normal(len(truths)))
        truths[self.k :] = -BEHIND
        noise[self.k :] = NOISIER * NOISE
        luck = noise[:, None] * generator.standard_normal((len(truths), self.rounds))
        return truths, truths[:, None] + luck + self.difficulty * generator.standard_normal(self.rounds)


def judged(
    world: Normal, count: int, seed: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], list[Estimate]]]:
    """True values, runs and what is said of them, of so many comparisons."""
    generator = np.random.default_rng(seed)
    with patched(**FEW):
        for _ in range(count):
            truths, values = world.drawn(generator)
            yield truths, values, estimates(values, EPSILON)


def leading(found: list[Estimate]) -> int:
    return max(range(len(found)), key=lambda number: found[number].mean)


def chances(world: Normal, count: int, seed: int) -> Row:
    """How probable it is that the leader is best, as said and as it is."""
    said, right = [], []
    for truths, _, found in judged(world, count, seed):
        leader = leading(found)
        said.append(found[leader].best)
        right.append(bool(truths.argmax() == leader))
    sure = [so for told, so in zip(said, right, strict=True) if told >= SURE]
    return {
        "optimizers": world.k,
        "hopeless ones beside": world.hopeless,
        "true values' spread, pp": world.spread,
        "noise": "unequal" if world.unequal else "equal",
        "rounds": world.rounds,
        "the leader is best, said, %": round(100 * float(np.mean(said)), 1),
        **with_error("the leader is best, %", right),
        f"said >= {100 * SURE} %": len(sure),
        "of these so, %": share(sure) if sure else "-",
    }


def bounds(world: Normal, count: int, seed: int) -> Row:
    """How often the leader's interval holds its true value, beside Student's."""
    leaders, everyone, students, widths = [], [], [], []
    for truths, values, found in judged(world, count, seed):
        leader, first = leading(found), int(values.mean(1).argmax())
        holds = [(each.low or 0) <= truth <= (each.high or 0) for each, truth in zip(found, truths, strict=True)]
        student = summarise(values[first].tolist())
        assert student.low is not None
        assert student.high is not None
        leaders.append(holds[leader])
        everyone += holds
        students.append(student.low <= truths[first] <= student.high)
        widths.append(((found[leader].high or 0) - (found[leader].low or 0)) / (student.high - student.low))
    return {
        "optimizers": world.k,
        "true values' spread, pp": world.spread,
        "rounds' difficulty, pp": world.difficulty,
        "rounds": world.rounds,
        **with_error("the leader's holds, %", leaders),
        "everyone's, %": share(everyone),
        "the leader's by Student, %": share(students),
        "width beside Student's, median": round(float(np.median(widths)), 2),
    }


HOPELESS = [
    Normal(k, rounds, hopeless=hopeless, unequal=unequal)
    for k, hopeless, unequal in ((3, 0, 0.0), (3, 1, 0.0), (3, 2, 0.0), (2, 1, 0.0), (7, 1, 0.0), (3, 1, UNEQUAL))
    for rounds in (4, 8)
]

SPREADS = [
    Normal(5, rounds, spread, unequal=unequal)
    for unequal in (0.0, UNEQUAL)
    for spread in (0.05, 0.1, 0.3)
    for rounds in (4, 8, 12)
]

FEW_RUNS = [Normal(k, 3, unequal=unequal) for unequal in (0.0, UNEQUAL) for k in (2, 3, 8)]

LEADERS = [
    Normal(k, rounds, spread, difficulty=difficulty)
    for difficulty in (DIFFICULTY, 0.0)
    for k, spread in ((8, 0.0), (8, 0.05), (8, 0.1), (8, 0.3), (2, 0.0), (2, 0.1))
    for rounds in (4, 8, 12)
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=2_000, help="in each world")
    parser.add_argument("--quick", action="store_true", help="a twentieth of them")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    count, seed = options.comparisons // (20 if options.quick else 1), options.seed
    began, tables = time.monotonic(), {}
    for title, worlds, row in (
        ("One noisy hopeless one", HOPELESS, chances),
        ("Five optimizers", SPREADS, chances),
        ("Three runs each", FEW_RUNS, chances),
        ("Leaders' intervals", LEADERS, bounds),
    ):
        tables[title] = [row(world, count, seed) for world in worlds]
        print(f"### {title}\n\n{table(tables[title])}\n", flush=True)
        print(f"{title}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(json.dumps({"comparisons": count, "seed": seed, "seconds": round(time.monotonic() - began), **tables}))


if __name__ == "__main__":
    main()
