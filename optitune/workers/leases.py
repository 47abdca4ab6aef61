"""Leases on trials: which process holds one, and whether it is alive, by a lock or, across machines, a heartbeat."""

import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from optuna.storages import BaseStorage

from optitune.common.files import explained, make_folder

BEAT_S = 15
"""Seconds between two heartbeats of a worker."""

STALE_S = 90
"""How long nothing may change about a running trial of another machine before it counts as left behind."""

BEAT = "optitune:beat"

LOCK_NAME = re.compile(r"[0-9a-f]{32}\.lock")


@cache
def machine() -> str:
    """Identity of this machine since its last start; a container has another than the machine that it runs on."""
    parts = [socket.gethostname()]
    for path, read in (("/proc/sys/kernel/random/boot_id", Path.read_text), ("/proc/self/ns/mnt", os.readlink)):
        with suppress(OSError):
            parts.append("".join(filter(str.isalnum, str(read(Path(path)))))[-12:])
    return "-".join(parts)


class Owner:
    """A process's name on the trials it trains, by which others see whether it is alive.

    A lock on a file of its own is held as long as the process lives; the system lets go of it however
    the process ends.

    Args:
        folder: where the lock file lies.

    Attributes:
        belongings: a folder for what lives as long as the process.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.path = folder / f"{uuid.uuid4().hex}.lock"
        self.belongings = self.path.with_suffix("")
        self._lock = FileLock(self.path)
        with explained(self.path):
            self._lock.acquire()

    def name(self) -> dict[str, Any]:
        return {"machine": machine(), "pid": os.getpid(), "lock": str(self.path.resolve())}

    def release(self) -> None:
        """Let go of the lock and remove it, with the process's belongings."""
        self._lock.release()
        _remove(self.path)


def is_here(owner: Mapping[str, Any]) -> bool:
    """Whether the process that wrote this name runs, or ran, on this machine."""
    return owner.get("machine") == machine()


def is_alive(owner: Mapping[str, Any]) -> bool:
    """Whether a process of this machine holds the lock that it named."""
    path = Path(str(owner.get("lock")))
    # to ask for a lock is to write to the file, and the name comes from a storage that others write to
    return LOCK_NAME.fullmatch(path.name) is not None and is_held(path)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file at `path`."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def sweep(folder: Path) -> None:
    """Remove what processes that were killed left in `folder`: their lock files and belongings.

    A file goes only while its lock is held here. One that a process has made and not locked yet may go, too: it finds
    out as it locks a file without a name, and makes another.
    """
    for path in folder.glob("*.lock"):
        if LOCK_NAME.fullmatch(path.name):
            lock = FileLock(path)
            # somebody lives, or the file is not ours to write
            with suppress(Timeout, OSError), lock.acquire(timeout=0):
                _remove(path)


def _remove(lock: Path) -> None:
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    # some systems keep a file that is open
    with suppress(PermissionError):
        lock.unlink(missing_ok=True)


class Watch:
    """Finds the trials of other machines that are left behind: those that show no sign of life for too long.

    A sign is anything that changes, and how long ago it did is measured here: no machine's clock is held
    against another's, and none needs to be right.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[int, tuple[Any, float]] = {}

    def is_stale(self, trial: int, sign: Any) -> bool:
        """Whether the `sign` of that trial has been the same for `STALE_S`, as far as this process has seen."""
        known, since = self._seen.get(trial, (None, 0.0))
        if known != (sign,):
            self._seen[trial] = ((sign,), self._clock())
            return False
        return self._clock() - since >= STALE_S


class Heartbeat:
    """Heartbeat of the trial that this process trains, for other machines, until it is stopped.

    Args:
        storage: of the study.
        every: seconds between two beats.
    """

    def __init__(self, storage: BaseStorage, every: float = BEAT_S) -> None:
        self._storage = storage
        self._every = every
        self._trial: int | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="optitune-heart", daemon=True)
        self._thread.start()

    def beat_for(self, trial: int | None) -> None:
        """From now on beat for the trial of that id, or for none."""
        self._trial = trial

    def stop(self) -> None:
        """Beat no more; a beat that is under way is waited for, unless the storage keeps it for long."""
        self._stopped.set()
        self._thread.join(BEAT_S)

    def _run(self) -> None:
        count = 0
        while not self._stopped.wait(self._every):
            trial, count = self._trial, count + 1
            if trial is not None:
                # a trial that ended meanwhile needs no more beats, and a storage that fails is reported by the training
                with suppress(Exception):
                    self._storage.set_trial_system_attr(trial, BEAT, count)
