"""Train a space-filling sample of configurations and keep every curve, so that searches can be replayed on them.

Within each of eight optimizers: the known-good settings, and a scrambled Sobol sequence over all of its hyperparameters
and those of the step schedule. Then, in rounds, configurations of each that a fit to its curves expects most of, so
that a fit is not believed where it was never tried. Then the best of all and of each optimizer again with fresh seeds.

    python -m scripts.bench.quality.make_record --task mnist-cnn --data-dir DIR
    python -m scripts.bench.quality.make_record --task autoencoder --data-dir DIR

On MNIST, learning rates were drawn within the factor of 10 that was searched then, and some beyond it; 6,000 images, 5
epochs, an hour for mnist-cnn and half of one for mnist-net. The tasks of `small_tasks.py` have fewer points, and their
learning rates are normally distributed over several powers of ten; minutes each. `Sampling` has the numbers. May be
stopped at any time; the same command goes on. What is finished lies a line each in WORK/TASK.jsonl; the record in
studies/ is written once all is.
"""

import argparse
import multiprocessing
import platform
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from scipy.stats import qmc

from optitune.sampling.forecast import OPTIMIZER
from optitune.sampling.parameters import known_good_parameters, suggest
from optitune.searching.objective import trial_plan
from optitune.searching.run import completed
from optitune.storage import studies
from optitune.study.settings import StudySettings
from optitune.study.steps import QUICK_EXAMPLES
from optitune.tasks import loading, metrics, splits
from optitune.tasks.data import Part
from optitune.tasks.metrics import Metric
from optitune.tasks.task import Task
from optitune.training import build
from optitune.training.engine import Training
from optitune.training.progress import Diverged
from optitune.workers.process import configure_worker_process
from scripts.bench.quality import small_tasks
from scripts.bench.quality.fit import models, promising
from scripts.bench.quality.points import dimensions, drawn, either, lr_of
from scripts.bench.quality.record import Curve, Origin, Provenance, path, write
from scripts.bench.quality.scale import Scale

OPTIMIZERS = ("sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad", "adadelta", "muon")

BEYOND = (0.003, 0.1), (10.0, 300.0)
"""Learning rates of the outer points, in multiples of the known-good one."""


@dataclass(frozen=True)
class Sampling:
    """What is trained for a record.

    Attributes:
        epochs, evaluations, train_examples: of a training; evaluations are those of an epoch.
        sobol: points of each optimizer.
        outer: further points with a learning rate beyond our ranges.
        rounds, promising: how often, and how many configurations of each optimizer, a fit proposes.
        best, best_of_each, fresh_seeds: how many of all, and of each optimizer, are trained again, and how often.
        lr_prior, chance, about: see `Provenance`; chance None for a constant prediction's.
    """

    epochs: int = 5
    evaluations: int = 4
    train_examples: int | None = 6_000
    sobol: int = 80
    outer: int = 16
    rounds: int = 4
    promising: int = 3
    best: int = 20
    best_of_each: int = 3
    fresh_seeds: int = 5
    lr_prior: tuple[float, float] | None = None
    chance: float | None = 0.5
    about: str = ""


MNIST = Sampling()
MNIST_TASKS = "mnist-cnn", "mnist-net"


def sampling_of(task: str) -> Sampling:
    """How a task's record is made."""
    if task not in small_tasks.ROWS:
        return MNIST
    row = small_tasks.ROWS[task]
    return Sampling(
        epochs=row.epochs,
        evaluations=1,
        train_examples=None,
        sobol=8,
        outer=0,
        rounds=1,
        promising=1,
        best=5,
        best_of_each=0,
        fresh_seeds=2,
        lr_prior=(1.0, 3.0),
        chance=None,
        about=row.about,
    )


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


def found(task: str, data_dir: Path) -> Task:
    """A small task, or one of the package's."""
    row = small_tasks.ROWS.get(task)
    return loading.find(task, data_dir) if row is None else replace(row.make(data_dir), name=task, about=row.about)


def settings_of(task: Task) -> StudySettings:
    """The study whose trials these are."""
    how = sampling_of(task.name)
    settings = StudySettings(
        task=task.name, optimizers=OPTIMIZERS, epochs=how.epochs, train_examples=how.train_examples, seed=SEED
    )
    return completed(settings, task, torch.device("cpu"), "the record")


def sample(settings: StudySettings) -> list[Todo]:
    """All first trainings, optimizers in turn, so that an unfinished record has equal numbers of each."""
    todo: list[Todo] = []
    how = sampling_of(settings.task)
    for place, name in enumerate(OPTIMIZERS):
        known = [each for each in known_good_parameters(settings) if each[OPTIMIZER] == name]
        points = qmc.Sobol(dimensions(settings, name), rng=SEED + place).random(128).tolist()
        inner = drawn(settings, name, points[: how.sobol], lr_of(how.lr_prior))
        outer = drawn(settings, name, points[how.sobol : how.sobol + how.outer], either(*BEYOND))
        origins: list[Origin] = [*["known-good"] * len(known), *["sobol"] * how.sobol, *["outer"] * how.outer]  # type: ignore[list-item]
        for number, (origin, parameters) in enumerate(zip(origins, known + inner + outer, strict=True)):
            todo.append((name, number, origin, parameters, SEED))
    return sorted(todo, key=lambda each: each[1])


