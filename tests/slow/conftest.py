"""What the slow tests need: the real command, a PostgreSQL server of their own, Chromium."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from postgres_server import Server, Unavailable, free_port, postgres_server

HANG_S = 900
"""No command of these tests takes nearly as long; it only keeps a hang from lasting for ever."""

MISSING = "{what} is missing: install the Debian package '{package}' (scripts/ci_services.sh does)"

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., AbstractContextManager["subprocess.Popen[str]"]]


def _command(arguments: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-m", "optitune", *map(str, arguments)]


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """The environment without settings of optitune's that whoever runs the tests may have."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OPTITUNE_")}
    return plain | dict(extra or {})


@pytest.fixture(scope="session")
def run() -> Run:
    """Run an optitune command to its end: `run("show", "--json", environment={...}, cwd=...)`."""

    def to_end(
        *arguments: object, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            _command(arguments),
            capture_output=True,
            text=True,
            timeout=HANG_S,
            env=_environment(environment),
            cwd=cwd,
            check=False,
        )

    return to_end


@pytest.fixture(scope="session")
def start() -> Start:
    """Begin an optitune command in a process group of its own, which is gone when the block ends."""

    @contextmanager
    def begun(*arguments: object, environment: Mapping[str, str] | None = None) -> Iterator["subprocess.Popen[str]"]:
        process = subprocess.Popen(
            _command(arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=_environment(environment),
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    return begun


@pytest.fixture
def unused_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server on a free port of 127.0.0.1, with a password, gone at the end."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgres_server())
        except Unavailable as error:
            pytest.fail(str(error), pytrace=False)
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium of the system, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail(MISSING.format(what="Chromium", package="chromium"), pytrace=False)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield opened
        opened.close()
