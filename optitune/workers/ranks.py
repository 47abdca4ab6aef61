"""Ranks: the processes that train one trial together, started by a worker, listened to by it, and ended together.

Each has the environment that `torch.distributed` reads, and is new in every training, as under torchrun.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import cloudpickle
import torch
from torch import distributed

from optitune.errors import OptituneError, UsageError
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.task import Task
from optitune.tasks.user_code import AlreadyDescribed, raised_from, reason, whole
from optitune.training.progress import Diverged
from optitune.workers.child_process import let_tasks_have_processes, printing_to, signals, start
from optitune.workers.events import Output, RankDied
from optitune.workers.pool import Channel, death_cause, leave_with_parent, process_context, warm_up
from optitune.workers.process import configure_worker_process
from optitune.workers.rank_peers import Asked, RankLost, RankPeers, receive, send

CAUSE_S, END_S = 2.0, 30.0
"""How long the others may take to fail as well, or be found dead, once one has failed; and to end once rank 0 has."""

VISIBLE = "CUDA_VISIBLE_DEVICES"

MODULES = ("optitune.workers.ranked_loop", "torch._dynamo", "sklearn.model_selection")
"""What ranks need as soon as they train: imported once for those of all trainings."""


@dataclass(frozen=True)
class Printed:
    """A line that a rank printed."""

    text: str


@dataclass(frozen=True)
class Ended:
    """A rank has returned."""

    value: Any


@dataclass(frozen=True)
class RankFailed:
    """A rank has raised an error; `at` is when, as `time.monotonic` counts."""

    at: float
    error: OptituneError | Diverged | str
    traceback: str


def check_ranks(ranks: int, task: Task, device: torch.device, cluster: bool = False) -> None:
    """Check that a task can be trained by so many processes.

    Args:
        ranks: how many.
        task: to train.
        device: to train on.
        cluster: whether Ray places the workers.

    Raises:
        UsageError: it cannot.
    """
    if not isinstance(ranks, int) or isinstance(ranks, bool) or ranks < 1:
        raise UsageError(f"ranks = {ranks!r}: must be a whole number of at least 1")
    if ranks == 1:
        return
    if not isinstance(task, LoopTask):
        raise UsageError(
            f"ranks = {ranks}: is for training loops of your own, functions of one Run; task '{task.name}' trains in "
            "one process, and --workers trains several trials at once"
        )
    if cluster:
        raise UsageError(f"ranks = {ranks}: ranks are processes of this machine; leave out the cluster")
    if not distributed.is_available():
        raise UsageError(f"ranks = {ranks}: this build of torch has no torch.distributed; install one that has")
    if device.type == "cuda" and (device.index is not None or torch.cuda.device_count() < ranks):
        raise UsageError(
            f"ranks = {ranks}: each rank takes a GPU of its own, and device = {device} has "
            f"{1 if device.index is not None else torch.cuda.device_count()}; ask for fewer, or for device = cpu"
        )


def gpus_of(worker: int, ranks: int, count: int, visible: str | None) -> str:
    """The GPUs of a worker's ranks, as `CUDA_VISIBLE_DEVICES` names them.

    Args:
        worker: its number, from 0.
        ranks: how many it has, at most `count`.
        count: GPUs of all workers.
        visible: what the variable is now; None where it is not set.
    """
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    first = worker % (count // ranks) * ranks
    return ",".join(names[first : first + ranks])


def on_ranks(
    channel: Channel,
    target: Callable[..., Any],
    arguments: Sequence[Any],
    ranks: int,
    device: torch.device,
    answer: Callable[[Any], tuple[Any, bool]] = lambda question: (None, False),
    libraries: Sequence[str] = (),
) -> Any:
    """Call a function on every rank, in new processes that all end with it.

    Where a rank dies, this process ends as well, and its parent learns of what; another takes its place, as after any
    death of a worker.

    Args:
        channel: of this worker.
        target: called with the rank's `RankPeers`, its device and the arguments; importable by name.
        arguments: whatever cloudpickle can pickle.
        ranks: how many.
        device: of the training; on GPUs each rank has one of its own.
        answer: called with what rank 0 asks; gives the answer, and whether rank 0 is to end then.
        libraries: modules that every rank will import; imported once for all that this worker starts.

    Returns:
        What it returned on rank 0; None where that has not ended in time.

    Raises:
        UsageError, OptituneError, Diverged: a rank has raised that.
        AlreadyDescribed: a rank has raised anything else.
    """
    # a fork server of this worker's own: what it imports is imported once for the ranks of all trainings
    warm_up(*MODULES, *libraries)
    visible = None
    if device.type == "cuda":
        visible = gpus_of(channel.worker, ranks, torch.cuda.device_count(), os.environ.get(VISIBLE))
    processes, connections = _started(target, cloudpickle.dumps((tuple(arguments), device)), ranks, visible)
    try:
        return _Listener(channel, processes, connections, answer).run()
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        for connection in connections:
            connection.close()


def _started(
    target: Callable[..., Any], arguments: bytes, ranks: int, visible: str | None
) -> tuple[list[BaseProcess], list[Connection]]:
    context, name = process_context(), multiprocessing.current_process().name
    pairs = [context.Pipe() for _ in range(ranks - 1)]
    processes: list[BaseProcess] = []
    connections: list[Connection] = []
    for rank in range(ranks):
        ours, theirs = context.Pipe()
        others = [pairs[rank - 1][1]] if rank else [each for each, _ in pairs]
        process = context.Process(
            target=_enter,
            args=(target, arguments, rank, ranks, others, theirs, visible),
            name=f"{name}-rank-{rank}",
            daemon=True,
        )
        start(process)
        theirs.close()
        processes.append(process)
        connections.append(ours)
    for pair in pairs:
        for connection in pair:
            connection.close()
    return processes, connections


class _Listener:
    """Listens to ranks until all have ended."""

    def __init__(
        self,
        channel: Channel,
        processes: Sequence[BaseProcess],
        connections: Sequence[Connection],
        answer: Callable[[Any], tuple[Any, bool]],
    ) -> None:
        self._channel = channel
        self._processes = processes
        self._connections = connections
        self._answer = answer
        self._until: float | None = None
        self._ended: dict[int, Any] = {}
        self._failed: dict[int, RankFailed] = {}

    def run(self) -> Any:
        while left := [rank for rank in range(len(self._processes)) if not self._over(rank)]:
            wait_s = None if self._until is None else max(0.0, self._until - time.monotonic())
            sources = [source for rank in left for source in (self._connections[rank], self._processes[rank].sentinel)]
            ready = wait(sources, wait_s)
            if not ready:
                break
            for rank in left:
                self._hear(rank, self._processes[rank].sentinel in ready)
        if self._failed:
            self._raise()
        return self._ended.get(0)

    def _over(self, rank: int) -> bool:
        return rank in self._ended or rank in self._failed

    def _hear(self, rank: int, gone: bool) -> None:
        connection = self._connections[rank]
        while not self._over(rank):
            try:
                if not connection.poll():
                    break
                message = receive(connection)
            except RankLost:
                gone = True
                break
            self._handle(rank, message)
        if gone and not self._over(rank):
            self._died(rank)

    def _handle(self, rank: int, message: Any) -> None:
        match message:
            case Printed(text):
                self._channel.send(Output(self._channel.worker, text))
            case Asked(question):
                found, end = self._answer(question)
                with suppress(BrokenPipeError, ConnectionResetError):
                    send(self._connections[rank], found)
                if end:
                    self._limit(END_S)
            case Ended(value):
                self._ended[rank] = value
                if rank == 0:
                    self._limit(END_S)
            case RankFailed():
                self._failed[rank] = message
                self._limit(CAUSE_S)

    def _limit(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self._until = until if self._until is None else min(self._until, until)

    def _died(self, rank: int) -> None:
        """End this process, as if it had died of the same."""
        process = self._processes[rank]
        process.join(CAUSE_S)
        self._channel.send(RankDied(self._channel.worker, f"rank {rank}: {death_cause(process.exitcode or 0)}"))
        for each in self._processes:
            each.kill()
        os._exit(1)

    def _raise(self) -> None:
        # errors of others follow from the first one, such as that a connection is closed
        rank, first = min(self._failed.items(), key=lambda each: each[1].at)
        everywhere = 0 in self._failed and str(self._failed[0].error) == str(first.error)
        place = "" if rank == 0 or everywhere else f"rank {rank}: "
        error = first.error
        if isinstance(error, Diverged):
            raise error
        if isinstance(error, OptituneError):
            raise raised_from(type(error)(f"{place}{error}"), first.traceback)
        raise AlreadyDescribed(f"{place}{error}") from raised_from(OptituneError(str(error)), first.traceback).__cause__


def _enter(
    target: Callable[..., Any],
    arguments: bytes,
    rank: int,
    ranks: int,
    others: Sequence[Connection],
    worker: Connection,
    visible: str | None,
) -> None:
    for number in signals:
        # the worker decides what they mean, and ends this process
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=leave_with_parent, daemon=True).start()
    if not os.environ.get("OPTITUNE_DEBUG"):
        warnings.simplefilter("ignore")
    if visible is not None:
        os.environ[VISIBLE] = visible
    peers = RankPeers(rank, ranks, others, worker)
    let_tasks_have_processes()
    printed = printing_to(lambda line: peers.send(Printed(line)))
    last: Ended | RankFailed
    try:
        configure_worker_process()
        given, device = pickle.loads(arguments)  # noqa: S301 - of the parent
        if device.type == "cuda":
            device = torch.device("cuda", rank)
            torch.cuda.set_device(device)
        last = Ended(target(peers, device, *given))
    except (OptituneError, Diverged) as error:
        last = RankFailed(time.monotonic(), _plain(error), whole(error.__cause__) if error.__cause__ else "")
    except BaseException as error:
        # a task's own code may leave by sys.exit, too
        last = RankFailed(time.monotonic(), reason(error), whole(error))
    printed.end()
    peers.send(last)
    for child in multiprocessing.active_children():
        child.kill()
    # threads of a task's code would be waited for, and what its group of ranks still waits for as well
    os._exit(0)


def _plain(error: OptituneError | Diverged) -> OptituneError | Diverged:
    """An error that pickles, without what it refers to."""
    if isinstance(error, Diverged):
        return Diverged(error.step, error.loss, str(error))
    return UsageError(str(error)) if isinstance(error, UsageError) else OptituneError(str(error))
