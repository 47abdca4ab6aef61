"""Is the verdict honest, and how soon does it say something, on real trainings that others published?

    python -m scripts.bench.verdict.published DIR [--repeats 200] [--quick] [--seed 0]

DIR holds the records (`records.py` has their formats); none of them is copied. Beside the verdict stand the procedures
of `procedures.py`. Runs are taken as unpaired. Prints tables and one line of JSON; shares are in percent. Standard
errors are those between settings, pairs or orders, whose repeats are averaged first.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from math import sqrt
from pathlib import Path

import numpy as np

from scripts.bench.verdict.calibrate import BRIEF, Row, patched, table
from scripts.bench.verdict.procedures import FIRST, PROCEDURES, Procedure, Said, follow, verdict
from scripts.bench.verdict.records import (
    Floats,
    Question,
    Unreadable,
    algoperf,
    deepobs,
    nanogpt,
    seeds_shared,
)

ROUNDS = 10
"""Planned where there are as many runs."""

STATUSES = ("clear", "tied", "good enough", "undecided")

PARTS = (2, 3)

MOMENTS = (3, 5, 10)
BANDS = ((0.5, 1.0), (1.0, 1.5), (1.5, 2.5))
"""Of true differences, in standard deviations of the difference of two runs."""

SIZES = ((8, 12), (5, 50))
"""Optimizers and rounds of calls that are timed."""

Generator = np.random.Generator


def averaged(name: str, groups: Sequence[Sequence[float]], error: str = "±") -> Row:
    """The mean of the groups' mean shares, and its standard error between groups; None of a single one."""
    shares = np.array([np.mean(each) for each in groups])
    spread = round(100 * float(shares.std(ddof=1)) / sqrt(len(shares)), 2) if len(shares) > 1 else None
    return {name: round(100 * float(shares.mean()), 2), error: spread}


