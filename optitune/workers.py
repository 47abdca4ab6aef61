"""Worker processes: started, listened to, replaced when they die, stopped when the user says so.

Every worker is a process of its own with one torch thread: on a CPU the fastest and the steadiest way
to use the cores, and a crash takes nothing else with it. Where the system can, workers are forked from
a server process that has imported everything once and done nothing else: they start at once and share
that memory.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from optitune.errors import Interrupted, OptituneError, UsageError

DEATHS_IN_A_ROW = 3
"""How often workers may die without anything finished in between."""

MOST_WORKERS = 16
"""How many workers `auto` starts at most; each holds a few hundred megabytes."""

WORKERS_PER_GPU = 4
"""A small network leaves most of a GPU idle; several processes fill it. Not measured yet."""

TICK_S = 0.25

_signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass(frozen=True)
class Event:
    """Something a worker tells: `kind` is a word that sender and listener agree on."""

    kind: str
    worker: int
    body: dict[str, Any]


class Channel:
    """A worker's line to its parent."""

    def __init__(self, connection: Connection, worker: int, stop: threading.Event) -> None:
        self._connection = connection
        self._stop = stop
        self.worker = worker

    def send(self, kind: str, **body: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(Event(kind, self.worker, body))

    def stopping(self) -> bool:
        """Whether the worker is to stop at the next occasion."""
        return self._stop.is_set()


Target = Callable[..., None]


def auto(wanted: int | None, gpus: int, jobs: int) -> int:
    """How many workers to start: as `wanted`, or one per core, or a few per GPU; never more than `jobs`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sensible = min(cores, WORKERS_PER_GPU * gpus if gpus else MOST_WORKERS)
    return max(1, min(wanted or sensible, jobs))


def _enter(target: Target, connection: Connection, worker: int, arguments: Sequence[Any]) -> None:
    stop = threading.Event()
    # Ctrl-C reaches the whole process group; the parent decides what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in _signals[1:]:
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if not os.environ.get("OPTITUNE_DEBUG"):
        warnings.simplefilter("ignore")
    channel = Channel(connection, worker, stop)
    try:
        target(channel, *arguments)
        channel.send("done")
    except OptituneError as error:
        channel.send("error", message=str(error), usage=isinstance(error, UsageError), bug="")
    except Exception as error:
        channel.send("error", message=f"{type(error).__name__}: {error}", usage=False, bug=traceback.format_exc())


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # whatever this worker holds is left to the next run, as after a kill
        os._exit(1)


def _context() -> Any:
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    return multiprocessing.get_context(method)


def warm_up(*modules: str) -> None:
    """Begin to import what workers will need, in the background; the earlier, the sooner they train."""
    context = _context()
    if context.get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        context.set_forkserver_preload(list(modules))
        with _ctrl_c_ignored(), _main_kept_out():
            ensure_running()


class Pool:
    """Workers that each run `target(channel, *arguments)`.

    Args:
        target: importable by name in a fresh process.
        jobs: the arguments of each worker.
        on_event: called for every event of the workers.
        on_tick: called a few times a second.
    """

    def __init__(
        self,
        target: Target,
        jobs: Sequence[Sequence[Any]],
        on_event: Callable[[Event], None],
        on_tick: Callable[[], None],
    ) -> None:
        self._context = _context()
        self._target = target
        self._jobs = jobs
        self._on_event = on_event
        self._on_tick = on_tick
        self._processes: dict[int, BaseProcess] = {}
        self._connections: dict[int, Connection] = {}
        self._done: set[int] = set()
        self._error: OptituneError | None = None
        self._asked = 0
        self._deaths = 0

    def run(self) -> None:
        """Start the workers and return when all are done.

        Raises:
            Interrupted: the user stopped them; the first signal lets every worker reach its next
                evaluation, the second ends them at once.
            OptituneError: a worker failed, or workers keep dying.
        """
        with self._signals_heeded():
            try:
                for worker in range(len(self._jobs)):
                    self._start(worker)
                while self._processes:
                    self._listen()
                    self._on_tick()
            finally:
                for process in self._processes.values():
                    process.kill()
                    process.join()
        if self._error is not None:
            raise self._error
        if self._asked:
            raise Interrupted("stopped")

    def stop(self) -> None:
        """Ask every worker to stop at its next occasion."""
        for process in self._processes.values():
            process.terminate()

    def _start(self, worker: int) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_enter,
            args=(self._target, theirs, worker, self._jobs[worker]),
            name=f"optitune-worker-{worker}",
            daemon=True,
        )
        with _ctrl_c_ignored(), _main_kept_out():
            process.start()
        theirs.close()
        self._processes[worker], self._connections[worker] = process, ours

    def _listen(self) -> None:
        ready = wait(list(self._connections.values()), timeout=TICK_S)
        for worker, connection in list(self._connections.items()):
            if connection in ready:
                try:
                    event = connection.recv()
                except (EOFError, OSError):
                    self._bury(worker)
                else:
                    self._heed(event)

    def _heed(self, event: Event) -> None:
        if event.kind == "done":
            self._done.add(event.worker)
        elif event.kind == "error":
            self._done.add(event.worker)
            if self._error is None:
                kind = UsageError if event.body["usage"] else OptituneError
                self._error = kind(event.body["message"])
                self._error.add_note(event.body["bug"])
            self.stop()
        else:
            if event.kind == "finished":
                self._deaths = 0
            self._on_event(event)

    def _bury(self, worker: int) -> None:
        process = self._processes.pop(worker)
        self._connections.pop(worker).close()
        process.join()
        if worker in self._done or self._asked or self._error is not None:
            return
        self._deaths += 1
        if self._deaths < DEATHS_IN_A_ROW:
            self._start(worker)
        else:
            code = process.exitcode or 0
            cause = (
                f"signal {-code}" + (", perhaps for want of memory: try fewer --workers" if code == -9 else "")
                if code < 0
                else f"exit {code}"
            )
            self._error = OptituneError(
                f"workers died {self._deaths} times in a row ({cause}); what was finished is kept"
            )
            self.stop()

    @contextmanager
    def _signals_heeded(self) -> Iterator[None]:
        def heed(number: int, frame: Any) -> None:
            self._asked += 1
            if self._asked == 1:
                self.stop()
            else:
                for process in self._processes.values():
                    process.kill()

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, heed) for number in _signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _main_kept_out() -> Iterator[None]:
    """Keep a new process from importing the user's script: a search called there would begin again in every worker.

    Workers need nothing of it: a task that was defined there comes with its functions (`tasks.packed`).
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """A process inherits what is ignored, so a worker is deaf to Ctrl-C from its first moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
