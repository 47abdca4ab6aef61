"""Full training of one configuration over fresh seeds, and the one evaluation of each on the sealed test set."""

import hashlib
import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from optitune.common.files import exclusive_lock, make_folder, move_aside
from optitune.common.summary import Summary
from optitune.common.text import Unit
from optitune.errors import Interrupted, OptituneError, UsageError
from optitune.retraining import code as code_files
from optitune.retraining import results
from optitune.retraining.folder import write
from optitune.retraining.records import SeedResult
from optitune.retraining.results import FullPlan, finished_seeds, seed_result, summaries
from optitune.retraining.worker import TEST, TRAIN, work
from optitune.storage import made_from, studies
from optitune.storage.request import StageRequest
from optitune.storage.urls import open_storage
from optitune.study.best_config import BestConfig
from optitune.study.custom_optimizers import find_modules
from optitune.tasks import loading, splits, user_code
from optitune.tasks.data import Part, Streamed, share, shared
from optitune.tasks.given_data import same_again
from optitune.tasks.scaling import Scaling
from optitune.tasks.task import Task
from optitune.training import task_code
from optitune.training.device import devices, resolve_device, resolve_precision
from optitune.training.preflight import check_configuration, fresh_model
from optitune.workers.events import Event
from optitune.workers.pool import Pool, auto

SEEDS_APART = 1_000_003
"""Full trainings use seeds far from the search's, so that none of its luck is inherited."""


LONGER, SEEDS = 3, 3
"""How many times as long as a trial a full training is, and how many there are, if nothing else is said."""


@dataclass(frozen=True, kw_only=True)
class RetrainRequest(StageRequest):
    """To train a configuration in full.

    Attributes:
        name: of the folder that the results go to.
        config: what to train.
        epochs: None for three times the search's.
        seeds: how many trainings.
        seed: another seed, other trainings.
        precision: `auto` for the search's.
    """

    name: str
    config: BestConfig
    epochs: int | None = None
    seeds: int = SEEDS
    seed: int = 0
    precision: str = "auto"


@dataclass(frozen=True)
class RetrainOutcome:
    """What a full training left; `trained` is False where all of it was there already.

    `other_data` says that the data differ from those the configuration was found on, `remarks` what a user should know
    of the data, `unwritten` why the note for optuna-dashboard could not be written.
    """

    name: str
    plan: FullPlan
    unit: Unit
    test_value: Summary
    test_loss: Summary
    folder: Path
    seconds: float
    trained: bool
    other_data: bool
    remarks: tuple[str, ...] = ()
    unwritten: str = ""

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "name": self.name,
            "task": self.plan.task,
            "epochs": self.plan.epochs,
            "seeds": len(self.plan.seeds),
            "metric": self.unit.metric,
            "test_value": asdict(self.test_value),
            "test_loss": asdict(self.test_loss),
            "folder": str(self.folder),
            "seconds": self.seconds,
        }


class View(Protocol):
    """Where a running full training shows itself."""

    def begin(self, plan: FullPlan, unit: Unit, workers: int, done: Collection[int] = ()) -> None:
        """Training is about to begin.

        Args:
            plan: of the full training.
            unit: how the metric is written.
            workers: how many processes train at once.
            done: numbers of the seeds that were finished before.
        """

    def show(self, event: Event) -> None:
        """A worker reported something."""

    def tick(self) -> None:
        """A moment passed."""

    def end(self) -> None:
        """No more will come."""


def make_plan(
    request: RetrainRequest, device: torch.device, data: splits.FullData, network: str, code: str, scaled: bool = False
) -> FullPlan:
    """Make the plan of a full training.

    Args:
        request: what the user asked for.
        device: to train on; it decides what precision `auto` is.
        data: to train and test on.
        network: fingerprint of the network.
        code: fingerprint of the task's code.
        scaled: whether targets are scaled.

    Raises:
        UsageError: it has no epoch or no seed.
    """
    config = request.config
    epochs = LONGER * config.epochs if request.epochs is None else request.epochs
    if epochs < 1 or request.seeds < 1:
        raise UsageError(f"epochs = {epochs}, seeds = {request.seeds}: must be at least 1")
    if request.precision not in ("auto", "fp32", "bf16"):
        raise UsageError(f"precision = {request.precision!r}: must be auto, fp32 or bf16")
    wanted = config.precision if request.precision == "auto" else request.precision
    return FullPlan(
        task=config.task,
        configuration=config.configuration.stretched(epochs / config.epochs),
        epochs=epochs,
        precision=resolve_precision(wanted, device),
        seeds=tuple(config.seed + SEEDS_APART + 1000 * request.seed + number for number in range(request.seeds)),
        data_checksum=data.checksum,
        network=network,
        code=code,
        data_digests=dict(data.digests),
        scale_targets=scaled,
    )