def split(values: Floats, parts: int, generator: Generator) -> dict[str, Floats]:
    """Parts of equal size, drawn without replacement; what is left over is left out."""
    mixed = generator.permutation(values)[: len(values) // parts * parts]
    return {f"part {place}": part for place, part in enumerate(mixed.reshape(parts, -1))}


def ever_worse(procedure: Procedure, question: Question) -> float:
    """The share of the optimizers that were called worse than another at any look."""
    looks = follow(procedure, question, question.rounds)
    return len({worse for _, _, said in looks for _, worse in said.better}) / len(question.arms)


def alike(sources: dict[str, list[Floats]], repeats: int, seed: int) -> list[Row]:
    """How often parts of one setting's runs are called better or worse than each other, at any look.

    What is promised is that a given one of them, as the truly best is, is put out in 5 % at most; a t-test of all pairs
    and AdaStop promise it of all at once.
    """
    found = []
    for source, settings in sources.items():
        for parts in PARTS:
            enough = [each for each in settings if len(each) >= FIRST * parts]
            for procedure in PROCEDURES if enough else ():
                generator = np.random.default_rng(seed)
                groups = [
                    [
                        ever_worse(procedure, Question("", "", 1, 0.0, split(values, parts, generator)))
                        for _ in range(repeats)
                    ]
                    for values in enough
                ]
                differing = [[each > 0 for each in group] for group in groups]
                found.append(
                    {
                        "seeds of": source,
                        "parts": parts,
                        "procedure": procedure.name,
                        "settings": len(enough),
                        "splits": sum(map(len, groups)),
                        **averaged("any ever called better, %", differing),
                        "worst setting, %": round(100 * max(float(np.mean(each)) for each in differing), 1),
                        **averaged("a given one put out, %", groups, "± (given)"),
                    }
                )
    return found


Draw = Callable[[Floats, Generator], Floats]
DRAWS: dict[str, tuple[int, Draw]] = {
    "without replacement": (ROUNDS, lambda values, generator: generator.permutation(values)[:ROUNDS]),
    "with replacement": (5, lambda values, generator: generator.choice(values, ROUNDS)),
}
"""How many runs of a setting it takes at least, and how those of a comparison are drawn."""


def apart(one: Floats, other: Floats) -> float:
    """The difference of two settings in standard deviations of the difference of two runs."""
    return abs(float(one.mean() - other.mean())) / sqrt(float(one.var(ddof=1) + other.var(ddof=1)))


def first_seen(procedure: Procedure, question: Question, moments: Sequence[int]) -> tuple[list[int], int]:
    """By moment, 1 where the first arm, which is better, was called so by then, -1 where the other one was, 0 else.
    The runs until the end follow."""
    found = dict.fromkeys(moments, 0)
    runs = 0
    for rounds in moments if procedure.fixed else moments[-1:]:
        for look, spent, said in follow(procedure, question, rounds):
            one, other = question.arms
            right = ((one, other) in said.better) - ((other, one) in said.better)
            for moment in moments:
                if right and not found[moment] and look <= moment and (rounds == moment or not procedure.fixed):
                    found[moment] = right
            runs = spent
    return [found[moment] for moment in moments], runs


def power(settings: Sequence[Floats], repeats: int, seed: int) -> list[Row]:
    """How often the better one of two settings is called better by 3, 5 and 10 rounds; less is better."""
    found = []
    for way, (least, draw) in DRAWS.items():
        pairs = [
            (one, other) if one.mean() < other.mean() else (other, one)
            for one, other in combinations([each for each in settings if len(each) >= least], 2)
        ]
        for low, high in BANDS:
            inside = [pair for pair in pairs if low <= apart(*pair) < high]
            for procedure in PROCEDURES if inside else ():
                generator = np.random.default_rng(seed)
                groups = []
                for one, other in inside:
                    arms = [{"better": draw(one, generator), "worse": draw(other, generator)} for _ in range(repeats)]
                    groups.append([first_seen(procedure, Question("", "", -1, 0.0, each), MOMENTS) for each in arms])
                row: Row = {
                    "apart, sd": f"{low} to {high}",
                    "runs drawn": way,
                    "procedure": procedure.name,
                    "pairs": len(inside),
                    "comparisons": sum(map(len, groups)),
                }
                for place, moment in enumerate(MOMENTS):
                    hits = [[right[place] > 0 for right, _ in group] for group in groups]
                    row |= averaged(f"by {moment} rounds, %", hits, f"± ({moment})")
                row |= averaged("wrong, %", [[min(right) < 0 for right, _ in group] for group in groups], "± (wrong)")
                row["runs, median"] = float(np.median([runs for group in groups for _, runs in group]))
                found.append(row)
    return found


def last(procedure: Procedure, question: Question) -> tuple[int, int, Said]:
    """Rounds, runs and what is said at the end."""
    return list(follow(procedure, question, question.rounds))[-1]


def problems(questions: Sequence[Question]) -> list[Row]:
    """What is said of real questions after all rounds, in the order of seeds, and after how many runs."""
    found = []
    for question in questions:
        row: Row = {
            "trained": question.name,
            "measured": question.metric,
            "optimizers": len(question.arms),
            "rounds": question.rounds,
            "epsilon": f"{question.epsilon:.2g}",
        }
        for procedure in PROCEDURES:
            _, runs, said = last(procedure, question)
            loss = "" if np.isnan(said.loss) else f", another better by at most {said.loss:.2g}"
            row[procedure.name] = f"{said.status}{loss} ({runs} runs)"
        found.append(row)
    return found


def shuffled(question: Question, generator: Generator) -> Question:
    """The same runs in another order."""
    return replace(question, arms={name: generator.permutation(values) for name, values in question.arms.items()})


def orders(questions: Sequence[Question], repeats: int, seed: int) -> list[Row]:
    """How often which is said where the same runs come in other orders."""
    found = []
    for procedure in PROCEDURES:
        generator = np.random.default_rng(seed)
        ends = [[last(procedure, shuffled(each, generator)) for _ in range(repeats)] for each in questions]
        row: Row = {"procedure": procedure.name, "questions": len(ends), "comparisons": sum(map(len, ends))}
        for status in STATUSES:
            hits = [[said.status.startswith(status) for _, _, said in each] for each in ends]
            row |= averaged(f"{status}, %", hits, f"± ({status})")
        row["runs, mean"] = round(float(np.mean([runs for each in ends for _, runs, _ in each])), 1)
        found.append(row)
    return found


def pairing(questions: Sequence[Question], seed: int) -> list[Row]:
    """Whether runs of equal seeds are alike, and what the verdict says with and without pairs."""
    found = []
    for question in questions:
        seen, chance = seeds_shared(question, np.random.default_rng(seed))
        row: Row = {"trained": question.name, "correlation over seeds": round(seen, 2), "as large by chance": chance}
        for name, paired in (("unpaired", False), ("paired", True)):
            row[name] = verdict(question.arms, question, question.rounds, paired).status
        found.append(row)
    return found


def durations(seed: int) -> list[Row]:
    """How long one call takes after all rounds."""
    found = []
    for optimizers, rounds in SIZES:
        values = np.random.default_rng(seed).standard_normal((optimizers, rounds))
        question = Question("", "", 1, 0.1, {f"o{place}": each for place, each in enumerate(values)})
        for procedure in PROCEDURES:
            seconds = []
            for _ in range(5):
                began = time.perf_counter()
                procedure.say(question.arms, question, rounds)
                seconds.append(time.perf_counter() - began)
            found.append(
                {
                    "optimizers": optimizers,
                    "rounds": rounds,
                    "procedure": procedure.name,
                    "ms a call, median of 5": round(1_000 * float(np.median(seconds)), 1),
                    "longest, ms": round(1_000 * max(seconds), 1),
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="of the published records")
    parser.add_argument("--repeats", type=int, default=200, help="splits a setting, comparisons a pair, orders")
    parser.add_argument("--quick", action="store_true", help="a twentieth of them")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    repeats, seed = max(2, options.repeats // (20 if options.quick else 1)), options.seed
    try:
        settings, tests, workloads = nanogpt(options.folder), deepobs(options.folder), algoperf(options.folder)
    except Unreadable as error:
        parser.error(str(error))
    began, tables = time.monotonic(), {}

    def tell(title: str, rows: list[Row]) -> None:
        tables[title] = rows
        print(f"### {title}\n\n{table(rows) if rows else 'There are too few runs.'}\n", flush=True)
        print(f"{title}: {time.monotonic() - began:.0f} s", file=sys.stderr)

    tell("Seconds of a call", durations(seed))
    with patched(**BRIEF):
        seeds = {"NanoGPT": list(settings.values()), "DeepOBS": [each for one in tests for each in one.arms.values()]}
        tell("Parts of the same seeds", alike(seeds, repeats, seed))
        tell("NanoGPT, pairs of settings", power(list(settings.values()), max(2, repeats // 2), seed))
        tell("DeepOBS, by problem", problems(tests))
        tell("DeepOBS, seeds in other orders", orders(tests, max(2, repeats // 2), seed))
        tell("DeepOBS, are runs of equal seeds pairs?", pairing(tests, seed))
        tell("AlgoPerf, by workload", problems(workloads))
        tell("AlgoPerf, studies in other orders", orders(workloads, max(2, repeats // 10), seed))
    print(json.dumps({"repeats": repeats, "seed": seed, "seconds": round(time.monotonic() - began), **tables}))


if __name__ == "__main__":
    main()
