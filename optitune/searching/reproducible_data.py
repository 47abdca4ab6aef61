"""Whether a task's data are the same at every reading: what is sealed away for the test hangs on it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from optitune.common.randomness import random_state, seed_everything, set_random_state
from optitune.errors import UsageError
from optitune.tasks import loading
from optitune.tasks.builtin import TASKS
from optitune.tasks.data import CPU
from optitune.tasks.given_data import is_function
from optitune.tasks.loading import Source
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.splits import DIFFER, SearchData, search_data
from optitune.tasks.task import Task
from optitune.workers.events import Event
from optitune.workers.pool import Channel, Pool
from optitune.workers.process import configure_worker_process


@dataclass(frozen=True)
class DataRead(Event):
    """A task's data were read: their checksum and digests."""

    digests: dict[str, str]


def check(
    task: Task, source: Source, data_dir: Path, data: SearchData, on_tick: Callable[[], None] = lambda: None
) -> None:
    """Read a task's data once more, as another process would, and hold them against `data`.

    The files of a built-in task have checksums, and what was given as an object is not read again; a function
    that gives data is called again.

    Args:
        task: whose data.
        source: where workers have the task from.
        data_dir: where torchvision's files lie.
        data: what the first reading gave.
        on_tick: called a few times a second.

    Raises:
        UsageError: they are others.
    """
    again: Mapping[str, str] = {}
    if isinstance(task, LoopTask):
        # every call of `run.split` checks it
        return
    if isinstance(source, str) and source not in TASKS:
        found: list[Event] = []
        # a process of its own imports the task's file anew, and orders sets of words otherwise
        Pool(read, [(source, data_dir)], found.append, on_tick).run()
        again = next(event.digests for event in found if isinstance(event, DataRead))
    elif is_function(task.data) or is_function(task.validation):
        again = _read(task)
    here = {"checksum": data.checksum, **data.digests}
    if any(again[key] != here[key] for key in set(again) & set(here)):
        raise UsageError(f"task '{task.name}': {DIFFER}")


def read(channel: Channel, source: Source, data_dir: Path) -> None:
    """Read a task's data in a process of its own, with random numbers other than the parent's.

    Args:
        channel: to the parent process.
        source: where the task comes from.
        data_dir: where torchvision's files lie.

    Raises:
        UsageError: the task cannot be found, or its data are not what they must be.
    """
    configure_worker_process()
    seed_everything(_other_seed())
    channel.send(DataRead(channel.worker, _read(loading.find(source, data_dir))))


def _read(task: Task) -> dict[str, str]:
    """Checksum and digests of another reading."""
    kept = random_state(CPU)
    seed_everything(_other_seed())
    try:
        data = search_data(task, None)
    finally:
        # whoever calls optitune from Python goes on with their own draws
        set_random_state(kept, CPU)
    return {"checksum": data.checksum, **data.digests}


def _other_seed() -> int:
    """A seed that nobody has chosen."""
    return int.from_bytes(os.urandom(4), "big")
