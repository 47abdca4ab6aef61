"""Database storages: SQLite files, and servers that SQLAlchemy reaches by URL."""

import atexit
import errno
import gc
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from optitune.common.files import explained, make_folder
from optitune.errors import OptituneError, UsageError

LOCK_TIMEOUT_S = 60
"""Longest wait for another process's write to an SQLite file, in seconds."""

OPENINGS = 50
"""Attempts to open a database whose tables another process is creating."""

POSTGRES_DRIVER = "postgresql+psycopg"

POSTGRES_LIMITS = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Timeouts by which a server that vanished is noticed; the system's defaults take two hours."""

SECRETS = ("password", "passwd", "sslpassword")
"""Query parameters of a URL that hold a password."""

HOPELESS = ("authentication failed", "access denied", "no pg_hba.conf entry", "does not exist")
"""Parts of a server's messages after which a retry is useless; there is no code for them."""

_only_reading = ContextVar("only_reading", default=False)


class _Storage(RDBStorage):
    """Optuna's storage, quicker at reading the trials of a long study."""

    def _get_trials(self, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        token, collecting = _only_reading.set(True), gc.isenabled()
        # the collector would walk the growing heap over and over, for as long again as the reading takes
        gc.disable()
        try:
            return super()._get_trials(*args, **kwargs)
        finally:
            _only_reading.reset(token)
            if collecting:
                gc.enable()

    def forget(self) -> None:
        """Discard the session of a failed call in this thread."""
        try:
            self.remove_session()
        except SQLAlchemyError:
            # closing a session with a dead connection may fail at every attempt
            self.scoped_session.registry.clear()


def parsed(url: str) -> URL:
    """`url` in SQLAlchemy's form, PostgreSQL through psycopg 3.

    Raises:
        UsageError: it is not a database URL, or its password is not quoted.
    """
    try:
        result = make_url(url)
        result.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        # the text may hold a password, so it is not repeated
        raise UsageError(
            "storage: is not a database URL: write sqlite:///FILE, journal:///FILE, "
            "postgresql://USER@HOST/DATABASE or grpc://HOST:PORT"
        ) from None
    if "@" in (result.host or ""):
        # what stands before it is the end of a password, and would be shown as the host's name
        raise UsageError("storage: holds more than one '@': write one that belongs to the password as %40")
    if result.drivername in ("postgresql", "postgres"):
        result = result.set(drivername=POSTGRES_DRIVER)
    return result


def shown(target: URL) -> str:
    """A database's URL without its password."""
    return target.difference_update_query(SECRETS).render_as_string(hide_password=True)


def file_of(target: URL) -> Path | None:
    """The file of an SQLite database; None for a server.

    Raises:
        UsageError: the database would be in memory.
    """
    if target.get_backend_name() != "sqlite":
        return None
    if not target.database or target.database == ":memory:":
        raise UsageError("storage: sqlite:// without a file would be lost at the end: write sqlite:///FILE")
    return Path(target.database)


def connect(target: URL, create: bool) -> _Storage:
    """Open a database that was checked.

    Raises:
        OptituneError: its driver is not installed.
        SQLAlchemyError: it cannot be reached, lacks the tables and `create` is not set, or is another program's.
        StorageInternalError: it cannot be reached.
        RuntimeError: its tables are of another version of Optuna.
    """
    options: dict[str, Any] = {"pool_pre_ping": True}
    path = file_of(target)
    only_read = path is not None and not create and is_read_only(path)
    if path is not None and only_read:
        options = {"creator": partial(sqlite3.connect, _uri(path), LOCK_TIMEOUT_S, uri=True, check_same_thread=False)}
    elif path is not None and target.query:
        options = {"connect_args": {"timeout": LOCK_TIMEOUT_S}}
    elif path is not None:
        # by its path, since not every release of SQLAlchemy reads every character of one within a URL
        options = {"creator": partial(sqlite3.connect, path, LOCK_TIMEOUT_S, check_same_thread=False)}
    elif target.drivername == POSTGRES_DRIVER:
        options["connect_args"] = {key: value for key, value in POSTGRES_LIMITS.items() if key not in target.query}
    try:
        # Optuna fills in what stands in braces
        url = target.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
        storage = _opened(url, create, options)
    except ImportError:
        raise OptituneError(
            f"the driver for {target.drivername} is not installed: "
            "run pip install 'optitune[postgres]' for PostgreSQL, or the driver of your database"
        ) from None
    if path is not None and not only_read:
        _queue_writers(storage)
    return storage


def _opened(url: str, create: bool, options: dict[str, Any]) -> _Storage:
    """Open a database and create missing tables if asked, also while other processes do the same."""
    for _ in range(OPENINGS - 1):
        try:
            return _Storage(url, engine_kwargs=options, skip_table_creation=not create)
        except SQLAlchemyError as error:
            # Optuna looks whether a table is there, then makes it; in between another process may have
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(0.1)
    return _Storage(url, engine_kwargs=options, skip_table_creation=not create)


def is_read_only(path: Path) -> bool:
    """Whether an SQLite file can be read alone: it, or its folder, is not ours to write."""
    return path.exists() and not all(os.access(each, os.W_OK) for each in (path, path.parent))


def _uri(path: Path) -> str:
    """The URI of an SQLite file to be read, perhaps in a folder where SQLite cannot make the files of its log."""
    path = path.resolve()
    alone = is_read_only(path) and not path.with_name(f"{path.name}-wal").exists()
    return f"{path.as_uri()}?{'immutable=1' if alone else 'mode=ro'}"


def rename_study(target: URL, old: str, new: str) -> None:
    """Give a study in a database another name, which is not in use there.

    Args:
        target: the database.
        old: the study's name.
        new: its name from now on.

    Raises:
        SQLAlchemyError: the database cannot be reached or written, or has a study of the new name.
    """
    engine = connect(target, create=False).engine
    with engine.begin() as connection:
        words = sqlalchemy.text("UPDATE studies SET study_name = :new WHERE study_name = :old")
        connection.execute(words, {"old": old, "new": new})
    engine.dispose()


def lacks_tables(error: BaseException) -> bool:
    """Whether opening failed because Optuna's tables are missing."""
    # SQLite and the servers have different words for a table that is not there
    return any(isinstance(each, ProgrammingError) or "no such table" in str(each) for each in _causes(error))


def is_damaged(error: BaseException) -> bool:
    """Whether SQLite found a file to be damaged or no database."""
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return any(getattr(getattr(each, "orig", None), "sqlite_errorcode", 0) & 0xFF in codes for each in _causes(error))


def cause(error: BaseException) -> str:
    """The database's own message, without the SQL statement."""
    *_, error = _causes(error)
    return " ".join(str(getattr(error, "orig", None) or error).split())


def unavailable(error: BaseException) -> str | None:
    """Why a database server does not answer, by the error of a call; None if it answered, or a retry is useless.

    Deadlocks and failed serializations count as well: a retry solves them too.
    """
    if not isinstance(error, SQLAlchemyError | StorageInternalError):
        return None
    for each in _causes(error, contexts=True):
        lost = isinstance(each, DBAPIError) and each.connection_invalidated
        if lost or isinstance(each, OperationalError | InterfaceError):
            words = cause(each)
            return None if any(sign in words.lower() for sign in HOPELESS) else words
    return None


def _causes(error: BaseException | None, contexts: bool = False) -> Iterator[BaseException]:
    """An error and its causes, the root last; with `contexts` also the errors that were being handled."""
    while error is not None:
        yield error
        handled = error.__context__ if contexts and not error.__suppress_context__ else None
        error = error.__cause__ or handled


def check_sqlite(path: Path, create: bool) -> None:
    """Refuse a file that is not an Optuna database, before Optuna writes tables into it; make its folder if asked.

    Raises:
        OptituneError: the file is missing and `create` is not set, is damaged, or is another program's.
    """
    if not path.exists():
        if not create:
            raise OptituneError(f"there is no storage {path}: run 'optitune search' first, or name another storage")
        make_folder(path.parent)
        return
    if create and is_read_only(path):
        # it is not opened to find out: to close it again would take away the locks that this process has on it
        with explained(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    try:
        connection = sqlite3.connect(_uri(path), uri=True, timeout=LOCK_TIMEOUT_S)
        try:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise OptituneError(
            f"{path} is damaged or not a database ({error}): move it away to start anew, or restore a copy of it"
        ) from error
    if tables and "studies" not in tables:
        raise OptituneError(
            f"{path} is a database of another program (tables {', '.join(sorted(tables)[:3])}): name another storage"
        )


def _write_ahead(connection: Any) -> None:
    """Switch to write-ahead logging, so that readers and a writer do not block each other.

    SQLite refuses this at once while another process does the same, so it is repeated here.
    """
    until = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.05)


def _queue_writers(storage: RDBStorage) -> None:
    """Let processes write one after the other, so that none of them reads what another is about to change.

    As Python opens SQLite, a transaction reads first and locks later, and two processes may both
    take the same waiting trial. Reading all trials changes nothing and may take seconds, so it waits for
    nobody and nobody waits for it.
    """

    def connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        _write_ahead(connection)

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if _only_reading.get() else "BEGIN IMMEDIATE")

    sqlalchemy.event.listen(storage.engine, "connect", connect)
    sqlalchemy.event.listen(storage.engine, "begin", begin)
    # connections made before the listeners were there lack them
    storage.engine.dispose()
    _files.add(storage.engine)


_files: WeakSet[Engine] = WeakSet()
"""Engines of the SQLite files that this process has open."""


@atexit.register
def _close() -> None:
    """Close all SQLite files: the last process to do so merges `-wal` into the file, so that a copy is complete."""
    for engine in list(_files):
        with suppress(SQLAlchemyError, sqlite3.Error):
            engine.dispose()
