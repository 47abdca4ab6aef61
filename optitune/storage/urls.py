"""Where studies live, by URL: an SQLite file, a journal, a database server, or a proxy before one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, get_storage
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from optitune.errors import NoStudies, OptituneError, UsageError
from optitune.storage import databases
from optitune.storage.journal import JournalFile, open_journal
from optitune.storage.retry import Retrier, RetryingStorage
from optitune.storage.retry import RetryPolicy as RetryPolicy

SHARED_STORAGE = (
    "name a storage that all machines reach as storage: postgresql://USER@HOST/DATABASE, "
    "journal:////FOLDER/FILE on a shared disk, or grpc://HOST:PORT"
)


JOURNAL = "journal:"
GRPC = "grpc:"
GRPC_PORT = 13000
"""Where Optuna's proxy listens by default."""

STORAGE_ERRORS = (SQLAlchemyError, StorageInternalError)
"""What a storage that fails raises; a journal raises an `OptituneError`, which explains itself."""

T = TypeVar("T")


@dataclass(frozen=True)
class StorageUrl:
    """Where studies live, parsed once.

    Attributes:
        kind: `sqlite`, `journal`, `grpc`, or a database server by SQLAlchemy's name, such as `postgresql`.
        shown: the URL without its password, for messages and files.
        path: the file of SQLite or of a journal; None for a server.
        address: host and port of a proxy; empty and 0 for all others.
        target: of a database in SQLAlchemy's form, with the password; None for all others.
    """

    kind: str
    shown: str
    path: Path | None = None
    address: tuple[str, int] = ("", 0)
    target: URL | None = None

    @classmethod
    def parse(cls, text: str) -> "StorageUrl":
        """The storage that a user names: `journal:///FILE`, `grpc://HOST:PORT`, or as SQLAlchemy takes it.

        Raises:
            UsageError: it is not a URL of a storage, or of a database in memory.
        """
        if text.startswith(JOURNAL):
            return cls("journal", text, path=_journal_path(text))
        if text.startswith(GRPC):
            host, port = _grpc_address(text)
            return cls("grpc", f"grpc://{host}:{port}", address=(host, port))
        target = databases.parsed(text)
        return cls(target.get_backend_name(), databases.shown(target), databases.file_of(target), target=target)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is an SQLite file of this machine; a journal may lie on a disk that machines share."""
        return self.kind == "sqlite"

    def exists(self) -> bool:
        """Whether there is something to open; a server always counts as there."""
        return self.path is None or self.path.exists()


def sqlite_url(path: Path) -> StorageUrl:
    """The storage in an SQLite file."""
    target = URL.create("sqlite", database=str(path.resolve()))
    return StorageUrl("sqlite", databases.shown(target), path.resolve(), target=target)


def open_storage(url: StorageUrl, create: bool, patience: RetryPolicy | None = None) -> BaseStorage:
    """Open a storage.

    Args:
        url: of the storage.
        create: make a file that is not there, and the tables of an empty database.
        patience: how to wait for a server that does not answer, now and in every later call; None not to. A file
            is never away: what fails there is a full or a broken disk.

    Raises:
        NoStudies: the database is there, but without Optuna's tables, and `create` is not set.
        OptituneError: the storage is missing, damaged, another program's, or cannot be reached.
    """
    if url.target is not None:
        return _open_database(url, url.target, create, patience)
    return open_journal(url.path, create) if url.path is not None else _open_proxy(url, patience)


def _open_proxy(url: StorageUrl, patience: RetryPolicy | None) -> BaseStorage:
    try:
        # what Optuna's client is written in; optitune.storage.grpc_proxy would find it missing only later
        import google.protobuf  # noqa: F401

        from optitune.storage import grpc_proxy as proxy
    except ImportError:
        raise OptituneError("gRPC is not installed: run pip install 'optitune[grpc]'") from None
    retrier = Retrier(patience, url.shown, proxy.unavailable) if patience else None
    try:
        opened = _now_or(retrier, lambda: proxy.connect(*url.address))
    except proxy.ProxyError as error:
        raise OptituneError(
            f"cannot open the storage {url.shown}: {error}; "
            "check the address, and that Optuna's run_grpc_proxy_server runs there"
        ) from error
    return RetryingStorage(opened, retrier) if retrier else opened


def _open_database(url: StorageUrl, target: URL, create: bool, patience: RetryPolicy | None) -> BaseStorage:
    if url.path is not None:
        databases.check_sqlite(url.path, create)
    retrier = Retrier(patience, url.shown, databases.unavailable) if patience and not url.is_sqlite else None
    try:
        opened = _now_or(retrier, lambda: databases.connect(target, create))
    except (*STORAGE_ERRORS, RuntimeError) as error:
        if databases.lacks_tables(error) and not create:
            message = f"the storage {url.shown} holds no studies yet: run 'optitune search' first"
            raise NoStudies(message) from None
        raise OptituneError(
            f"cannot open the storage {url.shown}: {databases.cause(error)}; "
            "check the URL, and that the database is running and yours to write"
        ) from error
    if retrier is None:
        return opened
    retrier.forget = opened.forget
    return RetryingStorage(get_storage(opened), retrier)


def _now_or(retrier: Retrier | None, call: Callable[[], T]) -> T:
    return retrier.call(call) if retrier else call()


def rename_study(url: StorageUrl, old: str, new: str) -> None:
    """Give the study called `old` in a storage a name that is not in use there, at once or not at all.

    Args:
        url: of the storage.
        old: the study's name.
        new: its name from now on.

    Raises:
        OptituneError: the storage cannot be reached or written, or is a proxy, which has no way to rename.
    """
    with explained_storage(url):
        if url.target is not None:
            databases.rename_study(url.target, old, new)
        elif url.path is not None:
            JournalFile(url.path).rename_study(old, new)
        else:
            raise OptituneError("a gRPC proxy has no way to rename a study: name the database behind it with --storage")


@contextmanager
def explained_storage(url: StorageUrl) -> Iterator[None]:
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
        raise OptituneError(f"the storage {url.shown} failed: {databases.cause(error)}; {remedy}") from error


def _journal_path(url: str) -> Path:
    """The file that a URL of a journal names, as SQLAlchemy would read it: a fourth slash begins an absolute path."""
    prefix, _, name = url.partition(":///")
    if f"{prefix}:" != JOURNAL or not name or name.endswith("/"):
        raise UsageError("storage: journal: names no file: write journal:///FILE, or journal:////FOLDER/FILE")
    return Path(name).absolute()


def _grpc_address(url: str) -> tuple[str, int]:
    # a name and a password would be sent to nobody, so they are neither taken nor repeated
    wrong = UsageError("storage: grpc: names no proxy: write grpc://HOST:PORT; the proxy knows no passwords")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if not host or parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise wrong
    return f"[{host}]" if ":" in host else host, port or GRPC_PORT
