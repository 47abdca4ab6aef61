"""Boundaries that may be looked at after every round."""

from collections.abc import Callable
from math import exp, inf, pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, special, stats

from optitune.statistics.sequential_test import (
    FIRST_LOOK,
    MOST_PLANNED,
    POWERS,
    constant,
    falling,
    first_look,
    log_evidence,
    open_ended,
    student,
)
from scripts.bench.verdict.boundaries import table

LEVELS = st.floats(0.001, 0.05)


def ever_passed(tail: Callable[[int], float], draws: NDArray[np.float64], signed: bool = False) -> float:
    """The share of rows whose t passes the boundary at any look."""
    n = np.arange(1, draws.shape[1] + 1)
    means = draws.cumsum(1) / n
    squares = (draws**2).cumsum(1) - n * means**2
    with np.errstate(divide="ignore", invalid="ignore"):
        t = means * np.sqrt(n * (n - 1) / squares)
    t = t if signed else np.abs(t)
    first = first_look(draws.shape[1])
    limits = np.array([float(student(tail(int(number)), number - 1)) for number in n[first - 1 :]])
    return float((t[:, first - 1 :] > limits).any(1).mean())


@pytest.mark.parametrize("rounds", [3, 5, 12, 17, 60])
@pytest.mark.parametrize("level", [0.025, 0.05 / 8])
def test_looking_after_every_round_is_wrong_as_rarely_as_was_said(rounds: int, level: float) -> None:
    draws = np.random.default_rng(rounds).standard_normal((40_000, rounds))
    error = 4 * sqrt(2 * level / 40_000) + 0.03 * level
    assert ever_passed(lambda n: constant(rounds, level), draws) == pytest.approx(2 * level, abs=error)
    for claim in POWERS:
        share = ever_passed(lambda n, claim=claim: falling(n, rounds, level, claim), draws, signed=True)
        assert share == pytest.approx(level, abs=error)


def test_a_t_test_at_every_look_is_wrong_far_more_often() -> None:
    draws = np.random.default_rng(1).standard_normal((20_000, 20))
    assert ever_passed(lambda n: 0.025, draws) > 3 * 0.05
    assert ever_passed(lambda n: open_ended(n, n - 1, 0.025), draws) < 0.05


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_a_single_look_is_a_t_test(rounds: int) -> None:
    assert constant(rounds, 0.025) == pytest.approx(0.025)
    assert first_look(rounds) == min(rounds, FIRST_LOOK)


@given(st.integers(4, MOST_PLANNED), LEVELS, st.floats(1.2, 10))
def test_more_looks_and_smaller_errors_ask_for_more(rounds: int, level: float, factor: float) -> None:
    assert constant(rounds, level / factor) < constant(rounds, level) < level
    if rounds < MOST_PLANNED:
        assert constant(rounds + 1, level) <= constant(rounds, level) * 1.005
    for claim in POWERS:
        assert falling(rounds, rounds, level / factor, claim) < falling(rounds, rounds, level, claim) <= level * 1.1
        assert falling(rounds - 1, rounds, level, claim) < falling(rounds, rounds, level, claim)


@given(st.integers(3, 300), st.floats(3, 300), LEVELS)
def test_an_open_end_asks_for_more_evidence_the_longer_it_goes_on(n: int, df: float, level: float) -> None:
    assert 0 <= open_ended(n, df, level) < level
    assert open_ended(n + 1, df, level / 2) <= open_ended(n, df, level) * 1.5


def test_the_constants_are_those_that_the_script_makes() -> None:
    made = table(20_000, 0, rounds=(12,))
    for place, level in enumerate(made["levels"][:6]):
        assert float(-special.ndtri(constant(12, level))) == pytest.approx(made["constant"][0][place], abs=0.06)
        for claim in POWERS:
            found = float(-special.ndtri(falling(12, 12, level, claim)))
            assert found == pytest.approx(made[claim][0][place], abs=0.06)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_without_an_effect_the_evidence_is_1_on_average(n: int) -> None:
    def weighted(t: float) -> float:
        return exp(log_evidence(t, n)) * float(stats.t.pdf(t, n - 1))

    # t = tan(x) brings its heavy tails within reach
    mean, _ = integrate.quad(lambda x: weighted(np.tan(x)) / np.cos(x) ** 2, -pi / 2, pi / 2, limit=500)
    assert mean == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize(("t", "n"), [(0.0, 4), (1.0, 3), (2.5, 5), (3.0, 10), (-4.0, 20), (6.0, 8)])
def test_the_evidence_is_the_ratio_of_the_densities_of_t(t: float, n: int) -> None:
    def density(effect: float) -> float:
        return float(stats.nct.pdf(t, n - 1, effect * sqrt(n)) * stats.norm.pdf(effect))

    whole = sum(integrate.quad(density, low, low + 2, limit=200)[0] for low in range(-8, 8, 2))
    assert log_evidence(t, n) == pytest.approx(np.log(whole / stats.t.pdf(t, n - 1)), abs=0.005)


@pytest.mark.parametrize("level", [0.025, 0.05 / 28])
@pytest.mark.parametrize("n", [4, 10, 20, 200])
def test_the_open_boundary_has_just_the_evidence_that_is_wanted(n: int, level: float) -> None:
    tail = open_ended(n, n - 1, level)
    if tail:
        assert exp(-log_evidence(float(student(tail, n - 1)), n)) == pytest.approx(2 * level)
    else:
        assert exp(-log_evidence(1e12, n)) > 2 * level


def test_of_too_few_rounds_nothing_is_known() -> None:
    assert open_ended(2, 1, 0.025) == 0
    assert student(open_ended(2, 1, 0.025), 1) == inf
