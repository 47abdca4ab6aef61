from collections.abc import Callable

import optuna
import pytest
from optuna.trial import TrialState

from optitune.errors import OptituneError
from optitune.searching.events import TrialFailed, TrialFinished, TrialLeft, TrialProgress, TrialStarted
from optitune.searching.trial_guard import TrialGuard
from optitune.storage import trials
from optitune.workers.events import Event, Retired


class Watched:
    """A guard over a study of a few running trials, with a clock that goes as it is told."""

    def __init__(self, timeout: float | None = None) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.study = optuna.create_study(direction="maximize")
        for _ in range(9):
            self.study.ask()
        self.guard = TrialGuard(self.study, timeout, self.said.append, lambda: self.now)

    def start(self, number: int, worker: int = 0) -> None:
        self.guard.handle(TrialStarted(worker, number, "sgd", 0.1))

    def progress(self, number: int, worker: int = 0, epoch: float = 1) -> None:
        self.guard.handle(TrialProgress(worker, number, "sgd", 0.1, epoch, 0.5))

    def states(self) -> dict[int, str]:
        return {row.number: row.reason for row in trials.records(self.study) if row.outcome == "failed"}


ENDS = (TrialFinished(0, 2), TrialFailed(0, 2, "why"), TrialLeft(0, 2), Retired(0))
"""What a worker reports when it is at a trial no more."""


@pytest.fixture
def watched() -> Callable[..., Watched]:
    return Watched


def test_a_trial_whose_workers_die_at_the_same_place_is_given_up(watched: Callable[..., Watched]) -> None:
    over = watched()
    for worker in (0, 1, 0):
        over.start(4, worker)
        assert over.guard.died(worker, "signal 6")
    assert over.states() == {4: "3 workers died at the same place of it, the last of signal 6"}
    assert over.said == [
        "worker 1 died (signal 6); its trial 4 goes on in another",
        "worker 2 died (signal 6); its trial 4 goes on in another",
        "trial 4 was given up: 3 workers died at the same place of it, the last of signal 6",
    ]


def test_one_that_gets_further_between_the_deaths_is_not(watched: Callable[..., Watched]) -> None:
    over = watched()
    for epoch in range(1, 10):
        over.start(4)
        over.progress(4, epoch=epoch)
        assert over.guard.died(0, "signal 9")
    assert over.states() == {}


def test_what_is_trained_again_after_a_death_is_no_progress(watched: Callable[..., Watched]) -> None:
    over = watched()
    for worker in (0, 1, 0):
        over.start(4, worker)
        # its checkpoint is from before the first epoch
        for epoch in (1, 2):
            over.progress(4, worker, epoch=epoch)
        assert over.guard.died(worker, "signal 6")
    assert list(over.states()) == [4]


def test_a_worker_that_dies_between_trials_is_the_pools_matter(watched: Callable[..., Watched]) -> None:
    over = watched()
    assert not over.guard.died(1, "signal 9")
    for event in ENDS:
        over.start(1)
        over.guard.handle(event)
        assert not over.guard.died(0, "exit 1")
    assert over.states() == {}


def test_a_trial_that_takes_too_long_is_told_before_its_worker_is_killed(watched: Callable[..., Watched]) -> None:
    over = watched(timeout=10)
    over.start(2)
    over.start(3, worker=1)
    over.now = 9
    assert over.guard.late() == []
    over.guard.handle(TrialFinished(1, 3))
    over.now = 11
    assert over.guard.late() == [(0, 2)]
    assert over.guard.late() == []
    assert over.guard.is_late(0, 2)
    assert over.states() == {2: "took longer than trial_timeout = 10 s"}
    assert over.guard.died(0, "signal 9")
    assert over.said == ["trial 2 took longer than trial_timeout = 10 s and was given up"]


def test_a_trial_that_ended_before_its_worker_could_say_so_stays_as_it_is(watched: Callable[..., Watched]) -> None:
    over = watched(timeout=10)
    over.start(2)
    over.now = 11
    over.study.tell(2, 0.5)
    assert over.guard.late() == []
    assert over.said == []
    assert over.study.trials[2].value == 0.5
    over.guard.handle(TrialFinished(0, 2))
    over.start(3)
    assert over.guard.late() == []


@pytest.mark.parametrize("event", ENDS, ids=lambda event: type(event).__name__)
def test_a_worker_that_has_noticed_is_not_killed_in_its_next_trial(
    watched: Callable[..., Watched], event: Event
) -> None:
    over = watched(timeout=10)
    over.start(2)
    over.now = 11
    assert over.guard.late() == [(0, 2)]
    over.guard.handle(event)
    over.start(3)
    assert not over.guard.is_late(0, 2)
    # and where it dies there, that is a death like any other
    assert over.guard.died(0, "signal 9")
    assert over.said[-1] == "worker 1 died (signal 9); its trial 3 goes on in another"
    assert list(over.states()) == [2]


@pytest.mark.parametrize("first", ["the worker", "the guard"])
def test_of_two_that_end_a_trial_at_the_same_moment_the_first_counts(
    watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    over = watched(timeout=10)
    storage = over.study._storage
    over.start(2)
    over.now = 11
    original = storage.set_trial_state_values

    def others_too(trial_id: int, state: TrialState, *values: object) -> bool:
        monkeypatch.undo()
        for key, value in ((trials.OUTCOME, "complete"), (trials.REASON, "")):
            storage.set_trial_user_attr(trial_id, key, value)
        if first == "the worker":
            storage.set_trial_user_attr(trial_id, trials.OUTCOME, "failed")
            original(trial_id, TrialState.COMPLETE, [0.5])
        return original(trial_id, state, *values)

    monkeypatch.setattr(storage, "set_trial_state_values", others_too)
    assert over.guard.late() == ([] if first == "the worker" else [(0, 2)])
    row = trials.record(over.study, 2)
    assert (row.outcome, row.value) == (("complete", 0.5) if first == "the worker" else ("failed", None))


def test_when_trial_after_trial_is_given_up_the_search_ends(watched: Callable[..., Watched]) -> None:
    over = watched(timeout=10)

    def give_up(number: int) -> None:
        over.start(number)
        over.now += 11
        assert over.guard.late() == [(0, number)]
        over.guard.died(0, "signal 9")

    give_up(0)
    give_up(1)
    over.guard.handle(TrialFinished(0, 2))
    give_up(3)
    give_up(4)
    with pytest.raises(OptituneError, match=r"3 trials in a row were given up, the last, trial 5, since: took longer"):
        give_up(5)
    assert [trial.state for trial in over.study.trials].count(TrialState.FAIL) == 5
