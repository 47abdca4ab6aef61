"""Train a space-filling sample of configurations and keep every curve, so that searches can be replayed on them.

Within each of eight optimizers: the known-good settings, a scrambled Sobol sequence over all of its hyperparameters and
those of the step schedule, and a few points with learning rates beyond our ranges, where wider ranges of others reach.
Then, in four rounds, three configurations of each that a fit to its curves expects most of, so that a fit is not
believed where it was never tried. Then the best 20 of all and the best 3 of each optimizer again, with 5 fresh seeds
each. Every training is evaluated four times an epoch.

    python -m scripts.bench.quality.make_record --task mnist-cnn --data-dir DIR
    python -m scripts.bench.quality.make_record --task mnist-net --data-dir DIR

Trains on 6,000 images for 5 epochs. With other jobs on the same two cores, which multiply bfloat16 fast, that took
about an hour for mnist-cnn and half of one for mnist-net. May be stopped at any time; the same command goes on. What is
finished lies a line each in WORK/TASK.jsonl; the record in studies/ is written once all is.
"""

import argparse
import multiprocessing
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from scipy.stats import qmc

from optitune.sampling.forecast import OPTIMIZER
from optitune.sampling.parameters import first_parameters, suggest
from optitune.searching.objective import trial_plan
from optitune.searching.run import completed
from optitune.storage import studies
from optitune.study.settings import StudySettings
from optitune.study.steps import QUICK_EXAMPLES
from optitune.tasks import loading, splits
from optitune.tasks.task import Task
from optitune.training import build
from optitune.training.engine import Diverged, Training
from optitune.workers.process import configure_worker_process
from scripts.bench.quality.record import Curve, Origin, Provenance, path, write
from scripts.bench.quality.replay import Model, Places, dimensions, drawn, promising

OPTIMIZERS = ("sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad", "adadelta", "muon")
EPOCHS, TRAIN_EXAMPLES, EVALUATIONS = 5, 6_000, 4
SOBOL, OUTER = 80, 16
"""Points of each optimizer within our ranges, and with a learning rate beyond them."""

BEYOND = (0.003, 0.1), (10.0, 300.0)
"""Learning rates of the outer points, in multiples of the known-good one."""

BEST, BEST_OF_EACH, FRESH_SEEDS = 20, 3, 5
ROUNDS, PROMISING = 4, 3
"""How often, and how many configurations of each optimizer are tried that a fit expects most of."""

SEED = 0

Todo = tuple[str, int, Origin, dict[str, Any], int]
"""A training to do: optimizer, number, origin, parameters, seed."""