def promising_now(
    settings: StudySettings, metric: Metric, chance: float, curves: Sequence[Curve], round_: int
) -> list[Todo]:
    """What fits to the curves of all earlier rounds expect most of."""
    todo: list[Todo] = []
    how = sampling_of(settings.task)
    first = [each for each in curves if each.seed == SEED]
    starts = {
        name: sum(each.optimizer == name and each.origin != "promising" for each in first) + round_ * how.promising
        for name in OPTIMIZERS
    }
    known = sorted((each for each in first if each.number < starts[each.optimizer]), key=lambda each: each.number)
    scale = Scale(metric, chance, known)
    fits = models(settings, known, scale, how.evaluations, how.lr_prior is not None)
    for name, model in fits.items():
        for place, parameters in enumerate(promising(settings, name, model, how.promising, lr_of(how.lr_prior))):
            todo.append((name, starts[name] + place, "promising", parameters, SEED))
    return todo


def again(curves: Sequence[Curve], how: Sampling, sign: int = 1) -> list[Todo]:
    """The trainings to repeat with fresh seeds: of the best of all, and of the best of each optimizer.

    Args:
        sign: -1 where lower values are better.
    """
    ended = [each for each in curves if each.seed == SEED and isfinite(each.final)]
    ranked = sorted(ended, key=lambda each: -sign * each.final)
    chosen = {each.key: each for each in ranked[: how.best]}
    for name in OPTIMIZERS:
        chosen |= {each.key: each for each in [each for each in ranked if each.optimizer == name][: how.best_of_each]}
    return [
        (each.optimizer, each.number, "again", each.parameters, SEED + fresh)
        for fresh in range(1, how.fresh_seeds + 1)
        for each in chosen.values()
    ]


def set_up(task: str, data_dir: Path, file: Path) -> None:
    """Make a worker process ready to train."""
    configure_worker_process()
    here = found(task, data_dir)
    _worker.update(task=here, settings=settings_of(here), data=splits.load(file, here))


_worker: dict[str, Any] = {}


def train(todo: Todo) -> Curve:
    """Do one training, in a worker process."""
    name, number, origin, parameters, seed = todo
    settings, task, data = _worker["settings"], _worker["task"], _worker["data"]
    configuration = suggest(Given(parameters), settings, settings.space())  # type: ignore[arg-type]
    how = replace(
        trial_plan(configuration, settings, task, data), evaluations=sampling_of(task.name).evaluations, seed=seed
    )
    training = Training(build.build(task, seed, torch.device("cpu")), how, data.train, data.validation)
    seen: list[tuple[float, float, float]] = []
    diverged = None
    began = time.process_time()
    try:
        for progress in training.run():
            assert progress.validation is not None
            values = float(f"{progress.validation.value:.5g}"), float(f"{progress.train_loss:.4g}")
            seen.append((*values, round(time.process_time() - began, 3)))
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


def chance_of(metric: Metric, validation: Part) -> float:
    """The value of a constant prediction; of the loss, cross-entropy, that of the words' frequencies."""
    targets = validation.targets
    assert targets is not None
    if metric.chance_level is not None:
        return metric.chance_level(targets, len(validation))
    shares = torch.bincount(targets.flatten()).double() / targets.numel()
    return float(torch.special.entr(shares).sum())


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
    task = found(options.task, options.data_dir)
    how, metric = sampling_of(task.name), task.judge
    settings = settings_of(task)
    data = splits.search_data(task, settings.train_examples)
    options.work.mkdir(parents=True, exist_ok=True)
    file, log_file = options.work / f"{task.name}.safetensors", options.work / f"{task.name}.jsonl"
    splits.save(data, file)
    chance = chance_of(metric, data.validation) if how.chance is None else how.chance
    done = kept(log_file)
    first = sample(settings)
    with ProcessPoolExecutor(
        options.workers,
        multiprocessing.get_context("spawn"),
        initializer=set_up,
        initargs=(options.task, options.data_dir, file),
    ) as pool:
        done = trained(first, done, pool, log_file, f"{task.name}, first seed")
        for round_ in range(how.rounds):
            todo = promising_now(settings, metric, chance, done, round_)
            done = trained(todo, done, pool, log_file, f"{task.name}, promising {round_ + 1} of {how.rounds}")
        done = trained(again(done, how, metric.sign), done, pool, log_file, f"{task.name}, fresh seeds")
    provenance = Provenance(
        task=task.name,
        settings=settings.document(),
        ranges=settings.space().kept(str),
        evaluations=how.evaluations,
        train_examples=len(data.train),
        validation_examples=len(data.validation),
        quick_examples=QUICK_EXAMPLES,
        checksum=data.checksum,
        versions=studies.versions(),
        machine=processor(),
        made=date.today().isoformat(),
        about=how.about,
        metric=metrics.kept(metric),
        chance=chance,
        lr_prior=how.lr_prior,
    )
    write(path(task.name), provenance, sorted(done, key=lambda each: (OPTIMIZERS.index(each.optimizer), *each.key[1:])))
    print(f"wrote {path(task.name)}: {len(done)} trainings, {path(task.name).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
