"""The workers that a search or a helping machine sends to a study: started, watched, and shown."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import optuna
import torch

from optitune.common import files
from optitune.common.text import Unit
from optitune.errors import Interrupted, OptituneError
from optitune.sampling.allocation import FAILURES
from optitune.searching import trial_checkpoint
from optitune.searching.events import Note, TrialFailed, TrialFinished, TrialProgress, TrialStarted
from optitune.searching.notes import TrialEnds
from optitune.searching.ray_backend.cluster import Cluster
from optitune.searching.ray_backend.pool import RayPool
from optitune.searching.trial_guard import TrialGuard
from optitune.searching.worker import Job, work
from optitune.storage import artifacts as storage_artifacts
from optitune.storage import studies
from optitune.storage import trials as storage_trials
from optitune.storage.retry import RetryPolicy
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import exists, explained_storage, shown
from optitune.study.records import TrialRecord, counts, failing
from optitune.study.settings import StudySettings
from optitune.tasks import loading, splits
from optitune.tasks.task import Task
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
        """The study is open; training is about to begin."""

    def show(self, event: Event, records: list[TrialRecord]) -> None:
        """A worker reported something; `records` are as fresh as the last finished trial."""

    def note(self, text: str) -> None:
        """Something happened that the user should know."""

    def tick(self) -> None:
        """A moment passed."""

    def end(self) -> None:
        """No more will come."""


@dataclass(frozen=True)
class Order:
    """What the workers of this machine are to do.

    Attributes:
        home: where the study lives.
        settings: with every `auto` resolved.
        task: what is trained.
        source: where workers have the task from.
        data: what they train and judge on.
        data_dir: where torchvision's files lie.
        device: as torch names it.
        workers: how many; None to choose.
        target: how many finished trials the study is to have.
        follow: whether to go by the study's own number of trials, which may grow meanwhile.
        timeout: seconds after which no further trial is begun; None for never.
        trial_ends: describes a trial that is about to end.
        trial_timeout: seconds that a worker may be at one trial; None for as long as it takes.
        cluster: where the workers are to run; None for this machine.
    """

    home: StudyLocation
    settings: StudySettings
    task: Task
    source: loading.Source
    data: splits.SearchData
    data_dir: Path
    device: torch.device
    workers: int | None
    target: int
    follow: bool
    timeout: float | None
    trial_ends: TrialEnds
    trial_timeout: float | None
    cluster: Cluster | None = None


def train(
    order: Order,
    opened: optuna.Study,
    patience: RetryPolicy,
    refreshed: Callable[[], list[TrialRecord]],
    view: View,
) -> None:
    """Let workers train the trials that the study lacks.

    Args:
        opened: the study, waited for with `patience`.
        refreshed: reads the trials again.

    Raises:
        Interrupted: the user stopped it.
        OptituneError: training keeps failing, or the storage does.
    """
    folder = order.home.folder / "workers"
    deadline = None if order.timeout is None else time.monotonic() + order.timeout
    cluster = order.cluster
    spread = [order.device] if cluster else devices(order.device)
    records = refreshed()
    missing = order.target - counts(records)["finished"]
    if cluster is None:
        workers = auto(order.workers, len(spread) * (order.device.type != "cpu"), missing)
    else:
        workers = cluster.workers(order.workers, order.device, missing)
    guard = TrialGuard(opened, order.trial_timeout, view.note)
    owner = Owner(folder)
    try:
        shared = owner.belongings / "data.safetensors"
        splits.save(order.data, shared)
        target = None if order.follow else order.target
        code = opened.user_attrs.get(studies.CODE) or {}
        job = Job(
            home=order.home,
            settings=order.settings,
            task=order.source,
            data_dir=order.data_dir,
            device=str(order.device),
            data=shared,
            target=target,
            deadline=deadline,
            trial_ends=order.trial_ends,
            code=code,
        )
        jobs = [replace(job, device=str(spread[worker % len(spread)])) for worker in range(workers)]
        view.begin(order.home.name, order.settings, order.task.judge.unit, order.target, records, workers)

        # of another sampler's trials, nobody is left out
        noted = set() if order.settings.sampler == "optitune" else {*order.settings.optimizers}

        def handle(event: Event) -> None:
            nonlocal records
            if isinstance(event, Note):
                view.note(f"worker {event.worker + 1}: {event.text}")
                return
            guard.handle(event)
            if isinstance(event, TrialFinished | TrialFailed):
                if not exists(order.home.url):
                    # a process that has the file open goes on with it, and all of that would be gone in the end
                    raise OptituneError(
                        f"the storage {shown(order.home.url)} was removed or renamed while this ran: put it back, "
                        "or run the same command again to start anew"
                    )
                records = refreshed()
                for each in failing(records, order.settings.optimizers):
                    if each.failed >= FAILURES and each.optimizer not in noted and len(order.settings.optimizers) > 1:
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
        with explained_storage(order.home.url):
            pool.run()
    except OptituneError as error:
        if not isinstance(error, Interrupted) and not patience.stopping():
            raise
        if (done := counts(refreshed())["finished"]) < order.target:
            raise Interrupted(
                f"stopped with {done} of {order.target} trials finished, nothing lost; "
                "run the same command again to go on"
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
