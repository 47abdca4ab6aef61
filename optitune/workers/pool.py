"""Pool of worker processes on this machine.

Every worker is a process of its own with one torch thread: on a CPU the fastest and the steadiest way
to use the cores, and a crash takes nothing else with it. Where the system can, workers are forked from
a server process that has imported everything once and done nothing else: they start at once and share
that memory.
"""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from optitune.errors import OptituneError, UsageError
from optitune.tasks.user_code import reason, traced, whole
from optitune.workers.child_process import (
    ctrl_c_ignored,
    folder_kept_out,
    let_tasks_have_processes,
    main_kept_out,
    printing_to,
    signals,
    start,
)
from optitune.workers.events import Done, Event, Failed, Output
from optitune.workers.progress import ProgressTracker
from optitune.workers.supervisor import Supervisor

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


MOST_WORKERS = 16
"""How many workers `auto` starts at most; each holds a few hundred megabytes."""

WORKERS_PER_GPU = 4
"""A small network leaves most of a GPU idle; several processes fill it. Not measured yet."""

TICK_S = 0.25


class Channel:
    """Connection from a worker to its parent."""

    def __init__(self, connection: Connection, worker: int, stop: threading.Event) -> None:
        self._connection = connection
        self._stop = stop
        self._turn = threading.RLock()
        self.worker = worker

    def send(self, event: Event) -> None:
        """Report to the parent."""
        # what a task prints may come from threads of its own
        with self._turn, suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(event)

    def stopping(self) -> bool:
        """Whether the worker is to stop at the next occasion."""
        return self._stop.is_set()


Target = Callable[..., None]


def auto(wanted: int | None, gpus: int, jobs: int, ranks: int = 1) -> int:
    """Choose how many workers to start.

    Args:
        wanted: by the user; None for one per core, or a few per GPU.
        gpus: how many there are; 0 to train on the CPU.
        jobs: how many trainings there are: no more workers than these.
        ranks: how many processes train together for each worker.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sensible = min(cores, WORKERS_PER_GPU * gpus if gpus else MOST_WORKERS)
    if ranks > 1:
        # each has a GPU, or a core, of its own
        sensible = (gpus or cores) // ranks
    return max(1, min(wanted or sensible, jobs))


def _enter(target: Target, connection: Connection, worker: int, arguments: Sequence[Any]) -> None:
    stop = threading.Event()
    heard: list[int] = []

    def handle(number: int, frame: Any) -> None:
        heard.append(number)
        # a second signal may come while the first one's handler holds the event's lock
        if len(heard) == 1:
            stop.set()

    # Ctrl-C reaches the whole process group; the parent decides what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in signals[1:]:
        # a terminal that is closed signals the whole group, too, and what was begun with nohup goes on
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)
    threading.Thread(target=leave_with_parent, daemon=True).start()
    if not os.environ.get("OPTITUNE_DEBUG"):
        warnings.simplefilter("ignore")
    channel = Channel(connection, worker, stop)
    let_tasks_have_processes()
    printed = printing_to(lambda line: channel.send(Output(worker, line)))
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
    """Run a worker's target and report how it ended.

    Args:
        channel: to the parent process.
        target: called with the channel and the arguments.
        arguments: of the target.
    """
    try:
        target(channel, *arguments)
        channel.send(Done(channel.worker, channel.stopping()))
    except OptituneError as error:
        bug = traced(error.__cause__)
        channel.send(Failed(channel.worker, str(error), isinstance(error, UsageError), bug))
    except BaseException as error:
        # a task's own code may leave by sys.exit, too
        channel.send(Failed(channel.worker, reason(error), False, whole(error)))


def leave_with_parent() -> None:
    """End this process once its parent has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # whatever this worker holds is left to the next run, as after a kill
        os._exit(1)


def death_cause(exit_code: int) -> str:
    """Of what a process died, in words.

    Args:
        exit_code: as `multiprocessing` has it: below 0 the number of a signal.
    """
    if exit_code >= 0:
        return f"exit {exit_code}"
    return f"signal {-exit_code}" + (", perhaps for want of memory: try fewer workers" if exit_code == -9 else "")


def process_context() -> Any:
    """How processes are started here."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    return multiprocessing.get_context(method)


def warm_up(*modules: str) -> None:
    """Begin to import what workers will need, in the background; the earlier, the sooner they train."""
    context = process_context()
    if context.get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        context.set_forkserver_preload(list(modules))
        with ctrl_c_ignored(), main_kept_out(), folder_kept_out():
            ensure_running()


class Pool(Supervisor):
    """Worker processes of this machine that each run `target(channel, *arguments)`.

    Args:
        target: importable by name in a fresh process.
        jobs: the arguments of each worker.
        on_event, on_tick, on_death: as of any `Supervisor`.
        sign_of_life: the same; default: events that show a training further than it has ever been.
    """

    def __init__(
        self,
        target: Target,
        jobs: Sequence[Sequence[Any]],
        on_event: Callable[[Event], None],
        on_tick: Callable[[], None],
        on_death: Callable[[int, str], bool] = lambda worker, cause: False,
        sign_of_life: Callable[[Event], bool] | None = None,
    ) -> None:
        super().__init__(len(jobs), on_event, on_tick, on_death, sign_of_life or ProgressTracker())
        self._context = process_context()
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
            self._parted(worker, death_cause(process.exitcode or 0))
        else:
            self._handle(event)
