"""What a Ray actor of a search does on its node: a worker process's work, and events that wait to be fetched."""

import hashlib
import os
import queue
import socket
import threading
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import torch
from filelock import FileLock

from optitune.common.files import cache_folder, explained, make_folder
from optitune.errors import OptituneError, UsageError
from optitune.searching import loops, trial_checkpoint
from optitune.searching.events import Note
from optitune.searching.worker import Job, Worker, work
from optitune.storage import study_checks, trials
from optitune.storage.retry import RetryPolicy
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import SHARED_STORAGE, explained_storage
from optitune.study.custom_optimizers import find_modules
from optitune.tasks import loading, splits
from optitune.training.preflight import check
from optitune.workers.events import Event
from optitune.workers.leases import Owner, machine, sweep
from optitune.workers.pool import Channel, run_target
from optitune.workers.process import configure_worker_process

POLL_S = 5.0
"""How long an actor keeps a question for events that it does not have."""


@dataclass(frozen=True)
class ActorJob:
    """What an actor needs to know, wherever it runs.

    Attributes:
        job: as a worker process of the search's own machine has it; its deadline counts there alone.
        machine: the search's.
        folder: the one that the search works in.
        seconds: after which no further trial is begun; None for never.
    """

    job: Job
    machine: str
    folder: Path
    seconds: float | None


@dataclass(frozen=True)
class Begun(Event):
    """The actor has a place on the cluster, and its worker begins."""


class Line(Channel):
    """Connection from an actor to the search, which comes and fetches its events."""

    def __init__(self, worker: int) -> None:
        self.worker = worker
        self._said: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stop = threading.Event()

    def send(self, event: Event) -> None:
        self._said.put(event)

    def stop(self) -> None:
        """Let the worker stop at the next occasion."""
        self._stop.set()

    def fetched(self, wait_s: float) -> list[Event]:
        """All that was said since the last time; nothing where nothing is said for so long."""
        events = []
        try:
            events.append(self._said.get(timeout=wait_s))
            while True:
                events.append(self._said.get_nowait())
        except queue.Empty:
            return events


class Actor:
    """A worker in a thread of its own, so that its actor has time to answer."""

    def __init__(self, worker: int, actor_job: ActorJob) -> None:
        if not os.environ.get("OPTITUNE_DEBUG"):
            warnings.simplefilter("ignore")
        self._line = Line(worker)
        self._line.send(Begun(worker))
        threading.Thread(target=run_target, args=(self._line, run_job, [actor_job]), daemon=True).start()

    def events(self) -> list[Event]:
        return self._line.fetched(POLL_S)

    def stop(self) -> None:
        self._line.stop()


def run_job(channel: Channel, actor_job: ActorJob) -> None:
    """Train trials until the study has enough.

    Raises:
        UsageError: the task is not on this node, or the storage out of its reach.
        OptituneError: the data here are others, trial after trial fails, or the storage does.
    """
    deadline = None if actor_job.seconds is None else time.monotonic() + actor_job.seconds
    job = replace(actor_job.job, deadline=deadline)
    if actor_job.machine == machine():
        os.chdir(actor_job.folder)
        work(channel, job)
        return
    try:
        _work_elsewhere(channel, job)
    except OptituneError as error:
        raise type(error)(f"on {socket.gethostname()}: {error}") from error


def _work_elsewhere(channel: Channel, job: Job) -> None:
    """Train on a node that has none of the search's files."""
    if job.home.url.is_sqlite:
        raise UsageError(f"{job.home.url.shown} is a file of another machine: {SHARED_STORAGE}")
    configure_worker_process()
    cache = cache_folder()
    home = replace(job.home, folder=_folder(cache, job.home))
    data_dir = Path(os.environ.get("OPTITUNE_DATA_DIR") or (job.data_dir if job.data_dir.is_dir() else cache / "data"))
    patience = RetryPolicy(lambda text: channel.send(Note(channel.worker, text)), channel.stopping)
    opened = home.open(patience)
    task = loading.judged(loading.find(job.task, data_dir), job.settings.metric)
    find_modules(job.settings.own_paths(), job.home.folder.parent)
    task = loops.tried(task, job.settings, torch.device(job.device))
    data = splits.search_data(task, job.settings.train_examples)
    study_checks.same_task(opened, task, data, check(task, data.train, job.settings))
    owner = _owner(home, opened)
    try:
        path = owner.belongings / "data.safetensors"
        splits.save(data, path)
        with explained_storage(home.url):
            Worker(channel, replace(job, home=home, data_dir=data_dir, data=path), owner).run()
    finally:
        owner.release()


def _folder(cache: Path, home: StudyLocation) -> Path:
    """Where this node's workers keep locks, data and checkpoints of a study."""
    # nodes may share the disk with the cache
    digest = hashlib.sha256(str(home.url.path or home.url.shown).encode()).hexdigest()[:12]
    return make_folder(cache / "clusters" / socket.gethostname() / f"{home.name}-{digest}")


def _owner(home: StudyLocation, opened: optuna.Study) -> Owner:
    """A name for this worker, with what dead ones left swept away."""
    folder = make_folder(home.folder / "workers")
    turns = home.folder / "sweep.lock"
    # whose checkpoints these are is clear only while nobody else begins
    with explained(turns), FileLock(turns):
        sweep(folder)
        if not list(folder.glob("*.lock")):
            trial_checkpoint.sweep(home.folder, lambda: trials.unfinished(opened))
        return Owner(folder)
