"""Every trial is at one worker at a time, whatever happens to workers, machines and clocks."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from optitune.searching import trial_queue
from optitune.searching.trial_queue import Claimed, TrialQueue
from optitune.storage import studies, study_checks, trials
from optitune.storage.urls import open_storage, sqlite_url
from optitune.study.settings import StudySettings
from optitune.tasks import metrics
from optitune.workers import leases
from optitune.workers.leases import Owner, Watch

SETTINGS = StudySettings(task="digits", optimizers=("sgd", "adam"), epochs=2, precision="fp32")
FACTS = {"checksum": "sha256:1", "train_examples": 10, "validation_examples": 5}


@pytest.fixture
def made(tmp_path: Path) -> Callable[[], optuna.Study]:
    def make() -> optuna.Study:
        storage = open_storage(sqlite_url(tmp_path / "s" / "study.db"), create=True)
        return study_checks.create_or_resume(storage, "s", SETTINGS, FACTS, metrics.find("accuracy"))

    return make


@pytest.fixture
def desk(made: Callable[[], optuna.Study], tmp_path: Path) -> Iterator[Callable[..., TrialQueue]]:
    """A worker's desk; with `local=False` as if the storage were one that other machines reach, too."""
    opened: list[TrialQueue] = []

    def sit(target: int | None, local: bool = True, folder: str = "s") -> TrialQueue:
        opened.append(TrialQueue(made(), target, Owner(tmp_path / folder / "workers"), tmp_path / folder, local))
        return opened[-1]

    yield sit
    for each in opened:
        each.close()


@pytest.fixture
def elsewhere(desk: Callable[..., TrialQueue], monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrialQueue]:
    """A desk of a worker on another machine."""

    def sit(target: int) -> TrialQueue:
        far = desk(target, local=False, folder="far")
        here = far.owner.name()
        monkeypatch.setattr(far.owner, "name", lambda: here | {"machine": "elsewhere"})
        return far

    return sit


class Clock:
    """A clock that goes as it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What desks made from now on tell the time by; nobody waits for others to settle."""
    made = Clock()
    monkeypatch.setattr(trial_queue, "Watch", lambda: Watch(made))
    monkeypatch.setattr(trial_queue, "SETTLE_S", 0.0)
    return made


def finish(own: TrialQueue, taken: Claimed) -> bool:
    trial, _ = taken
    trial.report(0.5, 1)
    return own.report(trial, "complete", 0.5, "", 0.1)


def test_trials_are_handed_out_up_to_the_target(desk: Callable[..., TrialQueue]) -> None:
    own = desk(3)
    for _ in range(3):
        taken = own.claim()
        assert taken is not None
        finish(own, taken)
    assert own.claim() is None
    assert own.is_complete()


