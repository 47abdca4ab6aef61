"""A study is renamed, moved, copied and removed, by the shell and by commands: all find it, and nothing is twice."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from filelock import FileLock
from report_world import home, stored, subject

from optitune.api import moving
from optitune.api.functions import load
from optitune.dashboard.notes import PART
from optitune.storage import studies
from optitune.storage.trials import OWNER, best_config, records
from optitune.storage.urls import StorageUrl, open_storage
from optitune.study import best_config as best
from optitune.study.records import best as best_record
from optitune.study.study_file import template

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of studies with `digits`: searched, compared, with its files."""
    monkeypatch.chdir(tmp_path)
    place = home(tmp_path)
    stored(place, subject(stage="compared"))
    opened = place.open()
    winner = best_record(records(opened))
    assert winner is not None
    best.save(best_config(opened, winner), place.folder / "best.toml")
    (tmp_path / "studies" / "digits.toml").write_text(template("digits", "digits"))
    return tmp_path / "studies"


def names(folder: Path) -> list[str]:
    """What the studies in an SQLite file are called there."""
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        return [row[0] for row in connection.execute("SELECT study_name FROM studies")]


def seen(run_command: Command, name: str) -> None:
    """Everything that reads a study finds it under its name, and `studies` lists it once."""
    code, out, err = run_command("show", name, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["study"] == name
    for words in (["report", name, "--quiet"], ["export", "best", "--study", name]):
        assert run_command(*words)[0] == 0, words
    listed = json.loads(run_command("studies", "--json")[1])
    assert [row["name"] for row in listed["studies"]].count(name) == 1
    assert listed["unreadable"] == []
    assert load(name).comparison is not None
    page = Path("studies", name, "report", "report.html").read_text()
    assert f"optitune compare {name}" in page


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_folder_that_the_shell_renames_or_copies_is_the_study_of_that_name(
    how: Callable[[Path, Path], object], made: Path, run_command: Command
) -> None:
    how(made / "digits", made / "b")
    seen(run_command, "b")
    assert names(made / "b") == ["b"]
    assert best.load(made / "b" / "best.toml", "").study == "b"
    assert "'digits'" not in (made / "b" / "best.toml").read_text()
    if (made / "digits").exists():
        seen(run_command, "digits")
        assert names(made / "digits") == ["digits"]
    else:
        code, _, err = run_command("show", "digits")
        assert code == 2
        assert "unknown study 'digits': there are: b" in err


def test_rename_moves_all_that_bears_the_name(made: Path, run_command: Command) -> None:
    code, out, err = run_command("rename", "digits", "b")
    assert (code, out, err) == (0, "study 'digits' is 'b' now: studies/b\n", "")
    assert sorted(path.name for path in made.iterdir()) == ["b", "b.toml"]
    assert (made / "b.toml").read_text() == template("b", "digits")
    assert names(made / "b") == ["b"]
    seen(run_command, "b")
    code, out, _ = run_command("rename", "b", "c", "--json")
    assert json.loads(out) == {"study": "c", "before": "b", "folder": "studies/c"}
    code, out, _ = run_command("rename", "c", "d")
    assert "its report still names 'c'; write it again: optitune report d" in out
    opened = studies.location(made, "d", None).open()
    assert "optitune search --study d" in opened._storage.get_study_system_attrs(opened._study_id)[f"{PART}search"]


@pytest.mark.parametrize("step", ["rename", "open", "unlink"])
def test_a_rename_that_was_interrupted_is_finished_by_the_same_command(
    step: str, made: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path if step != "open" else studies.StudyLocation, step, killed)
        with pytest.raises(KeyboardInterrupt):
            moving.rename("digits", "b", made)
    assert run_command("rename", "digits", "b")[0] == 0
    assert sorted(path.name for path in made.iterdir()) == ["b", "b.toml"]
    assert not (made / "b" / moving.UNFINISHED).exists()
    seen(run_command, "b")


TAKEN = [
    ("b", "b/study.db", "there is a study 'b' already"),
    ("c", "c/notes.txt", "studies/c is in the way"),
    ("d", "d.toml", "studies/d.toml is in the way"),
    ("digits", "digits.toml", "is called so already"),
    ("../b", "digits.toml", "cannot be a study's name"),
    (".b", "digits.toml", "cannot be a study's name"),
]
"""New names, the file that is there, and what is said of it."""


@pytest.mark.parametrize("command", ["rename", "copy"])
def test_a_name_that_is_taken_or_none_is_refused(command: str, made: Path, run_command: Command) -> None:
    for _, there, _ in TAKEN:
        (made / there).parent.mkdir(exist_ok=True)
        (made / there).write_text("mine")
    before = sorted(made.rglob("*"))
    for new, _, words in TAKEN:
        code, out, err = run_command(command, "digits", new)
        assert (code, out) == (2, "")
        assert words in err
        assert sorted(made.rglob("*")) == before
    assert run_command(command, "digitz", "b2")[2].startswith("error: unknown study 'digitz': did you mean 'digits'?")


def test_a_copy_goes_its_own_way_even_while_the_study_is_trained(made: Path, run_command: Command) -> None:
    opened = home(made.parent).open()
    running = opened.ask()
    (made / "digits" / "workers").mkdir()
    with FileLock(made / "digits" / "workers" / f"{'a' * 32}.lock") as lock:
        running.set_user_attr(OWNER, {"machine": "m", "pid": 1, "lock": str(lock.lock_file)})
        for words in (["rename", "digits", "b"], ["remove", "digits", "--yes"]):
            code, _, err = run_command(*words)
            assert (code, err) == (
                1,
                "error: study 'digits' is being trained: wait until that has ended, or stop it with Ctrl-C\n",
            )
        code, out, err = run_command("copy", "digits", "b")
        assert (code, out, err) == (0, "study 'b' is a copy of 'digits': studies/b\n", "")
    assert not (made / "b" / "workers").exists()
    trials = studies.location(made, "b", None).open().trials
    assert len(trials) == len(opened.trials)
    # whoever goes on with the copy need not wait for the worker of the other one
    assert trials[-1].user_attrs[OWNER] is None
    assert opened.trials[-1].user_attrs[OWNER]["pid"] == 1
    assert (made / "b.toml").read_text() == template("b", "digits")
    seen(run_command, "b")
    seen(run_command, "digits")


def test_remove_asks_and_removes_all_but_the_settings_file(made: Path, run_command: Command) -> None:
    code, out, err = run_command("remove", "digits")
    assert (code, out) == (2, "")
    assert "trials, 1 comparison" in err
    assert "say so with --yes" in err
    (made / ".other-gone-01234567").mkdir()
    code, out, err = run_command("remove", "digits", "--yes")
    assert (code, err) == (0, "")
    assert "removed study 'digits'" in out
    assert "studies/digits.toml stays" in out
    assert [path.name for path in made.iterdir()] == ["digits.toml"]
    assert run_command("remove", "digits", "--yes")[0] == 2
    assert json.loads(run_command("studies", "--json")[1])["studies"] == []


def test_a_damaged_study_can_be_removed(made: Path, run_command: Command) -> None:
    (made / "digits" / "study.db").write_bytes(b"nonsense" * 100)
    assert run_command("remove", "digits", "--yes", "--json")[0] == 0
    assert not (made / "digits").exists()


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_in_a_shared_storage_the_name_there_is_renamed_too(scheme: str, tmp_path: Path, run_command: Command) -> None:
    url = f"{scheme}:///{tmp_path / 'all'}"
    there = ["--storage", url, "--studies-dir", str(tmp_path / "studies")]
    place = studies.location(tmp_path / "studies", "digits", url)
    stored(place, subject(stage="compared"))
    reader = open_storage(StorageUrl.parse(url), create=False)
    other = optuna.create_study(storage=reader, study_name="other")
    assert run_command("rename", "digits", "other", *there)[0] == 2
    code, _, err = run_command("rename", "digits", "a-longer-name", *there)
    assert (code, err) == (0, "")
    assert os.listdir(tmp_path / "studies") == ["a-longer-name"]
    assert json.loads(run_command("show", "a-longer-name", "--json", *there)[1])["study"] == "a-longer-name"
    # whoever has the storage open goes on
    other.set_user_attr("x", 1)
    assert optuna.load_study(study_name="other", storage=open_storage(StorageUrl.parse(url), False)).user_attrs == {
        "x": 1
    }
    # the shell has renamed the folder alone
    os.rename(tmp_path / "studies" / "a-longer-name", tmp_path / "studies" / "b")
    code, _, err = run_command("show", "b", *there)
    assert code == 2
    assert "optitune rename OLD b" in err
    assert run_command("rename", "a-longer-name", "b", *there)[0] == 0
    assert run_command("remove", "b", "--yes", *there)[0] == 0
    assert optuna.get_all_study_names(open_storage(StorageUrl.parse(url), create=False)) == ["other"]
    assert os.listdir(tmp_path / "studies") == []


def test_a_file_with_several_studies_is_none_that_is_guessed(made: Path, run_command: Command) -> None:
    place = home(made.parent)
    optuna.create_study(storage=open_storage(place.url, create=False), study_name="second")
    shutil.move(made / "digits", made / "b")
    code, _, err = run_command("show", "b")
    assert code == 2
    assert "holds several studies, none of them called 'b'" in err
    code, _, _ = run_command("show", "digits", "--storage", f"sqlite:///{made}/b/study.db")
    assert code == 0
    assert names(made / "b") == ["digits", "second"]


def test_remove_takes_no_for_an_answer(made: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    assert run_command("remove", "digits")[:2] == (0, "nothing was removed\n")
    assert (made / "digits" / "study.db").exists()
