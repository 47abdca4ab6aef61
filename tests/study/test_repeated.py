"""How runs of one configuration differ, and what one is expected to come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optitune.study.repeated import PRIOR_RUNS, PRIOR_SHARE, expected, noise

scores = st.floats(-1, 1)


def test_before_anything_is_repeated_runs_are_expected_to_differ_by_a_share_of_how_configurations_do() -> None:
    assert noise([[0.9], [0.8], [0.7]]) == pytest.approx(PRIOR_SHARE * (0.9 - 0.8))
    assert noise([[0.9]]) == noise([]) == 0.0


def test_what_was_repeated_says_more_the_more_often_it_was() -> None:
    expectation = PRIOR_SHARE * 0.1
    one = noise([[0.9, 0.92], [0.81], [0.7]])
    assert one**2 == pytest.approx((PRIOR_RUNS * expectation**2 + 0.0002) / (PRIOR_RUNS + 1))
    many = noise([[0.91 + sign * 0.01 for sign in (1, -1)] * 50, [0.81], [0.7]])
    assert many == pytest.approx(0.01, rel=0.02)


def test_a_lucky_run_is_behind_a_configuration_that_showed_nearly_as_much_in_three() -> None:
    assert expected([0.9005], 0.001) < expected([0.9, 0.901, 0.899], 0.001)
    assert expected([0.902], 0.001) > expected([0.9, 0.901, 0.899], 0.001)


@given(st.lists(scores, min_size=2), st.floats(0, 1))
def test_of_single_runs_the_highest_stays_first(values: list[float], spread: float) -> None:
    assert max(values, key=lambda value: expected([value], spread)) <= max(values)
    assert expected([max(values)], spread) == max(expected([value], spread) for value in values)
