import gc
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
import sqlalchemy
import storage_battery as battery

from optitune.errors import OptituneError, UsageError
from optitune.storage.databases import _write_ahead
from optitune.storage.urls import StorageUrl, open_storage, sqlite_url


def test_a_new_file_is_made_with_a_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "study.db"
    open_storage(sqlite_url(path), create=True).create_new_study([optuna.study.StudyDirection.MAXIMIZE], "a")
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


class Contended:
    """A connection to a file that another process is changing to a write-ahead log: refused twice, then taken."""

    def __init__(self, code: int) -> None:
        self.code, self.asked = code, 0

    def execute(self, statement: str) -> None:
        assert statement == "PRAGMA journal_mode=WAL"
        self.asked += 1
        if self.asked <= 2:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = self.code
            raise error


def test_a_file_that_another_process_is_just_making_is_waited_for() -> None:
    busy, damaged = Contended(sqlite3.SQLITE_BUSY), Contended(sqlite3.SQLITE_CORRUPT)
    _write_ahead(busy)
    assert busy.asked == 3
    with pytest.raises(sqlite3.OperationalError):
        _write_ahead(damaged)
    assert damaged.asked == 1


@pytest.mark.parametrize("name", ["a?b=c", "#1", "50%", "%20", "two words", "{x}", 'it\'s "so"', "ä", "a&b;c"])
def test_a_file_may_lie_in_a_folder_of_any_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "study.db"
    url = sqlite_url(path)
    assert url.path == path
    open_storage(url, create=True).create_new_study([optuna.study.StudyDirection.MAXIMIZE], "a")
    assert url.exists()
    assert [each.name for each in tmp_path.iterdir()] == [name]
    typed = StorageUrl.parse(url.shown)
    assert typed == url
    assert optuna.get_all_study_names(open_storage(typed, create=False)) == ["a"]


def test_a_missing_file_is_refused_and_not_made_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    assert not sqlite_url(path).exists()
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
    with pytest.raises(UsageError, match="storage: is not a database URL") as error:
        StorageUrl.parse(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["journal:", "journal:///", "journal://a.log", "journal:////folder/", "journal+x:///a.log"]
)
def test_a_journals_url_names_a_file(url: str) -> None:
    with pytest.raises(UsageError, match=r"write .*journal:///FILE"):
        StorageUrl.parse(url)


@pytest.mark.parametrize(
    "url",
    ["grpc:", "grpc://", "grpc:///x", "grpc://host:99999", "grpc://host:port", "grpc://me:secret@host:1", "grpc://h/a"],
)
def test_a_proxys_url_is_a_host_and_a_port(url: str) -> None:
    with pytest.raises(UsageError, match="write grpc://HOST:PORT") as error:
        StorageUrl.parse(url)
    assert "secret" not in str(error.value)


def test_urls_are_shown_as_they_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parse = StorageUrl.parse
    assert parse("journal:///a.log").shown == "journal:///a.log"
    assert parse("grpc://host").shown == "grpc://host:13000"
    assert parse("grpc://[::1]:7").shown == "grpc://[::1]:7"
    assert not parse("journal:///a.log").is_sqlite
    assert not parse("grpc://host").is_sqlite
    assert parse("grpc://host").exists()
    assert not parse("journal:///a.log").exists()
    open_storage(parse("journal:///a.log"), create=True)
    assert parse(f"journal:///{tmp_path / 'a.log'}").exists()


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="would be lost"):
        open_storage(StorageUrl.parse("sqlite://"), create=True)


def test_a_password_is_never_shown() -> None:
    url = StorageUrl.parse("postgresql://me:secret@localhost/optitune")
    assert url.shown == "postgresql+psycopg://me:***@localhost/optitune"
    assert not url.is_sqlite


def test_a_password_among_the_options_is_not_shown_either() -> None:
    assert StorageUrl.parse("postgresql://me@localhost/db?password=secret&sslmode=require").shown == (
        "postgresql+psycopg://me@localhost/db?sslmode=require"
    )


def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from optitune.storage import grpc_proxy as proxy

    monkeypatch.setattr(proxy, "READY_S", 0.3)
    with pytest.raises(OptituneError, match=r"cannot open the storage grpc://127\.0\.0\.1:9: .*run_grpc_proxy_server"):
        open_storage(StorageUrl.parse("grpc://127.0.0.1:9"), create=True)


def test_missing_grpc_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.delitem(sys.modules, "optitune.storage.grpc_proxy", raising=False)
    monkeypatch.delattr("optitune.storage.grpc_proxy", raising=False)
    with pytest.raises(OptituneError, match=r"run pip install 'optitune\[grpc\]'"):
        open_storage(StorageUrl.parse("grpc://127.0.0.1:9"), create=True)


def test_grpc_is_loaded_by_those_alone_who_use_it() -> None:
    code = "import sys, optitune.storage.urls; print('grpc' in sys.modules, 'google.protobuf' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_two_workers_tell_every_trial_once(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:///{tmp_path / 'study'}"
    battery.new_study(url)
    with battery.Crew(url, tmp_path, workers=2, target=20) as crew:
        results = crew.results()
    battery.assert_nothing_lost(url, results, 20)
    assert not [line for result in results for line in result.lines]


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_two_processes_make_one_study(scheme: str, tmp_path: Path) -> None:
    battery.assert_made_once(f"{scheme}:///{tmp_path / 'study'}")


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    with pytest.raises(OptituneError, match="cannot open the storage") as error:
        open_storage(StorageUrl.parse("postgresql://me:secret@127.0.0.1:9/optitune"), create=True)
    assert "secret" not in str(error.value)


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(OptituneError, match=r"driver for mysql\+cymysql is not installed"):
        open_storage(StorageUrl.parse("mysql+cymysql://me@localhost/optitune"), create=True)


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


def test_a_password_that_is_not_quoted_is_refused_and_none_of_it_shown() -> None:
    with pytest.raises(UsageError, match="as %40") as error:
        open_storage(StorageUrl.parse("postgresql://me:hun@ter2@localhost/optitune"), create=True)
    assert "ter2" not in str(error.value)
