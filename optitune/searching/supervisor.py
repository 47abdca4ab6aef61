"""The workers that a search or a helping machine sends to a study: started, watched, and shown."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

import optuna
import torch

from optitune.common import files
from optitune.common.text import Unit
from optitune.errors import Interrupted, OptituneError
from optitune.sampling.allocation import FAILURES
from optitune.searching import costs, trial_checkpoint
from optitune.searching.events import Note, TrialFailed, TrialFinished, TrialProgress, TrialStarted
from optitune.searching.ray_backend.cluster import Cluster
from optitune.searching.ray_backend.pool import RayPool
from optitune.searching.requests import JoinRequest
from optitune.searching.trial_guard import TrialGuard
from optitune.searching.worker import Job, work
from optitune.storage import artifacts as storage_artifacts
from optitune.storage import studies
from optitune.storage import trials as storage_trials
from optitune.storage.retry import RetryPolicy
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import explained_storage
from optitune.study.records import TrialRecord, counts, failing
from optitune.study.settings import StudySettings
from optitune.tasks import splits
from optitune.training.device import devices
from optitune.workers.events import Event
from optitune.workers.leases import Owner, sweep
from optitune.workers.pool import Pool, auto
from optitune.workers.supervisor import Supervisor


def gets_on(event: Event) -> bool:
    """Whether an event shows that its worker gets on; of a trial that does not, `TrialGuard` takes care."""
    return isinstance(event, TrialStarted | TrialProgress | TrialFinished)


class View(Protocol):
    """Where a running search shows itself."""

    def begin(
        self,
        name: str,
        settings: StudySettings,
        unit: Unit,
        target: int,
        records: list[TrialRecord],
        workers: int,
    ) -> None:
        """The study is open; training is about to begin.

        Args:
            name: of the study.
            settings: of the study.
            unit: how the metric is written.
            target: how many finished trials the study is to have.
            records: its trials by now.
            workers: how many processes train at once.
        """

    def show(self, event: Event, records: list[TrialRecord]) -> None:
        """A worker reported something; `records` are as fresh as the last finished trial."""

    def note(self, text: str) -> None:
        """Something happened that the user should know."""

    def tick(self) -> None:
        """A moment passed."""

    def end(self) -> None:
        """No more will come."""


def train(
    request: JoinRequest,
    job: Job,
    data: splits.SearchData,
    unit: Unit,
    opened: optuna.Study,
    patience: RetryPolicy,
    refreshed: Callable[[], list[TrialRecord]],
    view: View,
    cluster: Cluster | None = None,
) -> None:
    """Let workers train the trials that the study lacks.

    Args:
        request: as the user has made it, its timeout in seconds, counted from now; None for never.
        job: what all workers are handed, but for their own device and the file of the data.
        data: what they train and evaluate on.
        unit: of the metric.
        opened: the study, waited for with `patience`.
        patience: learns when the user asks for an end.
        refreshed: reads the trials again.
        view: shows the search.
        cluster: where the workers are to run; default: this machine.

    Raises:
        Interrupted: the user stopped it.
        OptituneError: training keeps failing, or the storage does.
    """
    home, settings, device = job.home, job.settings, torch.device(job.device)
    target = studies.target(opened) if job.target is None else job.target
    folder = home.folder / "workers"
    deadline = None if request.timeout is None else time.monotonic() + request.timeout
    spread = [device] if cluster else devices(device)
    records = refreshed()
    missing = target - counts(records)["finished"]
    if cluster is None:
        workers = auto(request.workers, len(spread) * (device.type != "cpu"), missing, request.ranks)
    else:
        workers = cluster.workers(request.workers, device, missing)
    guard = TrialGuard(opened, request.trial_timeout, view.note)
    owner = Owner(folder)
    try:
        shared = owner.belongings / "data.safetensors"
        splits.save(data, shared)
        code = opened.user_attrs.get(studies.CODE) or {}
        job = replace(job, data=shared, deadline=deadline, code=code, ranks=request.ranks)
        if cluster is None and (why := costs.settle(opened, job, view.tick, request.trial_timeout)):
            view.note(why)
        jobs = [replace(job, device=str(spread[worker % len(spread)])) for worker in range(workers)]
        view.begin(home.name, settings, unit, target, records, workers)

        # of another sampler's trials, nobody is left out
        noted = set() if settings.sampler == "optitune" else {*settings.optimizers}

        def handle(event: Event) -> None:
            nonlocal records
            if isinstance(event, Note):
                view.note(f"worker {event.worker + 1}: {event.text}")
                return
            guard.handle(event)
            if isinstance(event, TrialFinished | TrialFailed):
                if not home.url.exists():
                    # a process that has the file open goes on with it, and all of that would be gone in the end
                    raise OptituneError(
                        f"the storage {home.url.shown} was removed or renamed while this ran: put it back, "
                        "or run the same command again to start anew"
                    )
                records = refreshed()
                for each in failing(records, settings.optimizers):
                    if each.failed >= FAILURES and each.optimizer not in noted and len(settings.optimizers) > 1:
                        noted.add(each.optimizer)
                        view.note(f"{each.sentence()}; it is given no more of them")
            view.show(event, records)

        def tick() -> None:
            for worker, number in guard.late():
                pool.kill_if(worker, partial(guard.is_late, worker, number))
            view.tick()

        pool: Supervisor = (
            Pool(work, [(each,) for each in jobs], handle, tick, guard.died, gets_on)
            if cluster is None
            else RayPool(cluster, jobs, handle, tick, guard.died, gets_on)
        )
        patience.stopping = pool.asked
        with explained_storage(home.url):
            pool.run()
    except OptituneError as error:
        if not isinstance(error, Interrupted) and not patience.stopping():
            raise
        if (done := counts(refreshed())["finished"]) < target:
            raise Interrupted(
                f"stopped with {done} of {target} trials finished, nothing lost; run the same command again to go on"
            ) from None
    finally:
        view.end()
        owner.release()


def tidy(home: StudyLocation, opened: optuna.Study) -> None:
    """Remove what processes that were killed left in the study's folder, whether or not anything is to be trained."""
    sweep(home.folder / "workers")
    files.sweep(home.folder / storage_artifacts.FOLDER, storage_artifacts.ID.pattern, "")
    trial_checkpoint.sweep(home.folder, lambda: storage_trials.unfinished(opened))


def sized(opened: optuna.Study, trials: int) -> None:
    """Write into the study how many trials it is to have, for workers that join it from elsewhere."""
    if opened.user_attrs.get(studies.TRIALS) != trials:
        opened.set_user_attr(studies.TRIALS, trials)
