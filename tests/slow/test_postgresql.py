"""A study in PostgreSQL: the real commands against a real server."""

import json
import os
import signal
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from subprocess import CompletedProcess
from time import sleep
from typing import Any
from urllib.parse import quote

import pytest

from optitune.storage.urls import StorageUrl, open_storage

pytestmark = pytest.mark.slow

PLACES = {"PGPASSWORD": 12, "OPTITUNE_STORAGE": 4}
"""How the password reaches a command, beside a URL without it or within one, and how many trials are searched there."""

AUDIT = """
CREATE TABLE audit (what text, trial_id int, step int);
CREATE FUNCTION audit_report() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO audit VALUES (''report'', NEW.trial_id, NEW.step); RETURN NEW; END';
CREATE TRIGGER report BEFORE INSERT OR UPDATE ON trial_intermediate_values
    FOR EACH ROW EXECUTE FUNCTION audit_report();
CREATE FUNCTION audit_end() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO audit VALUES (''end'', NEW.trial_id); RETURN NEW; END';
CREATE TRIGGER ended AFTER UPDATE OF state ON trials
    FOR EACH ROW WHEN (NEW.state IN ('COMPLETE', 'PRUNED', 'FAIL')) EXECUTE FUNCTION audit_end();
"""
"""Lets the server itself write down every report and every end of a trial."""

STATES = "SELECT state::text, count(*) FROM trials GROUP BY state"

Command = Callable[..., CompletedProcess[str]]


def search(trials: int, studies_dir: Path) -> list[object]:
    return ["search", "--task", "digits", "--trials", trials, "--epochs", 2, "--studies-dir", studies_dir]


def states(server: Any, database: str) -> dict[str, int]:
    """How many trials the database holds in each state; none before there are tables."""
    with server.connect(database) as connection:
        if connection.execute("SELECT to_regclass('trials')").fetchone()[0] is None:
            return {}
        return dict(connection.execute(STATES).fetchall())


def bare_url(server: Any, database: str) -> str:
    """The URL of a database without the password."""
    return f"postgresql://{server.user}@127.0.0.1:{server.port}/{database}"


def command_lines(session: int) -> list[bytes]:
    """What the list of processes shows of a session's."""
    shown = []
    for folder in Path("/proc").glob("[0-9]*"):
        # a process may end between being listed and being read
        with suppress(OSError):
            fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(fields[3]) == session:
                shown.append((folder / "cmdline").read_bytes())
    return shown


