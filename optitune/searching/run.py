"""`optitune search` from request to result: settings, study, workers, the best configuration on disk."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch

from optitune.common.schema import validated
from optitune.sampling.allocation import ALLOCATIONS, able, competitors
from optitune.sampling.parameters import edges_of
from optitune.searching import from_study, reproducible_data, supervisor
from optitune.searching.best_file import BestFile
from optitune.searching.notes import Notes
from optitune.searching.ray_backend.cluster import Cluster, connected
from optitune.searching.requests import SearchRequest
from optitune.searching.worker import Job
from optitune.space.edges import Edge
from optitune.storage import studies, study_checks, trials
from optitune.storage.retry import RetryPolicy
from optitune.storage.urls import explained_storage, open_storage
from optitune.study.custom_optimizers import find_modules
from optitune.study.records import Failing, TrialRecord, counts, failing, plain, standings
from optitune.study.records import best as best_record
from optitune.study.settings import StudySettings, resolve
from optitune.study.study_file import Budget, from_file, parted
from optitune.tasks import loading, splits
from optitune.tasks.metrics import Metric
from optitune.tasks.task import Task
from optitune.training import task_code
from optitune.training.device import resolve_device, resolve_precision
from optitune.training.optimizer_classes import FROM_CLASS, in_words, with_rows
from optitune.training.preflight import check, fresh_model


@dataclass(frozen=True)
class SearchOutcome:
    """What a search left: `best_file` and `best` are None where no trial is complete.

    Attributes:
        trials: how many finished ones it is to have.
        begun: whether its training was begun, and not left to workers elsewhere.
        trained: how many trials this run finished, of all that the study has.
        metric: what it judges by.
        competing: the optimizers that have a finished trial and have not been dropped.
        dropped: those that the allocation has dropped, since they would hardly win.
        remarks: what a user should know of the data.
        set_aside: where an edited `best.toml` that stood in the way is kept now.
        seconds: how long this run took.
        origin: what the study took from another one.
    """

    name: str
    settings: StudySettings
    storage: str
    records: list[TrialRecord]
    best: TrialRecord | None
    best_file: Path | None
    trials: int
    begun: bool
    trained: int
    seconds: float
    set_aside: Path | None
    metric: Metric
    competing: tuple[str, ...]
    examples: int | None = None
    dropped: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    origin: studies.Origin | None = None

    def edges(self) -> list[Edge]:
        """What of the best configuration lies at an end of its range."""
        return edges_of(self.settings, self.best)

    def failing(self) -> list[Failing]:
        """The optimizers all of whose trials failed."""
        return failing(self.records, self.settings.optimizers)

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        number = counts(self.records)
        winner = self.best
        return {
            "study": self.name,
            "task": self.settings.task,
            "metric": self.metric.name,
            "storage": self.storage,
            "from": asdict(self.origin) if self.origin else None,
            "trials": {key: number[key] for key in ("finished", "complete", "pruned", "diverged", "failed")},
            "failing": [asdict(each) for each in self.failing()],
            "best": {"number": winner.number, "value": winner.value, **plain(winner.configuration)}
            if winner and winner.configuration
            else None,
            "best_file": str(self.best_file) if self.best_file else None,
            "allocation": {
                "rule": self.settings.allocation,
                "epochs": {row.optimizer: row.epochs for row in standings(self.records, self.settings.optimizers)},
                "competing": list(self.competing),
            },
            "remarks": list(self.remarks),
            "at_the_edge": [edge.line for edge in self.edges()],
            "seconds": self.seconds,
        }


def completed(settings: StudySettings, task: Task, device: torch.device, where: str) -> StudySettings:
    """Settings with every `auto` and the loss decided by the task and the device.

    Args:
        settings: as the user gave them.
        task: to train.
        device: to train on.
        where: what an error names as their place.

    Raises:
        UsageError: a setting does not fit what was decided.
    """
    precision = task.precision if settings.precision == "auto" else settings.precision
    decided = {"precision": resolve_precision(precision, device), "loss": settings.loss or task.loss_name}
    return validated(StudySettings, {**settings.document(), **decided}, where)


def settle(request: SearchRequest, device: torch.device) -> tuple[StudySettings, Budget, Task, bool]:
    """The settings of the study and its task, from what was typed, its file, and what it was made with.

    Returns:
        (settings without `auto`, how much to train, task, whether the study is new)

    Raises:
        UsageError: a setting is not allowed, or differs from what the study was made with.
    """
    url, name = request.home.url, request.home.name
    # an SQLite file is not made before all else is known to be right; one whose making was interrupted is completed
    existing = request.home.load(open_storage(url, create=True)) if url.exists() else None
    stored = None if existing is None or studies.is_blank(existing) else studies.stored_settings(existing)
    studies_dir = request.home.folder.parent
    file, filed = from_file(studies_dir / f"{name}.toml", lambda settings: with_rows(settings, studies_dir, stored))
    typed, set_ = parted(request.settings, "the command line")
    typed = with_rows(typed, studies_dir, file, stored)
    given = {"trials": request.trials, "timeout": request.timeout}
    asked = {**filed, **set_, **{key: value for key, value in given.items() if value is not None}}
    budget = validated(Budget, asked, f"study '{name}'")
    old = request.from_study
    older = None if old is None or stored is not None else from_study.settings_of(old, request.home)
    settings = resolve(typed, file, stored, name, older)
    task = request.task or loading.find(_source(request, settings), request.data_folder)
    find_modules(settings.own_paths(), studies_dir)
    return completed(settings, task, device, f"study '{name}'"), budget, task, stored is None


def _source(request: SearchRequest, settings: StudySettings) -> str:
    return request.located(settings.task, typed="task" in request.settings)


def search(request: SearchRequest, view: supervisor.View, notes: Notes) -> SearchOutcome:
    """Train until the study has as many finished trials as were asked for.

    Args:
        notes: describe the search as it goes on.

    Raises:
        UsageError: a setting is not allowed or differs from what the study was made with, or task, data and
            settings do not fit each other.
        OptituneError: data or storage cannot be had, or training keeps failing.
        Interrupted: the user stopped it; everything finished is kept.
    """
    url = request.home.url
    with connected(request.cluster, url, request.workers) as cluster, explained_storage(url):
        return _search(request, view, notes, cluster)


def _search(request: SearchRequest, view: supervisor.View, notes: Notes, cluster: Cluster | None) -> SearchOutcome:
    began = time.monotonic()
    device = cluster.device(request.device) if cluster else resolve_device(request.device)
    settings, budget, task, new = settle(request, device)
    request = replace(request, timeout=budget.timeout)
    data = splits.search_data(task, settings.train_examples)
    network = check(task, data.train, settings)
    source: loading.Source = settings.task if request.task is not None else _source(request, settings)
    if request.task is not None:
        # nobody's machine but this one has what was given as an object
        source = loading.packed(
            replace(task, test=None) if cluster else splits.without_data(task, data.train, data.validation)
        )
    remarks = tuple(splits.remarks(task, data))
    for line in remarks:
        view.note(line)
    if new:
        for row in settings.optimizer:
            if row.note == FROM_CLASS:
                view.note(in_words(row))
        reproducible_data.check(task, source, request.data_folder, data, view.tick)
    facts = study_checks.facts(task, data, network)
    # before anything trains, since a training may change what the code refers to
    code = task_code.record(task, fresh_model(task), settings.task)
    taking = _taking(request, settings, facts, task.judge, code)
    patience = RetryPolicy(view.note)
    opened = study_checks.create_or_resume(
        open_storage(request.home.url, create=True, patience=patience),
        request.home.name,
        settings,
        facts,
        task.judge,
        code,
        request.accept_changes,
    )
    if taking is not None:
        from_study.take(taking, opened, request.home, view.tick)
        view.note(f"study '{request.home.name}' begins with {taking.origin.sentence()}")
    origin = studies.origin(opened)
    target = budget.trials + (len(origin.trials) if origin else 0)
    supervisor.sized(opened, target)
    supervisor.tidy(request.home, opened)
    before = trials.finished(opened)
    keeper = BestFile(opened, request.home)
    described = notes.of_study(opened, request.home.folder, keeper.refresh)
    if before < target and request.workers != 0:
        job = Job(request.home, settings, source, request.data_folder, str(device), target, notes.trial_ends)
        unit = task.judge.unit
        supervisor.train(request, job, data, unit, opened, patience, described.refreshed, view, cluster)
    with explained_storage(request.home.url):
        unwritten = described.end()
    if unwritten:
        view.note(unwritten)
    winner = best_record(keeper.records)
    competing, dropped = _competing(opened, settings, task.judge)
    return SearchOutcome(
        name=request.home.name,
        settings=settings,
        storage=request.home.url.shown,
        records=keeper.records,
        best=winner,
        best_file=keeper.path if winner is not None else None,
        trials=target,
        begun=any(row.from_study is None for row in keeper.records) or request.workers != 0,
        trained=counts(keeper.records)["finished"] - before,
        seconds=round(time.monotonic() - began, 3),
        set_aside=keeper.set_aside,
        metric=task.judge,
        competing=competing,
        examples=len(data.train),
        dropped=dropped,
        remarks=remarks,
        origin=origin,
    )


def _taking(
    request: SearchRequest, settings: StudySettings, facts: Mapping[str, Any], judge: Metric, code: task_code.Record
) -> from_study.Taking | None:
    """What the study is to take from another one; None where that is nothing, or was taken before.

    Raises:
        UsageError: values of the two cannot be compared, no trial lies within, or the study has begun otherwise.
    """
    home, old, begun = request.home, request.from_study, None
    if home.url.exists():
        existing = home.load(open_storage(home.url, create=True))
        if existing is not None and not studies.is_blank(existing):
            if not from_study.check_begun(existing, old):
                return None
            begun = studies.origin(existing)
    if old is None:
        return None
    return from_study.select(old, home, settings, facts, judge, code, request.accept_changes, begun)


def _competing(
    opened: optuna.Study, settings: StudySettings, metric: Metric
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The optimizers that the study would go on with and has trained, and those that the allocation has dropped."""
    trials = opened.get_trials(deepcopy=False)
    found = competitors(trials, settings.optimizers, metric.direction == "maximize", metric.ideal)
    left = [each.name for each in able(found)]
    kept = ALLOCATIONS[settings.allocation](able(found)) if settings.sampler == "optitune" else left
    trained = {each.name for each in found if each.ended}
    return (
        tuple(name for name in settings.optimizers if name in kept and name in trained),
        tuple(name for name in left if name not in kept),
    )
