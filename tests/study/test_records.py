"""Rows about trials, and what is summed up from them."""

from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from statistics import mean, stdev
from typing import get_args

import pytest

from optitune.common.summary import summarise
from optitune.space.configuration import Configuration
from optitune.study.records import FINISHED, Outcome, TrialRecord, best, counts, plain, standings

Row = Callable[..., TrialRecord]


@pytest.fixture(scope="session")
def row(configured: Callable[..., Configuration]) -> Row:
    """Number, outcome, value and optimizer -> a trial's record; with a sign of -1, less is better."""

    def build(
        number: int,
        outcome: Outcome = "complete",
        value: float | None = None,
        optimizer: str | None = "adam",
        sign: int = 1,
    ) -> TrialRecord:
        configuration = configured(optimizer) if optimizer else None
        return TrialRecord(
            number, outcome, configuration, value, "", (), 1.0, score=None if value is None else sign * value
        )

    return build


def test_counts_has_every_outcome_and_what_is_finished(row: Row) -> None:
    outcomes: list[Outcome] = ["complete", "complete", "pruned", "diverged", "failed", "running", "waiting", "waiting"]
    assert counts(row(number, outcome) for number, outcome in enumerate(outcomes)) == {
        "finished": 4,
        "complete": 2,
        "pruned": 1,
        "diverged": 1,
        "failed": 1,
        "running": 1,
        "waiting": 2,
    }


def test_counts_of_nothing_are_zero() -> None:
    assert counts([]) == {"finished": 0, **dict.fromkeys(get_args(Outcome), 0)}
    assert set(FINISHED) < set(get_args(Outcome))


def test_a_repetition_is_never_the_best_instead_of_what_was_trained(row: Row) -> None:
    rows = [replace(row(0, value=0.9), same_as=1), row(1, value=0.9), row(2, value=0.9)]
    assert best(rows) is rows[1]


def test_the_best_is_the_complete_trial_of_highest_value(row: Row) -> None:
    rows = [row(0, value=0.5), row(1, value=0.9), row(2, "pruned", 0.95), row(3, value=0.7), row(4, "failed")]
    assert best(rows) is rows[1]


def test_of_equals_the_earliest_is_the_best(row: Row) -> None:
    rows = [row(5, value=0.9), row(2, value=0.9), row(8, value=0.9)]
    assert best(rows) is rows[1]


def test_an_accuracy_of_zero_can_be_the_best(row: Row) -> None:
    rows = [row(0, value=0.0), row(1, "complete", None)]
    assert best(rows) is rows[0]


def test_without_a_complete_trial_there_is_no_best(row: Row) -> None:
    assert best([row(0, "pruned", 0.5), row(1, "running")]) is None


def test_where_less_is_better_the_least_is_the_best(row: Row) -> None:
    rows = [row(0, value=0.5, sign=-1), row(1, value=0.2, sign=-1), row(2, "pruned", 0.1, sign=-1)]
    assert best(rows) is rows[1]
    others = [row(3, value=0.1, optimizer="sgd", sign=-1), row(4, value=0.9, optimizer="nadam", sign=-1)]
    assert [line.optimizer for line in standings(rows + others, ["nadam", "adam", "sgd"])] == ["sgd", "adam", "nadam"]
    assert best([row(0, value=0.0, sign=-1), row(1, value=0.5, sign=-1)]) == row(0, value=0.0, sign=-1)
    assert best([row(0, value=-3.0), row(1, value=-2.0)]) == row(1, value=-2.0)


def test_the_standings_have_the_best_first_and_those_without_a_complete_trial_last(row: Row) -> None:
    rows = [
        row(0, value=0.7, optimizer="sgd"),
        row(1, value=0.8, optimizer="adam"),
        row(2, "diverged", optimizer="adam"),
        row(3, "pruned", optimizer="rmsprop"),
        row(4, "waiting", optimizer=None),
        row(5, value=0.0, optimizer="nadam"),
    ]
    table = standings(rows, ["rmsprop", "nadam", "sgd", "adam"])
    assert [line.optimizer for line in table] == ["adam", "sgd", "nadam", "rmsprop"]
    assert (table[0].finished, table[0].pruned, table[0].diverged, table[0].best) == (2, 0, 1, rows[1])
    assert (table[3].finished, table[3].pruned, table[3].diverged, table[3].best) == (1, 1, 0, None)


def test_the_standings_sum_the_epochs_that_each_optimizer_was_trained_for(row: Row) -> None:
    rows = [
        replace(row(0, value=0.7, optimizer="sgd"), epochs=5.0),
        replace(row(1, "pruned", optimizer="sgd"), epochs=1.25),
        replace(row(2, "diverged", optimizer="adam"), epochs=0.5),
        row(3, "running", optimizer="adam"),
    ]
    assert {line.optimizer: line.epochs for line in standings(rows, ["sgd", "adam", "nadam"])} == {
        "sgd": 6.25,
        "adam": 0.5,
        "nadam": 0.0,
    }


def test_equal_standings_keep_the_order_of_the_names(row: Row) -> None:
    rows = [row(0, value=0.7, optimizer="sgd"), row(1, value=0.7, optimizer="adam")]
    assert [line.optimizer for line in standings(rows, ["adam", "sgd"])] == ["adam", "sgd"]
    assert [line.optimizer for line in standings([], ["sgd", "adam"])] == ["sgd", "adam"]


