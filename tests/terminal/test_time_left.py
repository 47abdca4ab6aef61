"""How long a search will still take."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from optitune.space.configuration import Configuration
from optitune.study.records import Outcome, TrialRecord
from optitune.study.settings import StudySettings
from optitune.terminal.time_left import expected_share, roughly, time_left

START = datetime(2026, 1, 1)
PAIR = ("sgd", "adam")

Rows = Callable[..., list[TrialRecord]]


@pytest.fixture
def rows(configured: Callable[..., Configuration]) -> Rows:
    """Epochs of each trial -> trials of two optimizers in turn, one after the other, at ten seconds an epoch."""

    def build(*epochs: float, pace: float = 10.0, whole: int = 10) -> list[TrialRecord]:
        made, now = [], START
        for number, length in enumerate(epochs):
            outcome: Outcome = "complete" if length == whole else "pruned"
            value = 0.9 if outcome == "complete" else None
            end = now + timedelta(seconds=pace * length)
            made.append(
                TrialRecord(
                    *(number, outcome, configured(PAIR[number % 2]), value, "", (), pace * length),
                    epochs=length,
                    score=value,
                    began=now,
                    ended=end,
                )
            )
            now = end
        return made

    return build


def settings(pruner: str = "optitune") -> StudySettings:
    return StudySettings(task="digits", optimizers=PAIR, epochs=10, pruner=pruner)  # type: ignore[arg-type]


def test_nothing_is_said_before_three_trials(rows: Rows) -> None:
    assert time_left([], [], settings(), 50, 2) is None
    assert time_left(rows(10, 10), [], settings(), 50, 2) is None
    assert time_left(rows(10, 10, 10), [], settings(), 50, 2) is not None


def test_what_a_repetition_took_is_not_known(rows: Rows) -> None:
    assert time_left(rows(10, 0, 0, 0), [], settings(), 50, 2) is None


def test_without_pruning_every_trial_is_as_long(rows: Rows) -> None:
    assert time_left(rows(10, 10, 10), [], settings("none"), 10, 1) == pytest.approx(700)
    assert time_left(rows(10, 10, 10), [("sgd", 4.0)], settings("none"), 10, 1) == pytest.approx(660)


def test_workers_share_the_work_and_wait_for_the_last(rows: Rows) -> None:
    alone = time_left(rows(10, 10, 10), [], settings("none"), 11, 1)
    four = time_left(rows(10, 10, 10), [], settings("none"), 11, 4)
    assert alone == pytest.approx(800)
    assert four is not None
    assert 200 < four < 250


def test_nothing_is_left_of_a_complete_study(rows: Rows) -> None:
    assert time_left(rows(10, 10, 10), [], settings(), 3, 4) == 0
    assert time_left(rows(10, 10, 10), [("sgd", 1.0)], settings(), 2, 4) == 0


def test_the_known_good_trials_do_not_stand_for_those_that_will_be_pruned(rows: Rows) -> None:
    left = time_left(rows(10, 10, 10, 10, 10, 10), [], settings(), 46, 1)
    assert left is not None
    assert left < 0.5 * 40 * 100


def test_a_search_that_prunes_less_is_expected_to_go_on_so(rows: Rows) -> None:
    first = (10, 10, 10, 10, 10)
    little = time_left(rows(*first, *[8] * 20), [], settings(), 50, 1)
    much = time_left(rows(*first, *[1] * 20), [], settings(), 50, 1)
    assert little is not None
    assert much is not None
    assert little > 1.5 * much


def test_a_trial_that_was_stopped_overnight_does_not_count_for_the_night(rows: Rows) -> None:
    made = rows(10, 10, 10)
    slept = [*made[:2], TrialRecord(**{**vars(made[2]), "ended": START + timedelta(hours=9)})]
    assert time_left(slept, [], settings("none"), 10, 1) == pytest.approx(700)


def test_what_a_trial_takes_beside_its_training_is_seen_in_short_ones(rows: Rows) -> None:
    made = [*rows(10, 10, 10, 10, 10, 10), *rows(1, 1, 1)]
    slow = [
        TrialRecord(**{**vars(row), "ended": (row.ended or START) + timedelta(seconds=4 * (row.epochs < 10))})
        for row in made
    ]
    quick, late = (time_left(each, [], settings(), 59, 1) for each in (made, slow))
    assert quick is not None
    assert late is not None
    assert late - quick == pytest.approx(4 * 50)


def test_the_share_falls_with_the_trials_an_optimizer_has_had() -> None:
    shares = [expected_share(own, 20, "optitune") for own in range(8)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1
    assert expected_share(7, 4, "optitune") == expected_share(7, 40, "none") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.2, "5 s"), (12, "10 s"), (83, "85 s"), (100, "1.5 min"), (290, "5 min"), (740, "12 min")),
        *((5000, "83 min"), (7000, "2 h"), (12_000, "3.5 h"), (200_000, "2.3 d")),
    ],
)
def test_times_are_told_no_finer_than_they_are_known(seconds: float, text: str) -> None:
    assert roughly(seconds) == text
