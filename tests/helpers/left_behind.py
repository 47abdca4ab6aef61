"""Which threads and processes a test has left behind: who starts one ends it, or it writes into the tests after it."""

import os
import re
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

MARK = "OF_THE_TESTS_OF"
"""An environment variable that whatever the tests start inherits: it finds processes whose parents have gone, too."""

PATIENCE_S = 15
"""How long one that is ending may take; most are gone at the first look."""

SHARED = (
    # both are Python's, one of each for as long as the process lives; whatever the first forks looks alike
    r"own process .*from multiprocessing\.(forkserver|resource_tracker) import main",
    # tqdm's, one for all bars of the process
    r"thread tqdm_monitor|thread TMonitor",
    # of the loop that drives the browser, which lives as long
    r"thread asyncio[_-]\S+",
    # one server and one browser serve all slow tests; they begin with the first that asks, and keep helpers in reserve
    r"(own )?process \S*(postgres|chrom)",
)
"""What is started once and kept for all tests."""

SERVERS: set[int] = set()
"""Processes that are started once and fork others for all tests: their ids."""

PROC = Path("/proc")


def threads() -> dict[object, str]:
    """All threads of this process, each with what it may be called in a message."""
    return {each: f"thread {each.name}" for each in threading.enumerate() if each.is_alive()}


class Processes:
    """Looks at the processes of this system that the tests have started; only where there is `/proc`."""

    def __init__(self, mark: str) -> None:
        self._mark = f"\0{MARK}={mark}\0".encode()
        self._others: set[str] = set()

    def __call__(self) -> dict[object, str]:
        there = {path.name for path in PROC.glob("[0-9]*")} - {str(each) for each in (os.getpid(), *SERVERS)}
        self._others &= there
        found: dict[object, str] = {}
        for number in there - self._others:
            # gone meanwhile, or another user's
            with suppress(OSError):
                state, parent = (PROC / number / "stat").read_text().rpartition(")")[2].split()[:2]
                own = parent == str(os.getpid())
                if not own and self._mark not in b"\0" + (PROC / number / "environ").read_bytes():
                    self._others.add(number)
                elif state != "Z":
                    words = (PROC / number / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[number] = f"{'own ' * own}process {words.strip()}"
        return found


def left(
    before: Collection[object], look: Callable[[], dict[object, str]], patience_s: float = PATIENCE_S
) -> list[str]:
    """What is there and was not `before`, once those that are ending have had time to."""
    limit = time.monotonic() + patience_s
    while True:
        new = [name for each, name in look().items() if each not in before and not _is_shared(name)]
        if not new or time.monotonic() > limit:
            return sorted(new)
        time.sleep(0.01)


def _is_shared(name: str) -> bool:
    return any(re.match(each, name) for each in SHARED)
