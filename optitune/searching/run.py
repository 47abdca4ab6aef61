"""`optitune search` from request to result: settings, study, workers, the best configuration on disk."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import torch

from optitune.common.schema import validated
from optitune.errors import NoStudies
from optitune.sampling.allocation import able, competitors
from optitune.sampling.parameters import edges_of
from optitune.searching import from_study, loops, reproducible_data, supervisor
from optitune.searching.best_file import BestFile
from optitune.searching.conclusions import Conclusions, conclusions
from optitune.searching.notes import Notes
from optitune.searching.ray_backend.cluster import Cluster, connected
from optitune.searching.requests import SearchRequest
from optitune.searching.worker import Job
from optitune.space.edges import Edge
from optitune.storage import studies, study_checks, trials
from optitune.storage.retry import RetryPolicy
from optitune.storage.studies import StudyLocation
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
from optitune.workers.ranks import check_ranks


@dataclass(frozen=True)
class SearchOutcome:
    """What a search left: `best_file` and `best` are None where no trial is complete.

    Attributes:
        trials: how many finished ones it is to have.
        begun: whether its training was begun, and not left to workers elsewhere.
        trained: how many trials this run finished, of all that the study has.
        metric: what it judges by.
        competing: the optimizers that have a finished trial and do not fail at every trial.
        costs: relative cost of an epoch by optimizer; empty where each counts the same.
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
    costs: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    origin: studies.Origin | None = None

    def edges(self) -> list[Edge]:
        """What of the best configuration lies at an end of its range."""
        return edges_of(self.settings, self.best)

    def failing(self) -> list[Failing]:
        """The optimizers all of whose trials failed."""
        return failing(self.records, self.settings.optimizers)

    def conclusions(self) -> Conclusions:
        """What tuning brought, and whether more trials would help."""
        return conclusions(self.settings, self.records)

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
            "repeats": [
                {"number": row.number, "of": row.repeats, "seed": self.settings.seed + row.run}
                for row in self.records
                if row.repeats is not None
            ],
            "failing": [asdict(each) for each in self.failing()],
            "best": {"number": winner.number, "value": winner.value, "runs": winner.runs, **plain(winner.configuration)}
            if winner and winner.configuration
            else None,
            "best_file": str(self.best_file) if self.best_file else None,
            "allocation": {
                "budget_in": self.settings.budget_in,
                "costs": dict(self.costs),
                "epochs": {row.optimizer: row.epochs for row in standings(self.records, self.settings.optimizers)},
                "competing": list(self.competing),
            },
            **self.conclusions().document(self.metric.unit),
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


def existing_study(home: StudyLocation, write: bool) -> optuna.Study | None:
    """The study if it is there and something was written into it.

    Args:
        home: where it lives.
        write: whether an SQLite file whose making was interrupted is completed.
    """
    try:
        found = home.load(open_storage(home.url, create=write)) if home.url.exists() else None
    except NoStudies:
        return None
    return None if found is None or studies.is_blank(found) else found


def settle(
    request: SearchRequest, device: torch.device, write: bool = True
) -> tuple[StudySettings, Budget, Task, bool]:
    """The settings of the study and its task, from what was typed, its file, and what it was made with.

    Args:
        request: as the user made it.
        device: to train on.
        write: whether an SQLite file whose making was interrupted is completed.

    Returns:
        (settings without `auto`, how much to train, task, whether the study is new)

    Raises:
        UsageError: a setting is not allowed, or differs from what the study was made with.
    """
    name, studies_dir = request.home.name, request.home.folder.parent
    # an SQLite file is not made before all else is known to be right
    existing = existing_study(request.home, write)
    stored = None if existing is None else studies.stored_settings(existing)
    old = request.from_study
    older = None if old is None or stored is not None else from_study.settings_of(old, request.home)
    made = stored or older
    file, filed = from_file(studies_dir / f"{name}.toml", lambda settings: with_rows(settings, studies_dir, made))
    typed, set_ = parted(request.settings, "the command line")
    typed = with_rows(typed, studies_dir, file, made)
    given = {"trials": request.trials, "timeout": request.timeout}
    asked = {**filed, **set_, **{key: value for key, value in given.items() if value is not None}}
    budget = validated(Budget, asked, f"study '{name}'")
    settings = resolve(typed, file, stored, name, older)
    task = loading.judged(
        request.task or loading.find(_source(request, settings), request.data_folder), settings.metric
    )
    find_modules(settings.own_paths(), studies_dir)
    return completed(settings, task, device, f"study '{name}'"), budget, task, stored is None


