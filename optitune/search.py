"""`optitune search` from request to result: settings, study, workers, the best configuration on disk."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import optuna
import torch

from optitune import best, study, tasks
from optitune.configuration import Configuration
from optitune.engine import Progress, resolve_device, resolve_precision
from optitune.errors import Interrupted, OptituneError
from optitune.objective import GivenBack, first_parameters, run_trial
from optitune.pruner import build_pruner
from optitune.records import TrialRecord, counts, plain
from optitune.records import best as best_record
from optitune.sampler import build_sampler
from optitune.settings import Precision, StudySettings, from_file, resolve
from optitune.storage import exists, explained_storage, is_file, open_storage, shown
from optitune.study import Home
from optitune.workers import Channel, Event, Pool, auto

FAILURES_IN_A_ROW = 3
"""How many trials in a row may fail before a worker gives up: the fault is then not the configuration's."""

IDLE_S = 0.3


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


@dataclass(frozen=True)
class Job:
    """What a worker process needs to know."""

    home: Home
    settings: StudySettings
    precision: Precision
    device: str
    data: Path
    target: int
    deadline: float | None


def open_study(home: Home, settings: StudySettings, create: bool = False) -> optuna.Study:
    """The study at `home` with its sampler and pruner, sized for its own trials."""
    opened = study.find(open_storage(home.url, create), home.name)
    opened.sampler = build_sampler(settings.sampler, settings.seed, first_parameters(settings))
    images = opened.user_attrs[study.DATA]["train_images"]
    epoch = -(-images // settings.batch_size)
    opened.pruner = build_pruner(settings.pruner, settings.epochs * epoch, epoch)
    return opened


def settle(request: Request, device: torch.device) -> StudySettings:
    """The settings of the study, from what was typed, its file, and what it was made with.

    Raises:
        UsageError: a setting is not allowed, or differs from what the study was made with.
    """
    url = request.home.url
    # an SQLite file is not made before everything else is known to be right
    existing = study.load(open_storage(url, create=not is_file(url)), request.home.name) if exists(url) else None
    stored = study.stored_settings(existing) if existing is not None and existing.user_attrs else None
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
    missing = request.trials - before
    keeper = Keeper(opened, request.home)
    if missing > 0:
        workers = auto(request.workers, device.type, missing)
        assert settings.precision != "auto"
        study.sweep(request.home.folder / "workers")
        owner = study.Owner(request.home.folder / "workers")
        shared = owner.path.with_suffix(".safetensors")
        tasks.save(data, shared)
        job = Job(request.home, settings, settings.precision, str(device), shared, request.trials, deadline)
        view.begin(request.home.name, settings, request.trials, keeper.records, workers)

        def heed(event: Event) -> None:
            if event.kind == "finished":
                keeper.refresh()
            view.show(event, keeper.records)

        try:
            Pool(work, [(job,)] * workers, heed, view.tick).run()
        except Interrupted:
            view.end()
            keeper.refresh()
            left = request.trials - study.finished(opened)
            raise Interrupted(
                f"stopped with {request.trials - left} of {request.trials} trials finished, nothing lost; "
                "run the same command again to go on"
            ) from None
        finally:
            view.end()
            owner.release()
    keeper.refresh()
    winner = best_record(keeper.records)
    return Result(
        name=request.home.name,
        settings=settings,
        storage=shown(request.home.url),
        records=keeper.records,
        best=winner,
        best_file=keeper.path if winner is not None else None,
        trained=study.finished(opened) - before,
        seconds=round(time.monotonic() - began, 3),
    )


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
    """Keeps `best.toml` true while trials finish."""

    def __init__(self, opened: optuna.Study, home: Home) -> None:
        self._study = opened
        self._home = home
        self._saved: best.BestConfig | None = None
        self.path = home.folder / "best.toml"
        self.records: list[TrialRecord] = []
        self.refresh()

    def refresh(self) -> None:
        """Read the study again and write its best configuration if that has changed."""
        self.records = study.records(self._study)
        winner = best_record(self.records)
        if winner is not None:
            config = best_config(self._home, self._study, winner)
            if config != self._saved or not self.path.exists():
                best.save(config, self.path)
                self._saved = config


def work(channel: Channel, job: Job) -> None:
    """A worker process: take trials and train them until the study has enough.

    Raises:
        OptituneError: trial after trial fails.
    """
    torch.set_num_threads(1)
    device = torch.device(job.device)
    task = tasks.find(job.settings.task)
    data = tasks.load(job.data)
    data = replace(data, train=data.train.to(device), validation=data.validation.to(device))
    owner = study.Owner(job.home.folder / "workers")
    try:
        with explained_storage(job.home.url):
            desk = study.Desk(
                open_study(job.home, job.settings), job.target, owner, job.home.folder, is_file(job.home.url)
            )
            _take_trials(channel, desk, job, task, data, device)
    finally:
        owner.release()


def _take_trials(
    channel: Channel, desk: study.Desk, job: Job, task: tasks.Task, data: tasks.SearchData, device: torch.device
) -> None:
    failures = 0
    while (
        not channel.stopping() and (job.deadline is None or time.time() < job.deadline) and desk.finished() < job.target
    ):
        taken = desk.take()
        if taken is None:
            time.sleep(IDLE_S)
            continue
        outcome = _train(channel, desk, taken, job, task, data, device)
        failures = failures + 1 if outcome == "failed" else 0
        if failures == FAILURES_IN_A_ROW:
            raise OptituneError(
                f"{failures} trials in a row failed; see their reasons with: optitune show {job.home.name}"
            )


def _train(
    channel: Channel,
    desk: study.Desk,
    taken: study.Taken,
    job: Job,
    task: tasks.Task,
    data: tasks.SearchData,
    device: torch.device,
) -> str:
    """Train one trial and tell how it ended; the outcome, or "given back"."""
    trial, frozen = taken
    number = frozen.number

    def on_progress(configuration: Configuration, progress: Progress | None) -> None:
        about: dict[str, Any] = {"number": number, "optimizer": configuration.optimizer.name, "lr": configuration.lr}
        if progress is None:
            channel.send("started", **about)
        else:
            accuracy = progress.validation.accuracy if progress.validation else None
            channel.send("progress", **about, epoch=progress.epoch, accuracy=accuracy)

    try:
        result = run_trial(
            trial,
            job.settings,
            task,
            data,
            device,
            job.precision,
            frozen.intermediate_values,
            on_progress,
            channel.stopping,
        )
    except GivenBack:
        desk.give_back(trial)
        return "given back"
    except (RuntimeError, ValueError, MemoryError) as error:
        reason = f"{type(error).__name__}: {error}"
        desk.tell(trial, "failed", None, reason, 0.0)
        channel.send("failed", number=number, reason=reason)
        return "failed"
    desk.tell(trial, result.outcome, result.value, result.reason, result.seconds)
    channel.send("finished", number=number)
    return result.outcome
