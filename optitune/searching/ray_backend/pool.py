"""Workers of a search as actors of a Ray cluster; `actor` is what they do there.

Ray brings them to machines with a free core, or a free share of a GPU, and says when one has died. Everything
else goes through the study's storage, as among the workers of one machine.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from optitune.searching.events import Note
from optitune.searching.ray_backend.actor import Actor, ActorJob, Begun
from optitune.searching.ray_backend.cluster import Cluster, explained_cluster, quiet_ray
from optitune.searching.worker import Job
from optitune.storage import databases
from optitune.storage.urls import StorageUrl
from optitune.workers.events import Done, Event, Failed
from optitune.workers.leases import machine
from optitune.workers.pool import TICK_S, WORKERS_PER_GPU
from optitune.workers.supervisor import Supervisor

PLACE_S = 30.0
"""How long an actor may wait for a place before the user is notified."""

GRACE_S = 2.0
"""How long an actor may take to say that it has begun before a stop ends it without asking."""

EXIT = re.compile(r"Worker exit type: (\w+)")


class RayPool(Supervisor):
    """Worker actors on a cluster that this process is connected to.

    Args:
        cluster: that one.
        jobs: of each worker.
        on_event, on_tick, on_death, sign_of_life: as of any `Supervisor`.
    """

    def __init__(
        self,
        cluster: Cluster,
        jobs: Sequence[Job],
        on_event: Callable[[Event], None],
        on_tick: Callable[[], None],
        on_death: Callable[[int, str], bool],
        sign_of_life: Callable[[Event], bool],
    ) -> None:
        super().__init__(len(jobs), on_event, on_tick, on_death, sign_of_life)
        self._ray = quiet_ray()
        self._address = cluster.address
        self._jobs = jobs
        self._actors: dict[int, Any] = {}
        self._questions: dict[Any, int] = {}
        self._waiting: dict[int, float] = {}
        self._to_stop = False
        self._to_kill: dict[int, Callable[[], bool]] = {}
        self._stopped: float | None = None
        self._complained = False

    def stop(self) -> None:
        # a signal may come in the midst of a call of Ray's, which bears no other one in between
        self._to_stop = True

    def kill(self, worker: int) -> None:
        self._to_kill[worker] = lambda: True

    def kill_if(self, worker: int, still: Callable[[], bool]) -> None:
        self._to_kill[worker] = still

    def _living(self) -> list[int]:
        return list(self._actors)

    def _end(self) -> None:
        # whatever fails here, Ray ends the actors of a process that has left
        with suppress(Exception):
            for actor in self._actors.values():
                self._ray.kill(actor)

    def _start(self, worker: int) -> None:
        job = self._jobs[worker]
        home = replace(job.home, url=_for_all(job.home.url))
        sent = replace(job, home=home, data_dir=job.data_dir.absolute())
        seconds = None if job.deadline is None else job.deadline - time.monotonic()
        share = 1 / WORKERS_PER_GPU if job.device.startswith("cuda") else 0
        with explained_cluster(self._address):
            # one of its threads waits for events, another hears that it is to stop
            actor = self._ray.remote(num_cpus=1, num_gpus=share, max_concurrency=2)(Actor).remote(
                worker, ActorJob(sent, machine(), Path.cwd(), seconds)
            )
            self._actors[worker] = actor
            self._waiting[worker] = time.monotonic()
            self._ask(worker)

    def _ask(self, worker: int) -> None:
        self._questions[self._actors[worker].events.remote()] = worker

    def _listen(self) -> None:
        with explained_cluster(self._address):
            if self._to_stop and self._stopped is None:
                self._stopped = time.monotonic()
                for actor in self._actors.values():
                    actor.stop.remote()
            self._ray.wait(list(self._questions), num_returns=1, timeout=0 if self._to_kill else TICK_S)
        self._hear_all()
        self._kill_all()
        self._look_at_waiting()

    def _hear_all(self) -> None:
        with explained_cluster(self._address):
            ready, _ = self._ray.wait(list(self._questions), num_returns=len(self._questions), timeout=0)
        for question in ready:
            self._hear(question)

    def _kill_all(self) -> None:
        while self._to_kill:
            worker, still = self._to_kill.popitem()
            if worker in self._actors and still():
                with explained_cluster(self._address):
                    self._ray.kill(self._actors[worker])

    def _hear(self, question: Any) -> None:
        worker = self._questions.pop(question)
        with explained_cluster(self._address):
            try:
                events = self._ray.get(question)
            except self._ray.exceptions.RayError as error:
                self._part(worker, _cause(error))
                return
        for event in events:
            if isinstance(event, Begun):
                self._waiting.pop(worker, None)
            else:
                self._handle(event)
        if any(isinstance(event, Done | Failed) for event in events):
            self._part(worker, "")
        else:
            with explained_cluster(self._address):
                self._ask(worker)

    def _part(self, worker: int, cause: str) -> None:
        self._waiting.pop(worker, None)
        actor = self._actors.pop(worker)
        with explained_cluster(self._address):
            self._ray.kill(actor)
        self._parted(worker, cause)

    def _look_at_waiting(self) -> None:
        """Give up those that wait for a place while everyone stops, and note those that wait for long."""
        now = time.monotonic()
        if self._stopped is not None and now - self._stopped > GRACE_S:
            self._to_kill |= dict.fromkeys(self._waiting, lambda: True)
        late = [worker for worker, since in self._waiting.items() if now - since > PLACE_S]
        if late and not self._complained:
            self._complained = True
            text = "has not begun: the cluster starts it slowly, or has no free place for it ('ray status' shows them)"
            self._on_event(Note(late[0], text))


def _for_all(url: StorageUrl) -> StorageUrl:
    """The storage's URL with the password that this machine's environment has for it."""
    target, password = url.target, os.environ.get("PGPASSWORD")
    known = target is not None and (target.password or target.query.keys() & set(databases.SECRETS))
    if target is None or known or password is None or url.kind != "postgresql":
        return url
    return replace(url, target=target.set(password=password))


def _cause(error: Exception) -> str:
    """Of what an actor died, in words."""
    text = str(error)
    found = EXIT.search(text)
    if found is not None:
        memory = ", for want of memory: try fewer workers" if "MEMORY" in found[1] else ""
        return f"its Ray actor ended with {found[1]}{memory}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
