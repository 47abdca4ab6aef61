"""Real searches, ours against Optuna's default at the same wall-clock: what their winners come to when trained anew.

Each seed has two searches, one after the other: `optitune search` as it is, and the same command with Optuna's own
default sampler and pruner (`--sampler tpe --pruner median`) for as many seconds as the first one took. Both have the
same engine, space and workers, so that only the search differs. Then `optitune retrain` trains each winner from new
seeds, on all that is not test data, and tests it.

    python -m scripts.bench.quality.real_searches --data-dir DIR [--trials 50] [--epochs 5] [--seeds 5]
        [--retrainings 3] [--train-examples N] [--keep build/real-search]

What is done is kept in the folder and not done again. Prints a table and one line of JSON.
"""

import argparse
import json
import subprocess
import sys
import time
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

FRESH_SEEDS = 1_000
"""Where the seeds of the retrainings begin, far from those of the searches."""

PLAIN = ["--sampler", "tpe", "--pruner", "median", "--trials", "100000"]


def optitune(*words: Any) -> dict[str, Any]:
    """What a command prints, with the seconds that the whole of it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", "optitune", *(str(word) for word in words), "--json", "--quiet"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
    return {**json.loads(done.stdout), "wall_s": round(time.monotonic() - began, 1)}


def kept(path: Path, make: Any) -> dict[str, Any]:
    """What `make` gives, made once."""
    if not path.exists():
        found = make()
        path.write_text(json.dumps(found))
    return dict(json.loads(path.read_text()))


def searched(options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Our search and Optuna's with this seed, and what their winners came to."""
    places = ["--studies-dir", options.keep, "--data-dir", options.data_dir]
    trial = ["--epochs", options.epochs, "--seed", seed]
    if options.train_examples:
        trial += ["--train-examples", options.train_examples]
    found: list[dict[str, Any]] = []
    for name in ("optitune", "optuna"):
        study = f"{name}-{seed}"
        limits = ["--trials", options.trials] if name == "optitune" else [*PLAIN, "--timeout", found[0]["wall_s"]]
        search = kept(
            options.keep / f"{study}.search.json",
            lambda: optitune("search", "--study", study, *places, *trial, *limits),  # noqa: B023
        )
        anew = ["--epochs", options.epochs, "--seeds", options.retrainings, "--seed", FRESH_SEEDS]
        tested = kept(
            options.keep / f"{study}.retrain.json",
            lambda: optitune("retrain", "best", "--study", study, *places, *anew),  # noqa: B023
        )
        found.append({**search, "tested": tested["test_value"]})
    return found


def row(seed: int, name: str, found: dict[str, Any]) -> str:
    best, epochs = found["best"], sum(found["allocation"]["epochs"].values())
    cells = (
        seed,
        name,
        f"{found['wall_s']:.0f}",
        f"{found['trials']['finished']} ({found['trials']['complete']})",
        f"{epochs:.0f}",
        best["optimizer"],
        f"{100 * best['value']:.2f}",
        f"{100 * found['tested']['mean']:.3f} ± {100 * found['tested']['sd']:.3f}",
    )
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def mean_and_error(values: list[float]) -> tuple[float, float]:
    return fmean(values), stdev(values) / sqrt(len(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--retrainings", type=int, default=3)
    parser.add_argument("--train-examples", type=int)
    parser.add_argument("--keep", type=Path, default=Path("build") / "real-search")
    options = parser.parse_args()
    if min(options.seeds, options.retrainings) < 2:
        parser.error("--seeds and --retrainings must be at least 2: one says nothing of the spread")
    options.keep.mkdir(parents=True, exist_ok=True)
    print("| seed | search | s | trials (complete) | epochs | optimizer | best validation, % | retrained test, % |")
    print("|---|---|---|---|---|---|---|---|")
    pairs = []
    for seed in range(options.seeds):
        pair = searched(options, seed)
        for name, found in zip(("ours", "Optuna's default"), pair, strict=True):
            print(row(seed, name, found), flush=True)
        pairs.append([found["tested"]["mean"] for found in pair])
    ours, theirs = zip(*pairs, strict=True)
    summary = {
        "ours": mean_and_error(list(ours)),
        "optuna": mean_and_error(list(theirs)),
        "difference": mean_and_error([own - other for own, other in pairs]),
    }
    for name, (mean, error) in summary.items():
        print(f"{name}: test accuracy {100 * mean:.3f} ± {100 * error:.3f} % (standard error, n = {len(pairs)})")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
