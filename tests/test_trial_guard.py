from collections.abc import Callable

import optuna
import pytest
from optuna.trial import TrialState

from optitune import study
from optitune.errors import OptituneError
from optitune.trial_guard import TrialGuard
from optitune.workers import Event


class Watched:
    """A guard over a study of a few running trials, with a clock that goes as it is told."""

    def __init__(self, timeout: float | None = None) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.study = optuna.create_study(direction="maximize")
        for _ in range(9):
            self.study.ask()
        self.guard = TrialGuard(self.study, timeout, self.said.append, lambda: self.now)

    def tell(self, kind: str, number: int, worker: int = 0) -> None:
        self.guard.heed(Event(kind, worker, {"number": number}))

    def states(self) -> dict[int, str]:
        return {row.number: row.reason for row in study.records(self.study) if row.outcome == "failed"}


@pytest.fixture
def watched() -> Callable[..., Watched]:
    return Watched


def test_a_trial_whose_workers_die_at_the_same_place_is_given_up(watched: Callable[..., Watched]) -> None:
    over = watched()
    for worker in (0, 1, 0):
        over.tell("started", 4, worker)
        assert over.guard.died(worker, "signal 6")
    assert over.states() == {4: "3 workers died at the same place of it, the last of signal 6"}
    assert over.said == [
        "worker 1 died (signal 6); its trial 4 goes on in another",
        "worker 2 died (signal 6); its trial 4 goes on in another",
        "trial 4 was given up: 3 workers died at the same place of it, the last of signal 6",
    ]


def test_one_that_gets_further_between_the_deaths_is_not(watched: Callable[..., Watched]) -> None:
    over = watched()
    for _ in range(9):
        over.tell("started", 4)
        over.tell("progress", 4)
        assert over.guard.died(0, "signal 9")
    assert over.states() == {}


def test_a_worker_that_dies_between_trials_is_the_pools_matter(watched: Callable[..., Watched]) -> None:
    over = watched()
    assert not over.guard.died(1, "signal 9")
    for kind in ("finished", "failed", "left", "retired"):
        over.tell("started", 1)
        over.tell(kind, 1)
        assert not over.guard.died(0, "exit 1")
    assert over.states() == {}


def test_a_trial_that_takes_too_long_is_told_before_its_worker_is_killed(watched: Callable[..., Watched]) -> None:
    over = watched(timeout=10)
    over.tell("started", 2)
    over.tell("started", 3, worker=1)
    over.now = 9
    assert over.guard.late() == []
    over.tell("finished", 3, worker=1)
    over.now = 11
    assert over.guard.late() == [0]
    assert over.guard.late() == []
    assert over.states() == {2: "took longer than --trial-timeout 10 s"}
    assert over.guard.died(0, "signal 9")
    assert over.said == ["trial 2 took longer than --trial-timeout 10 s and was given up"]


def test_when_trial_after_trial_is_given_up_the_search_ends(watched: Callable[..., Watched]) -> None:
    over = watched(timeout=10)

    def give_up(number: int) -> None:
        over.tell("started", number)
        over.now += 11
        assert over.guard.late() == [0]
        over.guard.died(0, "signal 9")

    give_up(0)
    give_up(1)
    over.tell("finished", 2)
    give_up(3)
    give_up(4)
    with pytest.raises(OptituneError, match=r"3 trials in a row were given up, the last, trial 5, since: took longer"):
        give_up(5)
    assert [trial.state for trial in over.study.trials].count(TrialState.FAIL) == 5
