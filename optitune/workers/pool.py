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
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from optitune.errors import Interrupted, OptituneError, UsageError
from optitune.tasks.user_code import raised_from, reason, traced, whole
from optitune.workers.child_process import (
    ctrl_c_ignored,
    folder_kept_out,
    let_tasks_have_processes,
    main_kept_out,
    printing_to,
    signals,
    start,
)

WORKER_MODULES = (
    "optitune.searching.worker",
    "optitune.retraining.worker",
    "optitune.comparing.worker",
    "optitune.dashboard.trial_notes",
    "optitune.tasks.pooling_kernels",
    "torch._dynamo",
    "matplotlib.backends.backend_agg",
)
"""What worker processes need; torch's optimizers import torch's compiler at their first step, and a trial's picture is
drawn at its end."""


DEATHS_IN_A_ROW = 3
"""How often a worker, and those that took its place, may die without a sign of life in between."""

MOST_WORKERS = 16
"""How many workers `auto` starts at most; each holds a few hundred megabytes."""

WORKERS_PER_GPU = 4
"""A small network leaves most of a GPU idle; several processes fill it. Not measured yet."""

TICK_S = 0.25


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
        self._turn = threading.RLock()
        self.worker = worker

    def send(self, kind: str, **body: Any) -> None:
        # what a task prints may come from threads of its own
        with self._turn, suppress(BrokenPipeError, ConnectionResetError):
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
    heard: list[int] = []

    def handle(number: int, frame: Any) -> None:
        heard.append(number)
        stop.set()

    # Ctrl-C reaches the whole process group; the parent decides what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in signals[1:]:
        # a terminal that is closed tells the whole group, too, and what was begun with nohup goes on
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if not os.environ.get("OPTITUNE_DEBUG"):
        warnings.simplefilter("ignore")
    channel = Channel(connection, worker, stop)
    let_tasks_have_processes()
    printed = printing_to(lambda line: channel.send("printed", text=line))
    run_target(channel, target, arguments)
    printed.end()
    for child in multiprocessing.active_children():
        # of a pool that was left open; to wait for them would take for ever
        child.kill()
    for number in heard[:1]:
        # in order, but of that signal: the parent may not have sent it
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    if any(not each.daemon for each in threading.enumerate() if each is not threading.current_thread()):
        # of a task's code; Python would wait for it for ever
        os._exit(0)


def run_target(channel: Channel, target: Target, arguments: Sequence[Any]) -> None:
    """Run `target(channel, *arguments)` and tell how it ended."""
    try:
        target(channel, *arguments)
        channel.send("done", stopped=channel.stopping())
    except OptituneError as error:
        cause = traced(error.__cause__)
        channel.send("error", message=str(error), usage=isinstance(error, UsageError), bug=cause)
    except BaseException as error:
        # a task's own code may leave by sys.exit, too
        channel.send("error", message=reason(error), usage=False, bug=whole(error))


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # whatever this worker holds is left to the next run, as after a kill
        os._exit(1)


def _cause(exit_code: int) -> str:
    """Of what a process died, in words."""
    if exit_code >= 0:
        return f"exit {exit_code}"
    return f"signal {-exit_code}" + (", perhaps for want of memory: try fewer --workers" if exit_code == -9 else "")


def _context() -> Any:
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    return multiprocessing.get_context(method)


def warm_up(*modules: str) -> None:
    """Begin to import what workers will need, in the background; the earlier, the sooner they train."""
    context = _context()
    if context.get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        context.set_forkserver_preload(list(modules))
        with ctrl_c_ignored(), main_kept_out(), folder_kept_out():
            ensure_running()


def _finished(event: Event) -> bool:
    return event.kind == "finished"


