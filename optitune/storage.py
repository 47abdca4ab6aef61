"""Where a study lives: its own SQLite file, or any database that SQLAlchemy reaches by URL."""

import gc
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, ProgrammingError, SQLAlchemyError

from optitune.errors import NoStudies, OptituneError, UsageError
from optitune.files import make_folder

LOCK_TIMEOUT_S = 60
"""How long a process waits for another one's write to an SQLite file."""

OPENINGS = 50
"""How often to open a database whose tables another process is making at the same moment; each time more are there."""

POSTGRES_DRIVER = "postgresql+psycopg"

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


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file."""
    return f"sqlite:///{path.resolve()}"


def parsed(url: str) -> URL:
    """`url` in SQLAlchemy's form, PostgreSQL through psycopg 3.

    Raises:
        UsageError: it is not a database URL.
    """
    try:
        result = make_url(url)
        result.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        # the text may hold a password, so it is not repeated
        raise UsageError(
            "--storage is not a database URL: write sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        ) from None
    if result.drivername in ("postgresql", "postgres"):
        result = result.set(drivername=POSTGRES_DRIVER)
    return result


def shown(url: str) -> str:
    """`url` without its password, for messages and files."""
    return parsed(url).render_as_string(hide_password=True)


def is_file(url: str) -> bool:
    """Whether the storage is an SQLite file of this machine."""
    return parsed(url).get_backend_name() == "sqlite"


def exists(url: str) -> bool:
    """Whether there is something to open; a database server always counts as there."""
    target = parsed(url)
    return target.get_backend_name() != "sqlite" or Path(target.database or "").exists()


def open_storage(url: str, create: bool) -> RDBStorage:
    """Open the storage at `url`.

    Args:
        url: as SQLAlchemy takes it.
        create: make an SQLite file that is not there, and the tables of an empty database.

    Raises:
        UsageError: the URL is not one.
        NoStudies: the database is there, but without Optuna's tables, and `create` is not set.
        OptituneError: the database is missing, damaged, another program's, or cannot be reached.
    """
    target = parsed(url)
    options: dict[str, Any] = {"pool_pre_ping": True}
    if target.get_backend_name() == "sqlite":
        if not target.database or target.database == ":memory:":
            raise UsageError("--storage sqlite:// without a file would be lost at the end: write sqlite:///FILE")
        path = Path(target.database)
        _check_sqlite(path, create)
        options = {"connect_args": {"timeout": LOCK_TIMEOUT_S}}
    try:
        storage = _opened(target.render_as_string(hide_password=False), create, options)
    except ImportError:
        raise OptituneError(
            f"the driver for {target.drivername} is not installed: "
            "run pip install 'optitune[postgres]' for PostgreSQL, or the driver of your database"
        ) from None
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        # SQLite and the servers have different words for a table that is not there
        absent = any(isinstance(each, ProgrammingError) or "no such table" in str(each) for each in _chain(error))
        if absent and not create:
            message = f"the storage {shown(url)} holds no studies yet: run 'optitune search' first"
            raise NoStudies(message) from None
        raise OptituneError(
            f"cannot open the storage {shown(url)}: {_cause(error)}; "
            "check the URL, and that the database is running and yours to write"
        ) from error
    if target.get_backend_name() == "sqlite":
        _queue_writers(storage)
    return storage


def _opened(url: str, create: bool, options: dict[str, Any]) -> RDBStorage:
    """Open a database and perhaps make the tables it lacks, also while other processes do the same."""
    for _ in range(OPENINGS - 1):
        try:
            return _Storage(url, engine_kwargs=options, skip_table_creation=not create)
        except SQLAlchemyError as error:
            # Optuna looks whether a table is there, then makes it; in between another process may have
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(0.1)
    return _Storage(url, engine_kwargs=options, skip_table_creation=not create)


STORAGE_ERRORS = (SQLAlchemyError, StorageInternalError)
"""What a database that fails raises."""


@contextmanager
def explained_storage(url: str) -> Iterator[None]:
    """Turn a database's errors into an `OptituneError` that names the storage and the cause.

    Raises:
        OptituneError: the database failed: full, read-only, gone, or damaged.
    """
    try:
        yield
    except STORAGE_ERRORS as error:
        raise OptituneError(
            f"the storage {shown(url)} failed: {_cause(error)}; what was finished is kept, run the same command again"
        ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it, the root last."""
    while error is not None:
        yield error
        error = error.__cause__


def _cause(error: BaseException) -> str:
    """The database's own words, without the statement that met them."""
    *_, error = _chain(error)
    return " ".join(str(getattr(error, "orig", None) or error).split())


def _check_sqlite(path: Path, create: bool) -> None:
    """Refuse a file that is not an Optuna database, before Optuna writes tables into it."""
    if not path.exists():
        if not create:
            raise OptituneError(
                f"there is no storage {path}: run 'optitune search' first, or name another with --storage"
            )
        make_folder(path.parent)
        return
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=LOCK_TIMEOUT_S)
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
            f"{path} is a database of another program (tables {', '.join(sorted(tables)[:3])}): "
            "name another with --storage"
        )


def _queue_writers(storage: RDBStorage) -> None:
    """Let processes write one after the other, so that none of them reads what another is about to change.

    As Python opens SQLite, a transaction reads first and locks later, and two processes may both
    take the same waiting trial. Reading all trials changes nothing and may take seconds, so it waits for
    nobody and nobody waits for it.
    """

    def connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if _only_reading.get() else "BEGIN IMMEDIATE")

    sqlalchemy.event.listen(storage.engine, "connect", connect)
    sqlalchemy.event.listen(storage.engine, "begin", begin)
    # connections made before the listeners were there do not heed them
    storage.engine.dispose()
