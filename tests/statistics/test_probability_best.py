"""Probabilities of being best, and bounds of values."""

from math import nan

import numpy as np
import pytest
from numpy.typing import NDArray

from optitune.common.summary import summarise
from optitune.statistics import probability_best
from optitune.statistics.probability_best import estimates
from scripts.bench.verdict.probabilities import Normal, chances

EPSILON = 0.1


def made(k: int = 4, rounds: int = 6, seed: int = 0, by: float = 0.1) -> NDArray[np.float64]:
    """Optimizers that differ by so much each, the first one best."""
    generator = np.random.default_rng(seed)
    values = 0.1 * generator.standard_normal((k, rounds)) + 0.2 * generator.standard_normal(rounds)
    exact: NDArray[np.float64] = values - by * np.arange(k)[:, None]
    return exact


def best(values: NDArray[np.float64], scale: float = EPSILON, paired: bool = True) -> list[float]:
    return [each.best for each in estimates(values, scale, paired)]


@pytest.mark.parametrize("paired", [True, False])
def test_probabilities_sum_to_one_and_intervals_hold_their_means(paired: bool) -> None:
    found = estimates(made(), EPSILON, paired)
    assert sum(each.best for each in found) == pytest.approx(1)
    for each in found:
        assert each.low is not None
        assert each.high is not None
        assert each.low < each.mean < each.high


def test_the_same_runs_give_the_same_numbers_in_whichever_order_the_optimizers_stand() -> None:
    values, order = made(5), [3, 0, 4, 1, 2]
    values[2, 4:] = nan
    found = estimates(values, EPSILON)
    assert estimates(values, EPSILON) == found
    assert estimates(values[order], EPSILON) == [found[each] for each in order]


@pytest.mark.parametrize("unit", [1e-6, 1e4])
def test_units_do_not_matter(unit: float) -> None:
    values = made()
    found, scaled = estimates(values, EPSILON), estimates(unit * values, unit * EPSILON)
    assert [each.best for each in scaled] == pytest.approx([each.best for each in found], abs=0.02)
    assert [each.mean / unit for each in scaled] == pytest.approx([each.mean for each in found], abs=0.005)


def test_what_is_added_to_all_values_or_to_all_of_a_round_does_not_matter() -> None:
    values = made()
    assert best(values + 100) == pytest.approx(best(values), abs=0.02)
    assert best(values + np.arange(6) / 5) == pytest.approx(best(values), abs=0.05)


def test_the_same_values_are_as_probable() -> None:
    values = made(3)
    values[1] = values[0]
    one, same, other = best(values)
    assert one == pytest.approx(same, abs=0.03)
    assert other < one


def test_the_better_one_is_the_more_probable() -> None:
    values = made(3, by=0.0)
    told = []
    for more in (-0.3, -0.1, 0.0, 0.1, 0.3):
        raised = values.copy()
        raised[0] += more
        told.append(best(raised)[0])
    assert told == sorted(told)
    assert told[0] < 0.1
    assert told[-1] > 0.9


def test_more_rounds_make_surer_and_intervals_narrower() -> None:
    few, many = (estimates(made(3, rounds, by=0.2), EPSILON) for rounds in (3, 40))
    assert many[0].best > 0.99 > few[0].best
    for short, long in zip(few, many, strict=True):
        assert short.low is not None
        assert short.high is not None
        assert long.low is not None
        assert long.high is not None
        assert long.high - long.low < short.high - short.low


def test_an_optimizer_that_left_early_is_not_judged_by_the_rounds_it_met() -> None:
    values = made(3, 12, by=0.0) + np.repeat([0.0, 2.0], 6)
    values[2, 6:] = nan
    found = estimates(values, EPSILON)
    assert found[2].mean == pytest.approx(found[0].mean, abs=0.15)
    assert found[2].best > 0.05


def test_where_rounds_are_not_shared_they_explain_nothing() -> None:
    generator = np.random.default_rng(0)
    hard = generator.standard_normal(8)
    values = np.array([hard + 0.1, hard]) + 0.01 * generator.standard_normal((2, 8))
    assert best(values, paired=True)[0] > 0.95
    assert best(values, paired=False)[0] < 0.75


def test_one_run_each_says_nothing() -> None:
    found = estimates(np.array([[0.9], [0.1], [0.5]]), EPSILON)
    assert [each.best for each in found] == pytest.approx([1 / 3] * 3)
    assert [(each.mean, each.low, each.high) for each in found] == [
        (0.9, None, None),
        (0.1, None, None),
        (0.5, None, None),
    ]


def test_nor_do_runs_that_are_all_the_same() -> None:
    assert best(np.full((4, 5), 0.3)) == [0.25] * 4


def test_a_single_run_beside_several_is_compared_by_what_they_say_of_noise() -> None:
    values = made(3)
    values[0, 1:] = nan
    found = estimates(values, EPSILON)
    alone, other = found[0], found[1]
    assert 0 < alone.best < 1
    assert alone.low is not None
    assert alone.high is not None
    assert other.low is not None
    assert other.high is not None
    assert alone.high - alone.low > other.high - other.low


def test_of_a_single_optimizer_there_are_students_bounds_within_the_limits() -> None:
    values = [0.99, 0.995, 0.98]
    (found,) = estimates(np.array([values]), 0.001, limits=(0.0, 1.0))
    student = summarise(values, 0.0, 1.0)
    assert (found.mean, found.low, found.high, found.best) == (student.mean, student.low, student.high, 1.0)


def test_bounds_stay_within_the_limits() -> None:
    found = estimates(np.clip(made(by=0.0), None, 0), EPSILON, limits=(-0.01, 0.0))
    assert all(each.low is not None and each.high is not None for each in found)
    assert all(-0.01 <= (each.low or 0) <= each.mean <= (each.high or 0) <= 0 for each in found)


def test_rounds_that_agree_on_a_step_as_large_as_a_difference_do_not_make_it_sure() -> None:
    """57 images: three rounds in which one more was right are no certainty."""
    assert best(np.array([[55.0] * 3, [54.0] * 3]) / 57, 0.001)[0] < 0.97


def test_a_metric_without_an_epsilon_is_measured_by_its_noise() -> None:
    assert best(made(), scale=0.0)[0] == pytest.approx(best(made())[0], abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_a_noisy_hopeless_one_beside_them_changes_nothing_of_the_rest(seed: int) -> None:
    values = made(3, seed=seed)
    hopeless = -5 + np.random.default_rng(seed).standard_normal((1, 6))
    alone, beside = best(values), best(np.concatenate([values, hopeless]))
    assert beside[:3] == pytest.approx(alone, abs=0.05)
    assert beside[3] < 0.02


def test_fewer_draws_say_about_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = best(made())
    monkeypatch.setattr(probability_best, "DRAWS", 1_500)
    monkeypatch.setattr(probability_best, "SPREADS", 60)
    assert best(made()) == pytest.approx(usual, abs=0.06)


@pytest.mark.wide
def test_of_those_that_are_said_to_be_sure_after_three_rounds_nearly_all_are_right() -> None:
    found = chances(Normal(3, 3, 0.3), 300, 0)
    assert found["said >= 99.5 %"] > 10
    assert found["of these so, %"] >= 98.5