def test_a_record_without_a_configuration_has_no_optimizer(row: Row) -> None:
    assert row(0, optimizer=None).optimizer is None
    assert row(0, optimizer="sgd").optimizer == "sgd"


def test_plain_is_the_configuration_in_one_level_each(configured: Callable[..., Configuration]) -> None:
    configuration = configured("adadelta", "cosine", epochs=4)
    assert plain(configuration) == {
        "optimizer": "adadelta",
        "settings": {"lr": 1.0, "rho": 0.9, "eps": 1e-6},
        "schedule": {"name": "cosine", "T_max": 4},
        "training": configuration.training.model_dump(),
    }
    assert plain(configured("adam", "cosine", warmup=0.1))["schedule"] == {"name": "cosine", "T_max": 3, "warmup": 0.1}
    training = plain(configured("adam", training={"groups": {"fc*": 10.0}, "clip_norm": 1.0}))["training"]
    assert (training["groups"], training["clip_norm"], training["batch_size"]) == ({"fc*": 10.0}, 1.0, 16)


def test_a_summary_is_students_interval() -> None:
    values = [0.90, 0.92, 0.94, 0.91, 0.93]
    summary = summarise(values, highest=1.0)
    margin = 2.7764451 * stdev(values) / sqrt(5)
    assert summary.mean == pytest.approx(mean(values))
    assert summary.sd == pytest.approx(0.0158114, abs=1e-7)
    assert (summary.low, summary.high) == (pytest.approx(0.92 - margin), pytest.approx(0.92 + margin))
    assert summary.each == tuple(values)


def test_an_interval_stays_within_what_is_possible() -> None:
    summary = summarise([0.1, 0.99], lowest=0.0, highest=1.0)
    assert (summary.low, summary.high) == (0.0, 1.0)
    assert summarise([0.1, 0.99], highest=1.0).low == pytest.approx(0.545 - 12.7062047 * 0.445, rel=1e-6)
    assert summarise([1.0, 9.0]).high == pytest.approx(5 + 12.7062047 * 4, rel=1e-6)


def test_equal_values_have_an_interval_of_no_width() -> None:
    summary = summarise([0.5, 0.5, 0.5])
    assert (summary.sd, summary.low, summary.high) == (0.0, 0.5, 0.5)


def test_a_single_run_says_nothing_of_its_spread() -> None:
    summary = summarise([0.9])
    assert (summary.mean, summary.sd, summary.low, summary.high, summary.each) == (0.9, None, None, None, (0.9,))


def again(of: TrialRecord, number: int, value: float | None, run: int = 1, sign: int = 1) -> TrialRecord:
    """A trial that repeats another one's settings from another seed; without a value it diverged."""
    score = None if value is None else sign * value
    outcome: Outcome = "diverged" if value is None else "complete"
    return replace(of, number=number, value=value, score=score, outcome=outcome, run=run, repeats=of.number)


def test_the_value_of_what_was_repeated_is_the_mean_over_its_runs(row: Row) -> None:
    rows = [row(0, value=0.7), row(1, value=0.9), row(2, value=0.2)]
    rows += [again(rows[1], 3, 0.92), again(rows[1], 4, 0.94, 2), again(rows[1], 5, 0.94, 2)]
    winner = best(rows)
    assert winner is not None
    assert (winner.number, winner.value, winner.runs) == (1, pytest.approx(0.92), 3), "a seed counts once"
    assert winner.score == winner.value
    assert [(line.trial, line.value, line.runs) for line in standings(rows, ["adam"])] == [(1, winner.value, 3)]


def test_a_lucky_run_does_not_win_against_three_that_are_nearly_as_good(row: Row) -> None:
    rows = [row(0, value=0.9, optimizer="sgd"), row(1, value=0.7), row(2, value=0.905), row(3, value=0.6)]
    rows += [again(rows[0], 4, 0.91), again(rows[0], 5, 0.89, 2)]
    assert best(rows[:4]) is rows[2], "of single runs the highest"
    winner = best(rows)
    assert winner is not None
    assert winner.number == 0
    assert [line.optimizer for line in standings(rows, ["adam", "sgd"])] == ["sgd", "adam"]
    clearly = [*rows[:2], replace(rows[2], value=0.95, score=0.95), *rows[3:]]
    assert best(clearly) is clearly[2]


def test_where_less_is_better_the_least_mean_wins(row: Row) -> None:
    rows = [row(0, value=0.1, sign=-1), row(1, value=0.12, sign=-1), row(2, value=0.9, sign=-1)]
    rows += [again(rows[0], 3, 0.5, sign=-1), again(rows[1], 4, 0.1, sign=-1)]
    winner = best(rows)
    assert winner is not None
    assert (winner.number, winner.value, winner.score) == (1, pytest.approx(0.11), pytest.approx(-0.11))


def test_what_diverges_from_another_seed_is_behind_all_that_did_not(row: Row) -> None:
    rows = [row(0, value=0.9, optimizer="sgd"), row(1, value=0.5)]
    rows.append(again(rows[0], 2, None))
    assert best(rows) is rows[1]
    assert [line.optimizer for line in standings(rows, ["sgd", "adam", "nadam"])] == ["adam", "sgd", "nadam"]


def test_a_copy_of_a_lucky_result_does_not_win_in_its_place(row: Row) -> None:
    rows = [row(0, value=0.9), replace(row(1, value=0.9), same_as=0), row(2, value=0.8)]
    rows.append(again(rows[0], 3, 0.5))
    assert best(rows) is rows[2]
