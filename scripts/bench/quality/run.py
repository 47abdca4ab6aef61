"""How good searches are: ours and others', replayed on recorded trainings at equal numbers of epochs.

Every search runs in the worlds that `replay.py` makes of the records in studies/, and `published.py` of a folder of
records that others made, again and again with other seeds, until it has spent as many epochs as 25 full trainings take.
Judged is what it would have handed on at each moment: the complete trial with the best value, by its mean over seeds,
not by the value that it was lucky to have.

    python -m scripts.bench.quality.run [NAME ...] [--worlds WORLD ...] [--repeats 200] [--records FOLDER]

A world may be named by its beginning: `taskset` are all worlds of TaskSet. Every repeat is kept in the folder `--keep`,
and a run that was stopped goes on there; `report.py` makes tables and pictures of them. Searches of other packages are
in `peers.py`; they want an environment in which those are installed.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import get_args

import optuna

from scripts.bench.quality.peers import PEERS
from scripts.bench.quality.repeats import FULL_TRAININGS, RESULTS, BudgetIn, Repeat, read, repeat, worlds
from scripts.bench.quality.strategies import STRATEGIES, Strategy
from scripts.bench.quality.worlds import World, unit

EVERY: Mapping[str, Strategy] = {**STRATEGIES, **PEERS}


_here: dict[str, World] = {}
"""The world that worker processes inherit: it is too large to be sent with every repeat."""


def _one(name: str, trainings: int, budget_in: BudgetIn, seed: int) -> Repeat:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return repeat(_here["world"], EVERY[name], seed, trainings, budget_in)


def run(
    names: Sequence[str],
    chosen: Mapping[str, Callable[[], World]],
    repeats: int,
    workers: int,
    trainings: int = FULL_TRAININGS,
    budget_in: BudgetIn = "epochs",
    keep: Path = RESULTS,
) -> None:
    """Run what is missing, and keep it.

    Args:
        names: of searches.
        chosen: worlds by name.
        repeats: of each search in each world.
        trainings: full trainings that a search may spend.
    """
    keep.mkdir(parents=True, exist_ok=True)
    for world_name, make in chosen.items():
        _here.clear()
        for name in names:
            file = keep / f"{world_name}.{name}.jsonl"
            have = [each for each in read(file) if len(each.winner) >= trainings]
            file.write_text("".join(each.model_dump_json() + "\n" for each in have))
            missing = [seed for seed in range(repeats) if seed not in {each.seed for each in have}]
            if missing and not _here:
                _here["world"] = make()
                # what it works out once, before the workers are forked
                unit(_here["world"])
                _here["world"].first_tries  # noqa: B018
            began = time.monotonic()
            with (
                ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool,
                file.open("a") as lines,
            ):
                for each in pool.map(partial(_one, name, trainings, budget_in), missing):
                    lines.write(each.model_dump_json() + "\n")
                    lines.flush()
            print(f"{world_name} {name}: {len(missing)} repeats in {time.monotonic() - began:.0f} s", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(EVERY)}")
    parser.add_argument("--worlds", nargs="+", metavar="WORLD", help="names or their beginnings; by default all")
    parser.add_argument("--records", type=Path, metavar="FOLDER", help="of published records")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--trainings", type=int, default=FULL_TRAININGS, help="full trainings that a search may spend")
    parser.add_argument("--budget-in", choices=get_args(BudgetIn), default="epochs")
    parser.add_argument("--keep", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    try:
        every = worlds(options.records)
    except (FileNotFoundError, ValueError) as error:
        parser.error(f"--records: {error}")
    wanted = tuple(options.worlds or every)
    chosen = {name: make for name, make in every.items() if name.startswith(wanted)}
    for word in (each for each in wanted if not any(name.startswith(each) for name in every)):
        parser.error(f"no world begins with {word}: there are {', '.join(every)}")
    for name in (each for each in options.names if each not in EVERY):
        parser.error(f"no search is called {name}: there are {', '.join(EVERY)}")
    run(
        options.names or list(STRATEGIES),
        chosen,
        options.repeats,
        options.workers,
        options.trainings,
        options.budget_in,
        options.keep,
    )


if __name__ == "__main__":
    main()
