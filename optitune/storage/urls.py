"""Where studies live, by URL: an SQLite file, a journal, a database server, or a proxy before one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, get_storage
from sqlalchemy.exc import SQLAlchemyError

from optitune.errors import NoStudies, OptituneError, UsageError
from optitune.storage import databases
from optitune.storage.journal import open_journal
from optitune.storage.retry import RetryingStorage, Waiting
from optitune.storage.retry import RetryPolicy as RetryPolicy

SHARED_STORAGE = (
    "name a storage that all machines reach with --storage: postgresql://USER@HOST/DATABASE, "
    "journal:////FOLDER/FILE on a shared disk, or grpc://HOST:PORT"
)


JOURNAL = "journal:"
GRPC = "grpc:"
GRPC_PORT = 13000
"""Where Optuna's proxy listens by default."""

STORAGE_ERRORS = (SQLAlchemyError, StorageInternalError)
"""What a storage that fails raises; a journal raises an `OptituneError`, which explains itself."""

T = TypeVar("T")


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file."""
    return f"sqlite:///{path.resolve()}"


def shown(url: str) -> str:
    """`url` without its password, for messages and files.

    Raises:
        UsageError: it is not a URL of a storage.
    """
    if url.startswith(JOURNAL):
        _journal_path(url)
        return url
    if url.startswith(GRPC):
        host, port = _grpc_address(url)
        return f"grpc://{host}:{port}"
    return databases.shown(databases.parsed(url))


def is_file(url: str) -> bool:
    """Whether the storage is an SQLite file of this machine; a journal may lie on a disk that machines share."""
    return not url.startswith((JOURNAL, GRPC)) and databases.is_sqlite(databases.parsed(url))


def exists(url: str) -> bool:
    """Whether there is something to open; a server always counts as there."""
    if url.startswith(JOURNAL):
        return _journal_path(url).exists()
    return not is_file(url) or Path(databases.parsed(url).database or "").exists()


def open_storage(url: str, create: bool, patience: RetryPolicy | None = None) -> BaseStorage:
    """Open the storage at `url`.

    Args:
        url: `journal:///FILE`, `grpc://HOST:PORT`, or as SQLAlchemy takes it.
        create: make a file that is not there, and the tables of an empty database.
        patience: how to wait for a server that does not answer, now and in every later call; None not to. A file
            is never away: what fails there is a full or a broken disk.

    Raises:
        UsageError: the URL is not one.
        NoStudies: the database is there, but without Optuna's tables, and `create` is not set.
        OptituneError: the storage is missing, damaged, another program's, or cannot be reached.
    """
    if url.startswith(JOURNAL):
        return open_journal(_journal_path(url), create)
    if url.startswith(GRPC):
        return _open_proxy(url, patience)
    return _open_database(url, create, patience)


def _open_proxy(url: str, patience: RetryPolicy | None) -> BaseStorage:
    host, port = _grpc_address(url)
    try:
        # what Optuna's client is written in; optitune.storage.grpc_proxy would find it missing only later
        import google.protobuf  # noqa: F401

        from optitune.storage import grpc_proxy as proxy
    except ImportError:
        raise OptituneError("gRPC is not installed: run pip install 'optitune[grpc]'") from None
    waiting = Waiting(patience, shown(url), proxy.away) if patience else None
    try:
        opened = _now_or(waiting, lambda: proxy.connect(host, port))
    except proxy.ProxyError as error:
        raise OptituneError(
            f"cannot open the storage {shown(url)}: {error}; "
            "check the address, and that Optuna's run_grpc_proxy_server runs there"
        ) from error
    return RetryingStorage(opened, waiting) if waiting else opened


def _open_database(url: str, create: bool, patience: RetryPolicy | None) -> BaseStorage:
    target = databases.parsed(url)
    databases.check(target, create)
    waits = patience is not None and not databases.is_sqlite(target)
    waiting = Waiting(patience, shown(url), databases.away) if patience and waits else None
    try:
        opened = _now_or(waiting, lambda: databases.connect(target, create))
    except (*STORAGE_ERRORS, RuntimeError) as error:
        if databases.lacks_tables(error) and not create:
            message = f"the storage {shown(url)} holds no studies yet: run 'optitune search' first"
            raise NoStudies(message) from None
        raise OptituneError(
            f"cannot open the storage {shown(url)}: {databases.cause(error)}; "
            "check the URL, and that the database is running and yours to write"
        ) from error
    if waiting is None:
        return opened
    waiting.forget = opened.forget
    return RetryingStorage(get_storage(opened), waiting)


def _now_or(waiting: Waiting | None, call: Callable[[], T]) -> T:
    return waiting.out(call) if waiting else call()


@contextmanager
def explained_storage(url: str) -> Iterator[None]:
    """Turn a storage's errors into an `OptituneError` that names the storage and the cause.

    Raises:
        OptituneError: the storage failed: full, read-only, gone, or damaged.
    """
    try:
        yield
    except STORAGE_ERRORS as error:
        if databases.is_damaged(error):
            remedy = "its file is damaged: move it away to start anew, or restore a copy of it"
        else:
            remedy = "what was finished is kept, run the same command again"
        raise OptituneError(f"the storage {shown(url)} failed: {databases.cause(error)}; {remedy}") from error


def _journal_path(url: str) -> Path:
    """The file that a URL of a journal names, as SQLAlchemy would read it: a fourth slash begins an absolute path."""
    prefix, _, name = url.partition(":///")
    if f"{prefix}:" != JOURNAL or not name or name.endswith("/"):
        raise UsageError("--storage journal: names no file: write journal:///FILE, or journal:////FOLDER/FILE")
    return Path(name).absolute()


def _grpc_address(url: str) -> tuple[str, int]:
    # a name and a password would be sent to nobody, so they are neither taken nor repeated
    wrong = UsageError("--storage grpc: names no proxy: write grpc://HOST:PORT; the proxy knows no passwords")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if not host or parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise wrong
    return f"[{host}]" if ":" in host else host, port or GRPC_PORT
