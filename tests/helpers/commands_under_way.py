"""Commands that are under way, for what befalls them then: a search of digits in a process group of its own."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from forked_commands import popen
from optuna.trial import TrialState
from real_commands import HANG_S

from optitune.storage import studies
from optitune.storage.urls import open_storage, sqlite_url

TRIALS = 8
SEARCH = f"search --task digits --epochs 8 --optimizers sgd,adam --trials {TRIALS} --pruner none".split()


def begin(words: list[str], folder: Path, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """A command in a process group of its own; `before` is called in it before it becomes the command."""
    return popen(
        [*words, "--studies-dir", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=before,
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + HANG_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.05)


def trials(folder: Path) -> list:
    try:
        storage = open_storage(sqlite_url(folder / "digits" / "study.db"), create=False)
        return studies.find(storage, "digits").get_trials(deepcopy=False)
    except Exception:
        return []  # not made yet


def training(folder: Path, reports: int = 3) -> Callable[[], bool]:
    """Whether some trial is under way and has reported."""

    def holds() -> bool:
        return any(t.state == TrialState.RUNNING and len(t.intermediate_values) >= reports for t in trials(folder))

    return holds