def test_a_trial_that_its_worker_ended_just_now_is_not_taken_again(
    desk: Callable[..., TrialQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = desk(1), desk(1)
    taken = other.claim()
    assert taken is not None
    before = own.study.get_trials()
    finish(other, taken)
    other.owner.release()
    monkeypatch.setattr(own.study, "get_trials", lambda **_: before)
    assert own.claim() is None


def test_running_trials_of_living_workers_count_and_are_left_alone(desk: Callable[..., TrialQueue]) -> None:
    one, other = desk(2), desk(2)
    first, second = one.claim(), other.claim()
    assert first is not None
    assert second is not None
    assert first[1].number != second[1].number
    assert one.claim() is None
    assert other.claim() is None


def test_failed_trials_do_not_count(desk: Callable[..., TrialQueue]) -> None:
    own = desk(1)
    taken = own.claim()
    assert taken is not None
    own.report(taken[0], "failed", None, "RuntimeError: no", 0.0)
    assert not own.is_complete()
    again = own.claim()
    assert again is not None
    assert again[1].number == 1


def test_a_dead_workers_trial_is_taken_under_its_number_with_its_parameters(desk: Callable[..., TrialQueue]) -> None:
    dead, own = desk(1), desk(1)
    taken = dead.claim()
    assert taken is not None
    # a container has another name each time; the file of the study is this machine's all the same
    taken[0].set_user_attr("owner", dead.owner.name() | {"machine": "elsewhere"})
    drawn = taken[0].suggest_float("x", 0, 1)
    taken[0].report(0.5, 7)
    dead.owner._lock.release()  # what the system does when a process is killed
    again = own.claim()
    assert again is not None
    trial, frozen = again
    assert frozen.number == 0
    assert frozen.intermediate_values == {7: 0.5}
    assert trial.suggest_float("x", 0, 1) == drawn
    finish(own, again)
    assert own.is_complete()


def test_a_trial_given_back_is_the_next_to_be_taken(desk: Callable[..., TrialQueue]) -> None:
    one, other = desk(5), desk(5)
    taken = one.claim()
    assert taken is not None
    one.give_back(taken[0])
    again = other.claim()
    assert again is not None
    assert again[1].number == taken[1].number


def test_many_at_once_finish_exactly_the_target(desk: Callable[..., TrialQueue]) -> None:
    def work(own: TrialQueue) -> list[int]:
        numbers = []
        while not own.is_complete():
            taken = own.claim()
            if taken is not None:
                numbers.append(taken[1].number)
                finish(own, taken)
        return numbers

    desks = [desk(25) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        numbers = [number for own in threads.map(work, desks) for number in own]
    assert sorted(numbers) == list(range(25))
    assert len(desks[0].study.trials) == 25


def test_trials_asked_for_by_several_machines_at_once_are_given_back_beyond_the_target(
    desk: Callable[..., TrialQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, seen = desk(1), []

    def ask_after_another() -> optuna.Trial:
        if not seen:
            seen.append(original())
            seen[0].set_user_attr("owner", {"machine": "elsewhere", "lock": ""})
        return original()

    original = own.study.ask
    monkeypatch.setattr(own.study, "ask", ask_after_another)
    assert own.claim() is None
    assert [trial.state for trial in own.study.trials] == [TrialState.RUNNING, TrialState.WAITING]


def test_another_machines_trial_is_left_alone_while_it_shows_signs_of_life(
    desk: Callable[..., TrialQueue], elsewhere: Callable[..., TrialQueue], clock: Clock
) -> None:
    far, near = elsewhere(1), desk(1, local=False)
    taken = far.claim()
    assert taken is not None
    for beat in range(20):
        assert near.claim() is None
        near.study._storage.set_trial_system_attr(taken[0]._trial_id, leases.BEAT, beat)
        clock.now += leases.STALE_S * 0.9


def test_another_machines_trial_is_taken_once_it_shows_none_for_long(
    desk: Callable[..., TrialQueue], elsewhere: Callable[..., TrialQueue], clock: Clock
) -> None:
    far, near = elsewhere(1), desk(1, local=False)
    taken = far.claim()
    assert taken is not None
    assert near.claim() is None
    clock.now += leases.STALE_S
    again = near.claim()
    assert again is not None
    assert again[1].number == taken[1].number
    # the other one was cut off, not dead, and comes back
    assert not far.is_ours(taken[0])
    assert not far.report(taken[0], "complete", 0.1, "", 1.0)
    far.give_back(taken[0])
    assert near.is_ours(again[0])
    assert finish(near, again)
    assert not far.is_ours(taken[0])
    assert [trial.value for trial in near.study.trials] == [0.5]


def test_a_clock_that_jumps_makes_no_trial_left_behind(
    desk: Callable[..., TrialQueue], elsewhere: Callable[..., TrialQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    far, near = elsewhere(1), desk(1, local=False)
    assert far.claim() is not None
    assert near.claim() is None
    for jump in (1e9, -1e9):
        monkeypatch.setattr("time.time", lambda jump=jump: jump)
        assert near.claim() is None


def test_a_trial_that_was_never_signed_is_left_behind_at_once_only_on_one_machine(
    made: Callable[[], optuna.Study], desk: Callable[..., TrialQueue], clock: Clock
) -> None:
    made().ask()
    far = desk(1, local=False)
    assert far.claim() is None  # its owner may be about to sign
    clock.now += leases.STALE_S
    for own in (far, desk(1)):
        left = own.claim()
        assert left is not None
        assert left[1].number == 0
        own.study._storage.set_trial_user_attr(left[0]._trial_id, trials.OWNER, None)


def test_of_many_that_take_over_a_trial_one_has_it(
    desk: Callable[..., TrialQueue], elsewhere: Callable[..., TrialQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(trial_queue, "Watch", lambda: Watch(clock))
    monkeypatch.setattr(trial_queue, "SETTLE_S", 1.0)
    assert elsewhere(1).claim() is not None
    others = [desk(1, local=False, folder=f"machine-{number}") for number in range(4)]
    assert [own.claim() for own in others] == [None] * 4
    clock.now += leases.STALE_S
    together = threading.Barrier(4)

    def claim(own: TrialQueue) -> bool:
        together.wait()
        return own.claim() is not None

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(claim, others)) == 1


def test_a_trial_of_a_worker_killed_on_this_machine_is_taken_at_once_from_any_storage(
    desk: Callable[..., TrialQueue], clock: Clock
) -> None:
    dead, own = desk(1, local=False, folder="one"), desk(1, local=False, folder="other")
    assert dead.claim() is not None
    assert own.claim() is None
    dead.owner._lock.release()  # what the system does when a process is killed
    assert own.claim() is not None


def test_the_number_of_trials_may_be_the_studys_own_and_grow(desk: Callable[..., TrialQueue]) -> None:
    own = desk(None)
    own.study.set_user_attr(studies.TRIALS, 1)
    taken = own.claim()
    assert taken is not None
    finish(own, taken)
    assert own.is_complete()
    own.study.set_user_attr(studies.TRIALS, 2)
    assert not own.is_complete()
    assert own.claim() is not None


def test_a_trial_told_failed_by_its_parent_is_no_longer_its_workers(desk: Callable[..., TrialQueue]) -> None:
    own = desk(1, local=False)
    taken = own.claim()
    assert taken is not None
    trial_queue.fail(own.study, taken[1].number, "took too long")
    assert not own.is_ours(taken[0])
    assert not own.report(taken[0], "complete", 0.5, "", 0.1)
    trial_queue.fail(own.study, taken[1].number, "again")
    (row,) = trials.records(own.study)
    assert (row.outcome, row.reason) == ("failed", "took too long")
    assert own.study.trials[0].state == TrialState.FAIL


@pytest.mark.parametrize("local", [True, False])
def test_what_ended_for_a_worker_is_not_ended_again_by_it(desk: Callable[..., TrialQueue], local: bool) -> None:
    own = desk(1, local=local)
    taken = own.claim()
    assert taken is not None
    assert finish(own, taken)
    assert not own.report(taken[0], "pruned", None, "", 0.1)
    own.give_back(taken[0])
    assert [trial.state for trial in own.study.trials] == [TrialState.COMPLETE]
