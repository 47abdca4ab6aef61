"""Homes, folders and files as users have them: without a home, with `~`, with any character, in other encodings."""

import json
import os
import pwd
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from report_world import stored, subject

from optitune.common import files
from optitune.storage import studies
from optitune.tasks.loading import located

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("name", ["what?", "#1 of 2", "50%20", 'it\'s "mine" {x}'])
def test_studies_may_lie_in_a_folder_of_any_name(name: str, tmp_path: Path, run_command: Command) -> None:
    place = tmp_path / name
    stored(studies.location(place, "digits", None), subject(stage="searched"))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    there = ["--studies-dir", str(place)]
    assert [row["name"] for row in json.loads(run_command("studies", "--json", *there)[1])["studies"]] == ["digits"]
    assert run_command("rename", "digits", "b", *there)[0] == 0
    assert run_command("copy", "b", "c", *there)[0] == 0
    assert json.loads(run_command("show", "c", "--json", *there)[1])["study"] == "c"
    assert sorted(path.name for path in place.iterdir()) == ["b", "c"]


def test_a_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Command) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    stored(studies.location(Path("~/studies"), "digits", None), subject(stage="searched"))
    assert (tmp_path / "studies" / "digits" / "study.db").exists()
    monkeypatch.setenv("OPTITUNE_STUDIES_DIR", "~/studies")
    assert run_command("show", "digits", "--json")[0] == 0
    assert run_command("show", "digits", "--studies-dir", "~nobody-of-that-name/x")[0] == 2
    assert files.data_folder(Path("~/data")) == tmp_path / "data"
    assert located("~/mine.py:make", Path("studies")) == f"{tmp_path}/mine.py:make"
    assert not (tmp_path / "~").exists()


def test_without_a_home_there_is_one_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "USER", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    home = tmp_path / f"optitune-{os.getuid()}"
    assert files.data_folder(None) == home / ".cache" / "optitune" / "data"
    assert (home.stat().st_mode & 0o777, os.environ["USER"]) == (0o700, str(os.getuid()))
    # others can write there, and what a cache holds is run
    monkeypatch.delenv("HOME")
    home.chmod(0o777)
    assert not files.cache_folder().is_relative_to(home)


def test_a_file_may_begin_with_a_byte_order_mark_and_must_be_utf_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    text = 'task = "digits"\nepochs = 0\n'
    for encoding, words in (
        ("utf-8-sig", "epochs = 0"),
        ("utf-16", "is not UTF-8 (UTF-16, as some editors on Windows write it?): save it as UTF-8, or remove it"),
        ("latin-1", "is not UTF-8"),
    ):
        files.make_folder(Path("studies"))
        Path("studies/s.toml").write_text(text + "# größer\n", encoding=encoding)
        code, out, err = run_command("search", "--study", "s")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert words in err
