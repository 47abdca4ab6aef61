"""Searches of small tasks that really train, ours and others': what their winners come to from fresh seeds.

The searches of `strategies.py`, each until it has spent as many epochs as 25 full trainings take, on the tasks of
`small_tasks.py` themselves in place of their records. The winner, by the best value of a complete trial, is trained
anew from fresh seeds and judged on the sealed test set. `tpe-median` is Optuna's default in our space, with learning
rates within a hundred times the known-good one; `tpe-median-wide` a plain script with one wide range for all.

    python -m scripts.bench.quality.real_trainings --data-dir DIR [NAME ...] [--tasks TASK ...] [--seeds 5]

The list of what is tried first is learned from the records of all other tasks. What is done is kept in the folder
`--keep`, and not done again. Prints a table of errors: mean over searches and its standard error.
"""

import argparse
import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import inf
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import optuna
import torch
from pydantic import Field

from optitune.sampling.parameters import suggest
from optitune.tasks import splits
from optitune.tasks.data import Part
from optitune.training import build
from optitune.training.engine import Training
from optitune.training.evaluation import evaluate
from optitune.training.plan import Plan, training_plan
from optitune.training.progress import Diverged
from optitune.workers.process import configure_worker_process
from scripts.bench.quality.learned_list import learned_without
from scripts.bench.quality.make_record import Given, found
from scripts.bench.quality.record import Row, path
from scripts.bench.quality.repeats import FULL_TRAININGS
from scripts.bench.quality.replay import World
from scripts.bench.quality.small_tasks import ROWS
from scripts.bench.quality.strategies import STRATEGIES
from scripts.bench.quality.worlds import better, error

WAYS = "optitune", "tpe-median", "tpe-median-wide"
FRESH, FIRST_FRESH = 5, 1_000
"""How many fresh seeds a winner is trained from, and the first of them."""


class Values:
    """The values of a training, taken only as far as they are looked at."""

    def __init__(self, training: Training, worst: float) -> None:
        self._run = training.run()
        self._worst = worst
        self._seen: list[float] = []
        self.diverged = False

    def __iter__(self) -> Iterator[float]:
        try:
            for progress in self._run:
                assert progress.validation is not None
                self._seen.append(progress.validation.value)
                yield self._seen[-1]
        except Diverged:
            self.diverged = True

    def __len__(self) -> int:
        return len(self._seen)

    def __getitem__(self, place: int) -> float:
        return self._seen[place]


class Trained:
    """As `worlds.Replayed`, of a training that goes on while it is looked at."""

    def __init__(self, values: Values) -> None:
        self.values = values

    @property
    def diverged(self) -> bool:
        return self.values.diverged


class Real(World):
    """The world of a recorded task in which configurations are trained."""

    def __init__(self, name: str, data_dir: Path, learned: Any) -> None:
        super().__init__(path(name), "fitted", learned=lambda: learned)
        self.task = found(name, data_dir)
        self.data = splits.search_data(self.task, None)
        self.test: Part = splits.load_test(self.task) if self.task.test is not None else self._sealed()

    def _sealed(self) -> Part:
        sealed = splits.full_data(self.task).sealed
        assert sealed is not None
        return sealed

    def _plan(self, parameters: Mapping[str, Any], seed: int) -> Plan:
        configuration = suggest(Given(dict(parameters)), self.settings, self.settings.space())  # type: ignore[arg-type]
        return training_plan(configuration, self.task, self.epochs, seed, "fp32", self.evaluations)

    def _training(self, parameters: Mapping[str, Any], seed: int, judged: Part | None) -> Training:
        plan = self._plan(parameters, seed)
        return Training(build.build(self.task, seed, torch.device("cpu")), plan, self.data.train, judged)

    def train(self, parameters: Mapping[str, Any], generator: np.random.Generator) -> Any:
        seed = int(generator.integers(FIRST_FRESH))
        return Trained(Values(self._training(parameters, seed, self.data.validation), self.worst))

    def tested(self, parameters: Mapping[str, Any], seed: int) -> float:
        """The error of one training on the test set."""
        training = self._training(parameters, seed, None)
        try:
            for _ in training.run():
                pass
        except Diverged:
            return error(self, None)
        plan = training.plan
        value = evaluate(training.model, self.test, training.eval_loss, plan.metric, "fp32", training.scaling).value
        return error(self, value)


class Outcome(Row):
    """One search.

    Attributes:
        trials: that it began.
        optimizer: of the winner; empty where no trial came through.
        parameters: of the winner.
        errors: of the winner from fresh seeds, on the test set.
    """

    task: str
    way: str
    seed: int
    trials: int
    optimizer: str
    parameters: dict[str, Any]
    errors: list[float] = Field(min_length=1)


_worlds: dict[str, Real] = {}


def searched(data_dir: Path, lists: Mapping[str, Any], job: tuple[str, str, int]) -> Outcome:
    """Search once, and train the winner anew."""
    configure_worker_process()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task, way, seed = job
    world = _worlds.setdefault(task, Real(task, data_dir, lists[task]))
    best: tuple[float, dict[str, Any]] | None = None
    budget, trials = float(FULL_TRAININGS * world.epochs), 0
    for step in STRATEGIES[way](world, budget, seed):
        trials += 1
        if step.epochs <= budget and step.value is not None and (best is None or better(world, step.value, best[0])):
            best = step.value, dict(step.parameters)
    parameters = best[1] if best is not None else {}
    fresh = range(FIRST_FRESH, FIRST_FRESH + FRESH)
    errors = [world.tested(parameters, each) for each in fresh] if best is not None else [inf]
    return Outcome(
        task=task,
        way=way,
        seed=seed,
        trials=trials,
        optimizer=parameters.get("optimizer", ""),
        parameters=parameters,
        errors=errors,
    )


def kept(file: Path) -> list[Outcome]:
    text = file.read_text() if file.exists() else ""
    return [Outcome.model_validate_json(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def table(outcomes: list[Outcome], ways: tuple[str, ...], seeds: int) -> str:
    """Errors by task and way: the mean over searches of the mean over fresh seeds, and its standard error."""
    lines = [f"| task | {' | '.join(f'`{each}`' for each in ways)} | searches |", f"|---|{'---|' * (len(ways) + 1)}"]
    for task in ROWS:
        cells, number = [], 0
        for way in ways:
            values = [fmean(each.errors) for each in outcomes if (each.task, each.way) == (task, way)][:seeds]
            number = len(values)
            off = stdev(values) / number**0.5 if number > 1 else inf
            cells.append(f"{fmean(values):.4g} ± {off:.2g}" if values else "-")
        if number:
            lines.append(f"| {task} | {' | '.join(cells)} | {number} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=WAYS, help=f"one of {', '.join(STRATEGIES)}")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path("build") / "real-trainings.jsonl", metavar="FILE")
    options = parser.parse_args()
    options.keep.parent.mkdir(parents=True, exist_ok=True)
    outcomes = kept(options.keep)
    have = {(each.task, each.way, each.seed) for each in outcomes}
    jobs = [(task, way, seed) for seed in range(options.seeds) for task in options.tasks for way in options.names]
    missing = [each for each in jobs if each not in have]
    lists = {task: learned_without(task) for task in options.tasks} if missing else {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context) as pool, options.keep.open("a") as lines:
        for outcome in pool.map(partial(searched, options.data_dir, lists), missing):
            lines.write(outcome.model_dump_json() + "\n")
            lines.flush()
            outcomes.append(outcome)
    print(table(outcomes, tuple(options.names), options.seeds))


if __name__ == "__main__":
    main()
