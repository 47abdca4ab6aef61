"""optuna-dashboard on a study's storage."""

from collections.abc import Callable
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optitune.errors import OptituneError
from optitune.files import REMEDIES
from optitune.storage import open_storage, parsed, shown

HOST = "127.0.0.1"
"""optuna-dashboard has no login, so it is not shown to the network."""


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own, so that a slow one holds up no other."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""


def serve(url: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve optuna-dashboard until interrupted.

    Args:
        url: of the storage.
        port: 0 for any that is free.
        on_ready: called with the address once it answers.

    Raises:
        OptituneError: the storage cannot be opened, or the port is taken.
    """
    from optuna_dashboard import wsgi

    app = wsgi(open_storage(url, create=False))
    try:
        server = make_server(HOST, port, app, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        cause = REMEDIES.get(error.errno or 0, error.strerror or str(error))
        raise OptituneError(
            f"cannot listen on {HOST}:{port}: {cause}; choose another --port, or 0 for any that is free"
        ) from error
    with server:
        on_ready(f"http://{HOST}:{server.server_port}")
        server.serve_forever()


def plain_command(url: str) -> str:
    """The command of optuna-dashboard itself that shows the same; a password is left out."""
    return f"optuna-dashboard {shown(url)}" if parsed(url).password else f"optuna-dashboard {url}"
