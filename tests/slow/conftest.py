"""What the slow tests need: the real command, a PostgreSQL server of their own, Chromium."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

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


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_heeded() -> None:
    """A shell that runs the tests in the background lets them ignore Ctrl-C, and so what they start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL server.

    Attributes:
        password: with characters that a URL must quote.
    """

    port: int
    user: str
    password: str

    def connect(self, database: str) -> "psycopg.Connection[Any]":
        """A connection in which every statement is a transaction of its own."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
        )

    def url(self, database: str, password: str | None = None) -> str:
        """The URL of a database as a user types it."""
        secret = quote(password or self.password, safe="")
        return f"postgresql://{self.user}:{secret}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database; its URL."""
        with self.connect("postgres") as connection:
            connection.execute(f'CREATE DATABASE "{database}"'.encode())
        return self.url(database)

    def secrets(self) -> list[str]:
        """The password as it is, and as it stands in a URL."""
        return [self.password, quote(self.password, safe="")]


def _postgresql_folder() -> Path:
    """Where PostgreSQL's programs lie; Debian keeps them off the PATH, one folder a version."""
    on_path = shutil.which("postgres")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    found = [folder for folder in folders if (folder / "initdb").exists()]
    if found:
        return found[-1]
    if on_path is None:
        pytest.fail(MISSING.format(what="PostgreSQL", package="postgresql"), pytrace=False)
    return Path(on_path).parent


def _unprivileged() -> dict[str, Any]:
    """How to start a process as somebody other than root, under whom PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return {}
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def unused_port() -> int:
    return _free_port()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server on a free port of 127.0.0.1, with a password, gone at the end."""
    programs, identity = _postgresql_folder(), _unprivileged()
    server = Server(_free_port(), "optitune", f"{secrets.token_hex(8)}/@%")
    # not under pytest's own folder, which nobody else may enter
    with tempfile.TemporaryDirectory(prefix="optitune-postgresql-") as folder:
        place = Path(folder)
        data, password, log = place / "data", place / "password", place / "log"
        password.write_text(server.password)
        if identity:
            for path in (place, password):
                os.chown(path, identity["user"], identity["group"])
        made = subprocess.run(
            [
                programs / "initdb",
                f"--pgdata={data}",
                f"--username={server.user}",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            cwd=place,
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
            **identity,
        )
        assert made.returncode == 0, made.stderr
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": server.port,
            "unix_socket_directories": "",
            "fsync": "off",
        }
        with log.open("w") as lines:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, *(f"--{key}={value}" for key, value in settings.items())],
                cwd=place,
                stdout=lines,
                stderr=subprocess.STDOUT,
                **identity,
            )
        try:
            _wait_until_it_answers(server, process, log)
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # its "fast shutdown": ends the connections, then itself
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_it_answers(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    limit = time.monotonic() + 60
    while True:
        try:
            server.connect("postgres").close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > limit:
                pytest.fail(f"PostgreSQL does not answer:\n{log.read_text()}", pytrace=False)
            time.sleep(0.1)


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
