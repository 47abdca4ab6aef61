"""Heights, on which values are compared, and what a trial's curve is expected to come to."""

from itertools import pairwise
from math import inf, isfinite, log10, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optitune.sampling.forecast import Expected, Forecast, Score, lr_ahead

COMPLETE, PRUNED, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING
CHOICE = CategoricalDistribution(("sgd", "adam", "rmsprop"))
Curve = dict[int, float]


def trial(
    number: int,
    curve: Curve,
    state: TrialState = COMPLETE,
    optimizer: str = "sgd",
    ahead: dict[str, float] | None = None,
) -> FrozenTrial:
    made = create_trial(
        params={"optimizer": optimizer},
        distributions={"optimizer": CHOICE},
        intermediate_values=curve,
        value=curve[max(curve)] if state == COMPLETE else None,
        user_attrs={} if ahead is None else {"lr_ahead": ahead},
        state=state,
    )
    made.number = number
    return made


VALUES = st.lists(st.integers(-400, 400).map(lambda number: number / 4), max_size=10)


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("with_ideal", [True, False])
@given(finals=VALUES, values=st.lists(st.floats(-100, 100), min_size=2, max_size=6))
def test_a_better_value_is_never_less_high(
    maximize: bool, with_ideal: bool, finals: list[float], values: list[float]
) -> None:
    ideal = (100.0 if maximize else -100.0) if with_ideal else None
    score = Score(finals, maximize, ideal)
    ranked = [score(value) for value in sorted(values, reverse=not maximize)]
    assert all(isfinite(each) for each in ranked)
    assert all(one <= other for one, other in pairwise(ranked))


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("with_ideal", [True, False])
@given(finals=VALUES.filter(bool))
def test_what_is_no_number_is_lower_than_all_that_was_reached(
    maximize: bool, with_ideal: bool, finals: list[float]
) -> None:
    score = Score([*finals, inf, nan], maximize, (100.0 if maximize else -100.0) if with_ideal else None)
    assert all(score(value) < min(map(score, finals)) for value in (nan, inf, -inf))


def test_heights_with_an_ideal_are_powers_of_ten_of_what_is_missing() -> None:
    accuracy, loss = Score([0.9, 0.999], True, 1.0), Score([0.1, 0.0001], False, 0.0)
    assert [accuracy(value) for value in (0.0, 0.9, 0.99)] == pytest.approx([0, 1, 2])
    assert [loss(value) for value in (1.0, 0.1, 0.001)] == pytest.approx([0, 1, 3])


def test_a_reached_ideal_counts_as_half_as_far_as_the_nearest() -> None:
    assert Score([0.9, 0.98, 1.0], True, 1.0)(1.0) == pytest.approx(-log10(0.01))
    assert isfinite(Score([1.0, 1.0], True, 1.0)(1.0))
    assert isfinite(Score([], False, 0.0)(0.0))


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("scale", [0.001, 1.0, 1000.0])
def test_heights_without_an_ideal_do_not_depend_on_the_unit(maximize: bool, scale: float) -> None:
    values = [0.3, 0.5, 0.6, 0.8]
    plain, scaled = Score(values, maximize, None), Score([scale * value for value in values], maximize, None)
    assert [scaled(scale * value) for value in values] == pytest.approx([plain(value) for value in values])
    assert (plain(0.8) > plain(0.3)) == maximize


@pytest.mark.parametrize("value", [0.5, 0.1, 0.7, 123.456])
@pytest.mark.parametrize("number", [1, 3, 6, 7])
def test_heights_of_equal_values_are_on_the_scale_of_the_values(value: float, number: int) -> None:
    score = Score([value] * number, True, None)
    assert score(value + 0.01) - score(value) == pytest.approx(0.01)


def test_what_is_ahead_of_a_learning_rate_is_said_up_to_a_step() -> None:
    schedule = trial(0, {}, RUNNING, ahead={"100": -1.0, "30": -2.0, "7": -2.5})
    found = {step: lr_ahead(schedule, step) for step in (1, 7, 8, 30, 31, 100, 101)}
    assert found == {1: -2.5, 7: -2.5, 8: -2.0, 30: -2.0, 31: -1.0, 100: -1.0, 101: 0.0}
    assert lr_ahead(trial(0, {}, RUNNING), 1) == 0.0


CURVES: list[Curve] = [{10: 0.6 + place / 20, 20: 0.8 + place / 50} for place in range(6)]


def forecast_of(*more: FrozenTrial) -> Forecast:
    return Forecast([*(trial(number, curve) for number, curve in enumerate(CURVES)), *more], True, 1.0)


