"""A PostgreSQL server of one's own on a free port of 127.0.0.1, for tests and measurements; gone at the end."""

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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

ANSWER_S = 60

MISSING = "PostgreSQL is missing: install the Debian package 'postgresql' (scripts/ci_services.sh does)"

PROXY = """
import sys, warnings
from optuna.storages import get_storage, run_grpc_proxy_server
warnings.simplefilter("ignore")
run_grpc_proxy_server(get_storage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""
"""Optuna's proxy as its documentation starts it."""


class Unavailable(Exception):
    """There is no server: it is not installed, or does not start."""


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A PostgreSQL server.

    Attributes:
        password: with characters that a URL must quote.
        place: the folder that holds its data and its log.
    """

    port: int
    user: str
    password: str
    place: Path
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

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

    def start(self) -> None:
        """Start it, on the data that it had.

        Raises:
            Unavailable: it does not answer.
        """
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
        }
        log = self.place / "log"
        with log.open("a") as lines:
            self._process = subprocess.Popen(
                [
                    _programs() / "postgres",
                    "-D",
                    self.place / "data",
                    *(f"--{key}={value}" for key, value in settings.items()),
                ],
                cwd=self.place,
                stdout=lines,
                stderr=subprocess.STDOUT,
                **_unprivileged(),
            )
        limit = time.monotonic() + ANSWER_S
        while True:
            try:
                self.connect("postgres").close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > limit:
                    raise Unavailable(f"PostgreSQL does not answer:\n{log.read_text()}") from None
                time.sleep(0.1)

    def stop(self, at_once: bool = False) -> None:
        """Stop it, in the middle of whatever it does for others; `at_once` as a crash would."""
        if self._process is None:
            return
        # its "fast shutdown" ends the connections, then itself; its "immediate" one leaves all as it is
        self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
        try:
            self._process.wait(timeout=ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@contextmanager
def postgres_server() -> Iterator[Server]:
    """A new server that runs, with a password.

    Raises:
        Unavailable: it cannot be had.
    """
    programs, identity = _programs(), _unprivileged()
    # not under a folder that nobody else may enter
    with tempfile.TemporaryDirectory(prefix="optitune-postgresql-") as folder:
        server = Server(free_port(), "optitune", f"{secrets.token_hex(8)}/@%", Path(folder))
        password = server.place / "password"
        password.write_text(server.password)
        if identity:
            for path in (server.place, password):
                os.chown(path, identity["user"], identity["group"])
        made = subprocess.run(
            [
                programs / "initdb",
                f"--pgdata={server.place / 'data'}",
                f"--username={server.user}",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            cwd=server.place,
            capture_output=True,
            text=True,
            check=False,
            **identity,
        )
        if made.returncode != 0:
            raise Unavailable(made.stderr)
        try:
            server.start()
            yield server
        finally:
            server.stop()


class Proxy:
    """Optuna's gRPC proxy before a database, in a process of its own."""

    def __init__(self, database: str) -> None:
        self._database = database.replace("postgresql://", "postgresql+psycopg://", 1)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"grpc://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, on the port that it had.

        Raises:
            Unavailable: it does not answer.
        """
        command = [sys.executable, "-c", PROXY, self._database, str(self._port)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + ANSWER_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > limit:
                    raise Unavailable("Optuna's gRPC proxy does not answer") from None
                time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def grpc_proxy(database: str) -> Iterator[Proxy]:
    """A proxy that runs, before the database of that URL."""
    proxy = Proxy(database)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.kill()


def _programs() -> Path:
    """Where PostgreSQL's programs lie; Debian keeps them off the PATH, one folder a version."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    found = [folder for folder in folders if (folder / "initdb").exists()]
    if found:
        return found[-1]
    on_path = shutil.which("postgres")
    if on_path is None:
        raise Unavailable(MISSING)
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
