"""optuna-dashboard on a study's storage."""

import errno
import ipaddress
import shlex
import socket
from collections.abc import Callable
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from sqlalchemy.engine import URL

from optitune import databases
from optitune.errors import OptituneError, UsageError
from optitune.storage import GRPC, JOURNAL, open_storage, shown

HOST = "127.0.0.1"
"""optuna-dashboard has no login, so it is not shown to the network unless somebody asks for that."""


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own, so that a slow one holds up no other."""

    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""


@dataclass(frozen=True)
class Place:
    """Where a dashboard listens: its address for a browser, its port, and whether other machines reach it."""

    address: str
    port: int
    exposed: bool


def serve(url: str, host: str, port: int, on_ready: Callable[[Place], None]) -> None:
    """Serve optuna-dashboard until interrupted.

    Args:
        url: of the storage.
        host: a name or an address of this machine; IPv6 with or without brackets.
        port: 0 for any that is free.
        on_ready: called once it answers.

    Raises:
        UsageError: the host is none.
        OptituneError: the storage cannot be opened, the host is another machine's, or the port is taken.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    family, address = _resolved(bare)
    from optuna_dashboard import wsgi

    app = wsgi(open_storage(url, create=False))
    kind = _Server6 if family == socket.AF_INET6 else _Server
    try:
        server = make_server(address, port, app, server_class=kind, handler_class=_Quiet)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL:
            advice = f"--host takes an address of this machine, such as {HOST}"
        else:
            advice = "choose another --port, or 0 for any that is free"
        cause = getattr(error, "strerror", None) or str(error)
        raise OptituneError(f"cannot listen on {_with_port(bare, port)}: {cause}; {advice}") from error
    with server:
        bound, taken = ipaddress.ip_address(address), server.server_port
        # a browser cannot go to "all addresses"
        name = socket.gethostname() if bound.is_unspecified else bare
        on_ready(Place(f"http://{_with_port(name, taken)}", taken, exposed=not bound.is_loopback))
        server.serve_forever()


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _resolved(host: str) -> tuple[int, str]:
    """The family and the address of a host."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"--host {host}: {cause}; give a name or an address of this machine, such as {HOST} or ::1"
        ) from None
    return family, str(place[0])


def plain_command(url: str) -> str:
    """The command of optuna-dashboard itself that shows the same, without the password; empty where it has none."""
    if url.startswith(GRPC):
        return ""
    if url.startswith(JOURNAL):
        place = url.removeprefix(f"{JOURNAL}///")
    else:
        target = databases.parsed(url)
        # psycopg takes a password from PGPASSWORD or ~/.pgpass; other drivers have it in the URL or nowhere
        place = _without_password(target) if target.get_backend_name() == "postgresql" else shown(url)
    return shlex.join(["optuna-dashboard", place])


def _without_password(target: URL) -> str:
    bare = URL.create(target.drivername, target.username, None, target.host, target.port, target.database, target.query)
    return databases.shown(bare)
