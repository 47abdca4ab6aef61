"""`optitune worker`: train trials of a study that was begun elsewhere, with all that is needed read from the study."""

import time
from dataclasses import dataclass
from typing import Any

from optitune.common.text import Unit
from optitune.searching import loops, supervisor
from optitune.searching.notes import Notes
from optitune.searching.requests import JoinRequest
from optitune.searching.worker import Job
from optitune.storage import studies, study_checks, trials
from optitune.storage.retry import RetryPolicy
from optitune.storage.urls import explained_storage
from optitune.study.custom_optimizers import find_modules
from optitune.study.records import best, counts
from optitune.tasks import loading, splits
from optitune.training import task_code
from optitune.training.device import resolve_device
from optitune.training.preflight import check, fresh_model
from optitune.workers.ranks import check_ranks


@dataclass(frozen=True)
class JoinOutcome:
    """What the study had when this machine left it, and how long it helped."""

    study: str
    storage: str
    trials: dict[str, int]
    target: int
    best: float | None
    seconds: float
    unit: Unit

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {key: value for key, value in vars(self).items() if key != "unit"}


def join(request: JoinRequest, view: supervisor.View, notes: Notes) -> JoinOutcome:
    """Train until the study has all its trials.

    Args:
        notes: describe the search as it goes on.

    Raises:
        UsageError: there is no such study, or its task cannot be found here.
        OptituneError: the data here are others, or training keeps failing.
        Interrupted: the user stopped it; everything finished is kept.
    """
    began = time.monotonic()
    home = request.home
    patience = RetryPolicy(view.note)
    opened = home.open(patience)
    settings = studies.settings_of(opened)
    target = studies.target(opened)
    device = resolve_device(request.device)
    source = request.located(settings.task)
    task = loading.judged(loading.find(source, request.data_folder), settings.metric)
    find_modules(settings.own_paths(), home.folder.parent)
    check_ranks(request.ranks, task, device)
    studies_dir = home.folder.parent
    task = loops.tried_apart(task, source, request.data_folder, settings, device, studies_dir, view.tick, request.ranks)
    data = splits.search_data(task, settings.train_examples)
    network = check(task, data.train, settings)
    study_checks.same_code(opened, settings.task, task_code.record(task, fresh_model(task), settings.task), network)
    study_checks.same_task(opened, task, data, network)
    supervisor.tidy(home, opened)
    ledger = trials.RecordCache(opened)
    described = notes.of_study(opened, home.folder, ledger.read)
    if counts(ledger.read())["finished"] < target:
        job = Job(home, settings, source, request.data_folder, str(device), None, notes.trial_ends)
        supervisor.train(request, job, data, task.judge.unit, opened, patience, described.refreshed, view)
    with explained_storage(home.url):
        unwritten, records = described.end(), ledger.read()
    if unwritten:
        view.note(unwritten)
    leader = best(records)
    return JoinOutcome(
        study=home.name,
        storage=home.url.shown,
        trials=counts(records),
        target=studies.target(opened),
        best=leader.value if leader else None,
        seconds=round(time.monotonic() - began, 3),
        unit=task.judge.unit,
    )
