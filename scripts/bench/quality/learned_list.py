"""The settings that are best tried first, learned from all records of our own by greedy cover.

Candidates are known-good settings at several multiples of their learning rate. The list takes, one after another, the
candidate that lowers most the mean over tasks of the best regret of the list so far; regrets are divided by that of the
median recorded configuration, and 1 at most. How good such a list is on a new task is measured on each task with a list
that was learned from the others, beside known-good settings in their usual order and random points.

    python -m scripts.bench.quality.learned_list [--length 16]

`LEARNED` in `optitune/space/first_tries.py` is what it prints.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optitune.sampling.forecast import OPTIMIZER
from optitune.space.first_tries import LEARNED, Try
from optitune.space.search_space import LR_FACTOR
from scripts.bench.quality.make_record import MNIST_TASKS
from scripts.bench.quality.points import drawn, lr_of
from scripts.bench.quality.record import path
from scripts.bench.quality.replay import World
from scripts.bench.quality.small_tasks import ROWS
from scripts.bench.quality.worlds import regret, unit

FACTORS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Multiples of the known-good learning rate that are candidates."""

TRIES = (1, 2, 4, 8, 16)
RANDOM = 256
"""How many random points of each optimizer stand for all."""

PRIOR = 1.0, 3.0
"""The prior that random points' learning rates come from; see `Provenance.lr_prior`."""

Array = NDArray[np.float64]


def candidates(world: World) -> Iterator[tuple[Try, dict[str, Any]]]:
    """Every candidate with its parameters in a world."""
    for first in world.known_good[: len(world.optimizers)]:
        for factor in FACTORS:
            yield Try(first[OPTIMIZER], factor), {**first, LR_FACTOR: factor * first[LR_FACTOR]}


def normalised(world: World, parameters: Sequence[Mapping[str, Any]]) -> Array:
    """Regrets in units of the median's, (n,)."""
    whole = unit(world)
    return np.array([min(1.0, max(0.0, regret(world, world.truth(each)) / whole)) for each in parameters])


def random_points(world: World) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    found: list[dict[str, Any]] = []
    for name in world.settings.optimizers:
        found += drawn(world.settings, name, generator.random((RANDOM, 16)).tolist(), lr_of(PRIOR))
    return found


def cover(regrets: Array, length: int) -> list[int]:
    """The candidates in the order in which a greedy cover takes them.

    Args:
        regrets: (tasks, candidates).
        length: of the list; it ends where no candidate lowers the mean any more.
    """
    chosen: list[int] = []
    reached = np.ones(len(regrets))
    while len(chosen) < length:
        means = np.minimum(regrets, reached[:, None]).mean(axis=0)
        best = int(np.argmin(means))
        if not means[best] < reached.mean():
            break
        chosen.append(best)
        reached = np.minimum(reached, regrets[:, best])
    return chosen


def after(regrets: Array, chosen: Sequence[int]) -> list[float]:
    """The best regret on one task after each of `TRIES` tries of a list, or after all of it."""
    return [float(min(regrets[list(chosen[:tries])], default=1.0)) for tries in TRIES]


def after_random(regrets: Array) -> list[float]:
    """The same of random points: the expected least of so many, drawn with replacement."""
    ordered, left = np.sort(regrets), np.linspace(1.0, 0.0, len(regrets) + 1)
    return [float(-ordered @ np.diff(left**tries)) for tries in TRIES]


def left_out(regrets: Array, length: int) -> Array:
    """What a list does on each task that was learned from all others, (tasks, tries)."""
    rows = range(len(regrets))
    return np.array([after(regrets[row], cover(np.delete(regrets, row, axis=0), length)) for row in rows])


def line(name: str, found: Array) -> str:
    """A row of the table: means over tasks with standard errors."""
    error = found.std(axis=0, ddof=1) / len(found) ** 0.5
    cells = [f"{mean:.3f} ± {off:.3f}" for mean, off in zip(found.mean(axis=0), error, strict=True)]
    return f"| {name} | {' | '.join(cells)} |"


@cache
def recorded_regrets() -> tuple[list[str], list[Try], Array]:
    """The recorded tasks, all candidates, and their regrets, (tasks, candidates)."""
    tasks = [name for name in (*MNIST_TASKS, *ROWS) if path(name).exists()]
    worlds = [World(path(name), "fitted") for name in tasks]
    regrets = [normalised(world, [each for _, each in candidates(world)]) for world in worlds]
    return tasks, [each for each, _ in candidates(worlds[0])], np.array(regrets)


def learned_without(task: str, length: int = len(LEARNED)) -> list[Try]:
    """The list that is learned from all recorded tasks but one."""
    tasks, tries, regrets = recorded_regrets()
    return [tries[place] for place in cover(np.delete(regrets, tasks.index(task), axis=0), length)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=16)
    options = parser.parse_args()
    tasks, named, regrets = recorded_regrets()
    usual = [place for place, each in enumerate(named) if each.lr_factor == 1.0]
    worlds = (World(path(name), "fitted") for name in tasks)
    chance = np.array([after_random(normalised(world, random_points(world))) for world in worlds])

    chosen = cover(regrets, options.length)
    print("| | settings | mean regret so far |\n|---|---|---|")
    for number, place in enumerate(chosen, start=1):
        print(f"| {number} | {named[place]} | {regrets[:, chosen[:number]].min(axis=1).mean():.3f} |")
    print(f"\n| normalised regret after | {' | '.join(map(str, TRIES))} |\n|---|{'---|' * len(TRIES)}")
    others = left_out(regrets, options.length)
    print(line("learned from the other tasks", others))
    print(line("known-good settings", np.array([after(row, usual) for row in regrets])))
    print(line("random points", chance))
    print(f"\n| left out | {' | '.join(map(str, TRIES))} | random: {' | '.join(map(str, TRIES))} |")
    print(f"|---|{'---|' * (2 * len(TRIES))}")
    for task, row, beside in zip(tasks, others, chance, strict=True):
        print(f"| {task} | {' | '.join(f'{each:.3f}' for each in (*row, *beside))} |")


if __name__ == "__main__":
    main()
