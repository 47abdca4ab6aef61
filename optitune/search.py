"""`optitune search` from request to result: settings, study, workers, the best configuration on disk."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import optuna
import torch

from optitune import best, study, tasks
from optitune.errors import Interrupted, OptituneError
from optitune.files import aside
from optitune.machine import devices, resolve_device, resolve_precision
from optitune.records import TrialRecord, counts, plain
from optitune.records import best as best_record
from optitune.search_worker import Job, work
from optitune.settings import StudySettings, from_file, resolve
from optitune.storage import exists, explained_storage, open_storage, shown
from optitune.study import Home
from optitune.workers import Event, Pool, auto


@dataclass(frozen=True)
class Request:
    """What a user asked of a search.

    Attributes:
        home: where the study lives.
        studies_dir: the folder of all studies.
        said: the settings that were typed, by key.
        trials: how many finished trials the study is to have.
        timeout: seconds after which no further trial is begun; None for never.
        data_dir: where torchvision's files lie.
        workers: how many; None to choose.
        device: `auto`, or as torch names it.
    """

    home: Home
    studies_dir: Path
    said: Mapping[str, Any]
    trials: int
    timeout: float | None
    data_dir: Path
    workers: int | None
    device: str


@dataclass(frozen=True)
class Result:
    """What a search left: `best_file` and `best` are None where no trial is complete.

    Attributes:
        trained: how many trials this run finished, of all that the study has.
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

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        number = counts(self.records)
        winner = self.best
        return {
            "study": self.name,
            "task": self.settings.task,
            "storage": self.storage,
            "trials": {key: number[key] for key in ("finished", "complete", "pruned", "diverged")},
            "best": {"number": winner.number, "value": winner.value, **plain(winner.configuration)}
            if winner and winner.configuration
            else None,
            "best_file": str(self.best_file) if self.best_file else None,
            "seconds": self.seconds,
        }


class View(Protocol):
    """Where a running search shows itself."""

    def begin(self, name: str, settings: StudySettings, target: int, records: list[TrialRecord], workers: int) -> None:
        """The study is open; training is about to begin."""

    def show(self, event: Event, records: list[TrialRecord]) -> None:
        """A worker told something; `records` are as fresh as the last finished trial."""

    def tick(self) -> None:
        """A moment passed."""

    def end(self) -> None:
        """No more will come."""


def settle(request: Request, device: torch.device) -> StudySettings:
    """The settings of the study, from what was typed, its file, and what it was made with.

    Raises:
        UsageError: a setting is not allowed, or differs from what the study was made with.
    """
    url = request.home.url
    # an SQLite file is not made before all else is known to be right; one whose making was interrupted is completed
    existing = study.load(open_storage(url, create=True), request.home.name) if exists(url) else None
    stored = None if existing is None or study.is_blank(existing) else study.stored_settings(existing)
    file = from_file(request.studies_dir / f"{request.home.name}.toml")
    settings = resolve(request.said, file, stored, request.home.name)
    tasks.find(settings.task)
    return settings.model_copy(update={"precision": resolve_precision(settings.precision, device)})


def search(request: Request, view: View) -> Result:
    """Train until the study has `request.trials` finished trials.

    Raises:
        UsageError: a setting is not allowed or differs from what the study was made with.
        OptituneError: data or storage cannot be had, or training keeps failing.
        Interrupted: the user stopped it; everything finished is kept.
    """
    began = time.monotonic()
    deadline = None if request.timeout is None else time.time() + request.timeout
    device = resolve_device(request.device)
    settings = settle(request, device)
    task = tasks.find(settings.task)
    data = tasks.search_data(task, request.data_dir, settings.train_images)
    facts = {
        "dataset": task.dataset,
        "checksum": data.checksum,
        "train_images": len(data.train),
        "validation_images": len(data.validation),
    }
    opened = study.create_or_resume(open_storage(request.home.url, create=True), request.home.name, settings, facts)
    before = study.finished(opened)
    keeper = Keeper(opened, request.home)
    if before < request.trials:
        with explained_storage(request.home.url):
            _train_missing(request, settings, data, device, keeper, view, deadline)
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
    )


def _train_missing(
    request: Request,
    settings: StudySettings,
    data: tasks.SearchData,
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
    name, folder = request.home.name, request.home.folder / "workers"
    spread = devices(device)
    gpus = len(spread) * (device.type != "cpu")
    workers = auto(request.workers, gpus, request.trials - counts(keeper.records)["finished"])
    study.sweep(folder)
    owner = study.Owner(folder)
    try:
        shared = owner.path.with_suffix(".safetensors")
        tasks.save(data, shared)
        job = Job(request.home, settings, str(device), shared, request.trials, deadline)
        jobs = [(replace(job, device=str(spread[worker % len(spread)])),) for worker in range(workers)]
        view.begin(name, settings, request.trials, keeper.records, workers)

        def heed(event: Event) -> None:
            if event.kind == "finished":
                keeper.refresh()
            view.show(event, keeper.records)

        Pool(work, jobs, heed, view.tick).run()
    except Interrupted:
        keeper.refresh()
        done = counts(keeper.records)["finished"]
        if done >= request.trials:
            return
        raise Interrupted(
            f"stopped with {done} of {request.trials} trials finished, nothing lost; "
            "run the same command again to go on"
        ) from None
    finally:
        view.end()
        owner.release()


def best_config(home: Home, opened: optuna.Study, record: TrialRecord) -> best.BestConfig:
    """A complete trial as a `best.toml`.

    Raises:
        OptituneError: the trial is not complete.
    """
    settings = StudySettings.model_validate(study.stored_settings(opened))
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
        value=record.value,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        train_images=facts["train_images"],
        validation_images=facts["validation_images"],
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
