"""Is the verdict honest? Thousands of comparisons of optimizers whose true values are known.

The worlds and the rules are in `worlds.py`; everything is drawn, trained and dropped as `optitune compare`
does it, and judged by the code that judges for it.

    python -m scripts.bench.verdict.calibrate [--comparisons 1000] [--quick] [--seed 0] [--plot FILE.png]

Prints tables and one line of JSON. Shares are in percent with their standard error; pp are percentage points.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from optitune.comparing.plan import ROUNDS
from optitune.statistics import probability_best, sequential_test, verdict
from scripts.bench.verdict.worlds import (
    ACCURACY,
    EPSILON,
    MNIST,
    MOMENTS,
    OWN,
    PP,
    SEED,
    SHARED,
    MadeUp,
    Outcome,
    Recorded,
    World,
    coarse,
    compared,
    equals,
    fixed,
    holds,
    one_better,
    outcome,
)

SOON = 12
"""Within how many rounds a difference of 0.2 pp should be told."""

MOST_RUNS = 100
"""What `optitune compare` spends if nothing else is said."""

MEASURED = 0.18 * PP
"""What SGD and Adam differed by on MNIST's CNN."""

IMAGES = 5_000
"""A fold that is the same in every round, as a validation set is."""

SPREADS = (0.05, 0.1, 0.3)
"""Of true values, in pp."""

BINS = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0)

RECORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "MNIST, CNN": ("mnist-cnn", ()),
    "MNIST, CNN, without muon": ("mnist-cnn", ("muon",)),
    "MNIST, perceptron": ("mnist-net", ()),
}
"""Record, and who does not compete."""

Row = dict[str, Any]
Said = dict[tuple[float, int], list[tuple[float, bool]]]
"""By the truths' spread and the moment: a probability of being best, and whether this one was."""


@contextmanager
def patched(**values: Any) -> Iterator[None]:
    """The verdict's modules with other values of these names for a while, wherever one has the name."""
    before = [
        (module, name, getattr(module, name))
        for module in (verdict, sequential_test, probability_best)
        for name in values
        if name in vars(module)
    ]
    try:
        for module, name, _ in before:
            setattr(module, name, values[name])
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


# no decision rests on probabilities of being best, nor on how many more runs are needed: little is spent on them
# where they are not looked at
BRIEF: Row = {"DRAWS": 200, "SPREADS": 20, "WARM_UP": 5}


def naive(rounds: int, level: float) -> float:
    """In place of `sequential_test.constant`: Student's t interval, as if one looked once."""
    return level


def outcomes(world: World, count: int, seed: int, **values: Any) -> list[Outcome]:
    """So many comparisons in one world."""
    generator = np.random.default_rng(seed)
    with patched(**BRIEF, **values):
        return [outcome(world, compared(world, generator)) for _ in range(count)]


def share(hits: Iterable[bool]) -> float:
    return round(100 * float(np.mean(list(hits))), 2)


def with_error(name: str, hits: Iterable[bool]) -> Row:
    """A share and its standard error."""
    each = list(hits)
    mean = float(np.mean(each))
    return {name: round(100 * mean, 2), "±": round(100 * sqrt(mean * (1 - mean) / len(each)), 2)}


def held(what: str, hits: Sequence[bool]) -> Row:
    return {"interval": what, "number": len(hits), **with_error("holds the truth, %", hits)}


def identical(count: int, seed: int) -> list[Row]:
    """How often optimizers that are the same are told apart, at any of all looks."""
    worlds: list[tuple[str, MadeUp, Row]] = [
        ("2", MadeUp(equals(2)), {}),
        ("3", MadeUp(equals(3)), {}),
        ("8", MadeUp(equals(8)), {}),
        ("3, on 57 examples a round", coarse(), {}),
        ("the same, of which only the mean is known", coarse(told=False), {}),
        ("3, by a t-test after every step instead", MadeUp(equals(3)), {"constant": naive}),
    ]
    rows = []
    for name, world, values in worlds:
        found = outcomes(world, count, seed, **values)
        rows.append(
            {
                "identical optimizers": name,
                "comparisons": count,
                **with_error("ever better or worse, %", (each.ordered for each in found)),
                "all pairs' intervals always hold, %": share(each.covered for each in found),
                "equal in the end, %": share(each.last.status == "tied" for each in found),
                "runs, mean": round(float(np.mean([each.last.runs for each in found])), 1),
            }
        )
    return rows


