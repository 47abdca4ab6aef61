"""Full training of one configuration over fresh seeds, and the one evaluation of each on the sealed test set."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial as bound
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from filelock import FileLock, Timeout
from pydantic import Field, ValidationError
from safetensors.torch import save_file
from torch import Tensor

from optitune import best, checkpoint, study, tasks
from optitune.configuration import Configuration
from optitune.data import Images, load_test, load_train, share, shared
from optitune.engine import Diverged, Plan, Training, evaluate
from optitune.errors import Interrupted, OptituneError
from optitune.figures import training_curves
from optitune.files import aside, explained, make_folder, replacing, write_text
from optitune.machine import devices, own_the_process, resolve_device, resolve_precision
from optitune.records import EpochRecord, SeedResult, Summary, summarise
from optitune.settings import Precision
from optitune.study import Home
from optitune.validation import Strict
from optitune.workers import Channel, Event, Pool, auto

SEEDS_APART = 1_000_003
"""Full trainings use seeds far from the search's, so that none of its luck is inherited."""


TRAIN = "train.safetensors"
"""What is trained on, within the folder of unfinished trainings, where all workers find it."""


class FullPlan(Strict):
    """What a full training is; two of equal plan and seed give the same network."""

    task: str
    configuration: Configuration
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    precision: Precision
    seeds: tuple[int, ...]
    data_checksum: str


@dataclass(frozen=True)
class Request:
    """What a user asked of a full training.

    Attributes:
        name: of the folder that the results go to.
        config: what to train.
        home: of the study it belongs to.
        epochs: None for three times the search's.
        keep_schedule: do not stretch the schedule over the longer training.
        seeds: how many trainings.
        seed: another seed, other trainings.
        precision: `auto` for the search's.
    """

    name: str
    config: best.BestConfig
    home: Home
    epochs: int | None
    keep_schedule: bool
    seeds: int
    seed: int
    data_dir: Path
    workers: int | None
    device: str
    precision: str


@dataclass(frozen=True)
class Result:
    """What a full training left; `trained` is False where all of it was there already.

    `other_data` says that the data differ from those the configuration was found on.
    """

    name: str
    plan: FullPlan
    test_accuracy: Summary
    test_loss: Summary
    folder: Path
    seconds: float
    trained: bool
    other_data: bool

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "name": self.name,
            "task": self.plan.task,
            "epochs": self.plan.epochs,
            "seeds": len(self.plan.seeds),
            "test_accuracy": asdict(self.test_accuracy),
            "test_loss": asdict(self.test_loss),
            "folder": str(self.folder),
            "seconds": self.seconds,
        }


class View(Protocol):
    """Where a running full training shows itself."""

    def begin(self, plan: FullPlan, workers: int) -> None:
        """Training is about to begin."""

    def show(self, event: Event) -> None:
        """A worker told something."""

    def tick(self) -> None:
        """A moment passed."""

    def end(self) -> None:
        """No more will come."""


def make_plan(request: Request, device: torch.device, checksum: str) -> FullPlan:
    """The plan that a request comes to."""
    config = request.config
    epochs = request.epochs or 3 * config.epochs
    ratio = 1.0 if request.keep_schedule else epochs / config.epochs
    wanted = config.precision if request.precision == "auto" else request.precision
    return FullPlan(
        task=config.task,
        configuration=config.configuration.stretched(ratio),
        epochs=epochs,
        batch_size=config.batch_size,
        precision=resolve_precision(wanted, device),
        seeds=tuple(config.seed + SEEDS_APART + 1000 * request.seed + number for number in range(request.seeds)),
        data_checksum=checksum,
    )


