"""How good searches are: ours and others', replayed on recorded trainings at equal numbers of epochs.

Every search runs on the worlds that `replay.py` makes of the records in studies/, again and again with other seeds,
until it has spent as many epochs as 25 full trainings take. Judged is what it would have handed on at each moment: the
complete trial with the best value, by its mean over seeds, not by the value that it was lucky to have.

    python -m scripts.bench.quality.run [NAME ...] [--worlds WORLD ...] [--repeats 200]

Every repeat is kept in build/quality, and a run that was stopped goes on there; `report.py` makes a table and pictures
of them. Searches of other packages are in `peers.py`; they want an environment in which those are installed.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import optuna

from scripts.bench.quality.peers import PEERS
from scripts.bench.quality.repeats import RESULTS, WORLDS, Repeat, read, repeat, world
from scripts.bench.quality.strategies import STRATEGIES, Strategy

EVERY: dict[str, Strategy] = {**STRATEGIES, **PEERS}


def results(world_name: str, name: str) -> Path:
    return RESULTS / f"{world_name}.{name}.jsonl"


def _one(task: tuple[str, str, int]) -> Repeat:
    world_name, name, seed = task
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return repeat(world(world_name), EVERY[name], seed)


def run(names: Sequence[str], worlds: Sequence[str], repeats: int, workers: int) -> None:
    """Run what is missing, and keep it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for world_name in worlds:
        world(world_name).best  # noqa: B018  # made once, before the workers are forked
        for name in names:
            file = results(world_name, name)
            have = read(file)
            file.write_text("".join(each.model_dump_json() + "\n" for each in have))
            missing = [(world_name, name, seed) for seed in range(repeats) if seed not in {each.seed for each in have}]
            began = time.monotonic()
            with (
                ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool,
                file.open("a") as lines,
            ):
                for each in pool.map(_one, missing):
                    lines.write(each.model_dump_json() + "\n")
                    lines.flush()
            print(f"{world_name} {name}: {len(missing)} repeats in {time.monotonic() - began:.0f} s", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    run(options.names or list(STRATEGIES), options.worlds, options.repeats, options.workers)


if __name__ == "__main__":
    main()
