"""How good searches are: ours and others', replayed on recorded trainings at equal numbers of epochs.

Every search runs on the worlds that `replay.py` makes of the records in studies/, again and again with other seeds,
until it has spent as many epochs as 25 full trainings take. Judged is what it would have handed on at each moment: the
complete trial with the best value, by its mean over seeds, not by the value that it was lucky to have.

    python scripts/bench_search_quality.py run [NAME ...] [--worlds WORLD ...] [--repeats 200]
    python scripts/bench_search_quality.py report

`run` keeps every repeat in build/quality and goes on where it was stopped; `report` writes docs/search-quality-table.md
and the pictures beside it. Searches of other packages are in `peers.py`; they want an environment in which those are
installed.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import optuna
from curve_record import Row, path
from replay import FAILED, World
from strategies import STRATEGIES, Strategy

from optitune.sampling.allocation import competitors, racing

FULL_TRAININGS = 25
CHECKPOINTS = 25
"""How many times between the start and the end of a search its state is looked at."""

WORLDS: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "mnist-cnn": ("mnist-cnn", "fitted", ()),
    "mnist-cnn-without-muon": ("mnist-cnn", "fitted", ("muon",)),
    "mnist-cnn-nearest": ("mnist-cnn", "nearest", ()),
    "mnist-net": ("mnist-net", "fitted", ()),
}
"""Record, kind of world, and who does not compete."""

RESULTS = Path("build") / "quality"


class Repeat(Row):
    """One search, looked at `CHECKPOINTS` times.

    Attributes:
        winner: regret of the best complete trial's configuration; None while there is none.
        right: whether its optimizer is the best, or tied with it.
        own: mean over optimizers of the regret of each one's own best complete trial.
        trials: that ended within the budget.
        dropped: who racing leaves out in the end, or would.
        seconds: of processor time per trial, the search's own.
    """

    seed: int
    winner: list[float | None]
    right: list[bool]
    own: list[float]
    trials: int
    seconds: float
    dropped: tuple[str, ...] = ()


@cache
def world(name: str) -> World:
    record, kind, without = WORLDS[name]
    return World(path(record), kind, without)


def tied(world: World) -> set[str]:
    """The optimizers whose best is within two standard errors of the best, if five runs of each were compared."""
    top = max(world.best.values())
    return {name for name, best in world.best.items() if top - best <= 2 * world.spread * (2 / 5) ** 0.5}


def repeat(world: World, strategy: Strategy, seed: int) -> Repeat:
    """Run one search and look at it as it goes."""
    best, budget = world.best, float(FULL_TRAININGS * world.settings.epochs)
    good = tied(world)
    # an optimizer that never came through, or only failed, is used with its known-good settings
    own = {name: (FAILED, world.known_good(name)) for name in best}
    won: tuple[float, float, str] | None = None
    grid = [budget * (number + 1) / CHECKPOINTS for number in range(CHECKPOINTS)]
    winner: list[float | None] = []
    right: list[bool] = []
    owns: list[float] = []
    trials = 0

    def look() -> None:
        winner.append(None if won is None else max(best.values()) - won[1])
        right.append(won is not None and won[2] in good)
        owns.append(sum(best[name] - own[name][1] for name in best) / len(best))

    began = time.process_time()
    for step in strategy(world, budget, seed):
        while len(winner) < CHECKPOINTS and grid[len(winner)] < step.epochs:
            look()
        if step.epochs > budget:
            break
        trials += 1
        name = step.parameters["optimizer"]
        if step.value is not None and step.value > own[name][0]:
            truth = world.truth(step.parameters)
            own[name] = step.value, truth
            if won is None or step.value > won[0]:
                won = step.value, truth, name
    seconds = (time.process_time() - began) / max(1, trials)
    while len(winner) < CHECKPOINTS:
        look()
    dropped: tuple[str, ...] = ()
    if step.study is not None:
        kept = racing(competitors(step.study.get_trials(deepcopy=False), best, maximize=True, ideal=1.0))
        dropped = tuple(name for name in best if name not in kept)
    return Repeat(seed=seed, winner=winner, right=right, own=owns, trials=trials, seconds=seconds, dropped=dropped)


def results(world_name: str, name: str) -> Path:
    return RESULTS / f"{world_name}.{name}.jsonl"


def read(file: Path) -> list[Repeat]:
    """Repeats that were kept; a last line that was cut off is left out."""
    if not file.exists():
        return []
    text = file.read_text()
    return [Repeat.model_validate_json(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _one(task: tuple[str, str, int]) -> Repeat:
    world_name, name, seed = task
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return repeat(world(world_name), strategies()[name], seed)


@cache
def strategies() -> dict[str, Strategy]:
    from peers import PEERS

    return {**STRATEGIES, **PEERS}


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
    commands = parser.add_subparsers(required=True, dest="command")
    runner = commands.add_parser("run")
    runner.add_argument("names", nargs="*")
    runner.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    runner.add_argument("--repeats", type=int, default=200)
    runner.add_argument("--workers", type=int, default=2)
    commands.add_parser("report")
    options = parser.parse_args()
    if options.command == "run":
        run(options.names or list(STRATEGIES), options.worlds, options.repeats, options.workers)
    else:
        from quality_report import report

        print(json.dumps(report(RESULTS)))


if __name__ == "__main__":
    main()
