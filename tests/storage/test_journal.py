import errno
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optitune.errors import OptituneError
from optitune.storage import journal
from optitune.storage.urls import StorageUrl, open_storage

TORN = b'{"op_code":8,"worker_id":"abc-1","trial_id":0,"user_attr":{"gro'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.log"


@pytest.fixture
def url(path: Path) -> StorageUrl:
    return StorageUrl.parse(f"journal:///{path}")


def opened(url: StorageUrl) -> tuple[BaseStorage, int]:
    """A storage, and the only study in it, made if it is not there."""
    storage = open_storage(url, create=True)
    try:
        return storage, storage.create_new_study([StudyDirection.MAXIMIZE], "a")
    except optuna.exceptions.DuplicatedStudyError:
        return storage, storage.get_study_id_from_name("a")


def test_a_missing_file_is_refused_and_not_made_unless_asked_for(url: StorageUrl, path: Path) -> None:
    with pytest.raises(OptituneError, match=r"there is no storage .*study\.log: run 'optitune search' first"):
        open_storage(url, create=False)
    assert not path.exists()
    open_storage(url, create=True)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("content", [b"SQLite format 3\0" * 9, b"{}\n", b"[1]\n", b"\n", b'{"op_cod3', b"hello"])
def test_another_programs_file_is_refused_and_left_as_it_is(url: StorageUrl, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(OptituneError, match=r"study\.log is damaged or not a journal"):
        open_storage(url, create=True)
    assert path.read_bytes() == content


def test_a_folder_is_refused(path: Path, url: StorageUrl) -> None:
    path.mkdir()
    with pytest.raises(OptituneError, match=r"cannot read .*study\.log"):
        open_storage(url, create=True)


def test_a_relative_path_stays_the_file_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage, study_id = opened(StorageUrl.parse("journal:///deep/study.log"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    storage.set_study_user_attr(study_id, "x", 1)
    assert opened(StorageUrl.parse(f"journal:///{tmp_path}/deep/study.log"))[0].get_study_user_attrs(study_id) == {
        "x": 1
    }


@pytest.mark.parametrize("torn", [TORN, b"{", TORN + b"x" * 3 * journal.BLOCK])
def test_a_torn_last_line_is_no_readers_and_cut_by_the_next_who_appends(
    url: StorageUrl, path: Path, torn: bytes
) -> None:
    storage, study_id = opened(url)
    trial = storage.create_new_trial(study_id)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    for reader in (storage, open_storage(url, create=False)):
        assert [each._trial_id for each in reader.get_all_trials(study_id)] == [trial]
    assert path.read_bytes() == whole + torn
    storage.set_trial_user_attr(trial, "x", 1)
    assert path.read_bytes().startswith(whole + b'{"op_code":8,')
    for reader in (storage, open_storage(url, create=False)):
        assert reader.get_trial(trial).user_attrs == {"x": 1}


def test_a_journal_of_one_torn_line_begins_anew(url: StorageUrl, path: Path) -> None:
    path.write_bytes(TORN[:20])
    storage, study_id = opened(url)
    assert storage.get_study_name_from_id(study_id) == "a"
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_line_that_is_finished_later_is_read_then(url: StorageUrl, path: Path) -> None:
    storage, study_id = opened(url)
    whole = path.read_bytes()
    storage.set_study_user_attr(study_id, "x", 1)
    rest = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + rest[:9])
    reader = open_storage(url, create=False)
    assert reader.get_study_user_attrs(study_id) == {}
    path.write_bytes(whole + rest)
    assert reader.get_study_user_attrs(study_id) == {"x": 1}


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EFBIG, "size limit"), (errno.EIO, "Input/output")]
)
def test_what_cannot_be_written_whole_is_cut_back_and_seen_by_nobody(
    code: int, words: str, url: StorageUrl, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, study_id = opened(url)
    reader = open_storage(url, create=False)
    whole = path.read_bytes()

    def half(file: Any, data: bytes) -> None:
        file.write(data[: len(data) // 2])
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_write", half)
        with pytest.raises(OptituneError, match=rf"cannot write .*study\.log: .*{words}"):
            storage.create_new_trial(study_id)
    assert path.read_bytes() == whole
    assert storage.get_all_trials(study_id) == reader.get_all_trials(study_id) == []
    storage.create_new_trial(study_id)
    assert [trial.number for trial in reader.get_all_trials(study_id)] == [0]


def test_a_file_at_its_size_limit_stays_whole(url: StorageUrl, path: Path) -> None:
    storage, study_id = opened(url)
    code = f"""
import resource
from optitune.errors import OptituneError
from optitune.storage.urls import StorageUrl, open_storage
storage = open_storage(StorageUrl.parse({url.shown!r}), create=False)
size = {path.stat().st_size} + 1000
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
written = 0
try:
    while True:
        storage.set_study_user_attr({study_id}, "x", written + 1)
        written += 1
except OptituneError as error:
    assert "size limit" in str(error), error
assert storage.get_study_user_attrs({study_id}) == {{"x": written}}
print(written)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert storage.get_study_user_attrs(study_id) == {"x": int(done.stdout)}
    assert path.read_bytes().endswith(b"}\n")
    storage.set_study_user_attr(study_id, "x", 0)
    assert open_storage(url, create=False).get_study_user_attrs(study_id) == {"x": 0}


def test_the_lock_of_a_killed_process_holds_nobody_up(url: StorageUrl, path: Path) -> None:
    storage, study_id = opened(url)
    code = f"""
import signal
from filelock import FileLock
lock = FileLock({str(path.resolve()) + ".lock"!r})
lock.acquire()
print("held", flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(storage.create_new_trial, study_id)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
            holder.send_signal(signal.SIGKILL)
            # Optuna's own lock would stand for 30 seconds
            assert waiting.result(timeout=15) == 0


def test_who_may_not_lock_reads_all_the_same(url: StorageUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, study_id = opened(url)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(journal.FileLock, "acquire", refused)
    assert open_storage(url, create=False).get_study_id_from_name("a") == study_id
    with pytest.raises(OptituneError, match="permission denied"):
        storage.create_new_trial(study_id)


def test_a_damaged_line_is_named(url: StorageUrl, path: Path) -> None:
    storage, study_id = opened(url)
    path.write_bytes(path.read_bytes() + TORN + b'{"op_code":8}\n')
    for _ in range(2):
        with pytest.raises(OptituneError, match=r"study\.log is damaged or not a journal \(line 2\)"):
            storage.get_all_trials(study_id)


def test_a_journal_that_was_cut_or_removed_is_no_empty_one(url: StorageUrl, path: Path) -> None:
    storage, study_id = opened(url)
    path.write_bytes(b"")
    with pytest.raises(OptituneError, match="was cut or replaced"):
        storage.get_all_trials(study_id)
    path.unlink()
    with pytest.raises(OptituneError, match="No such file"):
        storage.create_new_trial(study_id)
    assert not path.exists()


@pytest.mark.parametrize("shared", [True, False])
def test_threads_make_trials_of_their_own(shared: bool, url: StorageUrl) -> None:
    one, study_id = opened(url)

    def make(_: int) -> list[int]:
        storage = one if shared else open_storage(url, create=False)
        numbers = []
        for _ in range(10):
            trial = storage.create_new_trial(study_id)
            storage.set_trial_user_attr(trial, "x", trial)
            storage.set_trial_state_values(trial, TrialState.COMPLETE, [float(trial)])
            numbers.append(trial)
        return numbers

    with ThreadPoolExecutor(4) as threads:
        made = [number for numbers in threads.map(make, range(4)) for number in numbers]
    assert sorted(made) == list(range(40))
    trials = one.get_all_trials(study_id)
    assert [(trial.number, trial.value, trial.user_attrs["x"]) for trial in trials] == [(n, n, n) for n in range(40)]


def test_optunas_own_reader_reads_it(url: StorageUrl, path: Path) -> None:
    storage, study_id = opened(url)
    storage.set_study_user_attr(study_id, "größe", "🌱")
    own = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    assert own.get_study_user_attrs(study_id) == {"größe": "🌱"}
