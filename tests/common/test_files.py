"""Files that are whole or not there."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from optitune.common import files
from optitune.common.files import REMEDIES, clear, explained, make_folder, move_aside, replacing, sweep, write_text
from optitune.errors import OptituneError
from optitune.tasks.data import SAFETENSORS_SCRATCH


@pytest.fixture
def umask() -> Iterator[int]:
    """A umask that is nobody's default."""
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def test_the_file_is_there_after_success(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "result.txt"
    with replacing(path) as scratch:
        scratch.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert os.listdir(path.parent) == ["result.txt"]


def test_the_file_is_as_readable_as_the_umask_allows(tmp_path: Path, umask: int) -> None:
    write_text(tmp_path / "result.txt", "text")
    assert stat.S_IMODE((tmp_path / "result.txt").stat().st_mode) == 0o666 & ~umask
    assert os.umask(umask) == umask


def test_the_scratch_file_has_the_suffix_and_folder_of_its_target(tmp_path: Path) -> None:
    with replacing(tmp_path / "curves.png") as scratch:
        assert scratch.suffix == ".png"
        assert scratch.parent == tmp_path
        assert scratch.name.startswith(".")


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    others = [tmp_path / name for name in (".result-notes.txt", ".result-abcdefgh.toml", ".results-abcdefgh.txt")]
    for each in (tmp_path / ".result-abcdefgh.txt", *others):
        each.write_text("half")
    with replacing(path) as scratch:
        scratch.write_text("first")
        write_text(path, "second")
        assert scratch.read_text() == "first"
    assert path.read_text() == "first"
    assert set(tmp_path.iterdir()) == {path, *others}


def test_a_file_that_is_swept_before_it_is_locked_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    original = tempfile.mkstemp

    def and_swept(**about: Any) -> tuple[int, str]:
        handle, name = original(**about)
        made.append(name)
        if len(made) < 3:
            # another process that has just been started, in the moment between making and locking
            sweep(tmp_path, "result", r"\.txt")
        return handle, name

    monkeypatch.setattr(tempfile, "mkstemp", and_swept)
    with replacing(tmp_path / "result.txt") as scratch:
        scratch.write_text("all of it")
        sweep(tmp_path, "result", r"\.txt")
    assert (tmp_path / "result.txt").read_text() == "all of it"
    assert len(set(made)) == 3
    assert os.listdir(tmp_path) == ["result.txt"]


def test_a_sweep_that_met_a_file_just_before_its_rename_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.txt"
    lock = files._lock

    with ExitStack() as writing:
        writing.enter_context(replacing(path)).write_text("all of it")

        def late(handle: int) -> bool:
            monkeypatch.setattr(files, "_lock", lock)
            writing.close()
            return lock(handle)

        monkeypatch.setattr(files, "_lock", late)
        sweep(tmp_path, "result", r"\.txt")
    assert path.read_text() == "all of it"


def test_only_what_was_half_written_is_swept_whatever_else_begins_with_a_dot(tmp_path: Path) -> None:
    ours = tmp_path / ".plan-abcdefgh.json"
    ours.touch()
    there = [".notes", ".plan.json", ".plan-notes.json", ".plan-abcdefgh.json.bak", "plan-abcdefgh.json", "plan.json"]
    for name in there:
        (tmp_path / name).touch()
    for name in (".ipynb_checkpoints", ".plan-12345678.json"):
        (tmp_path / name).mkdir()
    (tmp_path / ".plan-87654321.json").symlink_to(tmp_path / "nowhere")
    before = {path.name for path in tmp_path.iterdir()}
    sweep(tmp_path, "plan", r"\.json")
    assert {path.name for path in tmp_path.iterdir()} == before - {ours.name}
    clear(tmp_path, "plan", r"\.json")
    assert {path.name for path in tmp_path.iterdir()} == before - {ours.name, "plan.json"}
    sweep(tmp_path / "nowhere", "plan", r"\.json")


def test_a_folder_is_cleared_of_ones_own_and_removed_if_nothing_is_left(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "partial")
    for name in ("seed-1.json", ".seed-1-abcdefgh.json", ".tmpAb3dEf"):
        (folder / name).touch()
    clear(folder, r"seed-\d+", r"\.json", SAFETENSORS_SCRATCH)
    assert not folder.exists()
    clear(folder, r"seed-\d+", r"\.json")


def test_two_that_set_files_aside_at_once_overwrite_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, other = tmp_path / "best.toml", tmp_path / "best-before-1.toml"
    path.write_text("edited")
    link = os.link

    def another_was_quicker(*given: Any) -> None:
        monkeypatch.setattr(os, "link", link)
        other.write_text("another's")
        link(*given)

    monkeypatch.setattr(os, "link", another_was_quicker)
    assert move_aside(path) == tmp_path / "best-before-2.toml"
    assert other.read_text() == "another's"
    assert (tmp_path / "best-before-2.toml").read_text() == "edited"
    assert not path.exists()


@pytest.mark.parametrize("links", [True, False])
def test_files_and_folders_are_set_aside_under_the_first_free_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def none(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", none)
    (tmp_path / "best-before-1.toml").touch()
    (tmp_path / "best.toml").write_text("edited")
    (tmp_path / "compare").mkdir()
    (tmp_path / "compare" / "plan.json").touch()
    (tmp_path / "compare-before-1").mkdir()
    assert move_aside(tmp_path / "best.toml").name == "best-before-2.toml"
    assert (tmp_path / "best-before-2.toml").read_text() == "edited"
    assert move_aside(tmp_path / "compare").name == "compare-before-2"
    assert (tmp_path / "compare-before-2" / "plan.json").exists()
    with pytest.raises(OptituneError, match="cannot rename"):
        move_aside(tmp_path / "best.toml")


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
def test_a_failing_block_leaves_the_old_file_and_no_scratch_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "result.txt"
    path.write_text("old")

    def interrupted_write() -> None:
        with replacing(path) as scratch:
            scratch.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        interrupted_write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.txt"]


def test_a_full_disk_is_explained_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(OptituneError, match="disk is full; free some space") as caught, replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value).startswith(f"cannot write {path}: ")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.txt"]


@pytest.mark.parametrize("number", REMEDIES)
def test_every_listed_cause_has_its_remedy(number: int) -> None:
    with pytest.raises(OptituneError) as caught, explained(Path("there"), "read"):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == f"cannot read there: {REMEDIES[number]}"


def test_another_cause_is_named_in_the_words_of_the_system() -> None:
    with pytest.raises(OptituneError, match="cannot write there: Input/output error; check"), explained(Path("there")):
        raise OSError(errno.EIO, "Input/output error")


def test_an_os_error_without_a_number_keeps_its_words() -> None:
    with pytest.raises(OptituneError, match="the cable is out; check"), explained(Path("there")):
        raise OSError("the cable is out")


@pytest.mark.parametrize("place", ["file/result.txt", "file/deeper/result.txt"])
def test_a_folder_that_is_a_file_is_refused_with_a_way_out(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OptituneError, match="studies_dir"):
        write_text(tmp_path / place, "text")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_target_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.txt").mkdir()
    with pytest.raises(OptituneError, match=f"cannot write {tmp_path / 'result.txt'}"):
        write_text(tmp_path / "result.txt", "text")
    assert os.listdir(tmp_path) == ["result.txt"]


def test_text_is_written_as_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "result.txt", "Größe ≤ 1")
    assert (tmp_path / "result.txt").read_bytes() == "Größe ≤ 1".encode()


def test_make_folder_makes_parents_and_accepts_what_is_there(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
