"""A search on a Ray of this machine: the real command, real actors, and what becomes of them."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

pytestmark = pytest.mark.slow

PATIENCE_S = 300
"""Nothing that is waited for here takes nearly as long."""

TRIALS = 12

_number = count()


def until(done: Callable[[], bool], process: "subprocess.Popen[str] | None" = None) -> None:
    """Wait until something is so; a process that ends before is a failure that shows what it said."""
    limit = time.monotonic() + PATIENCE_S
    while not done():
        if process is not None and process.poll() is not None:
            pytest.fail(f"ended with {process.returncode}: {process.communicate()}", pytrace=False)
        assert time.monotonic() < limit
        time.sleep(0.1)


def processes() -> dict[int, tuple[int, bytes]]:
    """The parent and the command line of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        # one may end between being listed and being read
        with suppress(OSError):
            parent = int((folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            found[int(folder.name)] = parent, (folder / "cmdline").read_bytes()
    return found


def below(process: int) -> dict[int, bytes]:
    """The command lines of a process's children, and theirs, by id."""
    known, found = processes(), [process]
    for each in found:
        found += [number for number, (parent, _) in known.items() if parent == each]
    return {number: known[number][1] for number in found[1:]}


def actors(process: int) -> list[int]:
    return [number for number, line in below(process).items() if line.startswith(b"ray::Actor")]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which Ray and the user's home are; no process is left of what was there."""
    if find_spec("ray") is None:
        pytest.fail("Ray is missing: run pip install -e '.[ray]'", pytrace=False)
    # the paths of sockets must be short
    folder = Path(tempfile.mkdtemp(prefix="optitune-ray-", dir="/tmp"))
    for name in ("RAY_ADDRESS", "TMPDIR", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)
    # at its usual one they would wait for ever beside a test that computes
    monkeypatch.setenv("RAY_worker_niceness", "0")
    for name in ("RAY_TMPDIR", "HOME"):
        monkeypatch.setenv(name, str(folder))
    try:
        yield folder
        until(lambda: not any(str(folder).encode() in line for _, line in processes().values()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Storage:
    """Where the study is: as the command is told, how to look into it, and what nobody may see of it."""

    flags: list[object]
    connect: Callable[[], Any]
    secrets: list[str]

    def states(self) -> Counter[str]:
        """How many trials are in each state; none before there are tables."""
        try:
            with closing(self.connect()) as connection:
                return Counter(dict(connection.execute("SELECT state, count(*) FROM trials GROUP BY state").fetchall()))
        except (sqlite3.OperationalError, psycopg.errors.UndefinedTable):
            return Counter()

    def is_busy(self) -> bool:
        """Whether a trial is finished and two are being trained."""
        found = self.states()
        return found["COMPLETE"] >= 1 and found["RUNNING"] == 2


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    if request.param == "sqlite":
        return Storage([], lambda: sqlite3.connect(f"file:{tmp_path}/digits/study.db?mode=ro", uri=True), [])
    server = request.getfixturevalue("postgresql")
    database = f"ray-{next(_number)}"
    server.create(database)
    monkeypatch.setenv("PGPASSWORD", server.password)
    bare = f"postgresql://{server.user}@127.0.0.1:{server.port}/{database}"
    return Storage(["--storage", bare], lambda: server.connect(database), server.secrets())


def search(folder: Path, epochs: int, *more: object) -> list[object]:
    return [
        *("search", "--task", "digits", "--trials", TRIALS, "--epochs", epochs, "--pruner", "none", "--workers", 2),
        *("--studies-dir", folder, "--cluster", "ray", *more),
    ]


def assert_hidden(secrets: list[str], folder: Path, *texts: str) -> None:
    """No secret stands in the texts, nor in any file of Ray's."""
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    for secret in secrets:
        assert not [text for text in texts if secret in text]
        assert not [path for path in files if secret.encode() in path]


def test_exactly_so_many_trials_and_not_a_word_of_rays(ray: Path, storage: Storage, run: Any, tmp_path: Path) -> None:
    done = run(*search(tmp_path, 2, *storage.flags, "--json"))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["trials"]["finished"] == TRIALS
    assert storage.states() == {"COMPLETE": TRIALS}
    assert_hidden(storage.secrets, ray, done.stdout, done.stderr)


# one storage each: both are searched above, and test_machines.py has trials given back to PostgreSQL
@pytest.mark.parametrize("storage", ["postgresql"], indirect=True)
def test_an_actor_that_is_killed_is_replaced(ray: Path, storage: Storage, start: Any, tmp_path: Path) -> None:
    with start(*search(tmp_path, 20, *storage.flags)) as process:
        until(storage.is_busy, process)
        lines = below(process.pid)
        assert not [line for line in lines.values() for secret in storage.secrets if secret.encode() in line]
        os.kill(actors(process.pid)[0], signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert any(line.startswith("optimizer ") for line in out.splitlines()[:2])
    assert err.count(" died (its Ray actor ended with ") == 1, err
    assert storage.states() == {"COMPLETE": TRIALS}
    assert_hidden(storage.secrets, ray, out, err)


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_ctrl_c_gives_trials_back_and_the_same_command_goes_on(
    ray: Path, storage: Storage, start: Any, run: Any, tmp_path: Path
) -> None:
    command = search(tmp_path, 5, *storage.flags)
    with start(*command) as process:
        until(storage.is_busy, process)
        # as a terminal does it: to all of the group
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (130, "")
    assert "nothing lost" in err.splitlines()[-1]
    assert storage.states()["RUNNING"] == 0
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert storage.states() == {"COMPLETE": TRIALS}


@pytest.mark.parametrize("way", ["ray://", "RAY_ADDRESS"])
def test_a_cluster_that_does_not_answer_is_told_in_one_line(
    ray: Path, way: str, run: Any, unused_port: int, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{unused_port}"
    flags = ["--cluster", f"ray://{address}"] if way == "ray://" else []
    done = run(*search(tmp_path, 2, *flags), environment={"RAY_ADDRESS": address} if not flags else {})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the Ray cluster at ")
    assert address in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
