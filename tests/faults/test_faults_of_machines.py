"""Full disks, folders that are nobody's to write, clocks that jump, files that were damaged or removed."""

import ctypes
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import torch
from commands_under_way import SEARCH, begin, training, wait_until
from file_contents import idx, random_images
from real_commands import (
    HANG_S,
    command,
    environment,
    faulty_task,
    files_in,
    held,
    only_error,
    scratch_files,
    trainings_begun,
)

from optitune.cli.main import run
from optitune.searching.trial_checkpoint import path_of
from optitune.tasks.datasets import IDX_FILES

pytestmark = pytest.mark.wide

Command = Callable[..., tuple[int, str, str]]

WORDS = [
    "search",
    "--task",
    "digits",
    "--epochs",
    "4",
    "--optimizers",
    "sgd,adam",
    "--schedules",
    "constant",
    "--pruner",
    "none",
    "--workers",
    "1",
]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two trials that was searched without any fault."""
    folder = tmp_path_factory.mktemp("searched")
    assert run([*WORDS, "--trials", "2", "--quiet", "--studies-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def studies(searched: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(searched, tmp_path / "studies")


def room(size: int) -> Callable[[], None]:
    """No file grows larger than this: what a full disk is to a process, on machines where none can be had."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("size", [pytest.param(20_000, marks=pytest.mark.slow), 200_000])
def test_a_search_without_room_says_so_and_the_same_command_goes_on(tmp_path: Path, size: int) -> None:
    words = [*WORDS, "--trials", "3", "--quiet"]
    line = only_error(command(*words, folder=tmp_path, before=room(size)))
    assert "size limit" in line or "the storage sqlite:" in line
    assert not scratch_files(tmp_path)
    assert run([*words, "--studies-dir", str(tmp_path)]) == 0
    assert held(tmp_path, "digits").states == {"COMPLETE": 3}
    assert files_in(tmp_path) == {"digits/best.toml"}


@pytest.mark.parametrize(
    ("words", "size", "written"),
    [
        (
            ["retrain", "--study", "digits", "--seeds", "1", "--epochs", "2"],
            100_000,
            "digits/retrain/best/metrics.json",
        ),
        (["report", "digits"], 70_000, "digits/report/report.html"),
        (["init", "other"], 1_000, "other.toml"),
    ],
)
def test_what_a_command_has_no_room_for_is_not_begun_to_be_there(
    studies: Path, words: list[str], size: int, written: str
) -> None:
    before = files_in(studies)
    line = only_error(command(*words, folder=studies, before=room(size)))
    assert "cannot write" in line
    assert "raise it and run the same command again" in line
    assert {name for name in files_in(studies) - before if "/partial/" not in name} == set()
    assert not scratch_files(studies)
    assert run([*words, "--studies-dir", str(studies)]) == 0
    assert (studies / written).is_file()
    assert not [name for name in files_in(studies) if "/partial/" in name]


@pytest.mark.parametrize("words", [["tasks"], ["tasks", "--json"], ["--help"]])
def test_a_full_place_for_the_output_is_named(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "optitune", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment({}),
            check=False,
        )
    assert only_error(ended) == (
        "error: cannot write to standard output: No space left on device; what was finished is kept"
    )
    assert len(ended.stderr.splitlines()) == 1


def as_anybody() -> None:
    """Heed the permissions of files, which the superuser is free not to."""
    if os.geteuid() == 0:
        drop, *powers = 24, 1, 2
        for power in powers:
            assert ctypes.CDLL(None).prctl(drop, power, 0, 0, 0) == 0


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that may be read and not written."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    yield folder
    folder.chmod(stat.S_IRWXU)


@pytest.mark.parametrize("words", [WORDS, ["init", "mine"]])
def test_a_folder_that_is_not_ours_to_write_is_named(read_only: Path, words: list[str]) -> None:
    ended = command(*words, folder=read_only, before=as_anybody, forked=False)
    line = only_error(ended)
    assert str(read_only) in line
    assert "permission denied; choose a folder of yours as studies_dir" in line
    assert len(ended.stderr.splitlines()) == 1
    assert not list(read_only.iterdir())


