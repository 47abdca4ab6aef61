"""Differences of pairs, from runs that nobody trained."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import made_up, noisy, runs

from optitune.statistics.differences import Difference, PairedRounds
from optitune.statistics.looks import Looks
from optitune.statistics.runs import Run, finalists_runs

EPSILON, ROUNDS = 0.001, 20


def pair(own: Sequence[Run], epsilon: float = EPSILON, one: str = "a", other: str = "b", sign: int = 1) -> Difference:
    """The difference of these two by their runs."""
    pairs = PairedRounds([finalists_runs(own, one), finalists_runs(own, other)], sign)
    looks = Looks(pairs, np.array([True, True]), epsilon, ROUNDS)
    return looks.difference((one, other), 0, float(pairs.sds()[0]))


def apart(by: Sequence[float], epsilon: float = EPSILON) -> Difference:
    """The difference of two optimizers that differ by so much in each round."""
    return pair(runs({"a": [0.9 + each for each in by], "b": [0.9] * len(by)}), epsilon)


NEARLY = (-0.0001, 0.0001, 0.00005, -0.00005, 0.0001, -0.0001)


@pytest.mark.parametrize(
    ("mean", "relation"), [(0.01, "better"), (-0.01, "worse"), (0.0, "equal"), (0.00015, "undecided")]
)
def test_a_pair_is_one_of_four_things(mean: float, relation: str) -> None:
    found = apart([mean + each for each in NEARLY], epsilon=0.0003)
    assert found.relation == relation
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert found.low <= found.mean <= found.high


def test_a_difference_that_does_not_matter_is_equal_even_where_it_is_sure() -> None:
    by = [0.0004 + each / 5 for each in NEARLY]
    found = apart(by)
    assert found.low > 0
    assert found.relation == "equal"
    assert apart(by, epsilon=0.0).relation == "better"


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_too_few_rounds_say_nothing(rounds: int) -> None:
    found = apart([0.5, 0.4][:rounds])
    assert (found.rounds, found.low, found.high, found.relation) == (rounds, -inf, inf, "undecided")


def test_an_interval_is_the_intersection_of_those_of_all_looks() -> None:
    by = [0.01 + each for each in NEARLY]
    # rounds that scatter would alone have made the interval wider again
    found, more = apart(by), apart([*by, 0.03, -0.01])
    assert more.sd > 5 * found.sd
    assert (more.low, more.high) == (found.low, found.high)


def test_of_intervals_that_exclude_each_other_the_later_one_holds() -> None:
    found = apart([each / 10 for each in NEARLY] + [0.5 + each for each in NEARLY] * 5)
    assert found.high > 0.3
    assert found.low <= found.mean <= found.high


def test_turning_a_difference_is_comparing_the_other_way_round() -> None:
    values = runs(noisy({"a": 0.91, "b": 0.9}, 6))
    found = pair(values)
    assert found.relation == "better"
    assert found.reversed() == pair(values, one="b", other="a")
    assert found.reversed().reversed() == found


@given(st.lists(st.floats(-1, 1), min_size=0, max_size=9), st.floats(0, 0.5))
def test_a_difference_and_its_turn_always_agree(by: list[float], epsilon: float) -> None:
    found = apart(by, epsilon)
    other_way = found.reversed()
    assert (other_way.low, other_way.mean, other_way.high) == (-found.high, -found.mean, -found.low)
    assert found.low <= found.high
    opposite = {"better": "worse", "worse": "better"}
    assert other_way.relation == opposite.get(found.relation, found.relation)


def on_examples(rounds: int, examples: int, wrong: Mapping[str, int]) -> list[Run]:
    """Runs that are wrong of so many of their examples, in every round."""
    found = []
    for number in range(rounds):
        for name, count in wrong.items():
            each = np.ones(examples, np.float32)
            each[:count] = 0
            found.append(made_up(number, name, float(each.mean()), each=each))
    return found


def test_rounds_that_agree_by_chance_are_not_taken_for_certainty() -> None:
    few = on_examples(4, 50, {"a": 0, "b": 1})
    found = pair(few)
    assert found.relation == "undecided"
    assert found.sd > 0.02
    # what a round's examples make by themselves is no reason to doubt what differs by far more
    plural = on_examples(4, 5_000, {"a": 0, "b": 1_000})
    assert pair(plural).relation == "better"


def test_answers_that_are_all_the_same_leave_what_the_number_of_examples_cannot_tell() -> None:
    alike = on_examples(8, 57, {"a": 2, "b": 2})
    found = pair(alike)
    assert found.mean == 0
    assert found.low < -EPSILON
    assert found.relation == "undecided"


def test_the_spread_of_rounds_counts_where_it_is_more_than_that_of_examples() -> None:
    scattered = [
        replace(run, value=run.value + 0.1 * run.key.round * (run.key.optimizer == "a"))
        for run in on_examples(4, 1_000, {"a": 0, "b": 1})
    ]
    found = pair(scattered)
    assert found.sd == pytest.approx(np.std([0, 0.1, 0.2, 0.3], ddof=1))


def test_the_unit_of_the_metric_does_not_matter() -> None:
    generator = np.random.default_rng(0)

    def measured(scale: float) -> list[Run]:
        found = []
        for number in range(8):
            for name, worse in (("a", 0.0), ("b", 0.1)):
                each = ((generator.random(200) + worse) * scale).astype(np.float32)
                found.append(made_up(number, name, float(each.mean()), each=each))
        return found

    def seen(scale: float) -> float:
        return pair(measured(scale), 0.001 * scale, sign=-1).sd / scale

    first = seen(1.0)
    assert first < 0.05
    generator = np.random.default_rng(0)
    assert seen(1e-4) == pytest.approx(first, rel=1e-3)


def test_coarse_values_that_agree_by_chance_are_not_taken_for_certainty() -> None:
    by_one = pair(runs({"a": [0.98] * 4, "b": [0.96] * 4}))
    assert (by_one.sd, by_one.relation) == (pytest.approx(0.02), "undecided")
    alike = pair(runs({"a": [0.98] * 9, "b": [0.98] * 9}))
    assert (alike.sd, alike.relation) == (np.inf, "undecided")
    values = {"a": [0.98, 0.96, 0.98, 0.94], "b": [0.96, 0.96, 0.94, 0.94]}
    assert pair(runs(values)).sd == pytest.approx(0.02)