def test_a_complete_trial_came_to_what_it_came_to() -> None:
    forecast = forecast_of()
    for number, curve in enumerate(CURVES):
        score, variance = forecast(trial(number, curve)) or Expected(nan, nan)
        assert (score, variance) == (pytest.approx(-log10(1 - curve[20])), 0.0)
        assert forecast.finals[number] == score


def test_a_pruned_trial_is_forecast_between_those_it_stood_between() -> None:
    below, above = CURVES[2], CURVES[3]
    pruned = trial(9, {10: (below[10] + above[10]) / 2}, PRUNED)
    forecast = forecast_of(pruned)
    expected = forecast(pruned)
    assert expected is not None
    assert forecast.finals[2] < expected.score < forecast.finals[3]
    assert 9 not in forecast.finals


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_better_at_the_same_step_is_forecast_to_come_to_more(one: float, other: float) -> None:
    worse, better = sorted((one, other))
    found = [forecast_of()(trial(9, {10: value}, PRUNED)) for value in (worse, better)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].score <= found[1].score
    assert min(found[0].variance, found[1].variance) > 0


def test_a_trial_is_less_sure_the_further_it_is_from_what_is_known() -> None:
    forecast = forecast_of()
    near, far = (forecast(trial(9, {10: value}, PRUNED)) for value in (0.75, 0.05))
    assert near is not None
    assert far is not None
    assert near.variance < far.variance


def test_an_optimizer_that_no_complete_trial_has_is_less_sure() -> None:
    forecast = forecast_of()
    own, stranger = (forecast(trial(9, {10: 0.7}, PRUNED, name)) for name in ("sgd", "rmsprop"))
    assert own is not None
    assert stranger is not None
    assert own.variance < stranger.variance


def test_optimizers_have_levels_of_their_own() -> None:
    later = [
        trial(20 + number, {10: curve[10], 20: curve[20] + 0.08}, optimizer="adam")
        for number, curve in enumerate(CURVES)
    ]
    forecast = forecast_of(*later)
    sgd, adam = (forecast(trial(99, {10: 0.7}, PRUNED, name)) for name in ("sgd", "adam"))
    assert sgd is not None
    assert adam is not None
    assert sgd.score < adam.score


def test_a_learning_rate_that_is_still_to_fall_adds_what_it_added_to_others() -> None:
    ahead = {"15": -1.0}
    late = [
        trial(20 + number, {10: curve[10] - 0.1, 20: curve[20]}, ahead=ahead) for number, curve in enumerate(CURVES)
    ]
    forecast = forecast_of(*late)
    fallen, falling = forecast(trial(98, {10: 0.7}, PRUNED)), forecast(trial(99, {10: 0.7}, PRUNED, ahead=ahead))
    assert fallen is not None
    assert falling is not None
    assert fallen.score < falling.score


def test_nothing_is_forecast_without_enough_to_tell() -> None:
    pruned = trial(9, {10: 0.7}, PRUNED)
    assert Forecast([trial(0, CURVES[0]), trial(1, CURVES[1]), pruned], True, 1.0)(pruned) is None
    assert forecast_of()(trial(9, {15: 0.7}, PRUNED)) is None
    assert forecast_of()(trial(9, {}, PRUNED)) is None
    assert Forecast([], True)(pruned) is None


def test_the_best_is_that_of_the_optimizer() -> None:
    forecast = forecast_of(trial(9, {10: 0.9, 20: 0.97}, optimizer="adam"), trial(10, {10: 0.99}, PRUNED, "adam"))
    assert forecast.best_of("sgd") == pytest.approx(-log10(0.1))
    assert forecast.best_of("adam") == pytest.approx(-log10(0.03))
    assert forecast.best_of("rmsprop") is None


def test_the_best_of_a_repeated_configuration_is_the_mean_of_its_runs() -> None:
    first, lucky = trial(9, {10: 0.9, 20: 0.9}, optimizer="adam"), trial(10, {10: 0.9, 20: 0.999}, optimizer="adam")
    lucky.set_user_attr("repeats", 9)
    lucky.set_user_attr("run", 1)
    assert forecast_of(first, lucky).best_of("adam") == pytest.approx((-log10(0.1) - log10(0.001)) / 2)


def test_where_less_is_better_lower_curves_come_to_more() -> None:
    curves: list[Curve] = [{10: 0.5 - place / 20, 20: 0.2 - place / 50} for place in range(6)]
    for ideal in (0.0, None):
        forecast = Forecast([trial(number, curve) for number, curve in enumerate(curves)], False, ideal)
        good, bad = (forecast(trial(9, {10: value}, PRUNED)) for value in (0.3, 0.45))
        assert good is not None
        assert bad is not None
        assert good.score > bad.score
