import fcntl
import threading
import time
from pathlib import Path

import optuna
import pytest
from filelock import FileLock, Timeout

from optitune.workers import leases
from optitune.workers.leases import BEAT, Heartbeat, Owner, Watch, is_alive, is_here, machine, sweep


def test_a_released_owner_leaves_no_file(tmp_path: Path) -> None:
    owner = Owner(tmp_path / "workers")
    assert owner.path.exists()
    assert is_here(owner.name())
    assert is_alive(owner.name())
    owner.release()
    assert list((tmp_path / "workers").iterdir()) == []
    assert not is_alive(owner.name())


def test_a_machine_has_one_name_that_is_not_its_hosts_alone() -> None:
    assert machine() == machine()
    assert not is_here({})


def test_a_lock_that_a_storage_names_is_touched_only_if_it_is_one(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("of great worth")
    assert not is_alive({"machine": machine(), "lock": str(precious)})
    assert not is_alive({"machine": machine()})
    assert precious.read_text() == "of great worth"


def test_only_what_dead_processes_left_is_swept(tmp_path: Path) -> None:
    alive, dead = Owner(tmp_path), Owner(tmp_path)
    for owner in (alive, dead):
        owner.belongings.mkdir()
        (owner.belongings / ".half-written").touch()
    dead._lock.release()
    sweep(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {alive.path.stem}
    assert len(list(tmp_path.iterdir())) == 2


def test_an_owner_whose_lock_file_is_swept_before_it_is_locked_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, opened = fcntl.flock, []

    def after_a_sweep(handle: int, how: int) -> None:
        if not opened:
            opened.append(handle)
            # another process, in the moment between opening and locking
            sweep(tmp_path)
            assert list(tmp_path.glob("*.lock")) == []
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", after_a_sweep)
    owner = Owner(tmp_path)
    monkeypatch.undo()
    assert opened
    assert is_alive(owner.name())
    sweep(tmp_path)
    assert owner.path.exists()
    owner.release()


def test_a_lock_file_is_removed_only_by_who_holds_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Owner(tmp_path)
    dead._lock.release()
    remove = leases._remove

    def as_another_comes(path: Path) -> None:
        with pytest.raises(Timeout):
            FileLock(path).acquire(timeout=0)
        remove(path)

    monkeypatch.setattr(leases, "_remove", as_another_comes)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_and_folders_that_are_no_locks_of_ours_are_not_swept(tmp_path: Path) -> None:
    (tmp_path / "mine.lock").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / f"{'0' * 32}.lock").mkdir()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    before = set(tmp_path.iterdir())
    sweep(tmp_path)
    assert set(tmp_path.iterdir()) == before


def test_a_sign_that_changes_starts_the_wait_anew() -> None:
    now = 0.0
    watch = Watch(lambda: now)
    assert not watch.is_stale(1, "a")
    now = leases.STALE_S - 1
    assert not watch.is_stale(1, "b")
    now = leases.STALE_S + 1
    assert not watch.is_stale(1, "b")
    assert not watch.is_stale(2, None)
    now = 2 * leases.STALE_S
    assert watch.is_stale(1, "b")
    assert not watch.is_stale(2, None)


def test_a_heart_beats_for_a_trial_and_survives_its_end() -> None:
    study = optuna.create_study()
    first, second = study.ask(), study.ask()
    heart = Heartbeat(study._storage, every=0.01)

    def beats(trial: optuna.Trial) -> int:
        return study._storage.get_trial(trial._trial_id).system_attrs.get(BEAT, 0)

    def wait_for_more(trial: optuna.Trial) -> None:
        before, limit = beats(trial), time.monotonic() + 60
        while beats(trial) <= before:
            assert time.monotonic() < limit
            time.sleep(0.01)

    heart.beat_for(first._trial_id)
    wait_for_more(first)
    study.tell(first, 1.0)
    time.sleep(0.05)
    heart.beat_for(second._trial_id)
    wait_for_more(second)
    heart.stop()
    assert not heart._thread.is_alive()


def test_a_heart_survives_whatever_a_storage_raises_and_stops_at_once() -> None:
    tried = threading.Semaphore(0)

    class Fails:
        def set_trial_system_attr(self, *_: object) -> None:
            tried.release()
            raise RuntimeError("no words of Optuna's")

    heart = Heartbeat(Fails(), every=0.001)  # type: ignore[arg-type]
    heart.beat_for(1)
    for _ in range(3):
        assert tried.acquire(timeout=60)
    heart.stop()
    assert not heart._thread.is_alive()
