"""The list of settings to try first, learned by greedy cover."""

import numpy as np
import pytest

from scripts.bench.quality.learned_list import after, after_random, cover, left_out, line

REGRETS = np.array([[0.5, 0.0, 0.9, 0.4], [0.5, 0.9, 0.0, 0.4], [0.5, 0.8, 0.8, 0.4]])
"""Of three tasks and four candidates: the last is best on average, the second and third each on one."""


def test_a_cover_takes_what_lowers_the_mean_most_and_ends_where_nothing_does() -> None:
    assert cover(REGRETS, 2) == [3, 1]
    assert cover(REGRETS, 16) == [3, 1, 2]


def test_a_list_comes_to_the_best_of_its_first_tries() -> None:
    assert after(REGRETS[1], [3, 1, 2]) == [0.4, 0.4, 0.0, 0.0, 0.0]
    assert after(REGRETS[1], []) == [1.0] * 5


def test_random_tries_come_to_the_least_of_so_many_draws() -> None:
    values = np.array([0.7, 0.1, 0.4])
    draws = np.random.default_rng(0).choice(values, (20_000, 8))
    expected = [draws[:, :tries].min(axis=1).mean() for tries in (1, 2, 4, 8)]
    assert after_random(values)[:4] == pytest.approx(expected, abs=0.01)


def test_a_task_has_no_part_in_the_list_that_is_judged_on_it() -> None:
    # the third candidate is good on the second task alone, and so stands in no list that is judged there
    assert left_out(REGRETS, 16)[1].tolist() == [0.9, 0.4, 0.4, 0.4, 0.4]
    assert left_out(REGRETS, 16).shape == (3, 5)


def test_a_line_has_means_and_standard_errors() -> None:
    assert line("x", np.array([[0.1], [0.3]])) == "| x | 0.200 ± 0.100 |"