def assert_hidden(server: Any, *texts: str, folder: Path | None = None) -> None:
    """The server's password stands in none of the texts, nor in any file below the folder."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder else []
    for secret in server.secrets():
        assert not [text for text in texts if secret in text]
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def assert_one_error_line(done: CompletedProcess[str], server: Any) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: cannot open the storage postgresql+psycopg://{server.user}:***@127.0.0.1:")
    assert done.stderr.count("\n") == 1
    assert_hidden(server, done.stderr)


@dataclass(frozen=True)
class Searched:
    """A study in a database of its own.

    Attributes:
        command: runs an optitune command on that database and checks that the password stays hidden.
        done: the search that made the study.
    """

    database: str
    trials: int
    studies_dir: Path
    command: Command
    done: CompletedProcess[str]


@pytest.fixture(scope="module", params=PLACES)
def searched(
    request: pytest.FixtureRequest, postgresql: Any, run: Command, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Searched]:
    place, trials = request.param, PLACES[request.param]
    database = f"by-{place.lower()}"
    url, folder = postgresql.create(database), tmp_path_factory.mktemp("studies")

    def command(*arguments: object) -> CompletedProcess[str]:
        if place == "PGPASSWORD":
            bare = bare_url(postgresql, database)
            done = run(*arguments, "--storage", bare, environment={place: postgresql.password})
        else:
            done = run(*arguments, environment={place: url})
        assert_hidden(postgresql, done.stdout, done.stderr, folder=folder)
        return done

    yield Searched(database, trials, folder, command, command(*search(trials, folder), "--json"))
    # by now every command has left what it leaves
    assert (folder / "digits" / "best.toml").exists()
    assert_hidden(postgresql, folder=folder)


def test_search_ends_with_as_many_trials_as_asked_for(searched: Searched, postgresql: Any) -> None:
    assert (searched.done.returncode, searched.done.stderr) == (0, "")
    document = json.loads(searched.done.stdout)
    assert document["trials"]["finished"] == searched.trials
    assert document["storage"].startswith(f"postgresql+psycopg://{postgresql.user}")
    assert f"@127.0.0.1:{postgresql.port}/{searched.database}" in document["storage"]
    counted = states(postgresql, searched.database)
    assert set(counted) <= {"COMPLETE", "PRUNED"}
    assert sum(counted.values()) == searched.trials
    assert not list(searched.studies_dir.rglob("*.db")), "a file beside the database"


def test_studies_lists_it(searched: Searched) -> None:
    done = searched.command("studies", "--studies-dir", searched.studies_dir, "--json")
    (row,) = json.loads(done.stdout)["studies"]
    assert (row["name"], row["task"], row["trials"]["finished"]) == ("digits", "digits", searched.trials)
    assert row["best"] == json.loads(searched.done.stdout)["best"]["value"]


def test_show_names_the_best(searched: Searched) -> None:
    best = json.loads(searched.done.stdout)["best"]
    done = searched.command("show", "digits", "--studies-dir", searched.studies_dir)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{searched.trials} finished" in done.stdout
    assert f"best: trial {best['number']}, validation accuracy {100 * best['value']:.2f} %" in done.stdout


def test_export_prints_the_best(searched: Searched) -> None:
    best = json.loads(searched.done.stdout)["best"]
    done = searched.command("export", "--study", "digits", "--studies-dir", searched.studies_dir, "--format", "toml")
    assert done.returncode == 0, done.stderr
    assert tomllib.loads(done.stdout)["configuration"]["optimizer"] == {
        "name": best["optimizer"],
        "settings": best["settings"],
    }


def test_retrain_trains_the_best(searched: Searched) -> None:
    flags = ("--study", "digits", "--studies-dir", searched.studies_dir, "--seeds", 1, "--epochs", 3, "--json")
    done = searched.command("retrain", "best", *flags)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["epochs"], document["seeds"]) == (3, 1)
    folder = searched.studies_dir / "digits" / "retrain" / "best"
    assert {path.name for path in folder.iterdir()} >= {"model.safetensors", "metrics.json", "curves.png"}
    (trained,) = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["runs"]
    assert trained["test_value"] == document["test_value"]["mean"]


def test_database_without_studies_is_said_to_be_empty(postgresql: Any, run: Command) -> None:
    url = postgresql.create("empty")
    done = run("studies", environment={"OPTITUNE_STORAGE": url})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("no studies in ")
    assert_hidden(postgresql, done.stdout)


def test_password_that_is_typed_is_warned_of(postgresql: Any, run: Command, tmp_path: Path) -> None:
    url = postgresql.create("typed")
    for flags in ([], ["--json"]):
        done = run("studies", "--storage", url, *flags)
        assert done.returncode == 0
        assert done.stderr.startswith("warning: ")
        assert done.stderr.count("\n") == 1
        assert_hidden(postgresql, done.stdout, done.stderr)
    assert json.loads(done.stdout)["studies"] == []


def test_password_may_come_from_a_file_of_postgresqls(postgresql: Any, run: Command, tmp_path: Path) -> None:
    postgresql.create("passfile")
    passwords, folder = tmp_path / "pgpass", tmp_path / "studies"
    passwords.write_text(f"127.0.0.1:{postgresql.port}:passfile:{postgresql.user}:{postgresql.password}\n")
    passwords.chmod(0o600)
    command = [*search(2, folder), "--storage", bare_url(postgresql, "passfile"), "--json"]
    without = run(*command, environment={"PGPASSFILE": str(tmp_path / "none")})
    assert without.returncode == 1
    assert "no password supplied" in json.loads(without.stdout)["error"]
    done = run(*command, environment={"PGPASSFILE": str(passwords)})
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["trials"]["finished"] == 2
    assert_hidden(postgresql, without.stdout, done.stdout, folder=folder)


@pytest.mark.parametrize("place", PLACES)
def test_no_process_shows_a_password_from_the_environment(
    place: str, postgresql: Any, start: Any, tmp_path: Path
) -> None:
    database, workers = f"ps-{place.lower()}", 2
    url = postgresql.create(database)
    environment = {"OPTITUNE_STORAGE": url}
    if place == "PGPASSWORD":
        environment = {"OPTITUNE_STORAGE": bare_url(postgresql, database), "PGPASSWORD": postgresql.password}
    most, looks = 0, 0
    words = [*search(8, tmp_path), "--workers", workers, "--json"]
    with start(*words, environment=environment, forked=False) as process:
        while process.poll() is None:
            shown = command_lines(process.pid)
            most, looks = max(most, len(shown)), looks + 1
            for secret in postgresql.secrets():
                assert not [line for line in shown if secret.encode() in line]
            sleep(0.1)
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    # the command, the server that forks, and the workers
    assert most >= 2 + workers, (most, looks)
    assert_hidden(postgresql, out, folder=tmp_path)


def _open_new(url: str, barrier: Any, answers: Any) -> None:
    barrier.wait()
    try:
        open_storage(StorageUrl.parse(url), create=True)
    except Exception as error:
        answers.put(f"{type(error).__name__}: {error}")
    else:
        answers.put("opened")


def test_new_database_can_be_opened_by_several_processes_at_once(postgresql: Any) -> None:
    context, several = get_context("spawn"), 3
    for number in range(3):
        url = postgresql.create(f"new-{number}")
        barrier, answers = context.Barrier(several), context.Queue()
        processes = [context.Process(target=_open_new, args=(url, barrier, answers)) for _ in range(several)]
        for process in processes:
            process.start()
        told = [answers.get(timeout=120) for _ in processes]
        for process in processes:
            process.join()
        assert told == ["opened"] * several


def test_two_searches_at_once_train_every_trial_once(postgresql: Any, run: Command, start: Any, tmp_path: Path) -> None:
    url, trials = postgresql.create("shared"), 14
    storage = open_storage(StorageUrl.parse(url), create=True)
    storage.remove_session()
    storage.engine.dispose()
    with postgresql.connect("shared") as connection:
        connection.execute(AUDIT)
    # a folder each, as on two machines: nothing but the database tells the one of the other
    flags, environment = ("--workers", 1, "--json"), {"OPTITUNE_STORAGE": url}
    begin = [[*search(trials, tmp_path / name), *flags] for name in ("one", "two")]
    with start(*begin[0], environment=environment) as first, start(*begin[1], environment=environment) as second:
        outputs = [process.communicate() for process in (first, second)]
        assert [process.returncode for process in (first, second)] == [0, 0], outputs
    for out, err in outputs:
        assert err == ""
        assert json.loads(out)["trials"]["finished"] == trials
        assert_hidden(postgresql, out, folder=tmp_path)
    with postgresql.connect("shared") as connection:
        number_of = dict(connection.execute("SELECT trial_id, number FROM trials").fetchall())
        audit = connection.execute("SELECT what, trial_id, step FROM audit").fetchall()
        left = connection.execute("SELECT number FROM trials WHERE state = 'RUNNING'").fetchall()
    assert left == []
    ended = [number_of[trial] for what, trial, _ in audit if what == "end"]
    assert sorted(ended) == list(range(trials))
    reports = [(number_of[trial], step) for what, trial, step in audit if what == "report"]
    assert len(set(reports)) == len(reports), "a trial was trained by both"
    assert {number for number, _ in reports} == set(range(trials))


def test_killed_search_goes_on_and_loses_nothing(postgresql: Any, run: Command, start: Any, tmp_path: Path) -> None:
    url, trials = postgresql.create("killed"), 14
    command, environment = [*search(trials, tmp_path), "--workers", 2, "--json"], {"OPTITUNE_STORAGE": url}
    with start(*command, environment=environment) as process:
        while True:
            sleep(0.2)
            assert process.poll() is None, "it ended before it was killed"
            os.killpg(process.pid, signal.SIGSTOP)
            before = states(postgresql, "killed")
            finished = before.get("COMPLETE", 0) + before.get("PRUNED", 0)
            if finished >= 2 and before.get("RUNNING", 0) > 0:
                break
            os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
    assert (process.returncode, out) == (-signal.SIGKILL, "")
    assert finished < trials
    with postgresql.connect("killed") as connection:
        values = "SELECT number, value FROM trials JOIN trial_values USING (trial_id) WHERE state = 'COMPLETE'"
        kept = dict(connection.execute(values).fetchall())
    again = run(*command, environment=environment)
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(again.stdout)["trials"]["finished"] == trials
    after = states(postgresql, "killed")
    assert set(after) <= {"COMPLETE", "PRUNED"}
    assert sum(after.values()) == trials
    with postgresql.connect("killed") as connection:
        assert kept.items() <= dict(connection.execute(values).fetchall()).items()
    assert_hidden(postgresql, again.stdout, folder=tmp_path)


@pytest.mark.parametrize("command", ["studies", "search"])
def test_wrong_password_is_told_in_one_line(command: str, postgresql: Any, run: Command, tmp_path: Path) -> None:
    wrong = "not-it/@%"
    url = postgresql.url("postgres", wrong)
    arguments = search(1, tmp_path) if command == "search" else [command, "--studies-dir", tmp_path]
    done = run(*arguments, environment={"OPTITUNE_STORAGE": url})
    assert_one_error_line(done, postgresql)
    assert "password authentication failed" in done.stderr
    assert wrong not in done.stderr
    assert quote(wrong, safe="") not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_server_that_is_not_there_is_told_in_one_line(
    postgresql: Any, unused_port: int, run: Command, tmp_path: Path
) -> None:
    url = postgresql.url("postgres").replace(f":{postgresql.port}/", f":{unused_port}/")
    done = run(*search(1, tmp_path), environment={"OPTITUNE_STORAGE": url})
    assert_one_error_line(done, postgresql)
    assert f":{unused_port}/" in done.stderr
    assert "refused" in done.stderr
    document = json.loads(run("studies", "--json", environment={"OPTITUNE_STORAGE": url}).stdout)
    assert list(document) == ["error"]
    assert_hidden(postgresql, document["error"])
    assert list(tmp_path.iterdir()) == []


def test_a_study_is_renamed_and_removed(postgresql: Any, run: Command, tmp_path: Path) -> None:
    environment = {"OPTITUNE_STORAGE": postgresql.create("renamed")}
    place = ["--studies-dir", tmp_path]
    assert run(*search(1, tmp_path), environment=environment).returncode == 0
    renamed = run("rename", "digits", "figures", *place, environment=environment)
    assert (renamed.returncode, renamed.stderr) == (0, "")
    again = run(*search(2, tmp_path), "--study", "figures", "--json", environment=environment)
    assert json.loads(again.stdout)["trials"]["finished"] == 2
    (row,) = json.loads(run("studies", *place, "--json", environment=environment).stdout)["studies"]
    assert (row["name"], row["trials"]["finished"]) == ("figures", 2)
    removed = run("remove", "figures", "--yes", *place, environment=environment)
    assert (removed.returncode, removed.stderr) == (0, "")
    assert json.loads(run("studies", *place, "--json", environment=environment).stdout)["studies"] == []
    assert list(tmp_path.iterdir()) == []
    assert_hidden(postgresql, renamed.stdout, removed.stdout)