def _source(request: SearchRequest, settings: StudySettings) -> str:
    return request.located(settings.task, typed="task" in request.settings)


@dataclass(frozen=True)
class Prepared:
    """A search that is known to be right, before anything is written.

    Attributes:
        request: with the timeout decided.
        device: to train on.
        settings: without `auto`.
        budget: how much to train.
        task: to train.
        new: whether the study is not there yet.
        data: to train and judge on.
        source: where workers have the task from.
        facts: checksum, digests and sizes of the data, and the fingerprint of the network.
        code: of the task.
        taking: what the study is to take from another one.
        remarks: what a user should know of the data.
    """

    request: SearchRequest
    device: torch.device
    settings: StudySettings
    budget: Budget
    task: Task
    new: bool
    data: splits.SearchData
    source: loading.Source
    facts: Mapping[str, Any]
    code: task_code.Record
    taking: from_study.Taking | None
    remarks: tuple[str, ...]


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
    found = prepare(request, view, cluster)
    request, settings, task, data = found.request, found.settings, found.task, found.data
    patience = RetryPolicy(view.note)
    opened = study_checks.create_or_resume(
        open_storage(request.home.url, create=True, patience=patience),
        request.home.name,
        settings,
        found.facts,
        task.judge,
        found.code,
        request.accept_changes,
    )
    if found.taking is not None:
        from_study.take(found.taking, opened, request.home, view.tick)
        view.note(f"study '{request.home.name}' begins with {found.taking.origin.sentence()}")
    origin = studies.origin(opened)
    target = found.budget.trials + (len(origin.trials) if origin else 0)
    supervisor.sized(opened, target)
    supervisor.tidy(request.home, opened)
    before = trials.finished(opened)
    keeper = BestFile(opened, request.home)
    described = notes.of_study(opened, request.home.folder, keeper.refresh)
    if before < target and request.workers != 0:
        device = str(found.device)
        job = Job(request.home, settings, found.source, request.data_folder, device, target, notes.trial_ends)
        unit = task.judge.unit
        supervisor.train(request, job, data, unit, opened, patience, described.refreshed, view, cluster)
    with explained_storage(request.home.url):
        unwritten = described.end()
    if unwritten:
        view.note(unwritten)
    winner = best_record(keeper.records)
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
        competing=_competing(opened, settings),
        examples=len(data.train),
        costs=studies.costs(opened) or {},
        remarks=found.remarks,
        origin=origin,
    )


def prepare(request: SearchRequest, view: supervisor.View, cluster: Cluster | None, write: bool = True) -> Prepared:
    """Check all that a search needs; nothing is written but what completes an SQLite file.

    Args:
        request: as the user made it.
        view: is shown what a user should know.
        cluster: that is to train; None for this machine.
        write: whether an SQLite file whose making was interrupted is completed.

    Raises:
        UsageError: something is not allowed, or does not fit the rest.
        OptituneError: data or storage cannot be had.
    """
    device = cluster.device(request.device) if cluster else resolve_device(request.device)
    settings, budget, task, new = settle(request, device, write)
    request = replace(request, timeout=budget.timeout)
    check_ranks(request.ranks, task, device, cluster is not None)
    place, studies_dir = None if request.task is not None else _source(request, settings), request.home.folder.parent
    task = loops.tried_apart(task, place, request.data_folder, settings, device, studies_dir, view.tick, request.ranks)
    if new:
        settings = loops.with_factors(settings, task, f"study '{request.home.name}'")
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
    taking = _taking(request, settings, facts, task.judge, code, write)
    return Prepared(request, device, settings, budget, task, new, data, source, facts, code, taking, remarks)


def _taking(
    request: SearchRequest,
    settings: StudySettings,
    facts: Mapping[str, Any],
    judge: Metric,
    code: task_code.Record,
    write: bool,
) -> from_study.Taking | None:
    """What the study is to take from another one; None where that is nothing, or was taken before.

    Raises:
        UsageError: values of the two cannot be compared, no trial lies within, or the study has begun otherwise.
    """
    home, old, begun = request.home, request.from_study, None
    existing = existing_study(home, write)
    if existing is not None:
        if not from_study.check_begun(existing, old):
            return None
        begun = studies.origin(existing)
    if old is None:
        return None
    return from_study.select(old, home, settings, facts, judge, code, request.accept_changes, begun)


def _competing(opened: optuna.Study, settings: StudySettings) -> tuple[str, ...]:
    """The optimizers that the study would go on with and has trained."""
    found = able(competitors(opened.get_trials(deepcopy=False), settings.optimizers))
    return tuple(each.name for each in found if each.ended)