CLOCK = """
import datetime
import time

# compiled, it takes the class as it finds it, and no other
import pandas

HOURS = (7, -9, 30, -48, 5, -2)
began, real, real_ns, real_datetime = time.monotonic(), time.time, time.time_ns, datetime.datetime


def off():
    return 3600 * HOURS[int((time.monotonic() - began) * 3) % len(HOURS)]


class Datetime(real_datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=off())


time.time = lambda: real() + off()
time.time_ns = lambda: real_ns() + off() * 10**9
datetime.datetime = Datetime
"""


def test_a_clock_that_jumps_by_hours_changes_nothing_but_the_times(tmp_path: Path) -> None:
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK)
    task = faulty_task(tmp_path, "False", "pass")
    words = [*WORDS[:1], "--task", task, *WORDS[3:-1], "2", "--study", "x", "--trials", "5", "--quiet"]
    words += ["--budget-in", "epochs"]
    ended = command(*words, folder=tmp_path, extra={"PYTHONPATH": str(tmp_path / "clock")})
    assert ended.returncode == 0, ended.stderr
    found = held(tmp_path, "x")
    assert found.states == {"COMPLETE": 5}
    assert trainings_begun(tmp_path) == 5
    off = [abs(trial.datetime_complete - datetime.now()) for trial in found.trials if trial.datetime_complete]
    assert min(off) > timedelta(hours=1), "the clock did not jump"


def test_a_trial_whose_checkpoint_was_damaged_begins_anew_and_comes_to_the_same(tmp_path: Path) -> None:
    words = [*SEARCH, "--trials", "1", "--epochs", "30", "--workers", "1"]
    process = begin(words, tmp_path)
    wait_until(training(tmp_path), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130, err
    path = path_of(tmp_path / "digits", 0)
    kept = bytearray(path.read_bytes())
    kept[-1000] ^= 1
    path.write_bytes(kept)
    values = []
    for folder in (tmp_path, tmp_path / "unstopped"):
        assert run([*words, "--quiet", "--studies-dir", str(folder)]) == 0
        found = held(folder, "digits")
        assert found.states == {"COMPLETE": 1}
        values.append((found.trials[0].value, found.trials[0].intermediate_values))
    assert values[0] == values[1]
    assert not path.exists()


def overwritten(whole: bytes) -> bytes:
    middle = len(whole) // 2
    return whole[:middle] + b"\xa5" * 12_288 + whole[middle + 12_288 :]


def truncated(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


@pytest.mark.parametrize("damage", [overwritten, truncated])
@pytest.mark.parametrize("words", [["show", "digits"], [*WORDS, "--trials", "4", "--quiet"]], ids=["show", "search"])
def test_a_damaged_study_is_refused_in_one_line_and_left_as_it_is(
    studies: Path, run_command: Command, words: list[str], damage: Callable[[bytes], bytes]
) -> None:
    path = studies / "digits" / "study.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    code, _, err = run_command(*words, "--studies-dir", str(studies))
    assert code == 1
    (line,) = err.splitlines()
    assert "malformed" in line
    assert "move it away" in line
    assert "a fault of optitune's own" not in line
    assert path.read_bytes() == broken


def test_truncated_data_are_named_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    labels = torch.arange(60) % 10
    for name, numbers in zip(IDX_FILES, (random_images(60), labels) * 2, strict=True):
        (folder / name).write_bytes(idx(numbers))
    (folder / IDX_FILES[0]).write_bytes(idx(random_images(60))[:1000])
    words = [*WORDS[:1], "--task", "mnist-net", *WORDS[3:], "--data-dir", tmp_path]
    ended = command(*words, folder=tmp_path / "studies")
    line = only_error(ended)
    assert f"the MNIST files in {folder} are damaged" in line
    assert "delete them and run the same command again to download them" in line
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "studies").exists()


def test_a_study_that_is_removed_while_it_runs_ends_the_search(tmp_path: Path) -> None:
    process = begin([*SEARCH, "--quiet"], tmp_path)
    wait_until(training(tmp_path), process)
    for path in (tmp_path / "digits").glob("study.db*"):
        path.unlink()
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 1
    assert f"the storage sqlite:///{tmp_path}/digits/study.db was removed or renamed while this ran" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "digits" / "study.db").exists()
