"""Whose turn it is, by what the trials of each optimizer have cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optitune.sampling.allocation import competitors, relative_costs, turn

NAMES = ("sgd", "adam", "rmsprop", "nadam")
COMPLETE, PRUNED, RUNNING, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL


def trial(name: str | None, state: TrialState, *curve: float, number: int = 0) -> FrozenTrial:
    made = create_trial(
        params={"optimizer": name} if name else {},
        distributions={"optimizer": CategoricalDistribution(NAMES)} if name else {},
        intermediate_values=dict(enumerate(curve, start=1)),
        value=curve[-1] if state == COMPLETE else None,
        state=state,
    )
    made.number = number
    return made


def test_what_was_spent_is_counted_in_whole_trainings() -> None:
    trials = [
        trial("sgd", COMPLETE, 0.1, 0.2, 0.3, 0.4),
        trial("sgd", PRUNED, 0.1, number=1),
        trial("adam", RUNNING, 0.1, number=2),
        trial("adam", PRUNED, 0.1, 0.2, number=3),
        trial("rmsprop", FAIL, 0.1, 0.2, 0.3, number=4),
        trial(None, RUNNING, number=5),
    ]
    found = competitors(trials, ("sgd", "adam", "rmsprop"))
    assert {each.name: each.spent for each in found} == {"sgd": 1.25, "adam": 1.5, "rmsprop": 1.0}


def test_a_failed_trial_says_nothing_of_how_long_one_lasts() -> None:
    trials = [
        trial("sgd", FAIL, 0.1, 0.2, 0.3, 0.4),
        trial("sgd", PRUNED, 0.1, number=1),
        trial("adam", COMPLETE, 1, 1),
    ]
    assert [each.spent for each in competitors(trials, NAMES)] == [1.5, 1.0, 0.0, 0.0]


def test_trials_that_reported_nothing_count_as_whole_where_none_has() -> None:
    trials = [trial("sgd", COMPLETE, 0.5), trial("adam", COMPLETE, 0.5, number=1)]
    for each in trials:
        each.intermediate_values = {}
    assert [each.spent for each in competitors([trials[0]], ("sgd", "adam"))] == [1.0, 0.0]
    assert [each.spent for each in competitors(trials, ("sgd", "adam"))] == [1.0, 1.0]


def test_a_study_without_optimizers_is_one_group() -> None:
    trials = [trial(None, COMPLETE, 0.5, 0.6), trial(None, PRUNED, 0.5, number=1)]
    (one,) = competitors(trials, [None])
    assert (one.name, one.spent) == (None, 1.5)


def test_it_is_the_turn_of_who_was_given_the_least_and_of_equals_the_first() -> None:
    trials = [trial("sgd", COMPLETE, 0.1, 0.2), trial("adam", PRUNED, 0.1, number=1)]
    assert turn(competitors(trials, ("sgd", "adam"))) == "adam"
    assert turn(competitors(trials, NAMES)) == "rmsprop"
    assert turn(competitors([], NAMES)) == "sgd"


def test_an_epoch_counts_by_what_it_costs() -> None:
    trials = [
        trial("sgd", COMPLETE, 0.1, 0.2),
        trial("sgd", COMPLETE, 0.1, 0.2, number=1),
        trial("adam", PRUNED, 0.1, number=2),
    ]
    assert [each.spent for each in competitors(trials, ("sgd", "adam"), costs={"adam": 4.0})] == [2.0, 2.0]
    drawn: list[FrozenTrial] = []
    for number in range(50):
        name = turn(competitors(drawn, ("sgd", "adam"), costs={"sgd": 1.0, "adam": 4.0}))
        drawn.append(trial(name, COMPLETE, 0.1, 0.2, number=number))
    assert [sum(each.params["optimizer"] == name for each in drawn) for name in ("sgd", "adam")] == [40, 10]


SECONDS = st.dictionaries(st.sampled_from(NAMES), st.floats(1e-6, 1e6), min_size=1)


@given(SECONDS)
def test_costs_keep_the_order_of_seconds(seconds: dict[str, float]) -> None:
    costs = relative_costs(seconds)
    names = sorted(seconds, key=lambda name: seconds[name])
    ranked = [costs[name] for name in names]
    assert ranked == sorted(ranked)
    assert sum(each == 1.0 for each in ranked) >= len(ranked) % 2


@pytest.mark.parametrize(
    ("seconds", "costs"),
    [
        ({"sgd": 0.9, "adam": 1.0, "muon": 3.2}, {"sgd": 1.0, "adam": 1.0, "muon": 2.83}),
        ({"sgd": 5.0}, {"sgd": 1.0}),
        ({}, {}),
    ],
)
def test_costs_that_differ_little_are_the_same(seconds: dict[str, float], costs: dict[str, float]) -> None:
    found = relative_costs(seconds)
    assert found.keys() == costs.keys()
    assert all(found[name] == pytest.approx(costs[name], rel=0.2) for name in costs)
    assert found.get("sgd", 1.0) == 1.0
