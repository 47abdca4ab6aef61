"""Two machines at one study: a mount namespace and a folder each, with nothing shared but the database."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from optitune.storage import studies
from optitune.storage.urls import StorageUrl, open_storage
from optitune.workers.leases import machine

pytestmark = pytest.mark.slow

UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


def command(url: str, folder: Path, *words: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """An optitune command in a process group of its own, on a machine of its own where a `prefix` makes one."""
    said = [*prefix, sys.executable, "-m", "optitune", *map(str, words), "--studies-dir", str(folder), "--json"]
    return subprocess.Popen(
        said,
        env={**os.environ, "OPTITUNE_STORAGE": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def search(trials: int, epochs: int, *words: object) -> list[object]:
    settings = ["--task", "digits", "--optimizers", "sgd,adam", "--pruner", "none", "--epochs", epochs]
    return ["search", *settings, "--trials", trials, "--study", "s", *words]


def trials(url: str) -> list[Any]:
    storage: Any = open_storage(StorageUrl.parse(url), create=False)
    try:
        return studies.find(storage, "s").get_trials(deepcopy=False)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def assert_complete(ended: list[Any], trials: int) -> None:
    """So many are finished; one that two machines asked for at once may be left over, for a study that goes on."""
    states = Counter(trial.state.name for trial in ended)
    assert states["COMPLETE"] + states["PRUNED"] == trials, states
    assert set(states) <= {"COMPLETE", "PRUNED", "WAITING"}, states


def test_two_machines_train_one_study(postgresql: Any, tmp_path: Path) -> None:
    url = postgresql.create("machines")
    made = command(url, tmp_path / "one", *search(12, 20, "--workers", 0))
    assert made.communicate()[1] == ""
    both = [
        command(url, tmp_path / "one", *search(12, 20, "--workers", 1)),
        command(url, tmp_path / "other", "worker", "--study", "s", "--workers", 1, prefix=tuple(UNSHARE)),
    ]
    for process in both:
        out, err = process.communicate()
        assert (process.returncode, err) == (0, ""), out
    ended = trials(url)
    assert_complete(ended, 12)
    owners = Counter(trial.user_attrs["owner"]["machine"] for trial in ended if trial.state.is_finished())
    assert len(owners) == 2, owners
    assert machine() in owners
    other = {path.relative_to(tmp_path / "other").as_posix() for path in (tmp_path / "other").rglob("*")}
    # its trials' pictures, and the study's files, which either machine may have written first
    shown = {path for path in other if path.startswith("s/artifacts/")}
    assert shown
    assert other - shown == {"s", "s/turn.lock", "s/workers", "s/checkpoints", "s/artifacts"}


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_the_trial_of_a_machine_that_is_gone_is_taken_over(ending: int, postgresql: Any, tmp_path: Path) -> None:
    url = postgresql.create(f"gone-{ending}")
    made = command(url, tmp_path / "one", *search(5, 90, "--workers", 0))
    assert made.communicate()[1] == ""
    lost = command(url, tmp_path / "other", "worker", "--study", "s", "--workers", 1, prefix=tuple(UNSHARE))
    limit = monotonic() + 300
    while not any(len(trial.intermediate_values) > 3 for trial in trials(url)):
        assert lost.poll() is None, lost.communicate()
        assert monotonic() < limit
        sleep(0.1)
    os.killpg(lost.pid, ending)
    lost.communicate()
    left = trials(url)
    # who is asked to go gives the trial back, who is killed is missed after a while
    waiting = {signal.SIGKILL: "RUNNING", signal.SIGTERM: "WAITING"}[signal.Signals(ending)]
    assert waiting in {trial.state.name for trial in left}
    going_on = command(url, tmp_path / "one", *search(5, 90, "--workers", 2))
    out, err = going_on.communicate()
    assert (going_on.returncode, err) == (0, ""), out
    ended = trials(url)
    assert_complete(ended, 5)
    for before in left:
        after = ended[before.number]
        assert before.params.items() <= after.params.items()
        assert before.intermediate_values.items() <= after.intermediate_values.items()
