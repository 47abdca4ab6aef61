"""What the model of all trials says: scales, what optimizers share, and how much a candidate may improve."""

from collections import Counter
from itertools import pairwise
from math import exp, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats import norm

from optitune.sampling.model import MOST, Axis, Observed, Surrogate, log_expected_improvement, warped

LR = FloatDistribution(1e-3, 1e3, log=True)
AXES = {name: {"lr_factor": Axis(LR, 1.0)} for name in ("sgd", "adam")}


def seen(optimizer: str, lr: float, score: float, variance: float = 0.0) -> Observed:
    return Observed(optimizer, {"lr_factor": lr}, score, variance)


def expected(model: Surrogate, optimizer: str, *lrs: float) -> tuple[list[float], list[float]]:
    x = np.array([model.places(optimizer, {"lr_factor": lr}) for lr in lrs])
    mean, variance = model(optimizer, x)
    return mean.tolist(), variance.tolist()


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        (Axis(LR, 1.0), [1e-3, 0.02, 1.0, 1e3]),
        (Axis(FloatDistribution(0.1, 1.0), 0.1), [0.1, 0.4, 1.0]),
        (Axis(FloatDistribution(0.0, 1.0, step=0.25)), [0.0, 0.25, 1.0]),
        (Axis(IntDistribution(1, 5), 4), [1, 2, 5]),
        (Axis(CategoricalDistribution((False, True)), True), [False, True]),
    ],
)
def test_a_value_comes_back_from_its_coordinate(axis: Axis, values: list[Any]) -> None:
    for value in values:
        back = axis.value(axis.place(value))
        assert back == pytest.approx(value)
        assert type(back) is type(value)


@given(st.floats(-3, 3), st.lists(st.floats(0, 1), min_size=2, max_size=20), st.floats(0.5, 3))
def test_the_prior_lies_around_the_known_good_value_and_within_the_range(
    centre: float, uniform: list[float], widened: float
) -> None:
    axis = Axis(LR, 10**centre)
    places = axis.through(np.array(sorted(uniform)), widened)
    assert (np.diff(places) >= 0).all()
    assert all(LR.low <= axis.value(float(place)) <= LR.high * (1 + 1e-9) for place in places)
    assert axis.place(10**centre) == pytest.approx(0.0, abs=1e-9)
    assert (axis.log_density(places) <= 0).all()


def test_without_a_known_good_value_the_prior_is_the_whole_range_evenly() -> None:
    axis = Axis(FloatDistribution(1e-5, 1e-1, log=True))
    values = [axis.value(float(place)) for place in axis.through(np.array([0.0, 0.25, 0.5, 1.0]))]
    assert values == pytest.approx([1e-5, 1e-4, 1e-3, 1e-1])


@pytest.mark.parametrize(
    ("axis", "numbers"),
    [
        (Axis(IntDistribution(1, 5)), [1, 2, 3, 4, 5]),
        (Axis(IntDistribution(1, 5), 4), [1, 2, 3, 4, 5]),
        (Axis(IntDistribution(0, 6, step=3)), [0, 3, 6]),
        (Axis(FloatDistribution(0.0, 0.5, step=0.25)), [0.0, 0.25, 0.5]),
    ],
)
def test_all_numbers_are_drawn_equally_often(axis: Axis, numbers: list[float]) -> None:
    uniform = (np.arange(300) + 0.5) / 300
    assert Counter(map(axis.drawn, uniform.tolist())) == dict.fromkeys(numbers, 300 // len(numbers))
    assert Counter(map(axis.value, axis.through(uniform).tolist())) == dict.fromkeys(numbers, 300 // len(numbers))


def test_what_one_optimizer_shows_is_expected_of_another_one() -> None:
    trials = [seen("sgd", 10**at, -abs(at + 1.5)) for at in np.linspace(-3, 3, 13)]
    model = Surrogate(AXES, [*trials, seen("adam", 1.0, -1.0)])
    (good, bad), _ = expected(model, "adam", 10**-1.5, 10**1.5)
    assert good > bad + 0.5


def test_the_length_of_what_does_not_matter_is_longer() -> None:
    generator = np.random.default_rng(0)
    axes = {"sgd": {"lr_factor": Axis(LR, 1.0), "eps": Axis(FloatDistribution(1e-10, 1e-4, log=True), 1e-8)}}
    trials = [
        Observed("sgd", {"lr_factor": 10**at, "eps": float(10.0 ** generator.uniform(-10, -4))}, -abs(at - 0.4))
        for at in generator.uniform(-1.5, 1.5, 30)
    ]
    model = Surrogate(axes, trials)
    assert model.lengths["eps"] > 4 * model.lengths["lr_factor"]


def test_a_running_trial_leaves_less_to_learn_where_it_is() -> None:
    trials = [seen("sgd", 10**at, -abs(at)) for at in (-2.0, 0.0, 2.0)]
    (_, before), (_, after) = (
        expected(Surrogate(AXES, trials, pending), "sgd", 10.0) for pending in ([], [seen("sgd", 10.0, 0.0)])
    )
    assert after[0] < 0.5 * before[0]


def test_a_forecast_counts_less_than_a_score_that_was_reached() -> None:
    trials = [seen("sgd", 10**at, -1.0) for at in (-1.0, 0.0, 1.0)]
    sure, unsure = (
        expected(Surrogate(AXES, [*trials, seen("sgd", 100.0, 1.0, variance)]), "sgd", 100.0)[0][0]
        for variance in (0.0, 4.0)
    )
    assert sure > unsure


def test_of_very_many_trials_the_best_and_the_latest_are_fitted() -> None:
    trials = [seen("sgd", exp(at / 100), 5.0 if at == 3 else at % 7) for at in range(3 * MOST)]
    model = Surrogate(AXES, trials)
    assert len(model.x) == MOST
    assert model.best == model.best_of("sgd")
    assert model.best_of("adam") is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_scores_keep_their_order_and_lose_their_scale(scores: list[float]) -> None:
    found, _ = warped(np.array(scores))
    for one, other in pairwise(scores):
        assert np.sign(one - other) == np.sign(np.round(found[scores.index(one)] - found[scores.index(other)], 12))
    assert np.abs(found).max() < 4


@given(st.floats(-3, 3), st.floats(0.01, 3), st.floats(-3, 3))
def test_expected_improvement_is_that_of_a_normal_distribution(mean: float, spread: float, best: float) -> None:
    z = (mean - best) / spread
    wanted = spread * (norm.pdf(z) + z * norm.cdf(z))
    found = log_expected_improvement(np.array([mean]), np.array([spread**2]), best)[0]
    if z > -5:
        assert found == pytest.approx(log(wanted), abs=1e-5)


def test_expected_improvement_keeps_its_order_far_below_the_best() -> None:
    found = log_expected_improvement(np.array([-50.0, -30.0, -10.0]), np.ones(3), 0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
