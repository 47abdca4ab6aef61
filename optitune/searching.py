"""`optitune search` from request to result: settings, study, workers, the best configuration on disk."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import optuna
import torch

from optitune import best, study, task_data, tasks
from optitune.allocation import ALLOCATIONS, competitors
from optitune.edges import Edge, edges
from optitune.errors import Interrupted, OptituneError
from optitune.files import aside
from optitune.machine import devices, resolve_device, resolve_precision
from optitune.metrics import Metric
from optitune.preflight import check
from optitune.records import TrialRecord, counts, plain, standings
from optitune.records import best as best_record
from optitune.search_worker import Job, work
from optitune.settings import StudySettings, resolve
from optitune.storage import exists, explained_storage, open_storage, shown
from optitune.study import Home
from optitune.study_file import Budget, from_file, parted
from optitune.suggestion import owned_values
from optitune.validation import validated
from optitune.workers import Event, Pool, auto


@dataclass(frozen=True)
class Request:
    """What a user asked of a search.

    Attributes:
        home: where the study lives.
        studies_dir: the folder of all studies.
        said: the settings that were typed, by key.
        trials: how many finished trials the study is to have; None for what its file says, or the default.
        timeout: seconds after which no further trial is begun; None for what its file says, or never.
        data_dir: where torchvision's files lie.
        workers: how many; None to choose.
        device: `auto`, or as torch names it.
        task: what to train where that is no built-in task and no `FILE.py:FUNCTION`.
    """

    home: Home
    studies_dir: Path
    said: Mapping[str, Any]
    trials: int | None
    timeout: float | None
    data_dir: Path
    workers: int | None
    device: str
    task: tasks.Task | None = None


@dataclass(frozen=True)
class Result:
    """What a search left: `best_file` and `best` are None where no trial is complete.

    Attributes:
        trained: how many trials this run finished, of all that the study has.
        metric: what it judges by.
        competing: the optimizers that have not been dropped.
        set_aside: where an edited `best.toml` that stood in the way is kept now.
        seconds: how long this run took.
    """

    name: str
    settings: StudySettings
    storage: str
    records: list[TrialRecord]
    best: TrialRecord | None
    best_file: Path | None
    trained: int
    seconds: float
    set_aside: Path | None
    metric: Metric
    competing: tuple[str, ...]

    def edges(self) -> list[Edge]:
        """What of the best configuration lies at an end of its range."""
        if self.best is None or self.best.configuration is None:
            return []
        found = self.best.configuration
        return edges(self.settings.space(), found.optimizer.name, found.schedule.name, owned_values(found))

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        number = counts(self.records)
        winner = self.best
        return {
            "study": self.name,
            "task": self.settings.task,
            "metric": self.metric.name,
            "storage": self.storage,
            "trials": {key: number[key] for key in ("finished", "complete", "pruned", "diverged")},
            "best": {"number": winner.number, "value": winner.value, **plain(winner.configuration)}
            if winner and winner.configuration
            else None,
            "best_file": str(self.best_file) if self.best_file else None,
            "allocation": {
                "rule": self.settings.allocation,
                "epochs": {row.optimizer: row.epochs for row in standings(self.records, self.settings.optimizers)},
                "competing": list(self.competing),
            },
            "at_the_edge": [edge.line for edge in self.edges()],
            "seconds": self.seconds,
        }


class View(Protocol):
    """Where a running search shows itself."""

    def begin(
        self,
        name: str,
        settings: StudySettings,
        metric: str,
        target: int,
        records: list[TrialRecord],
        workers: int,
    ) -> None:
        """The study is open; training is about to begin."""

    def show(self, event: Event, records: list[TrialRecord]) -> None:
        """A worker told something; `records` are as fresh as the last finished trial."""

    def tick(self) -> None:
        """A moment passed."""

    def end(self) -> None:
        """No more will come."""


@dataclass(frozen=True)
class Settled:
    """What a search is, all of it decided."""

    settings: StudySettings
    budget: Budget
    task: tasks.Task


def completed(settings: StudySettings, task: tasks.Task, device: torch.device, where: str) -> StudySettings:
    """The settings with every `auto` and the loss decided by the task and the device.

    Raises:
        UsageError: a setting does not fit what was decided.
    """
    precision = task.precision if settings.precision == "auto" else settings.precision
    decided = {"precision": resolve_precision(precision, device), "loss": settings.loss or task.loss_name}
    return validated(StudySettings, {**settings.document(), **decided}, where)


def settle(request: Request, device: torch.device) -> Settled:
    """The settings of the study and its task, from what was typed, its file, and what it was made with.

    Raises:
        UsageError: a setting is not allowed, or differs from what the study was made with.
    """
    url, name = request.home.url, request.home.name
    # an SQLite file is not made before all else is known to be right; one whose making was interrupted is completed
    existing = study.load(open_storage(url, create=True), name) if exists(url) else None
    stored = None if existing is None or study.is_blank(existing) else study.stored_settings(existing)
    file, filed = from_file(request.studies_dir / f"{name}.toml")
    typed, set_ = parted(request.said, "the command line")
    given = {"trials": request.trials, "timeout": request.timeout}
    asked = {**filed, **set_, **{key: value for key, value in given.items() if value is not None}}
    budget = validated(Budget, asked, f"study '{name}'")
    settings = resolve(typed, file, stored, name)
    task = request.task or tasks.find(settings.task, request.data_dir)
    return Settled(completed(settings, task, device, f"study '{name}'"), budget, task)


def search(request: Request, view: View) -> Result:
    """Train until the study has as many finished trials as were asked for.

    Raises:
        UsageError: a setting is not allowed or differs from what the study was made with, or task, data and
            settings do not fit each other.
        OptituneError: data or storage cannot be had, or training keeps failing.
        Interrupted: the user stopped it; everything finished is kept.
    """
    began = time.monotonic()
    device = resolve_device(request.device)
    settled = settle(request, device)
    settings, task, budget = settled.settings, settled.task, settled.budget
    deadline = None if budget.timeout is None else time.time() + budget.timeout
    data = task_data.search_data(task, settings.train_examples)
    network = check(task, data.train, settings)
    source = settings.task if request.task is None else tasks.packed(task_data.without_data(task, data))
    facts = {
        "network": network,
        "loss": task.loss_name,
        "checksum": data.checksum,
        "train_examples": len(data.train),
        "validation_examples": len(data.validation),
    }
    opened = study.create_or_resume(
        open_storage(request.home.url, create=True), request.home.name, settings, facts, task.judge
    )
    before = study.finished(opened)
    keeper = Keeper(opened, request.home)
    if before < budget.trials:
        with explained_storage(request.home.url):
            _train_missing(request, settled, source, data, device, keeper, view, deadline)
    keeper.refresh()
    winner = best_record(keeper.records)
    return Result(
        name=request.home.name,
        settings=settings,
        storage=shown(request.home.url),
        records=keeper.records,
        best=winner,
        best_file=keeper.path if winner is not None else None,
        trained=counts(keeper.records)["finished"] - before,
        seconds=round(time.monotonic() - began, 3),
        set_aside=keeper.set_aside,
        metric=task.judge,
        competing=_competing(opened, settings, task.judge),
    )


def _competing(opened: optuna.Study, settings: StudySettings, metric: Metric) -> tuple[str, ...]:
    """The optimizers that the study would go on with."""
    trials = opened.get_trials(deepcopy=False)
    found = competitors(trials, settings.optimizers, metric.direction == "maximize", metric.ideal)
    return tuple(ALLOCATIONS[settings.allocation](found)) if settings.sampler == "optitune" else settings.optimizers


def _train_missing(
    request: Request,
    settled: Settled,
    source: tasks.Source,
    data: task_data.SearchData,
    device: torch.device,
    keeper: "Keeper",
    view: View,
    deadline: float | None,
) -> None:
    """Let workers train the trials that the study lacks.

    Raises:
        Interrupted: the user stopped it.
        OptituneError: training keeps failing.
    """
    name, folder, target = request.home.name, request.home.folder / "workers", settled.budget.trials
    spread = devices(device)
    gpus = len(spread) * (device.type != "cpu")
    workers = auto(request.workers, gpus, target - counts(keeper.records)["finished"])
    study.sweep(folder)
    owner = study.Owner(folder)
    try:
        shared = owner.path.with_suffix(".safetensors")
        task_data.save(data, shared)
        job = Job(request.home, settled.settings, source, request.data_dir, str(device), shared, target, deadline)
        jobs = [(replace(job, device=str(spread[worker % len(spread)])),) for worker in range(workers)]
        view.begin(name, settled.settings, settled.task.judge.name, target, keeper.records, workers)

        def heed(event: Event) -> None:
            if event.kind == "finished":
                keeper.refresh()
            view.show(event, keeper.records)

        Pool(work, jobs, heed, view.tick).run()
    except Interrupted:
        keeper.refresh()
        done = counts(keeper.records)["finished"]
        if done >= target:
            return
        raise Interrupted(
            f"stopped with {done} of {target} trials finished, nothing lost; run the same command again to go on"
        ) from None
    finally:
        view.end()
        owner.release()


def best_config(home: Home, opened: optuna.Study, record: TrialRecord) -> best.BestConfig:
    """A complete trial as a `best.toml`.

    Raises:
        OptituneError: the trial is not complete.
    """
    settings = validated(StudySettings, study.stored_settings(opened), f"study '{home.name}' as stored")
    if record.value is None or record.configuration is None or settings.precision == "auto":
        raise OptituneError(
            f"trial {record.number} of study '{home.name}' is {record.outcome}, not complete: "
            "choose a complete one ('optitune show')"
        )
    facts = opened.user_attrs[study.DATA]
    return best.BestConfig(
        study=home.name,
        task=settings.task,
        trial=record.number,
        metric=facts["metric"],
        value=record.value,
        epochs=settings.epochs,
        train_examples=facts["train_examples"],
        validation_examples=facts["validation_examples"],
        precision=settings.precision,
        seed=settings.seed,
        data_checksum=facts["checksum"],
        configuration=record.configuration,
        versions=opened.user_attrs[study.VERSIONS],
    )


class Keeper:
    """Keeps `best.toml` true while trials finish.

    A `best.toml` that was edited, or that another study left, is set aside, never overwritten.
    """

    def __init__(self, opened: optuna.Study, home: Home) -> None:
        self._study = opened
        self._ledger = study.Ledger(opened)
        self._home = home
        self._saved: int | None = None
        self.path = home.folder / "best.toml"
        self.set_aside: Path | None = None
        self.records: list[TrialRecord] = []
        self.refresh()

    def refresh(self) -> None:
        """Read the study again and write its best configuration if that has changed."""
        self.records = self._ledger.read()
        winner = best_record(self.records)
        if winner is not None and (winner.number != self._saved or not self.path.exists()):
            if self.path.exists() and not self._is_ours():
                self.set_aside = aside(self.path)
            best.save(best_config(self._home, self._study, winner), self.path)
            self._saved = winner.number

    def _is_ours(self) -> bool:
        """Whether the file is just what a search of this study wrote for one of its trials."""
        try:
            written = best.load(self.path, "")
            # read after the file: another search may have written it for a trial that ended just now
            return written == best_config(self._home, self._study, study.record(self._study, written.trial))
        except OptituneError:
            return False