def retrain(request: Request, view: View) -> Result:
    """Train in full over fresh seeds, test each once, and write the folder of results.

    Raises:
        OptituneError: the data cannot be had, a training diverges, or the results cannot be written.
        Interrupted: the user stopped it; the epochs done are kept and taken up by the same request.
    """
    began = time.monotonic()
    device = resolve_device(request.device)
    task = tasks.find(request.config.task)
    train = load_train(task.dataset, request.data_dir)
    checksum = train.checksum()
    plan = make_plan(request, device, checksum)
    folder = request.home.folder / "retrain" / request.name
    other_data = checksum != request.config.data_checksum

    def result(seeds: list[SeedResult], trained: bool) -> Result:
        accuracy, loss = _summaries(seeds)
        return Result(
            request.name, plan, accuracy, loss, folder, round(time.monotonic() - began, 3), trained, other_data
        )

    with _alone(folder):
        done = finished_seeds(folder / "metrics.json", plan)
        if done is not None and all((folder / name).exists() for name in ("model.safetensors", "curves.png")):
            return result(done, trained=False)
        seeds = _train_seeds(request, plan, train, device, view)
        if (folder / "metrics.json").exists():
            aside(folder)
        _write(folder, _partial(folder, plan), request, plan, seeds)
    return result(seeds, trained=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time work on the results in `folder`.

    Raises:
        OptituneError: another one does.
    """
    path = make_folder(folder.parent / "partial") / f"{folder.name}.lock"
    lock = FileLock(path)
    with explained(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise OptituneError(f"another process is at work on {folder}: wait for it, or stop it first") from None
    try:
        yield
    finally:
        lock.release()


def _partial(folder: Path, plan: FullPlan) -> Path:
    """Where the unfinished trainings of this plan lie; another plan has another place."""
    digest = hashlib.sha256(plan.model_dump_json().encode()).hexdigest()[:12]
    return folder.parent / "partial" / f"{folder.name}-{digest}"


def _train_seeds(request: Request, plan: FullPlan, train: Images, device: torch.device, view: View) -> list[SeedResult]:
    """Train and test the seeds that are not done yet; the results of all.

    Raises:
        Interrupted: the user stopped it.
        OptituneError: a training diverges, or its worker dies again and again.
    """
    partial = make_folder(_partial(request.home.folder / "retrain" / request.name, plan))
    missing = [number for number in range(len(plan.seeds)) if _seed_result(partial, plan, number) is None]
    if missing:
        spread = devices(device)
        workers = auto(request.workers, len(spread) * (device.type != "cpu"), len(missing))
        share({"train": train}, partial / TRAIN)
        jobs = [
            (plan, missing[worker::workers], partial, request.data_dir, str(spread[worker % len(spread)]))
            for worker in range(workers)
        ]
        view.begin(plan, workers)
        try:
            Pool(work, jobs, view.show, view.tick).run()
        except Interrupted:
            if any(_seed_result(partial, plan, number) is None for number in missing):
                raise Interrupted("stopped; the epochs done are kept, run the same command again to go on") from None
        finally:
            view.end()
    results = [_seed_result(partial, plan, number) for number in range(len(plan.seeds))]
    complete = [result for result in results if result is not None]
    if len(complete) < len(results):
        raise OptituneError(f"only {len(complete)} of {len(results)} trainings ended: run the same command again")
    return complete


def finished_seeds(path: Path, plan: FullPlan) -> list[SeedResult] | None:
    """The results in a `metrics.json`, if it is there and of this very plan."""
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if FullPlan.model_validate_json(json.dumps(metrics["plan"])) != plan:
            return None
        return [_result_from(row) for row in metrics["runs"]]
    except (OSError, ValueError, ValidationError, KeyError, TypeError):
        return None


def _result_from(row: dict[str, Any]) -> SeedResult:
    return SeedResult(
        **{
            **row,
            "epochs": tuple(EpochRecord(**epoch) for epoch in row["epochs"]),
            "confusion_matrix": tuple(tuple(counts) for counts in row["confusion_matrix"]),
        }
    )


def _seed_result(partial: Path, plan: FullPlan, number: int) -> SeedResult | None:
    results = finished_seeds(partial / f"seed-{number}.json", plan)
    return results[0] if results else None


def work(channel: Channel, plan: FullPlan, numbers: list[int], partial: Path, data_dir: Path, device_name: str) -> None:
    """A worker process: train and test the seeds of these numbers, one after the other.

    Raises:
        OptituneError: the data cannot be had, or a training diverges.
    """
    own_the_process()
    device = torch.device(device_name)
    task = tasks.find(plan.task)
    train = shared(partial / TRAIN)[0]["train"].to(device)
    for number in numbers:
        model = tasks.build(task, plan.seeds[number], device)
        engine_plan = Plan(
            plan.configuration, task.loss, plan.epochs, plan.batch_size, plan.seeds[number], plan.precision
        )
        training = Training(model, engine_plan, train)
        tell = bound(_tell_epoch, channel, number)
        epochs = _train(training, plan, partial / f"seed-{number}.safetensors", tell, channel.stopping)
        if epochs is None:
            return
        test = load_test(task.dataset, data_dir).to(device)
        evaluation = evaluate(model, test, task.loss, plan.precision)
        result = SeedResult(
            seed=plan.seeds[number],
            test_accuracy=evaluation.accuracy,
            test_loss=evaluation.loss,
            seconds=round(training.seconds, 3),
            epochs=tuple(epochs),
            confusion_matrix=_confusion(test.labels, evaluation.predicted, test.classes),
        )
        document = {"plan": plan.model_dump(), "runs": [asdict(result)]}
        write_text(partial / f"seed-{number}.json", json.dumps(document))
        channel.send("finished", seed=number, test_accuracy=evaluation.accuracy)


def _tell_epoch(channel: Channel, seed: int, row: EpochRecord) -> None:
    channel.send("progress", seed=seed, **asdict(row))


def _train(
    training: Training,
    plan: FullPlan,
    path: Path,
    on_epoch: Callable[[EpochRecord], None],
    stopping: Callable[[], bool],
) -> list[EpochRecord] | None:
    """Train, from the checkpoint at `path` if there is one of this plan; None if stopped on the way."""
    epochs: list[EpochRecord] = []
    identity = plan.model_dump(mode="json")
    if path.exists():
        kept = checkpoint.load(path)
        if kept["plan"] == identity:
            training.load_state_dict(kept["training"])
            epochs = [EpochRecord(*row) for row in kept["epochs"]]
    for row in epochs:
        on_epoch(row)
    try:
        for progress in training.run():
            row = EpochRecord(training.epoch, progress.lr, progress.train_loss, progress.train_accuracy)
            epochs.append(row)
            state = {
                "plan": identity,
                "epochs": [list(asdict(row).values()) for row in epochs],
                "training": training.state_dict(),
            }
            checkpoint.save(state, path)
            on_epoch(row)
            if stopping() and training.epoch < plan.epochs:
                return None
    except Diverged as diverged:
        raise OptituneError(
            f"seed {training.plan.seed} {diverged}: this configuration is not stable over {plan.epochs} epochs; "
            "try --keep-schedule, another trial number, or a lower lr in best.toml"
        ) from None
    return epochs


def _confusion(labels: Tensor, answers: Tensor, classes: int) -> tuple[tuple[int, ...], ...]:
    matrix = torch.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, classes)
    return tuple(tuple(int(count) for count in row) for row in matrix)


def _summaries(seeds: list[SeedResult]) -> tuple[Summary, Summary]:
    """Test accuracy and test loss over the seeds."""
    accuracy = summarise([seed.test_accuracy for seed in seeds], highest=1.0)
    return accuracy, summarise([seed.test_loss for seed in seeds])


def _write(folder: Path, partial: Path, request: Request, plan: FullPlan, seeds: list[SeedResult]) -> None:
    """Weights, picture, and last the metrics, whose presence says that all is there."""
    weights = checkpoint.load(partial / "seed-0.safetensors")["training"]["model"]
    about = {"task": plan.task, "seed": str(plan.seeds[0]), "plan": plan.model_dump_json()}
    with replacing(folder / "model.safetensors") as scratch:
        save_file(weights, scratch, metadata=about)
    optimizer = plan.configuration.optimizer.name
    accuracy, loss = _summaries(seeds)
    runs = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    title = f"{plan.task}: {optimizer}, {plan.epochs} epochs, {runs}; test accuracy {100 * accuracy.mean:.2f} %"
    training_curves([seed.epochs for seed in seeds], title, folder / "curves.png")
    metrics = {
        "name": request.name,
        "study": request.config.study,
        "trial": request.config.trial,
        "plan": plan.model_dump(mode="json"),
        "test_accuracy": asdict(accuracy),
        "test_loss": asdict(loss),
        "interval": "95 %, Student's t over the runs; none for a single run",
        "runs": [asdict(seed) for seed in seeds],
        "versions": study.versions(),
    }
    write_text(folder / "metrics.json", json.dumps(metrics, indent=1))
    shutil.rmtree(partial, ignore_errors=True)
