import gc
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from optitune.errors import OptituneError, UsageError
from optitune.storage import exists, is_file, open_storage, parsed, shown, sqlite_url


def test_a_new_file_is_made_with_a_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "study.db"
    open_storage(sqlite_url(path), create=True).create_new_study([optuna.study.StudyDirection.MAXIMIZE], "a")
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_missing_file_is_refused_and_not_made_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    assert not exists(sqlite_url(path))
    with pytest.raises(OptituneError, match="there is no storage"):
        open_storage(sqlite_url(path), create=False)
    assert not path.exists()


def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(OptituneError, match=r"study\.db is damaged or not a database .*move it away"):
        open_storage(sqlite_url(path), create=True)
    assert path.read_bytes() == b"not a database at all" * 100


def test_another_programs_database_is_refused_and_gets_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(OptituneError, match=r"of another program \(tables songs\)"):
        open_storage(sqlite_url(path), create=True)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("songs",)]


@pytest.mark.parametrize("url", ["nonsense", "secret:word@", "gopher://user:secret@host/x", ""])
def test_what_is_not_a_database_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError, match="--storage is not a database URL") as error:
        parsed(url)
    assert "secret" not in str(error.value)


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="would be lost"):
        open_storage("sqlite://", create=True)


def test_a_password_is_never_shown() -> None:
    url = "postgresql://me:secret@localhost/optitune"
    assert shown(url) == "postgresql+psycopg://me:***@localhost/optitune"
    assert not is_file(url)


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    with pytest.raises(OptituneError, match="cannot open the storage") as error:
        open_storage("postgresql://me:secret@127.0.0.1:9/optitune", create=True)
    assert "secret" not in str(error.value)


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(OptituneError, match=r"driver for mysql\+cymysql is not installed"):
        open_storage("mysql+cymysql://me@localhost/optitune", create=True)


def test_waiting_trials_are_taken_once_each_by_many_at_once(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "study.db")
    study = optuna.create_study(storage=open_storage(url, create=True), study_name="many")
    for number in range(30):
        study.enqueue_trial({"x": number})

    def take(_: int) -> list[int]:
        own = optuna.load_study(study_name="many", storage=open_storage(url, create=False))
        return [own.ask().number for _ in range(10)]

    with ThreadPoolExecutor(3) as threads:
        taken = [number for numbers in threads.map(take, range(3)) for number in numbers]
    assert sorted(taken) == list(range(30))


def test_a_new_file_opened_by_many_processes_at_once_is_made_once(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "study.db")

    def open_and_list(_: int) -> list[str]:
        return optuna.get_all_study_names(open_storage(url, create=True))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(open_and_list, range(4))) == [[]] * 4


def test_a_database_without_tables_is_left_so_by_those_who_only_read(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    with pytest.raises(OptituneError):
        open_storage(sqlite_url(path), create=False)
    assert path.read_bytes() == b""


def test_reading_all_trials_waits_for_no_writer_and_is_not_waited_for(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "study.db")
    study = optuna.create_study(storage=open_storage(url, create=True), study_name="busy")
    study.add_trial(optuna.trial.create_trial(value=0.5))
    with sqlite3.connect(tmp_path / "study.db", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert [trial.value for trial in study.get_trials()] == [0.5]
        writer.execute("ROLLBACK")
    statements = []
    storage = open_storage(url, create=False)
    sqlalchemy.event.listen(storage.engine, "before_cursor_execute", lambda *row: statements.append(row[2]))
    storage.get_all_trials(study._study_id)
    storage.set_study_user_attr(study._study_id, "x", 1)
    assert [line for line in statements if line.startswith("BEGIN")] == ["BEGIN", "BEGIN IMMEDIATE"]


def test_the_garbage_collector_is_left_as_it_was(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(sqlite_url(tmp_path / "study.db"), create=True))
    study.get_trials()
    assert gc.isenabled()
    gc.disable()
    try:
        study.get_trials()
        assert not gc.isenabled()
    finally:
        gc.enable()
