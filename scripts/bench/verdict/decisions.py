"""What a decision costs and how often it is wrong: comparisons of made-up optimizers, as `optitune compare` makes them.

    python -m scripts.bench.verdict.decisions [--comparisons 300] [--seed 0]

Three tables: how many runs it takes until the loss of choosing the leader is at most epsilon; how often the truly best
one is put out where spreads differ from optimizer to optimizer; and what `--prefer time` takes. Shares are in percent
with their standard error; pp are percentage points. Ends with one line of JSON.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optitune.comparing.plan import ROUNDS, opening, step
from optitune.statistics.choice import recommend
from optitune.statistics.runs import Prefer, Run, RunId, Until
from optitune.statistics.verdict import Verdict, judge
from scripts.bench.verdict.calibrate import BRIEF, Row, patched, table, with_error
from scripts.bench.verdict.worlds import ACCURACY, EPSILON, PP, MadeUp, World, run

ROUND = 0.002
"""The standard deviation of what a round does to all alike."""


@dataclass(frozen=True)
class Unequal:
    """Optimizers whose values scatter by spreads of their own; nothing is known of single examples."""

    truths: Mapping[str, float]
    spreads: Mapping[str, float]

    def round(self, number: int, generator: np.random.Generator) -> list[Run]:
        shared = ROUND * generator.standard_normal()
        return [
            run(number, name, truth + shared + self.spreads[name] * float(generator.standard_normal()))
            for name, truth in self.truths.items()
        ]


@dataclass(frozen=True)
class Timed:
    """Trainings of a world that take so many seconds, which scatter by a twentieth."""

    world: World
    seconds: Mapping[str, float]

    @property
    def truths(self) -> Mapping[str, float]:
        return self.world.truths

    def round(self, number: int, generator: np.random.Generator) -> list[Run]:
        return [
            replace(each, seconds=self.seconds[each.key.optimizer] * float(generator.lognormal(0, 0.05)))
            for each in self.world.round(number, generator)
        ]


def ended(
    world: World, generator: np.random.Generator, until: Until = "good-enough", prefer: Prefer = "value"
) -> tuple[Verdict, list[Run], int | None]:
    """A comparison until it is decided: its verdict, its runs, and how many there were when the loss was small."""
    names = tuple(world.truths)
    rounds: dict[int, dict[RunId, Run]] = {}
    runs: dict[RunId, Run] = {}
    keys, small = opening(names, runs, ROUNDS), None
    while True:
        for key in keys:
            if key.round not in rounds:
                rounds[key.round] = {each.key: each for each in world.round(key.round, generator)}
            runs[key] = rounds[key.round][key]
        found = judge(list(runs.values()), names, 1, EPSILON, ROUNDS, (0.0, 1.0), until=until, prefer=prefer)
        assert found is not None
        if small is None and found.loss <= EPSILON:
            small = found.runs
        keys = step(found.wanted, runs, ROUNDS, workers=2)
        if not keys:
            return found, list(runs.values()), small


def losses(count: int, seed: int) -> list[Row]:
    """Runs until the loss of choosing the leader is at most epsilon."""
    rows = []
    for k, apart in ((8, 0.05), (8, 0.0), (3, 0.05), (2, 0.0)):
        world = MadeUp({f"o{i}": ACCURACY + apart * PP * i / max(1, k - 1) for i in range(k)})
        generator, best = np.random.default_rng(seed), max(world.truths.values())
        found = [ended(world, generator) for _ in range(count)]
        small = [runs if runs is not None else float("inf") for _, _, runs in found]
        rows.append(
            {
                "optimizers": k,
                "all within, pp": apart,
                "comparisons": count,
                "runs until the loss is at most 0.1 pp, median": float(np.median(small)),
                "never, %": round(100 * float(np.mean(np.isinf(small))), 1),
                "loss said in the end, pp, mean": round(float(np.mean([each.loss for each, *_ in found])) / PP, 3),
                **with_error("true loss is larger than said, %",
                             (best - world.truths[each.leader] > each.loss + 1e-12 for each, *_ in found)),
            }
        )  # fmt: skip
    return rows


WORLDS, AGAIN = 60, 10


def unequal(count: int, seed: int) -> list[Row]:
    """How often the truly best is put out in worlds whose optimizers scatter unequally."""
    generator = np.random.default_rng(seed)
    worlds: list[tuple[float, int, str, Unequal]] = []
    for number in range(WORLDS):
        k = int(generator.integers(2, 9))
        sigma = float(generator.uniform(0, 0.8))
        names = [f"o{i}" for i in range(k)]
        spreads = {name: 0.1 * PP * float(np.exp(sigma * generator.standard_normal())) for name in names}
        apart = float(generator.choice([0.0, 0.02, 0.1])) * PP
        truths = {name: ACCURACY - apart * float(generator.random()) for name in names}
        best = str(generator.choice(names))
        truths[best] = ACCURACY
        world, out = Unequal(truths, spreads), 0
        for _ in range(count):
            out += ended(world, generator, "clear")[0].place(best).out
        worlds.append((out / count, number, best, world))
    # the worst of many is the unluckiest as well: it is measured again
    worlds.sort(key=lambda each: each[:2], reverse=True)
    _, _, best, world = worlds[0]
    again = [ended(world, generator, "clear")[0].place(best).out for _ in range(AGAIN * count)]
    return [
        {
            "worlds": WORLDS,
            "comparisons in each": count,
            "truly best put out, mean, %": round(100 * float(np.mean([share for share, *_ in worlds])), 2),
            "in the worst world, %": round(100 * worlds[0][0], 2),
            "its optimizers": len(world.truths),
            **with_error(f"there in {len(again)} others, %", again),
        }
    ]


BEHIND = {"none or at least 0.2 pp": (0.0, 0.2, 0.5), "also 0.03 pp": (0.0, 0.03, 0.2, 0.5)}
"""How far optimizers lie behind the best, in pp."""


def preferred(count: int, seed: int) -> list[Row]:
    """What is taken for its time: too bad ones, and how often the cheapest of the good ones."""
    rows = []
    for name, steps in BEHIND.items():
        generator, bad, cheapest, runs = np.random.default_rng(seed), [], [], []
        for _ in range(count):
            names = [f"o{i}" for i in range(int(generator.integers(3, 9)))]
            truths = {each: ACCURACY - float(generator.choice(steps)) * PP for each in names}
            best = max(truths.values())
            # costs that differ by a fifth from one to the next
            seconds = dict(zip(names, (10 * 1.25 ** generator.permutation(len(names))).tolist(), strict=True))
            found, trained, _ = ended(Timed(MadeUp(truths), seconds), generator, prefer="time")
            regrets = {place.optimizer: place.regret for place in found.places}
            taken = recommend(trained, found.leader, regrets, EPSILON, "time").optimizer
            good = [each for each in names if best - truths[each] <= EPSILON]
            bad.append(best - truths[taken] > EPSILON)
            cheapest.append(taken == min(good, key=lambda each: seconds[each]))
            runs.append(found.runs)
        rows.append(
            {
                "behind the best": name,
                "comparisons": count,
                **with_error("taken though worse by more than 0.1 pp, %", bad),
                "truly cheapest of the good ones taken, %": with_error("share", cheapest)["share"],
                "runs, median": float(np.median(runs)),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=300, help="of the losses; as many in each unequal world")
    parser.add_argument("--preferred", type=int, default=2_000, help="with --prefer time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tables: dict[str, Any] = {}
    with patched(**BRIEF):
        for title, rows in (
            ("The loss of choosing the leader", losses(options.comparisons, options.seed)),
            ("Unequal spreads", unequal(options.comparisons, options.seed)),
            ("The cheapest that is as good", preferred(options.preferred, options.seed)),
        ):
            tables[title] = rows
            print(f"### {title}\n\n{table(rows)}\n", flush=True)
    print(json.dumps({"comparisons": options.comparisons, "seed": options.seed, **tables}))


if __name__ == "__main__":
    main()
