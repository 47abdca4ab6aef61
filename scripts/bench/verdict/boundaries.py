"""Makes the constants of the boundaries for planned rounds, `optitune/statistics/boundaries.json`.

    python -m scripts.bench.verdict.boundaries [--sequences 400000] [--seed 0] [--write]

Sequences of normal numbers without any difference are looked at after every round from the third on. The t statistic
of each look is mapped to the normal quantile of the same tail; the constant is what the largest of a sequence passes
with the level's probability. Prints a table and, with --write, writes the file.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

import optitune.statistics
from optitune.statistics.sequential_test import FIRST_LOOK, POWER

ROUNDS = (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 25, 30, 40, 50, 70, 100)

LEVELS = tuple(round(0.05 / parts, 6) for parts in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 10, 14, 20, 40))
"""Probabilities for one side: 5 % divided by how many are still in."""

CHUNK = 20_000


def largest(
    rounds: tuple[int, ...], sequences: int, seed: int
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """The largest quantile of each sequence within so many rounds: of either side, and of one side that falls.

    Args:
        rounds: planned numbers.
        sequences: how many.
        seed: of the generator.
    """
    generator = np.random.default_rng(seed)
    two: list[list[Any]] = [[] for _ in rounds]
    one: list[list[Any]] = [[] for _ in rounds]
    for _ in range(sequences // CHUNK):
        x = generator.standard_normal((CHUNK, max(rounds)))
        n = np.arange(1, max(rounds) + 1)
        mean = np.cumsum(x, 1) / n
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = (np.cumsum(x**2, 1) - n * mean**2) / (n - 1)
            t = mean / np.sqrt(variance / n)
        z = -ndtri(stdtr(np.maximum(n - 1, 1), -np.abs(t)))
        signed = np.sign(t) * z
        both = np.maximum.accumulate(z[:, FIRST_LOOK - 1 :], axis=1)
        for place, planned in enumerate(rounds):
            two[place].append(both[:, planned - FIRST_LOOK].copy())
            looks = slice(FIRST_LOOK - 1, planned)
            one[place].append((signed[:, looks] / (planned / n[looks]) ** POWER).max(1))
    return [np.concatenate(each) for each in two], [np.concatenate(each) for each in one]


def table(sequences: int, seed: int, rounds: tuple[int, ...] = ROUNDS) -> dict[str, Any]:
    """The constants by rounds and levels."""
    two, one = largest(rounds, sequences, seed)
    return {
        "sequences": sequences,
        "rounds": list(rounds),
        "levels": list(LEVELS),
        "constant": [np.round(np.quantile(each, [1 - 2 * level for level in LEVELS]), 3).tolist() for each in two],
        "falling": [np.round(np.quantile(each, [1 - level for level in LEVELS]), 3).tolist() for each in one],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = table(options.sequences, options.seed)
    for name in ("constant", "falling"):
        print(f"### {name}\n")
        print("| rounds | " + " | ".join(f"{level:.4g}" for level in LEVELS) + " |")
        print("|" + " --- |" * (1 + len(LEVELS)))
        for planned, row in zip(found["rounds"], found[name], strict=True):
            print(f"| {planned} | " + " | ".join(f"{each:.2f}" for each in row) + " |")
        print()
    if options.write:
        rows = ",\n ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
        Path(optitune.statistics.__file__).with_name("boundaries.json").write_text(
            "{\n " + rows.replace("], [", "],\n  [") + "\n}\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
