"""Files that are whole or not there."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from optitune.errors import OptituneError
from optitune.files import REMEDIES, explained, make_folder, replacing, write_text


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
    with pytest.raises(OptituneError, match="--studies-dir"):
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