class Given:
    """A trial whose parameters are known, within their ranges or not."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self.params[name])

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return int(self.params[name])


def settings_of(task: Task) -> StudySettings:
    """The study whose trials these are."""
    settings = StudySettings(
        task=task.name, optimizers=OPTIMIZERS, epochs=EPOCHS, train_examples=TRAIN_EXAMPLES, seed=SEED
    )
    return completed(settings, task, torch.device("cpu"), "the record")


def sample(settings: StudySettings) -> list[Todo]:
    """All first trainings, optimizers in turn, so that an unfinished record has equal numbers of each."""
    todo: list[Todo] = []
    for place, name in enumerate(OPTIMIZERS):
        known = [each for each in first_parameters(settings) if each[OPTIMIZER] == name]
        points = qmc.Sobol(dimensions(settings, name), rng=SEED + place).random(128).tolist()
        inner = drawn(settings, name, points[:SOBOL])
        outer = drawn(settings, name, points[SOBOL : SOBOL + OUTER], BEYOND)
        origins: list[Origin] = [*["known-good"] * len(known), *["sobol"] * SOBOL, *["outer"] * OUTER]  # type: ignore[list-item]
        for number, (origin, parameters) in enumerate(zip(origins, known + inner + outer, strict=True)):
            todo.append((name, number, origin, parameters, SEED))
    return sorted(todo, key=lambda each: each[1])


def promising_now(settings: StudySettings, curves: Sequence[Curve], round_: int) -> list[Todo]:
    """What fits to the curves of all earlier rounds expect most of."""
    todo: list[Todo] = []
    for name in OPTIMIZERS:
        start = sum(each.optimizer == name and each.origin in ("known-good", "sobol", "outer") for each in curves)
        start += round_ * PROMISING
        known = [each for each in curves if each.optimizer == name and each.seed == SEED and each.number < start]
        model = Model(Places(settings, name), sorted(known, key=lambda each: each.number))
        for place, parameters in enumerate(promising(settings, name, model, PROMISING)):
            todo.append((name, start + place, "promising", parameters, SEED))
    return todo


def again(curves: Sequence[Curve]) -> list[Todo]:
    """The trainings to repeat with fresh seeds: of the best of all, and of the best of each optimizer."""
    ranked = sorted((each for each in curves if each.seed == SEED), key=lambda each: -each.final)
    chosen = {each.key: each for each in ranked[:BEST]}
    for name in OPTIMIZERS:
        chosen |= {each.key: each for each in [each for each in ranked if each.optimizer == name][:BEST_OF_EACH]}
    return [
        (each.optimizer, each.number, "again", each.parameters, SEED + fresh)
        for fresh in range(1, FRESH_SEEDS + 1)
        for each in chosen.values()
    ]


def set_up(task: str, data_dir: Path, file: Path) -> None:
    """Make a worker process ready to train."""
    configure_worker_process()
    found = loading.find(task, data_dir)
    _worker.update(task=found, settings=settings_of(found), data=splits.load(file, found))


_worker: dict[str, Any] = {}


def train(todo: Todo) -> Curve:
    """Do one training, in a worker process."""
    name, number, origin, parameters, seed = todo
    settings, task, data = _worker["settings"], _worker["task"], _worker["data"]
    configuration = suggest(Given(parameters), settings, settings.space())  # type: ignore[arg-type]
    how = replace(trial_plan(configuration, settings, task, data), evaluations=EVALUATIONS, seed=seed)
    training = Training(build.build(task, seed, torch.device("cpu")), how, data.train, data.validation)
    seen: list[tuple[float, float, float]] = []
    diverged = None
    try:
        for progress in training.run():
            assert progress.validation is not None
            seen.append((round(progress.validation.value, 5), _short(progress.train_loss), round(progress.seconds, 3)))
    except Diverged as error:
        diverged = error.step
    values, losses, seconds = zip(*seen, strict=True) if seen else ((), (), ())
    return Curve(
        optimizer=name,
        number=number,
        origin=origin,
        parameters=parameters,
        seed=seed,
        values=values,
        losses=losses,
        seconds=seconds,
        diverged=diverged,
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def kept(log_file: Path) -> list[Curve]:
    """What earlier runs finished; a last line that was cut off is cut away."""
    if not log_file.exists():
        return []
    text = log_file.read_text()
    whole = text[: text.rfind("\n") + 1]
    log_file.write_text(whole)
    return [Curve.model_validate_json(line) for line in whole.splitlines()]


def trained(
    todo: Sequence[Todo], done: list[Curve], pool: ProcessPoolExecutor, log_file: Path, words: str
) -> list[Curve]:
    """Do those of `todo` that are not done, and write each down as soon as it is."""
    have = {each.key for each in done}
    missing = [each for each in todo if (each[0], each[1], each[4]) not in have]
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with log_file.open("a") as file, Progress(*columns) as progress:
        bar = progress.add_task(words, total=len(todo), completed=len(todo) - len(missing))
        for curve in pool.map(train, missing):
            file.write(curve.model_dump_json() + "\n")
            file.flush()
            done.append(curve)
            progress.advance(bar)
    return done


def processor() -> str:
    """What multiplies here."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    capable = [name for name, has in torch.cpu.get_capabilities().items() if has is True]
    return f"{names[0] if names else platform.processor()}; {', '.join(sorted(capable))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build") / "curves")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    task = loading.find(options.task, options.data_dir)
    settings = settings_of(task)
    data = splits.search_data(task, settings.train_examples)
    options.work.mkdir(parents=True, exist_ok=True)
    file, log_file = options.work / f"{task.name}.safetensors", options.work / f"{task.name}.jsonl"
    splits.save(data, file)
    done = kept(log_file)
    first = sample(settings)
    with ProcessPoolExecutor(
        options.workers,
        multiprocessing.get_context("spawn"),
        initializer=set_up,
        initargs=(options.task, options.data_dir, file),
    ) as pool:
        done = trained(first, done, pool, log_file, f"{task.name}, first seed")
        for round_ in range(ROUNDS):
            todo = promising_now(settings, done, round_)
            done = trained(todo, done, pool, log_file, f"{task.name}, promising {round_ + 1} of {ROUNDS}")
        done = trained(again(done), done, pool, log_file, f"{task.name}, fresh seeds")
    provenance = Provenance(
        task=task.name,
        settings=settings.document(),
        ranges=settings.space().words(),
        evaluations=EVALUATIONS,
        train_examples=len(data.train),
        validation_examples=len(data.validation),
        quick_examples=QUICK_EXAMPLES,
        checksum=data.checksum,
        versions=studies.versions(),
        machine=processor(),
        made=date.today().isoformat(),
    )
    write(path(task.name), provenance, sorted(done, key=lambda each: (OPTIMIZERS.index(each.optimizer), *each.key[1:])))
    print(f"wrote {path(task.name)}: {len(done)} trainings, {path(task.name).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
