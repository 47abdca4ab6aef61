"""What replayed searches came to: normalised regrets of all worlds, and in detail those of our own records.

    python -m scripts.bench.quality.report [--keep FOLDER] [--pictures]

It prints the tables, writes the pictures of our own worlds into docs/ where it is asked to, and ends with all figures
as JSON. The repeats are those that `run.py` kept in build/quality, or the folder that is named.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from scripts.bench.quality.averages import kept, mean_and_error, overview
from scripts.bench.quality.repeats import RESULTS, WORLDS, Repeat
from scripts.bench.quality.replay import World as Recorded
from scripts.bench.quality.worlds import regret

DOCS = Path(__file__).resolve().parents[3] / "docs"
LANES = ("tpe-median-wide", "tpe-median", "gp", "syne-tune-asha", "smac", "optitune")
"""Who is drawn; all are in the table."""


def at_the_end(repeats: list[Repeat], without_winner: float) -> dict[str, Any]:
    """The figures of one search, each with its standard error.

    Args:
        without_winner: the regret of a search that completed no trial.
    """
    winner = mean_and_error(without_winner if each.winner[-1] is None else each.winner[-1] for each in repeats)
    return {
        "winner": winner,
        "right": mean_and_error(each.right[-1] for each in repeats),
        "own": mean_and_error(each.own[-1] for each in repeats),
        "trials": mean_and_error(each.trials for each in repeats)[0],
        "ms": 1_000 * float(np.median([each.seconds for each in repeats])),
        "repeats": len(repeats),
    }


def row(name: str, found: dict[str, Any]) -> str:
    winner, right, own = found["winner"], found["right"], found["own"]
    cells = (
        f"`{name}`",
        f"{1e3 * winner[0]:.2f} ± {1e3 * winner[1]:.2f}",
        f"{100 * right[0]:.0f} ± {100 * right[1]:.0f} %",
        f"{1e3 * own[0]:.2f} ± {1e3 * own[1]:.2f}",
        f"{found['trials']:.0f}",
        f"{found['ms']:.1f}",
        f"{found['repeats']}",
    )
    return f"| {' | '.join(cells)} |"


HEAD = """| search | the winner's regret, 1e-3 | right optimizer | each one's regret, 1e-3 | trials | ms a trial | n |
|---|---|---|---|---|---|---|"""


def draw(found: dict[str, list[Repeat]], to: Path) -> None:
    """Both regrets against epochs spent, means with bands of two standard errors."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for name in LANES:
        for axis, field in zip(axes, ("winner", "own"), strict=True):
            if name in found:
                runs = np.array([getattr(each, field) for each in found[name]], dtype=float)
                whole = ~np.isnan(runs).any(axis=0)
                at = np.arange(1, runs.shape[1] + 1)[whole]
                mean, error = runs[:, whole].mean(0), runs[:, whole].std(0, ddof=1) / len(runs) ** 0.5
                axis.plot(at, mean, label=f"{name} (n={len(runs)})")
                axis.fill_between(at, mean - 2 * error, mean + 2 * error, alpha=0.2)
    for axis, title in zip(axes, ("regret of the winner", "mean regret of each optimizer's own best"), strict=True):
        axis.set(yscale="log", xlabel="epochs spent, in full trainings", ylabel="accuracy", title=title)
    axes[0].legend()
    figure.savefig(to, dpi=100)
    plt.close(figure)


def report(results: Path, pictures: bool) -> dict[str, Any]:
    """Print all tables, write the pictures of our own worlds, and give all figures."""
    figures: dict[str, Any] = {}
    every = kept(results)
    for name in (each for each in WORLDS if each in every):
        here, found = WORLDS[name](), every[name]
        worst = max(regret(here, here.unsearched(each)) for each in here.optimizers)
        figures[name] = {search: at_the_end(repeats, worst) for search, repeats in found.items()}
        best = ", ".join(f"{each} {value:.4f}" for each, value in here.best.items())
        print(f"### {name}\n\nbest: {best}; one run differs by {here.spread:.4f}\n")
        if isinstance(here, Recorded):
            print(f"fit: {', '.join(f'{each} {value:.4f}' for each, value in here.errors().items())}\n")
        print(HEAD)
        print("\n".join(row(*each) for each in sorted(figures[name].items(), key=lambda each: each[1]["winner"])), "\n")
        if pictures:
            draw(found, DOCS / f"search-quality-{name}.png")
    print("## Normalised regret of the winner\n")
    print(overview(every))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, default=RESULTS, metavar="FOLDER", help="where run.py kept the repeats")
    parser.add_argument("--pictures", action="store_true", help="write those in docs/")
    options = parser.parse_args()
    print(json.dumps(report(options.keep, options.pictures)))


if __name__ == "__main__":
    main()