class Supervisor(ABC):
    """Workers of any kind: listened to, replaced when they die, stopped when the user says so.

    Args:
        size: how many there are.
        on_event: called for every event of the workers.
        on_tick: called a few times a second.
        on_death: called with a worker that died by itself and of what; whether that is dealt with. What is not
            may happen to each `DEATHS_IN_A_ROW` times without a sign of life in between.
        sign_of_life: whether an event shows that its worker gets on.
    """

    def __init__(
        self,
        size: int,
        on_event: Callable[[Event], None],
        on_tick: Callable[[], None],
        on_death: Callable[[int, str], bool],
        sign_of_life: Callable[[Event], bool],
    ) -> None:
        self._size = size
        self._on_event = on_event
        self._on_tick = on_tick
        self._on_death = on_death
        self._sign_of_life = sign_of_life
        self._done: set[int] = set()
        self._retired: set[int] = set()
        self._error: OptituneError | None = None
        self._asked = 0
        self._deaths: Counter[int] = Counter()

    def run(self) -> None:
        """Start the workers and return when all are done.

        Raises:
            Interrupted: the user stopped them; the first signal lets every worker reach its next
                evaluation, the second ends them at once.
            OptituneError: a worker failed, or workers keep dying.
        """
        with self._signals_handled():
            try:
                for worker in range(self._size):
                    if not self._asked:
                        self._start(worker)
                while self._living():
                    self._listen()
                    self._on_tick()
            finally:
                self._end()
        if self._error is not None:
            raise self._error
        if self._asked:
            raise Interrupted("stopped")

    def asked(self) -> bool:
        """Whether the user has asked for an end."""
        return self._asked > 0

    @abstractmethod
    def stop(self) -> None:
        """Ask every worker to stop at its next occasion. Called from a signal's handler, too."""

    @abstractmethod
    def kill(self, worker: int) -> None:
        """End a worker at once; another one takes its place. Called from a signal's handler, too."""

    @abstractmethod
    def kill_if(self, worker: int, still: Callable[[], bool]) -> None:
        """End a worker at once if `still` says so when all that it has sent so far has been read."""

    @abstractmethod
    def _start(self, worker: int) -> None: ...

    @abstractmethod
    def _living(self) -> list[int]: ...

    @abstractmethod
    def _listen(self) -> None:
        """Wait for a moment at most, heed what workers tell, and part with those that have gone."""

    @abstractmethod
    def _end(self) -> None:
        """Leave no worker behind."""

    def _handle(self, event: Event) -> None:
        if event.kind == "printed":
            # a screen that is drawn meanwhile makes room for it
            with suppress(OSError, ValueError):
                print(event.body["text"], file=sys.stderr, flush=True)
        elif event.kind == "done":
            # one that somebody else has stopped leaves its work to another; whether it was us is known when it has gone
            if event.worker not in self._retired and not event.body["stopped"]:
                self._done.add(event.worker)
        elif event.kind == "error":
            self._done.add(event.worker)
            if self._error is None:
                kind = UsageError if event.body["usage"] else OptituneError
                self._error = raised_from(kind(event.body["message"]), event.body["bug"])
            self.stop()
        else:
            if self._sign_of_life(event):
                del self._deaths[event.worker]
            if event.kind == "retired":
                self._retired.add(event.worker)
            self._on_event(event)

    def _parted(self, worker: int, cause: str) -> None:
        """See to it that another takes the place of a worker that has gone, unless its work is done."""
        if worker in self._done or self._asked or self._error is not None:
            return
        if worker in self._retired:
            self._retired.remove(worker)
        elif not self._on_death(worker, cause):
            self._deaths[worker] += 1
        if self._deaths[worker] < DEATHS_IN_A_ROW:
            self._start(worker)
        else:
            self._error = OptituneError(
                f"workers died {self._deaths[worker]} times in a row ({cause}); what was finished is kept"
            )
            self.stop()

    @contextmanager
    def _signals_handled(self) -> Iterator[None]:
        def handle(number: int, frame: Any) -> None:
            self._asked += 1
            if self._asked == 1:
                self.stop()
            else:
                for worker in self._living():
                    self.kill(worker)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # a closed terminal means nothing to what was begun with nohup
        handled = [each for each in signals if each == signal.SIGINT or signal.getsignal(each) != signal.SIG_IGN]
        before = {number: signal.signal(number, handle) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Pool(Supervisor):
    """Worker processes of this machine that each run `target(channel, *arguments)`.

    Args:
        target: importable by name in a fresh process.
        jobs: the arguments of each worker.
        on_event: as of any `Supervisor`.
        on_tick: likewise.
        on_death: likewise.
        sign_of_life: likewise.
    """

    def __init__(
        self,
        target: Target,
        jobs: Sequence[Sequence[Any]],
        on_event: Callable[[Event], None],
        on_tick: Callable[[], None],
        on_death: Callable[[int, str], bool] = lambda worker, cause: False,
        sign_of_life: Callable[[Event], bool] = _finished,
    ) -> None:
        super().__init__(len(jobs), on_event, on_tick, on_death, sign_of_life)
        self._context = _context()
        self._target = target
        self._jobs = jobs
        self._processes: dict[int, BaseProcess] = {}
        self._connections: dict[int, Connection] = {}

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()

    def kill(self, worker: int) -> None:
        if worker in self._processes:
            self._processes[worker].kill()

    def kill_if(self, worker: int, still: Callable[[], bool]) -> None:
        while worker in self._processes and self._connections[worker].poll():
            self._hear(worker)
        if still():
            self.kill(worker)

    def _living(self) -> list[int]:
        return list(self._processes)

    def _end(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.join()

    def _start(self, worker: int) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_enter,
            args=(self._target, theirs, worker, self._jobs[worker]),
            name=f"optitune-worker-{worker}",
            daemon=True,
        )
        start(process)
        theirs.close()
        self._processes[worker], self._connections[worker] = process, ours
        if self._asked:
            # the signal came while this one was being started
            process.terminate()

    def _listen(self) -> None:
        ready = wait(list(self._connections.values()), timeout=TICK_S)
        for worker, connection in list(self._connections.items()):
            if connection in ready:
                self._hear(worker)

    def _hear(self, worker: int) -> None:
        try:
            event = self._connections[worker].recv()
        except (EOFError, OSError):
            process = self._processes.pop(worker)
            self._connections.pop(worker).close()
            process.join()
            self._parted(worker, _cause(process.exitcode or 0))
        else:
            self._handle(event)
