"""What optimizers cost."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from made_up_runs import DIVERGED, curve, made_up, runs

from optitune.space.configuration import Configuration
from optitune.statistics.costs import (
    Change,
    Cost,
    Reached,
    Untuned,
    change,
    costs,
    reached,
    target_of,
    untuned,
)
from optitune.statistics.runs import HALF, KNOWN_GOOD, TUNED, TWICE, Run
from optitune.study.records import Outcome, TrialRecord

# how soon


def test_the_target_is_what_the_weakest_reaches_on_average() -> None:
    found = runs({"a": [0.9, 0.8], "b": [0.7, DIVERGED], "c": [DIVERGED]})
    assert target_of(found, "abc", 1) == 0.7
    assert target_of(found, "ab", -1) == pytest.approx(0.85)
    assert target_of(found, "a", 1) == pytest.approx(0.85)
    assert target_of(found, "c", 1) is None
    assert target_of([], "ab", 1) is None


def test_a_target_is_reached_at_the_first_evaluation_that_has_it() -> None:
    found = [made_up(0, "a", 0.9, curve=curve(0.5, 0.8, 0.7, 0.9)), made_up(1, "a", 0.9, curve=curve(0.8, 0.9))]
    assert reached(found, 0.8, 1) == Reached(rounds=2, reached=2, epochs=0.75, seconds=1.5)
    assert reached(found, 0.85, 1) == Reached(rounds=2, reached=2, epochs=1.5, seconds=3.0)


def test_where_less_is_better_a_target_is_reached_from_above() -> None:
    found = [made_up(0, "a", 0.1, curve=curve(0.5, 0.3, 0.1))]
    assert reached(found, 0.3, -1) == Reached(rounds=1, reached=1, epochs=1.0, seconds=2.0)


def test_no_time_is_told_where_less_than_half_of_the_runs_came_there() -> None:
    there, short = made_up(0, "a", 0.9, curve=curve(0.9)), made_up(1, "a", 0.8, curve=curve(0.8))
    assert reached([there, short], 0.9, 1) == Reached(2, 1, 0.5, 1.0)
    assert reached([there, short, replace(short)], 0.9, 1) == Reached(3, 1, None, None)
    assert reached([short], 0.9, 1) == Reached(1, 0, None, None)
    assert reached([], 0.9, 1) == Reached(0, 0, None, None)


# other settings


def test_a_change_is_the_mean_over_the_rounds_that_have_both() -> None:
    found = [*runs({"a": [0.9, 0.8, 0.7]}), made_up(0, "a", 0.8, HALF), made_up(1, "a", 0.75, HALF)]
    assert change(found, "a", HALF, 1) == Change(2, pytest.approx(-0.075))
    assert change(found, "a", HALF, -1) == Change(2, pytest.approx(0.075))
    assert change(found, "a", TWICE, 1) is None
    assert change([made_up(0, "a", 0.8, HALF)], "a", HALF, 1) is None


@pytest.mark.parametrize("diverged", [("itself", 0.8), (0.9, "the variant")])
def test_of_one_that_diverged_no_change_is_told(diverged: tuple[float | str, float | str]) -> None:
    itself, variant = diverged
    assert change([made_up(0, "a", itself), made_up(0, "a", variant, HALF)], "a", HALF, 1) == Change(1, None)


# all of it


def trial(configured: Callable[..., Configuration], name: str, outcome: Outcome) -> TrialRecord:
    return TrialRecord(0, outcome, configured(name), None, "", (), 1.0)


def test_costs_are_told_of_every_optimizer(configured: Callable[..., Configuration]) -> None:
    found = [
        made_up(0, "adam", 0.9, seconds=8.0, curve=curve(0.7, 0.9)),
        made_up(1, "adam", 0.9, seconds=12.0, curve=curve(0.9)),
        made_up(2, "adam", DIVERGED, seconds=1.0),
        made_up(0, "adam", 0.8, HALF),
        made_up(0, "adam", 0.85, TWICE),
        made_up(0, "adam", 0.7, KNOWN_GOOD),
        made_up(0, "sgd", 0.8, state_bytes=0),
        made_up(0, "muon", DIVERGED),
    ]
    ends: tuple[Outcome, ...] = ("complete", "pruned", "diverged", "diverged", "failed", "running", "waiting")
    trials = [trial(configured, "adam", each) for each in ends]
    told = costs(found, ("adam", "sgd", "muon"), trials, 4, 0.9, 1, {"sgd": True})
    assert told["adam"] == Cost(
        optimizer="adam",
        seconds=10.0,
        epoch_seconds=2.5,
        target=Reached(2, 2, 0.75, 1.5),
        state=2.0,
        half=Change(1, pytest.approx(-0.1)),
        twice=Change(1, pytest.approx(-0.05)),
        tuning=Change(1, pytest.approx(-0.2)),
        diverged=0.5,
    )
    assert told["sgd"].state == 0
    assert told["sgd"].tuning == Change(1, 0.0)
    assert told["sgd"].diverged is None
    assert told["muon"] == Cost("muon", None, None, Reached(0, 0, None, None), None, None, None, None, None)


def test_without_a_target_nothing_reaches_it() -> None:
    told = costs([made_up(0, "a", 0.9, curve=curve(0.9))], ["a"], [], 1, None, 1, {})
    assert told["a"].target == Reached(1, 0, None, None)


# not tuned to the end


def with_variants(tuned: Sequence[float | str], half: Sequence[float | str], twice: Sequence[float | str]) -> list[Run]:
    variants = ((TUNED, tuned), (HALF, half), (TWICE, twice))
    return [made_up(number, "a", each, name) for name, own in variants for number, each in enumerate(own)]


@pytest.mark.parametrize(
    ("half", "twice", "found"),
    [
        ((0.7, 0.7), (0.83, 0.85), [Untuned("a", TWICE, pytest.approx(0.04), 2)]),
        ((0.9, 0.9), (0.83, 0.85), [Untuned("a", HALF, pytest.approx(0.1), 2)]),
        ((0.7, 0.7), (0.80, 0.90), []),  # not in every round
        ((0.7, 0.7), (0.805, 0.806), []),  # by less than matters
        ((0.7, 0.7), (0.83,), []),  # a single round
        ((0.7, 0.7), (0.83, DIVERGED), []),
    ],
)
def test_one_that_is_better_with_other_settings_is_found(half: Any, twice: Any, found: list[Untuned]) -> None:
    rows = with_variants((0.8, 0.8), half, twice)
    assert list(untuned(rows, ["a"], 1, 0.01, 0.001)) == found


def test_chance_is_no_reason_to_tune_on() -> None:
    rows = with_variants((0.8, 0.8), (), (0.83, 0.85))
    assert untuned(rows, ["a"], 1, 0.01, 0.02)
    assert not untuned(rows, ["a"], 1, 0.01, 0.03)
    assert not untuned(rows, ["a"], -1, 0.01, 0.001)
