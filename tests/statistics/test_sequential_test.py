"""A test and an interval that may be looked at after every round."""

from collections.abc import Callable
from math import exp, inf, log, pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from optitune.statistics.sequential_test import SCALE, critical, half_width, log_evidence

ROUNDS = 40


def integrated(t: float, n: int) -> float:
    """The same evidence by the noncentral t distribution, integrated over Cauchy's prior of the effect."""

    def density(effect: float) -> float:
        return float(stats.nct.pdf(t, n - 1, effect * sqrt(n)) * stats.cauchy.pdf(effect, scale=SCALE))

    parts = [integrate.quad(density, low, high, limit=200)[0] for low, high in ((-30, -2), (-2, 0), (0, 2), (2, 30))]
    return log(sum(parts) / stats.t.pdf(t, n - 1))


@pytest.mark.parametrize(("t", "n"), [(0.0, 4), (1.0, 3), (2.5, 5), (3.0, 10), (-4.0, 20), (6.0, 8)])
def test_the_evidence_is_the_ratio_of_the_densities_of_t(t: float, n: int) -> None:
    assert log_evidence(t, n) == pytest.approx(integrated(t, n), abs=0.005)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_without_an_effect_the_evidence_is_1_on_average(n: int) -> None:
    def weighted(t: float) -> float:
        return exp(log_evidence(t, n)) * float(stats.t.pdf(t, n - 1))

    # t = tan(x) brings its heavy tails within reach
    mean, _ = integrate.quad(lambda x: weighted(np.tan(x)) / np.cos(x) ** 2, -pi / 2, pi / 2, limit=500)
    assert mean == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 28])
@pytest.mark.parametrize("n", [3, 4, 10, 20, 200])
def test_the_critical_t_has_just_the_evidence_that_is_wanted(n: int, alpha: float) -> None:
    assert log_evidence(critical(n, alpha), n) == pytest.approx(log(1 / alpha), abs=1e-6)


@pytest.mark.parametrize(("n", "alpha"), [(0, 0.05), (1, 0.05), (2, 0.05), (2, 0.05 / 28)])
def test_of_too_few_rounds_nothing_is_known(n: int, alpha: float) -> None:
    assert critical(n, alpha) == inf
    if n:
        assert half_width(1.0, n, alpha) == inf


@given(st.integers(4, 300), st.floats(0.001, 0.3), st.floats(1.1, 10.0))
def test_surer_intervals_are_wider_and_further_rounds_make_them_narrower(n: int, alpha: float, factor: float) -> None:
    assert half_width(1.0, n, alpha / factor) > half_width(1.0, n, alpha)
    assert half_width(1.0, n + 1, alpha) < half_width(1.0, n, alpha)


@given(st.integers(2, 300), st.floats(0.0, 50.0), st.floats(0.01, 50.0))
def test_a_larger_t_of_either_sign_is_more_evidence(n: int, t: float, more: float) -> None:
    assert log_evidence(t + more, n) > log_evidence(t, n)
    assert log_evidence(-t, n) == log_evidence(t, n)


@given(st.integers(3, 100), st.floats(1e-9, 1e9))
def test_an_interval_is_in_the_unit_of_its_data(n: int, unit: float) -> None:
    assert half_width(unit, n, 0.05) == pytest.approx(unit * half_width(1.0, n, 0.05), rel=1e-12)


def ever_passed(limit: Callable[[int], float], draws: np.ndarray) -> float:
    """The share of rows whose |t| passes the limit of so many rounds after any of them."""
    n = np.arange(1, draws.shape[1] + 1)
    means = draws.cumsum(1) / n
    squares = (draws**2).cumsum(1) - n * means**2
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(means) * np.sqrt(n * (n - 1) / squares)
    limits = np.array([limit(int(number)) for number in n[1:]])
    return float((t[:, 1:] > limits).any(1).mean())


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_looking_after_every_round_is_wrong_as_rarely_as_was_said_and_a_t_test_is_not(alpha: float) -> None:
    draws = np.random.default_rng(1).standard_normal((20_000, ROUNDS))
    share = ever_passed(lambda n: critical(n, alpha), draws)
    # not so careful either that nothing would ever be told
    assert alpha / 10 < share < alpha
    assert ever_passed(lambda n: float(stats.t.isf(alpha / 2, n - 1)), draws) > 1.8 * alpha


def test_an_effect_is_seen_early_where_it_is_large_and_in_the_end_where_it_is_small() -> None:
    draws = np.random.default_rng(2).standard_normal((2_000, ROUNDS))
    assert ever_passed(lambda n: critical(n, 0.05), draws[:, :6] + 4) > 0.9
    assert ever_passed(lambda n: critical(n, 0.05), draws + 0.8) > 0.9