def round_sd(seed: int) -> float:
    """The standard deviation of a round's difference of two optimizers of made-up MNIST."""
    world, generator = MadeUp(equals(2)), np.random.default_rng(seed)
    pairs = [world.round(number, generator) for number in range(3_000)]
    return float(np.std([one.value - other.value for one, other in pairs], ddof=1))


def plain_rounds(by: float, sd: float, optimizers: int, power: float = 0.9) -> int:
    """How many rounds, fixed before, a single t-test of a pair needs at the verdict's level."""

    def seen(n: int) -> float:
        return float(stats.nct.sf(stats.t.isf(verdict.ERROR / optimizers, n - 1), n - 1, by / sd * sqrt(n)))

    return next(n for n in range(2, 10_000) if seen(n) >= power)


def different(count: int, seed: int) -> tuple[list[Row], list[Row]]:
    """How often and how soon the best is told, and how often the intervals of these comparisons hold."""
    rows, coverage, sd = [], [], round_sd(seed)
    for k, by in ((2, 0.2 * PP), (2, MEASURED), (8, 0.2 * PP)):
        world, plural = MadeUp(one_better(k, by)), count if k == 2 else max(1, count * 3 // 10)
        found = outcomes(world, plural, seed)
        told = [each.told for each in found if each.told]
        rows.append(
            {
                "optimizers": k,
                "best by, pp": round(by / PP, 3),
                "comparisons": plural,
                **with_error(f"told by round {SOON}, %", (bool(x.told and x.told[0] <= SOON) for x in found)),
                f"by round {ROUNDS}, %": share(each.told is not None for each in found),
                f"by {MOST_RUNS} runs, %": share(bool(x.told and x.told[1] <= MOST_RUNS) for x in found),
                "anything wrong, %": share(each.wrong for each in found),
                "rounds when told, median": float(np.median([rounds for rounds, _ in told])) if told else None,
                "runs, median": float(np.median([runs for _, runs in told])) if told else None,
                "runs of a single t-test, power 90 %": plain_rounds(by, sd, k) * k,
            }
        )
        what = f"{k} optimizers, best by {by / PP:.2f} pp"
        everyone = [hit for each in found for hit in holds(each.last, world.truths)]
        leaders = [hit for each in found for hit in holds(each.last, world.truths, [each.last.leader])]
        coverage.append(held(f"{what}: each value, at the end", everyone))
        coverage.append(held(f"{what}: the leader's value, at the end", leaders))
        coverage.append(held(f"{what}: all pairs at every look", [each.covered for each in found]))
    return rows, coverage


def at_fixed_rounds(count: int, seed: int) -> list[Row]:
    """How often an optimizer's interval holds its true value when the number of rounds was fixed before."""
    rows = []
    for name, world in (("made-up MNIST", MadeUp(one_better(2, 0.2 * PP))), ("57 examples a round", coarse())):
        for rounds in (4, 8, ROUNDS):
            generator = np.random.default_rng(seed)
            with patched(**BRIEF):
                hits = [hit for _ in range(count) for hit in holds(fixed(world, rounds, generator), world.truths)]
            rows.append(held(f"{name}: each value, after {rounds} rounds fixed before", hits))
    return rows


def chances(count: int, seed: int, k: int = 5) -> tuple[Said, list[Row], list[Row]]:
    """Probabilities of being best where the true values are drawn anew for every comparison."""
    said: Said = {}
    rows, coverage = [], []
    for spread in SPREADS:
        generator = np.random.default_rng(seed)
        wrong, covered, values = [], [], []
        leaders: dict[int, list[tuple[float, bool]]] = {moment: [] for moment in MOMENTS}
        for _ in range(count):
            world = MadeUp({f"o{i}": 0.98 + spread * PP * generator.standard_normal() for i in range(k)})
            with patched(**{**BRIEF, "DRAWS": 1_500, "SPREADS": 60, "WARM_UP": 20}):
                found = outcome(world, compared(world, generator))
            best = max(world.truths, key=lambda name: world.truths[name])
            for moment, look in found.looks.items():
                told = [(place.best, place.optimizer == best) for place in look.places]
                said.setdefault((spread, moment), []).extend(told)
                leaders[moment].append(told[0])
            wrong.append(found.wrong)
            covered.append(found.covered)
            values += holds(found.last, world.truths)
        what = f"{k} optimizers, true values' spread {spread} pp"
        coverage.append(held(f"{what}: each value, at the end", values))
        coverage.append(held(f"{what}: all pairs at every look", covered))
        rows += [
            {
                "true values' spread, pp": spread,
                "after": name,
                "comparisons": count,
                "the leader is best, said, %": round(100 * float(np.mean([told for told, _ in leaders[moment]])), 1),
                **with_error("the leader is best, %", (so for _, so in leaders[moment])),
                "anything wrong, %": share(wrong),
            }
            for moment, name in MOMENTS.items()
        ]
    return said, rows, coverage


def binned(pairs: Sequence[tuple[float, bool]]) -> list[tuple[float, float, int]]:
    """By bins of the probability told: its mean, how often it was so, how many there are."""
    told, so = np.array([each for each, _ in pairs]), np.array([was for _, was in pairs], dtype=float)
    places = np.clip(np.searchsorted(BINS, told, side="right") - 1, 0, len(BINS) - 2)
    chosen = [places == number for number in range(len(BINS) - 1)]
    return [(float(told[each].mean()), float(so[each].mean()), int(each.sum())) for each in chosen if each.any()]


def reliability(said: Said) -> list[Row]:
    rows = []
    for moment, name in MOMENTS.items():
        pairs = [each for spread in SPREADS for each in said[spread, moment]]
        for told, so, number in binned(pairs):
            error = sqrt(so * (1 - so) / number)
            rows.append(
                {"after": name, "said, %": round(100 * told, 1), "so, %": round(100 * so, 1),
                 "±": round(100 * error, 1), "number": number}
            )  # fmt: skip
    return rows


def both_wrong(shared: float) -> float:
    """How probable it is that two runs that share so much of their luck are both wrong of an image."""
    at = stats.norm.ppf(1 - ACCURACY)
    return float(stats.multivariate_normal.cdf([at, at], cov=[[1, shared], [shared, 1]]))


def folds(count: int, seed: int) -> list[Row]:
    """How often a true difference is seen on images that every round shares, and on fresh ones in each."""
    world, generator = MadeUp({"o0": ACCURACY, "o1": ACCURACY + MEASURED}), np.random.default_rng(seed)
    alike, same = both_wrong(SHARED), both_wrong(SHARED + OWN)
    rows = []
    for rounds in (3, 8):
        # what is known of the noise is told to both tests, so that they differ by the images alone
        fixed_se = sqrt(2 * SEED**2 / rounds + (2 * (same - alike) + 2 * (1 - ACCURACY - same) / rounds) / IMAGES)
        fresh_se = sqrt((2 * SEED**2 + 2 * (1 - ACCURACY - alike) / MNIST) / rounds)
        seen = {"fixed": 0, "fresh": 0}
        for _ in range(count):
            seen["fixed"] += on_the_same(world, rounds, generator) > 1.96 * fixed_se
            apart = [other.value - one.value for one, other in (world.round(n, generator) for n in range(rounds))]
            seen["fresh"] += float(np.mean(apart)) > 1.96 * fresh_se
        rows.append(
            {
                "true difference, pp": round(MEASURED / PP, 3),
                "rounds": rounds,
                "repeats": count,
                f"seen on the same {IMAGES:,} images, %": round(100 * seen["fixed"] / count, 1),
                f"seen on fresh {MNIST:,} images, %": round(100 * seen["fresh"] / count, 1),
                "standard error, the same, pp": round(fixed_se / PP, 4),
                "standard error, fresh, pp": round(fresh_se / PP, 4),
            }
        )
    return rows


def on_the_same(world: MadeUp, rounds: int, generator: np.random.Generator) -> float:
    """The mean difference of two optimizers over rounds that are all judged on the same images."""
    lasting = sqrt(SHARED) * generator.standard_normal(IMAGES, dtype=np.float32) + sqrt(OWN) * (
        generator.standard_normal((2, IMAGES), dtype=np.float32)
    )
    apart = []
    for _ in range(rounds):
        luck = sqrt(1 - SHARED - OWN) * generator.standard_normal((2, IMAGES), dtype=np.float32)
        one, other = (lasting + luck <= world.drawn_thresholds(generator)).mean(1)
        apart.append(other - one)
    return float(np.mean(apart))


def recorded(count: int, seed: int) -> list[Row]:
    """Comparisons of recorded trainings: how often the verdict is right, wrong or open."""
    rows = []
    for name, (task, without) in RECORDS.items():
        world = Recorded.of(task, without)
        found, top = outcomes(world, count, seed), max(world.truths.values())
        second = sorted(world.truths.values())[-2]
        rows.append(
            {
                "record": name,
                "best by, pp": round((top - second) / PP, 3),
                "comparisons": count,
                "right, %": share(not each.wrong and each.last.status != "undecided" for each in found),
                "open, %": share(not each.wrong and each.last.status == "undecided" for each in found),
                **with_error("anything wrong, %", (each.wrong for each in found)),
                "leader within 0.1 pp, %": share(top - world.truths[x.last.leader] <= EPSILON for x in found),
                "leader truly best, %": share(world.truths[each.last.leader] == top for each in found),
                "runs, mean": round(float(np.mean([each.last.runs for each in found])), 1),
            }
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([f"{row[key]}" for key in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plot(said: Said, to: Path) -> None:
    """Probabilities told against how often it was so."""
    from matplotlib.figure import Figure

    from optitune.common.colours import COLOURS

    figure = Figure(figsize=(11, 4), layout="constrained")
    panels = figure.subplots(1, len(MOMENTS), sharey=True)
    for axes, (moment, name) in zip(panels, MOMENTS.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for spread, colour in zip(SPREADS, COLOURS, strict=False):
            told, so, number = np.array(binned(said[spread, moment])).T
            error = 1.96 * np.sqrt(so * (1 - so) / number)
            axes.errorbar(told, so, error, color=colour, marker="o", markersize=4, label=f"{spread} pp")
        axes.set(title=name, xlabel="probability of being best, as told", ylim=(-0.03, 1.03))
    panels[0].set_ylabel("how often it was")
    panels[0].legend(title="true values' spread", frameon=False)
    figure.savefig(to, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=1_000, help="in each world; fewer where they take long")
    parser.add_argument("--quick", action="store_true", help="a twentieth of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    options = parser.parse_args()
    count, seed = options.comparisons // (20 if options.quick else 1), options.seed
    began, tables = time.monotonic(), {}

    def tell(title: str, rows: list[Row]) -> None:
        tables[title] = rows
        print(f"### {title}\n\n{table(rows)}\n", flush=True)
        print(f"{title}: {time.monotonic() - began:.0f} s", file=sys.stderr)

    tell("Identical optimizers", identical(count, seed))
    rows, coverage = different(count, seed)
    tell("A true difference", rows)
    said, rows, more = chances(max(1, count * 2 // 5), seed)
    tell("The probability of being best: leaders", rows)
    tell("The probability of being best: all", reliability(said))
    tell("Intervals", at_fixed_rounds(count, seed) + coverage + more)
    tell("Fresh images in every round", folds(2 * count, seed))
    tell("Recorded trainings", recorded(max(1, count // 5), seed))
    print(json.dumps({"comparisons": count, "seed": seed, "seconds": round(time.monotonic() - began), **tables}))
    if options.plot:
        plot(said, options.plot)


if __name__ == "__main__":
    main()
