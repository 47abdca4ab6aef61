"""Worker processes: started, listened to, replaced when they die, stopped when the user says so.

Every worker is a process of its own with one torch thread: on a CPU the fastest and the steadiest way
to use the cores, and a crash takes nothing else with it. Where the system can, workers are forked from
a server process that has imported everything once and done nothing else: they start at once and share
that memory.
"""

import _thread
import io
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
from pathlib import Path
from types import ModuleType
from typing import Any

from optitune.beside import hiding
from optitune.errors import Interrupted, OptituneError, UsageError
from optitune.user_code import raised_from, reason, traced, whole

DEATHS_IN_A_ROW = 3
"""How often a worker, and those that took its place, may die without a sign of life in between."""

MOST_WORKERS = 16
"""How many workers `auto` starts at most; each holds a few hundred megabytes."""

WORKERS_PER_GPU = 4
"""A small network leaves most of a GPU idle; several processes fill it. Not measured yet."""

MOST_OF_A_LINE = 10_000
"""How many bytes without an end of line are held back, and shown of a line."""

TICK_S = 0.25

SAFE_PATH, OURS = "PYTHONSAFEPATH", "optitune"
"""What keeps Python from looking into the present folder when it begins, and the value that says who has set it."""

_signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass(frozen=True)
class Event:
    """Something a worker tells: `kind` is a word that sender and listener agree on."""

    kind: str
    worker: int
    body: dict[str, Any]


class Printed(io.RawIOBase):
    """Where a worker prints: whole lines go to its parent, which shows them beside all else.

    Args:
        send: takes a line.
    """

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self._begun = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        # of processes that are to print to the same place
        return 2

    def write(self, data: Any) -> int:
        text = bytes(data)
        *lines, self._begun = (self._begun + text).split(b"\n")
        for line in lines:
            self._show(line)
        if len(self._begun) > MOST_OF_A_LINE:
            self.end()
        return len(text)

    def end(self) -> None:
        """Send what was begun and has no end yet."""
        begun, self._begun = self._begun, b""
        if begun:
            self._show(begun)

    def _show(self, line: bytes) -> None:
        # of a bar that is drawn over itself, how it ends
        last = line.rstrip(b"\r").rpartition(b"\r")[2]
        self._send(last[:MOST_OF_A_LINE].decode(errors="replace"))


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

    def heed(number: int, frame: Any) -> None:
        heard.append(number)
        stop.set()

    # Ctrl-C reaches the whole process group; the parent decides what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in _signals[1:]:
        # a terminal that is closed tells the whole group, too, and what was begun with nohup goes on
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, heed)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if not os.environ.get("OPTITUNE_DEBUG"):
        warnings.simplefilter("ignore")
    channel = Channel(connection, worker, stop)
    _let_tasks_have_processes()
    printed = _printing_to(channel)
    told(channel, target, arguments)
    printed.end()
    for child in multiprocessing.active_children():
        # of a pool that was left open; to wait for them would take for ever
        child.kill()
    for number in heard[:1]:
        # in order, but of that signal: the parent may not have sent it
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _let_tasks_have_processes() -> None:
    """Let a task's code make processes, as a script may; they end when this one does, however that comes about."""
    process = multiprocessing.current_process()
    if process.daemon:
        # the parent still ends it as a daemon; it does not take itself for one
        process.daemon = False
    # they start as those of a script do, and not as this one did, unless its code says how
    multiprocessing.set_start_method(None, force=True)
    if os.environ.get(SAFE_PATH) == OURS:
        del os.environ[SAFE_PATH]
    if not hasattr(os, "register_at_fork"):
        return
    alive, held = os.pipe()

    def in_child() -> None:
        # written by this process alone, so that its end is seen
        with suppress(OSError):
            os.close(held)
        _thread.start_new_thread(_leave_with, (alive,))
        with suppress(ValueError):
            for number in _signals:
                signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

    os.register_at_fork(after_in_child=in_child)


def _leave_with(alive: int) -> None:
    with suppress(OSError):
        os.read(alive, 1)
        os._exit(1)


def _printing_to(channel: Channel) -> Printed:
    """Let all that this process prints go to its parent's standard error, lest it be torn or spoil a result."""
    printed = Printed(lambda line: channel.send("printed", text=line))
    with suppress(OSError):
        # what a library in C prints, or another process
        os.dup2(2, 1)
    stream = io.TextIOWrapper(io.BufferedWriter(printed), encoding="utf-8", errors="replace", line_buffering=True)
    sys.stdout = sys.stderr = stream
    return printed


def told(channel: Channel, target: Target, arguments: Sequence[Any]) -> None:
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
        with _ctrl_c_ignored(), _main_kept_out(), _folder_kept_out():
            ensure_running()


def _finished(event: Event) -> bool:
    return event.kind == "finished"


class Staff(ABC):
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
        with self._signals_heeded():
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

    def _heed(self, event: Event) -> None:
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
    def _signals_heeded(self) -> Iterator[None]:
        def heed(number: int, frame: Any) -> None:
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
        heeded = [each for each in _signals if each == signal.SIGINT or signal.getsignal(each) != signal.SIG_IGN]
        before = {number: signal.signal(number, heed) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Pool(Staff):
    """Worker processes of this machine that each run `target(channel, *arguments)`.

    Args:
        target: importable by name in a fresh process.
        jobs: the arguments of each worker.
        on_event: as of any `Staff`.
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
        with _ctrl_c_ignored(), _main_kept_out(), _folder_kept_out():
            process.start()
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
            self._heed(event)


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
def _folder_kept_out() -> Iterator[None]:
    """Keep a new process from importing the user's `random.py` where it means Python's own.

    Python looks into the present folder first when it begins, be it for the fork server or for a worker.
    """
    if SAFE_PATH in os.environ or not hiding(Path.cwd()):
        yield
        return
    os.environ[SAFE_PATH] = OURS
    try:
        yield
    finally:
        del os.environ[SAFE_PATH]


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
