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
from optitune.statistics.sequential_test import FIRST_LOOK, POWERS

ROUNDS = (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 25, 30, 40, 50, 70, 100)

LEVELS = tuple(round(0.05 / parts, 6) for parts in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 10, 14, 20, 40))
"""Probabilities for one side: 5 % divided by how many are still in."""

CHUNK = 20_000


def largest(rounds: tuple[int, ...], sequences: int, seed: int) -> dict[str, list[NDArray[np.float64]]]:
    """The largest quantile of each sequence within so many rounds: of either side, and of one side that falls.

    Args:
        rounds: planned numbers.
        sequences: how many.
        seed: of the generator.
    """
    generator = np.random.default_rng(seed)
    found: dict[str, list[list[Any]]] = {name: [[] for _ in rounds] for name in ("constant", *POWERS)}
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
            found["constant"][place].append(both[:, planned - FIRST_LOOK].copy())
            looks = slice(FIRST_LOOK - 1, planned)
            for name, power in POWERS.items():
                found[name][place].append((signed[:, looks] / (planned / n[looks]) ** power).max(1))
    return {name: [np.concatenate(each) for each in columns] for name, columns in found.items()}


def table(sequences: int, seed: int, rounds: tuple[int, ...] = ROUNDS) -> dict[str, Any]:
    """The constants by rounds and levels."""
    found: dict[str, Any] = {"sequences": sequences, "rounds": list(rounds), "levels": list(LEVELS)}
    for name, columns in largest(rounds, sequences, seed).items():
        sides = 2 if name == "constant" else 1
        shares = [1 - sides * level for level in LEVELS]
        found[name] = [np.round(np.quantile(each, shares), 3).tolist() for each in columns]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = table(options.sequences, options.seed)
    for name in ("constant", *POWERS):
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
