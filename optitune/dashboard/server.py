"""optuna-dashboard on a study's storage."""

import errno
import ipaddress
import shlex
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, BinaryIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL

from optitune.dashboard import search_notes, trial_notes
from optitune.dashboard.artifacts import Artifacts, attached, system_attrs
from optitune.errors import OptituneError, UsageError
from optitune.storage import databases, studies, trials
from optitune.storage.artifacts import FOLDER
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import open_storage
from optitune.study.steps import usual_steps

HOST = "127.0.0.1"
"""optuna-dashboard has no login, so it is not shown to the network unless somebody asks for that."""


BREAK_LINES = (
    b"<style>main p { white-space: normal; overflow-wrap: anywhere; }"
    b"main pre, main pre code { white-space: pre-wrap !important; overflow-wrap: anywhere; }</style>"
)
"""optuna-dashboard has each attribute and each line of code in one line, and the page as wide as the longest."""


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


class Redrawn(Artifacts):
    """The artifacts of a storage's studies; what lies on another machine is made anew from what the storage holds.

    Args:
        storage: opened.
        folder, others: as of `Artifacts`.
    """

    def __init__(self, storage: BaseStorage, folder: Path, others: tuple[Path, ...]) -> None:
        super().__init__(folder, others)
        self._storage = storage

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """An artifact's bytes.

        Raises:
            ArtifactNotFound: no study has it.
        """
        try:
            return super().open_reader(artifact_id)
        except ArtifactNotFound:
            for name in optuna.get_all_study_names(self._storage):
                if (data := self._made_anew(studies.find(self._storage, name), artifact_id)) is not None:
                    return BytesIO(data)
            raise

    def _made_anew(self, opened: optuna.Study, artifact_id: str) -> bytes | None:
        if studies.SETTINGS not in opened.user_attrs:
            return None
        of_study = {key: name for name, key in attached(system_attrs(opened)).items()}
        if artifact_id in of_study:
            folder = self._folder.parents[1] / opened.study_name
            found = search_notes.chapter(opened, trials.records(opened), folder).files
            text = found.get(of_study[artifact_id])
            return None if text is None else text.encode()
        for frozen in opened.get_trials(deepcopy=False):
            if attached(frozen.system_attrs).get(trial_notes.PICTURE) == artifact_id:
                return self._picture(opened, frozen)
        return None

    def _picture(self, opened: optuna.Study, frozen: FrozenTrial) -> bytes:
        data = opened.user_attrs[studies.DATA]
        settings = studies.settings_of(opened)
        row = trials.record(opened, frozen.number)
        an_epoch = usual_steps(settings, data["train_examples"])
        return trial_notes.picture(frozen, row.outcome, row.value, studies.metric(opened).unit, an_epoch)


def in_the_window(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """optuna-dashboard whose page breaks long lines, by a style of ours.

    Args:
        app: of WSGI, as what is returned.
    """

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET" or not environ["PATH_INFO"].startswith("/dashboard"):
            return app(environ, start_response)
        begun: list[tuple[Any, ...]] = []
        body = app(environ, lambda *words: begun.append(words))
        page = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        status, headers, *rest = begun[-1]
        page = page.replace(b"</head>", BREAK_LINES + b"</head>", 1)
        kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*kept, ("Content-Length", str(len(page)))], *rest)
        return [page]

    return answer


def serve(home: StudyLocation, studies_dir: Path, host: str, port: int, on_ready: Callable[[Place], None]) -> None:
    """Serve optuna-dashboard until interrupted.

    Args:
        home: of the study; all studies of its storage are served.
        studies_dir: the folder of all studies.
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

    storage = open_storage(home.url, create=False)
    others = tuple(sorted(studies_dir.glob(f"*/{FOLDER}")))
    app = in_the_window(wsgi(storage, artifact_store=Redrawn(storage, home.folder / FOLDER, others)))
    kind = _Server6 if family == socket.AF_INET6 else _Server
    try:
        server = make_server(address, port, app, server_class=kind, handler_class=_Quiet)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL:
            advice = f"host takes an address of this machine, such as {HOST}"
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
            f"host = {host}: {cause}; give a name or an address of this machine, such as {HOST} or ::1"
        ) from None
    return family, str(place[0])


def plain_command(home: StudyLocation) -> str:
    """The command of optuna-dashboard itself that shows the same, without the password; empty where it has none."""
    url = home.url
    if url.kind == "grpc":
        return ""
    place = str(url.path) if url.kind == "journal" else url.shown
    if url.target is not None and url.kind == "postgresql":
        # psycopg takes a password from PGPASSWORD or ~/.pgpass; other drivers have it in the URL or nowhere
        place = _without_password(url.target)
    return shlex.join(["optuna-dashboard", place, "--artifact-dir", str(home.folder / FOLDER)])


def _without_password(target: URL) -> str:
    bare = URL.create(target.drivername, target.username, None, target.host, target.port, target.database, target.query)
    return databases.shown(bare)
