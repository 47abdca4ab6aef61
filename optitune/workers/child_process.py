"""What a worker's process is to a task's code: a place to print, and one that may have processes of its own."""

import _thread
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from optitune.common.user_modules import hiding

MOST_OF_A_LINE = 10_000
"""How many bytes without an end of line are held back, and shown of a line."""

SAFE_PATH, OURS = "PYTHONSAFEPATH", "optitune"
"""What keeps Python from looking into the present folder when it begins, and the value that says who has set it."""

SERVER_TRIES, SERVER_ENDS_S = 50, 0.1
"""How often a process is started at most, and how long a fork server that was killed may take between two tries."""

signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""What asks a process for its end."""


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


def let_tasks_have_processes() -> None:
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
    before = threading.local()

    def block() -> None:
        # a child has this process's handlers until it has its own: one that is ended at once would go on
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def in_child() -> None:
        # written by this process alone, so that its end is seen
        with suppress(OSError):
            os.close(held)
        with suppress(ValueError):
            for number in signals:
                signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        unblock()
        _thread.start_new_thread(_leave_with, (alive,))
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=in_child)


def _leave_with(alive: int) -> None:
    with suppress(OSError):
        os.read(alive, 1)
        os._exit(1)


def printing_to(send: Callable[[str], None]) -> Printed:
    """Let all that this process prints go to its parent's standard error, lest it be torn or spoil a result."""
    printed = Printed(send)
    with suppress(OSError):
        # what a library in C prints, or another process
        os.dup2(2, 1)
    stream = io.TextIOWrapper(io.BufferedWriter(printed), encoding="utf-8", errors="replace", line_buffering=True)
    sys.stdout = sys.stderr = stream
    return printed


def start(process: BaseProcess) -> None:
    """Start a worker's process, by another fork server where the present one has just been killed.

    Python looks whether its fork server has ended and then connects; one that is ending refuses.

    Raises:
        ConnectionError, EOFError: none can be had.
    """
    with ctrl_c_ignored(), main_kept_out(), folder_kept_out():
        for left in reversed(range(SERVER_TRIES)):
            try:
                process.start()
                return
            except (ConnectionError, EOFError):
                if not left:
                    raise
                time.sleep(SERVER_ENDS_S)


@contextmanager
def folder_kept_out() -> Iterator[None]:
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
def main_kept_out() -> Iterator[None]:
    """Keep a new process from importing the user's script: a search called there would begin again in every worker.

    Workers need nothing of it: a task that was defined there comes with its functions (`loading.packed`).
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def ctrl_c_ignored() -> Iterator[None]:
    """A process inherits what is ignored, so a worker is deaf to Ctrl-C from its first moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
