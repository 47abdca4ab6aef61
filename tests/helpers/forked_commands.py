"""Commands as `python -m optitune` runs them, forked from a process that has imported what they need.

To import torch takes longer than what most commands do. Each process of the tests has one such server; a command is a
process of its own, with its own folder, environment, session and signals, as one that is started is, and so is its
fork server. Whoever reads the command lines of processes starts real ones.

    python tests/helpers/forked_commands.py FD
"""

import atexit
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import pickle
import pkgutil
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import cloudpickle
from left_behind import SERVERS

LARGEST = 1 << 20
NUMBER = struct.Struct("i")

OPTIONAL = ("optitune.frameworks", "optitune.searching.ray_backend", "optitune.__main__")
"""What needs packages that only their own tests want."""


@dataclass(frozen=True)
class Order:
    """A command to begin.

    Attributes:
        words: after `optitune`.
        before: called in the new process before it becomes the command.
    """

    words: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    session: bool
    before: Callable[[], None] | None


class ForkedCommand(subprocess.Popen[str]):
    """As `subprocess.Popen([sys.executable, "-m", "optitune", *words], ...)`."""

    _answers: socket.socket

    def _execute_child(
        self, args: list[str], executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any, env: Any,
        startupinfo: Any, creationflags: Any, shell: Any, *more: Any,
    ) -> None:  # fmt: skip
        into, ours_in, ours_out, out, ours_err, err, _, _, _, _, _, session, _ = more
        environment = dict(os.environ if env is None else env)
        order = Order(args[3:], str(cwd or os.getcwd()), environment, session, preexec_fn)
        self._answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            places = [default if each < 0 else each for default, each in enumerate((into, out, err))]
            socket.send_fds(_server(), [cloudpickle.dumps(order)], [*places, theirs.fileno()])
        self._close_pipe_fds(into, ours_in, ours_out, out, ours_err, err)  # type: ignore[attr-defined]
        self.pid = self._number(0)
        self._child_created = True

    def _number(self, flags: int) -> int:
        """The next number of the answer.

        Raises:
            BlockingIOError: there is none yet, and `flags` say not to wait.
        """
        return int(*NUMBER.unpack(self._answers.recv(NUMBER.size, flags)))

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        try:
            status = self._number(socket.MSG_DONTWAIT if wait_flags else 0)
        except BlockingIOError:
            return 0, 0
        self._answers.close()
        return self.pid, status

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode


def popen(words: Sequence[object], forked: bool = True, **how: Any) -> "subprocess.Popen[str]":
    """Begin an optitune command, as `subprocess.Popen` would, with text.

    Args:
        words: after `optitune`.
        forked: False for one that has command lines of its own, and takes seconds to begin.
        how: `env`, `cwd`, `stdout`, `stderr`, `start_new_session`, `preexec_fn` as of `Popen`.
    """
    full = [sys.executable, "-m", "optitune", *map(str, words)]
    environment = how.get("env") or os.environ
    # of other settings of Python or of the loader a process learns when it begins
    alike = all(environment.get(name) == os.environ.get(name) for name in {*os.environ, *environment} if _early(name))
    kind = ForkedCommand if forked and alike and hasattr(socket, "send_fds") else subprocess.Popen
    return kind(full, text=True, **how)


def _early(name: str) -> bool:
    return name.startswith(("PYTHON", "LD_", "OMP_", "MKL_")) and name != "PYTHONPATH"


def to_end(words: Sequence[object], timeout: float, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run an optitune command to its end, as `subprocess.run(..., capture_output=True, text=True)` would.

    Args:
        words: after `optitune`.
        timeout: in seconds; then it is killed.
        how: as of `popen`.

    Raises:
        subprocess.TimeoutExpired: it took longer.
    """
    with popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
    # it ends when this process closes its end
    process.returncode = 0
    SERVERS.add(process.pid)
    atexit.register(ours.close)
    return ours


def serve(orders: socket.socket) -> None:
    """Begin commands until there is nobody to give orders."""
    import optitune

    for module in pkgutil.walk_packages(optitune.__path__, "optitune.", onerror=lambda name: None):
        if not module.name.startswith(OPTIONAL):
            import_module(module.name)
    from optitune.workers.pool import WORKER_MODULES

    for name in WORKER_MODULES:
        import_module(name)
    assert threading.active_count() == 1
    # those who wait for commands are waited for by nobody
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        order, places, _, _ = socket.recv_fds(orders, LARGEST, 4)
        if not order:
            return
        if os.fork() == 0:
            orders.close()
            _wait_for(pickle.loads(order), places)  # noqa: S301 - of the tests
        for place in places:
            os.close(place)


def _wait_for(order: Order, places: Sequence[int]) -> None:
    """Begin a command, and answer with its id and with how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    answers = socket.socket(fileno=places[3])
    pid = os.fork()
    if pid == 0:
        try:
            _become(order, places, answers)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(1)
    for place in places[:3]:
        os.close(place)
    os.setpgid(0, 0)
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        answers.send(NUMBER.pack(status))
    os._exit(0)


def _become(order: Order, places: Sequence[int], answers: socket.socket) -> None:
    if order.session:
        os.setsid()
    for number, place in enumerate(places[:3]):
        os.dup2(place, number)
    answers.send(NUMBER.pack(os.getpid()))
    answers.close()
    os.closerange(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 1 << 16 else 1 << 16)
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order.before is not None:
        order.before()
    _as_begun(["-m", *order.words])
    # a command's fork server is forked, too, as long as it has no thread
    multiprocessing.util.spawnv_passfds = _spawned  # type: ignore[attr-defined]
    paths = [path for path in order.environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = ["", *paths, *(path for path in sys.path[1:] if path not in paths)]
    for path in paths:
        if (custom := Path(path, "sitecustomize.py")).exists():
            runpy.run_path(str(custom))
    runpy.run_module("optitune", run_name="__main__", alter_sys=True)


def _as_begun(words: list[str]) -> None:
    """What Python sets up when it begins."""
    import numpy as np

    sys.argv[:] = words
    for number, name in ((1, "stdout"), (2, "stderr")):
        through = bool(os.environ.get("PYTHONUNBUFFERED")) or number == 2
        errors = "backslashreplace" if number == 2 else "strict"
        stream = open(number, "w", encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115 - for good
        stream.reconfigure(write_through=through, line_buffering=number == 2)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    np.random.seed()


_spawnv_passfds = multiprocessing.util.spawnv_passfds  # type: ignore[attr-defined]


def _spawned(path: Any, arguments: Sequence[Any], descriptors: Sequence[int]) -> int:
    """As `multiprocessing.util.spawnv_passfds`, for Python's own servers."""
    if threading.active_count() > 1 or arguments[-2] != "-c":
        return int(_spawnv_passfds(path, arguments, descriptors))
    pid = os.fork()
    if pid:
        return pid
    try:
        for place in map(int, os.listdir("/proc/self/fd")):
            if place > 2 and place not in descriptors:
                with suppress(OSError):
                    os.close(place)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        _as_begun(["-c"])
        # the locks of what started this one are held
        multiprocessing.forkserver._forkserver.__init__()  # type: ignore[misc]
        multiprocessing.resource_tracker._resource_tracker.__init__()  # type: ignore[misc]
        exec(arguments[-1], {"__name__": "__main__"})  # noqa: S102 - Python's own
        os._exit(0)
    except SystemExit as leaving:
        os._exit(int(leaving.code or 0))
    except BaseException:
        traceback.print_exc()
    os._exit(1)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