def retrain(request: RetrainRequest, view: View) -> RetrainOutcome:
    """Train in full over fresh seeds, test each once, and write the folder of results.

    Raises:
        UsageError: task, data and configuration do not fit each other.
        OptituneError: the data cannot be had, a training diverges, or the results cannot be written.
        Interrupted: the user stopped it; the epochs done are kept and taken up by the same request.
    """
    began = time.monotonic()
    device = resolve_device(request.device)
    task = request.task or loading.find(request.config.task, request.data_folder)
    optimizer = request.config.configuration.optimizer
    find_modules({optimizer.name: optimizer.path}, request.home.folder.parent)
    data = splits.full_data(task)
    if request.config.metric != task.judge.name:
        raise UsageError(
            f"task '{task.name}' is judged by '{task.judge.name}' now, but this configuration was found by "
            f"'{request.config.metric}': search again, or judge by that"
        )
    config = request.config
    other_data = splits.others(task, data, {**config.data_digests, "checksum": config.data_checksum})
    network = check_configuration(task, data.train, request.config.configuration)
    made_from.same_scaling(task, config.scaling)
    code = task_code.record(task, fresh_model(task), config.task)
    plan = make_plan(request, device, data, network, _code(request, task, code, network), task.scale_targets)
    folder = request.home.folder / "retrain" / request.name

    remarks = ["the validation data are not trained on"] if task.own_validation else []

    def result(seeds: list[SeedResult], trained: bool) -> RetrainOutcome:
        value, loss = summaries(seeds, task.judge)
        seconds = round(time.monotonic() - began, 3)
        known = (other_data, tuple(remarks))
        return RetrainOutcome(request.name, plan, task.judge.unit, value, loss, folder, seconds, trained, *known)

    with exclusive_lock(folder):
        done = finished_seeds(folder / "metrics.json", plan)
        if done is not None and all((folder / name).exists() for name in ("model.safetensors", "curves.png")):
            _write_code(request, folder, data, task)
            return result(done, trained=False)
        seeds = _train_seeds(request, plan, task, data, code, device, view, remarks)
        if (folder / "metrics.json").exists():
            move_aside(folder)
        about = {"name": request.name, "study": config.study, "trial": config.trial, **_scaling(task, data)}
        write(folder, _partial(folder, plan), about, plan, task.judge, seeds)
        _write_code(request, folder, data, task)
    return result(seeds, trained=True)


def _write_code(request: RetrainRequest, folder: Path, data: splits.FullData, task: Task) -> None:
    """Write code and configuration beside the results, unless they are there."""
    found = results.load(folder)
    if found is not None and not all((folder / name).exists() for name in (code_files.CONFIG, code_files.CODE)):
        code_files.write(folder, request.config, found, _scaling(task, data).get("scaling", {}), request.seed)


def _scaling(task: Task, data: splits.FullData) -> dict[str, Any]:
    """Mean and deviation that bring the saved network's outputs back into the targets' unit, where there are any."""
    return {"scaling": Scaling.of(data.train).document()} if task.scale_targets else {}


def _code(request: RetrainRequest, task: Task, code: task_code.Record, network: str) -> str:
    """The digest of the task's code, which must be what the study's trials were trained with, if it is there.

    Raises:
        UsageError: it has changed, or the metric has.
    """
    home = request.home
    opened = studies.load(open_storage(home.url, create=False), home.name) if home.url.exists() else None
    if opened is None:
        return str(code.get("id", ""))
    made_from.same_metric(opened, task.judge)
    return made_from.same_code(opened, request.config.task, code, network)


def _partial(folder: Path, plan: FullPlan) -> Path:
    """Where the unfinished trainings of this plan lie; another plan has another place."""
    digest = hashlib.sha256(plan.model_dump_json().encode()).hexdigest()[:12]
    return folder.parent / "partial" / f"{folder.name}-{digest}"


def _train_seeds(
    request: RetrainRequest,
    plan: FullPlan,
    task: Task,
    data: splits.FullData,
    code: task_code.Record,
    device: torch.device,
    view: View,
    remarks: list[str],
) -> list[SeedResult]:
    """Train and test the seeds that are not done yet; the results of all.

    Raises:
        Interrupted: the user stopped it.
        OptituneError: a training diverges, or its worker dies again and again.
    """
    partial = make_folder(_partial(request.home.folder / "retrain" / request.name, plan))
    missing = [number for number in range(len(plan.seeds)) if seed_result(partial, plan, number) is None]
    if missing:
        spread = devices(device)
        workers = auto(request.workers, len(spread) * (device.type != "cpu"), len(missing))
        test = _once(task, data, partial / TEST)
        if isinstance(test, Streamed) and not same_again(test):
            remarks.append("the test set differs at every reading, so that augmented examples are tested on")
        share({"train": data.train}, partial / TRAIN, {task_code.KEY: json.dumps(code)})
        source = plan.task if request.task is None else loading.packed(splits.without_data(task, data.train, test))
        jobs = [
            (plan, missing[worker::workers], partial, source, request.data_folder, str(spread[worker % len(spread)]))
            for worker in range(workers)
        ]
        view.begin(plan, task.judge.unit, workers, set(range(len(plan.seeds))) - set(missing))
        try:
            Pool(work, jobs, view.show, view.tick).run()
        except Interrupted:
            if any(seed_result(partial, plan, number) is None for number in missing):
                raise Interrupted("stopped; the epochs done are kept, run the same command again to go on") from None
        finally:
            view.end()
    results = [seed_result(partial, plan, number) for number in range(len(plan.seeds))]
    complete = [result for result in results if result is not None]
    if len(complete) < len(results):
        raise OptituneError(f"only {len(complete)} of {len(results)} trainings ended: run the same command again")
    return complete


def _once(task: Task, data: splits.FullData, path: Path) -> Part:
    """The test set, read once and written to `path` for all workers, who open it after their training.

    Raises:
        UsageError: it is another one than that of the seeds tested before.
    """
    test = data.sealed if data.sealed is not None else splits.load_test(task)
    with user_code.calling(task.name, "reading the test set"):
        checksum = test.checksum()
    if path.exists() and shared(path)[1].get("checksum") != checksum:
        raise UsageError(
            f"task '{task.name}': the test set is another one than that of the seeds tested before: "
            f"if it was changed, remove {path.parent} to train anew; if not, {splits.DIFFER}"
        )
    share({"test": test}, path, {"checksum": checksum})
    return test
