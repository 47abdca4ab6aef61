"""Whose turn it is, and which optimizers would hardly win any more."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optitune.sampling.allocation import ALLOCATIONS, ERROR, Competitor, chance, competitors, equal, racing, turn

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


def race(values: Mapping[str, Sequence[float]]) -> list[Competitor]:
    """Competitors whose trials came to these values."""
    owned = [(name, value) for name, own in values.items() for value in own]
    trials = [trial(name, COMPLETE, value, number=number) for number, (name, value) in enumerate(owned)]
    return competitors(trials, values, True, None)


def test_what_was_spent_is_counted_in_whole_trainings() -> None:
    trials = [
        trial("sgd", COMPLETE, 0.1, 0.2, 0.3, 0.4),
        trial("sgd", PRUNED, 0.1, number=1),
        trial("adam", RUNNING, 0.1, number=2),
        trial("adam", PRUNED, 0.1, 0.2, number=3),
        trial("rmsprop", FAIL, 0.1, 0.2, 0.3, number=4),
        trial(None, RUNNING, number=5),
    ]
    found = competitors(trials, ("sgd", "adam", "rmsprop"), True, 1.0)
    assert {each.name: each.spent for each in found} == {"sgd": 1.25, "adam": 1.5, "rmsprop": 1.0}


def test_a_failed_trial_says_nothing_of_how_long_one_lasts() -> None:
    trials = [
        trial("sgd", FAIL, 0.1, 0.2, 0.3, 0.4),
        trial("sgd", PRUNED, 0.1, number=1),
        trial("adam", COMPLETE, 1, 1),
    ]
    assert [each.spent for each in competitors(trials, NAMES, True, None)] == [1.5, 1.0, 0.0, 0.0]


def test_trials_that_reported_nothing_count_as_whole_where_none_has() -> None:
    trials = [trial("sgd", COMPLETE, 0.5), trial("adam", COMPLETE, 0.5, number=1)]
    for each in trials:
        each.intermediate_values = {}
    assert [each.spent for each in competitors([trials[0]], ("sgd", "adam"), True, 1.0)] == [1.0, 0.0]
    assert [each.spent for each in competitors(trials, ("sgd", "adam"), True, 1.0)] == [1.0, 1.0]


def test_heights_are_those_of_ended_trials_as_reached_or_as_forecast() -> None:
    trials = [trial("sgd", COMPLETE, 0.5 + place / 20, 0.9 + place / 100, number=place) for place in range(5)]
    trials += [trial("adam", PRUNED, 0.6, number=5), trial("adam", RUNNING, 0.6, number=6)]
    sgd, adam = competitors(trials, ("sgd", "adam"), True, 1.0)
    assert sgd.scores == pytest.approx(-np.log10(1 - np.array([0.90, 0.91, 0.92, 0.93, 0.94])))
    (forecast,) = adam.scores
    assert min(sgd.scores) < forecast < max(sgd.scores)


def test_a_study_without_optimizers_is_one_group() -> None:
    trials = [trial(None, COMPLETE, 0.5, 0.6), trial(None, PRUNED, 0.5, number=1)]
    (one,) = competitors(trials, [None], True, 1.0)
    assert (one.name, one.spent) == (None, 1.5)


FEW = [0.0, 1.0, 2.0, 3.0]


def test_the_chance_is_one_while_too_few_draws_tell() -> None:
    assert chance([], 100.0, 30) == 1.0
    assert chance(FEW, 100.0, 30) == 1.0
    assert chance([*FEW, 4.0], 100.0, 30) < 1e-6


def test_nothing_is_to_be_expected_beyond_equal_heights() -> None:
    assert chance([1.0] * 10, 1.0, 30) == 1.0
    assert chance([1.0] * 10, 1.1, 30) == 0.0


HEIGHTS = st.lists(st.floats(-10, 10), min_size=5, max_size=40)


@given(HEIGHTS, st.integers(1, 100))
def test_the_leader_may_always_win(own: list[float], draws: int) -> None:
    assert chance(own, max(own), draws) == 1.0


@given(HEIGHTS, st.floats(0, 20), st.floats(0, 20), st.integers(1, 50), st.integers(0, 50))
def test_the_chance_falls_with_the_gap_and_grows_with_the_draws(
    own: list[float], gap: float, wider: float, draws: int, more: int
) -> None:
    near, far = max(own) + gap, max(own) + gap + wider
    assert 0 <= chance(own, far, draws) <= chance(own, near, draws) <= 1
    assert chance(own, near, draws) <= chance(own, near, draws + more)


def test_the_chance_is_that_of_exponential_heights_where_they_are() -> None:
    generator = np.random.default_rng(0)
    own = list(generator.exponential(size=30_000))
    for best in (max(own) + 0.1, max(own) + 2):
        assert chance(own, best, 1) == pytest.approx(np.exp(-best), rel=0.3)


def test_equal_keeps_all() -> None:
    assert equal(race({"sgd": [1.0] * 50, "adam": [-50.0] * 50})) == ["sgd", "adam"]
    assert set(ALLOCATIONS) == {"equal", "racing"}


@given(st.lists(st.lists(st.floats(-10, 10), max_size=12), min_size=1, max_size=4))
def test_racing_never_drops_the_leader(scores: list[list[float]]) -> None:
    values = dict(zip(NAMES, scores, strict=False))
    best = max((max(own) for own in scores if own), default=None)
    kept = racing(race(values))
    leaders = [name for name, own in values.items() if best in own]
    assert set(leaders) <= set(kept)
    assert kept


def test_racing_drops_the_hopeless_once_many_trials_tell() -> None:
    good, bad = [0.1 * place for place in range(30)], [0.1 * place - 20 for place in range(30)]
    assert racing(race({"sgd": good, "adam": bad})) == ["sgd"]
    assert racing(race({"sgd": good, "adam": bad[:4]})) == ["sgd", "adam"]
    assert racing(race({"sgd": good, "adam": []})) == ["sgd", "adam"]


@pytest.mark.parametrize("tail", ["normal", "gumbel"])
def test_racing_hardly_ever_drops_one_that_would_have_won(tail: str) -> None:
    """At most in `ERROR` of 300 repetitions, of four optimizers as good as each other, 30 draws and 30 more of each."""
    generator, errors = np.random.default_rng(0), 0
    for _ in range(300):
        scores = getattr(generator, tail)(size=(len(NAMES), 60))
        known = scores[:, :30]
        kept = racing(race(dict(zip(NAMES, known.tolist(), strict=True))))
        later = scores[[name not in kept for name in NAMES], 30:]
        errors += bool((later > known.max()).any())
    assert errors <= ERROR * 300


def test_racing_hardly_ever_drops_a_given_one_of_equals() -> None:
    """At most in 5 % of 300 repetitions, of four optimizers with normal heights and 30 draws each."""
    generator, dropped = np.random.default_rng(1), 0
    for _ in range(300):
        known = generator.normal(size=(len(NAMES), 30))
        dropped += "sgd" not in racing(race(dict(zip(NAMES, known.tolist(), strict=True))))
    assert dropped <= 0.05 * 300


def test_it_is_the_turn_of_who_was_given_the_least_and_of_equals_the_first() -> None:
    trials = [trial("sgd", COMPLETE, 0.1, 0.2), trial("adam", PRUNED, 0.1, number=1)]
    assert turn("equal", competitors(trials, ("sgd", "adam"), True, 1.0)) == "adam"
    assert turn("equal", competitors(trials, NAMES, True, 1.0)) == "rmsprop"
    assert turn("racing", competitors([], NAMES, True, 1.0)) == "sgd"


def test_it_is_never_the_turn_of_one_that_was_dropped() -> None:
    values = {"sgd": [0.1 * place for place in range(30)], "adam": [0.1 * place - 20 for place in range(20)]}
    assert turn("equal", race(values)) == "adam"
    assert turn("racing", race(values)) == "sgd"
