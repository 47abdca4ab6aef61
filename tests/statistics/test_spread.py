"""How wide an interval is, by what is known of a spread."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optitune.statistics.sequential_test import LEAST_TAIL
from optitune.statistics.spread import FAR, PRIOR_ROUNDS, degrees, half_widths, moderate

UNKNOWN = np.array([np.nan])


def width(
    variance: float, rounds: int = 6, floor: float = np.nan, typical: float = 0.0, tail: float = 0.005, among: int = 2
) -> float:
    return float(half_widths(tail, np.array([variance]), rounds, np.array([floor]), typical, among)[0])


def test_alone_it_is_students_interval() -> None:
    assert width(2.0) == pytest.approx(stats.t.isf(0.005, 5) * np.sqrt(2.0 / 6))


def test_others_count_for_some_rounds() -> None:
    pooled = (PRIOR_ROUNDS * 1.0 + 5 * 2.0) / (PRIOR_ROUNDS + 5)
    assert width(2.0, typical=1.0, among=9) == pytest.approx(stats.t.isf(0.005, PRIOR_ROUNDS + 5) * np.sqrt(pooled / 6))


def test_where_seeds_add_far_more_than_examples_those_say_nothing() -> None:
    assert width(2.0, floor=2.0 / (0.9 * FAR)) == pytest.approx(width(2.0), rel=0.05)
    assert width(2.0, floor=2.0 / (1.1 * FAR)) == width(2.0)


def test_a_known_floor_narrows_what_few_rounds_leave_open_and_holds_where_they_agree_by_chance() -> None:
    assert width(1.3, floor=1.0) < 0.92 * width(1.3)
    assert width(1.3, rounds=3, floor=1.0) < 0.9 * width(1.3, rounds=3)
    normal = stats.norm.isf(0.005) * np.sqrt(1.0 / 6)
    assert width(1e-6, floor=1.0) > normal


@given(st.floats(0.01, 50), st.integers(3, 40), st.floats(1e-6, 0.1), st.floats(0.1, 10))
def test_widths_are_in_the_unit_of_the_values(variance: float, rounds: int, tail: float, unit: float) -> None:
    one = width(variance, rounds, 1.0, 2.0, tail, 4)
    assert width(variance * unit**2, rounds, unit**2, 2.0 * unit**2, tail, 4) == pytest.approx(unit * one, rel=1e-6)


@given(st.floats(0.1, 20), st.integers(3, 40), st.floats(1e-5, 0.04))
def test_more_rounds_larger_tails_and_smaller_spreads_make_it_narrower(
    variance: float, rounds: int, tail: float
) -> None:
    now = width(variance, rounds, 1.0, 0.0, tail)
    assert width(variance, rounds + 1, 1.0, 0.0, tail) < now
    assert width(variance, rounds, 1.0, 0.0, 1.2 * tail) < now
    assert width(1.2 * variance, rounds, 1.0, 0.0, tail) > now


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("rounds", [3, 6, 12])
def test_an_interval_misses_about_as_rarely_as_it_says_whatever_seeds_add(ratio: float, rounds: int) -> None:
    generator = np.random.default_rng(0)
    values = np.sqrt(1 + ratio**2) * generator.standard_normal((20_000, rounds))
    half = half_widths(0.02, values.var(1, ddof=1), rounds, np.ones(20_000))
    missed = float((np.abs(values.mean(1)) > half).mean())
    assert missed < 0.048


def test_of_the_smallest_tails_nothing_is_decided() -> None:
    assert np.isinf(half_widths(LEAST_TAIL / 2, np.array([1.0]), 5, UNKNOWN)).all()


@given(st.integers(3, 40), st.integers(3, 12))
def test_several_know_more_of_a_spread_than_two_and_no_more_than_there_is(rounds: int, among: int) -> None:
    assert rounds - 1 < degrees(rounds, among) <= rounds - 1 + PRIOR_ROUNDS
    assert degrees(rounds, among) <= degrees(rounds, among + 1)
    # all differences together have no more than this
    assert degrees(rounds, among) <= (rounds - 1) * (among - 1)


@pytest.mark.parametrize(("rounds", "among"), [(3, 3), (6, 3), (4, 4), (3, 8)])
def test_a_moderated_variance_scatters_as_its_degrees_of_freedom_say(rounds: int, among: int) -> None:
    values = np.random.default_rng(0).standard_normal((20_000, among, rounds))
    pairs = [(i, j) for i in range(among) for j in range(i)]
    variances = np.stack([(values[:, i] - values[:, j]).var(-1, ddof=1) for i, j in pairs])
    moderated = (
        moderate(variances[0], rounds, 1.0) - moderate(0.0, rounds, 1.0) + moderate(0.0, rounds, variances.mean(0))
    )
    found = 2 * moderated.mean() ** 2 / moderated.var()
    assert degrees(rounds, among) <= 1.05 * found
    if among == 3:
        assert degrees(rounds, among) == pytest.approx(found, rel=0.05)
