"""Where `optitune dashboard` listens, whose studies it shows, and how it ends."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from dashboards import TRIALS, WAIT_MS, Open, Visit, search, states

from scripts.postgres_server import grpc_proxy

pytestmark = pytest.mark.slow

PNG = b"\x89PNG\r\n\x1a\n"
"""How a PNG begins."""

ADDRESS = r"study 'digits': (http://127\.0\.0\.1:\d+)(/dashboard/studies/\d+)\n"
"""What is said first: the server, and the page of the study."""


def test_ctrl_c_ends_it_without_a_traceback(open_dashboard: Open, visit: Visit, studies_dir: Path) -> None:
    with open_dashboard(studies_dir) as opened:
        with visit(opened, opened.study) as page:
            page.locator("#graph-hyperparameter-importances .barlayer .point").first.wait_for(state="attached")
        opened.process.send_signal(signal.SIGINT)
        out, err = opened.process.communicate(timeout=WAIT_MS / 1000)
    assert (opened.process.returncode, out, err.strip()) == (130, "", "interrupted")


def test_taken_port_is_told_in_one_line(run: Any, studies_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("dashboard", "--study", "digits", "--studies-dir", studies_dir, "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    assert "--port" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("flag", "value"), [("--studies-dir", "nowhere"), ("--storage", "sqlite:///nowhere/study.db")])
def test_storage_that_is_not_there_is_not_made(run: Any, tmp_path: Path, flag: str, value: str) -> None:
    done = run("dashboard", "--study", "digits", flag, value, "--port", 0, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "nowhere" in done.stderr
    assert "optitune search" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=["sqlite", "journal", "postgresql", "grpc"])
def stored(request: pytest.FixtureRequest, run: Any, tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The URL of a storage with a small study in it, and the environment that opens it."""
    kind, environment = request.param, {}
    with ExitStack() as stack:
        if kind == "postgresql":
            server = request.getfixturevalue("postgresql")
            server.create("dashboard")
            url = f"postgresql://{server.user}@127.0.0.1:{server.port}/dashboard"
            environment = {"PGPASSWORD": server.password}
        elif kind == "journal":
            url = f"journal:///{tmp_path}/a study.log"
        else:
            url = f"sqlite:///{tmp_path}/a study.db"
        done = run(*search(tmp_path / "studies", 3), "--storage", url, environment=environment)
        assert (done.returncode, done.stderr) == (0, "")
        if kind == "grpc":
            url = stack.enter_context(grpc_proxy(url)).url
        yield url, environment


def pictures(address: str, page: str) -> set[bytes]:
    """How the pictures of a study's trials begin, as a browser gets them."""
    number = page.rpartition("/")[2]
    with urlopen(f"{address}/api/studies/{number}", timeout=WAIT_MS / 1000) as answer:  # noqa: S310
        trials = json.load(answer)["trials"]
    begun = set()
    for trial in trials:
        (artifact,) = trial["artifacts"]
        url = f"{address}/artifacts/{number}/{trial['trial_id']}/{artifact['artifact_id']}"
        with urlopen(url, timeout=WAIT_MS / 1000) as answer:  # noqa: S310
            begun.add(answer.read(8))
    return begun


def test_every_storage_is_shown_by_us_and_by_the_command_that_is_named(
    stored: tuple[str, dict[str, str]], start: Any, unused_port: int, tmp_path: Path
) -> None:
    url, environment = stored
    there = ["--study", "digits", "--storage", url, "--port", 0]
    with start("dashboard", *there, "--studies-dir", tmp_path / "elsewhere", environment=environment) as process:
        match = re.match(
            r"study 'digits': (http://127\.0\.0\.1:\d+)(/dashboard/studies/\d+)\n", process.stdout.readline()
        )
        assert match
        # the pictures lie on the machine that searched, and are drawn anew
        assert pictures(match[1], match[2]) == {PNG}
    with start("dashboard", *there, "--studies-dir", tmp_path / "studies", environment=environment) as process:
        first = process.stdout.readline()
        match = re.match(ADDRESS, first)
        assert match, first + process.communicate(timeout=60)[1]
        page = match[2]
        assert states(match[1], page) == ["Complete"] * 3
        assert pictures(match[1], page) == {PNG}
        named = process.stdout.readline()
        if not named.startswith("Ctrl-C"):
            assert process.stdout.readline().startswith("Ctrl-C")
    if url.startswith("grpc"):
        assert named == "Ctrl-C ends it\n"
        return
    words = shlex.split(named.removeprefix("the same without optitune: "))
    assert words[0] == "optuna-dashboard"
    plain = subprocess.Popen(
        [
            Path(sys.executable).with_name(words[0]),
            *words[1:],
            "--host",
            "127.0.0.1",
            "--port",
            str(unused_port),
            "--quiet",
        ],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
    )
    try:
        assert states(f"http://127.0.0.1:{unused_port}", page) == ["Complete"] * 3
        assert pictures(f"http://127.0.0.1:{unused_port}", page) == {PNG}
    finally:
        plain.kill()
        plain.wait()


@pytest.mark.parametrize(
    ("host", "reached", "warned"),
    [
        ("127.0.0.1", "127.0.0.1", False),
        ("[::1]", "[::1]", False),
        ("0.0.0.0", "127.0.0.1", True),  # noqa: S104
        ("::", "[::1]", True),
    ],
)
def test_another_host_is_warned_of(host: str, reached: str, warned: bool, start: Any, studies_dir: Path) -> None:
    with start("dashboard", "--studies-dir", studies_dir, "--host", host, "--port", 0) as process:
        match = re.match(r"study 'digits': http://(\S+):(\d+)(/dashboard/studies/\d+)\n", process.stdout.readline())
        assert match
        assert match[1] == (socket.gethostname() if warned else reached)
        assert len(states(f"http://{reached}:{match[2]}", match[3])) == TRIALS
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT_MS / 1000)
    *warning, last = [line for line in err.splitlines() if line]
    assert last == "interrupted"
    assert len(warning) == warned
    for line in warning:
        assert line.startswith("warning: optuna-dashboard has no login: everyone who reaches http://")
        assert f"ssh -L {match[2]}:127.0.0.1:{match[2]} " in line


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
def test_a_host_that_is_not_here_is_told_in_one_line(run: Any, studies_dir: Path, host: str) -> None:
    done = run("dashboard", "--studies-dir", studies_dir, "--host", host, "--port", 0)
    assert done.returncode == (1 if host[0].isdigit() else 2)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert host in done.stderr
    assert done.stderr.count("\n") == 1
