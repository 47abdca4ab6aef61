"""What is said of optimizers, from runs that nobody trained."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import DIVERGED, made_up, noisy, runs

from optitune.statistics.differences import difference
from optitune.statistics.runs import HALF, Run, paired
from optitune.statistics.sequential_test import half_width
from optitune.statistics.verdict import ERROR, Verdict, judge

EPSILON = 0.001

Values = Mapping[str, Sequence[float | str | None]]


def judged(values: Values, epsilon: float = EPSILON, sign: int = 1, **other: Any) -> Verdict:
    found = judge(runs(values), tuple(values), sign, epsilon, **other)
    assert found is not None
    return found


def apart(by: Sequence[float], epsilon: float = EPSILON) -> Any:
    """The difference of two optimizers that differ by so much in each round."""
    values = {"a": [0.9 + each for each in by], "b": [0.9] * len(by)}
    return difference(paired(runs(values), "a", "b"), "a", "b", 1, epsilon, ERROR)


NEARLY = (-0.0001, 0.0001, 0.00005, -0.00005, 0.0001, -0.0001)

# pairs


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
    spread = float(np.std(by, ddof=1))
    assert found.high <= np.mean(by) + half_width(spread, len(by), ERROR) + 1e-12


def test_of_intervals_that_exclude_each_other_the_later_one_holds() -> None:
    found = apart([each / 10 for each in NEARLY] + [0.5 + each for each in NEARLY] * 5)
    assert found.high > 0.3
    assert found.low <= found.mean <= found.high


def test_turning_a_difference_is_comparing_the_other_way_round() -> None:
    values = runs(noisy({"a": 0.91, "b": 0.9}, 6))
    one, other = paired(values, "a", "b"), paired(values, "b", "a")
    found = difference(one, "a", "b", 1, EPSILON, ERROR)
    assert found.relation == "better"
    assert found.reversed() == difference(other, "b", "a", 1, EPSILON, ERROR)
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
    found = difference(paired(few, "a", "b"), "a", "b", 1, EPSILON, ERROR)
    assert found.relation == "undecided"
    assert found.sd > 0.02
    # what a round's examples make by themselves is no reason to doubt what differs by far more
    plural = on_examples(4, 5_000, {"a": 0, "b": 1_000})
    assert difference(paired(plural, "a", "b"), "a", "b", 1, EPSILON, ERROR).relation == "better"


def test_answers_that_are_all_the_same_leave_what_the_number_of_examples_cannot_tell() -> None:
    alike = on_examples(8, 57, {"a": 2, "b": 2})
    found = difference(paired(alike, "a", "b"), "a", "b", 1, EPSILON, ERROR)
    assert found.mean == 0
    assert found.low < -EPSILON
    assert found.relation == "undecided"


def test_the_spread_of_rounds_counts_where_it_is_more_than_that_of_examples() -> None:
    scattered = [
        replace(run, value=run.value + 0.1 * run.key.round * (run.key.optimizer == "a"))
        for run in on_examples(4, 1_000, {"a": 0, "b": 1})
    ]
    found = difference(paired(scattered, "a", "b"), "a", "b", 1, EPSILON, ERROR)
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
        pairs = paired(measured(scale), "a", "b")
        return difference(pairs, "a", "b", -1, 0.001 * scale, ERROR).sd / scale

    first = seen(1.0)
    assert first < 0.05
    generator = np.random.default_rng(0)
    assert seen(1e-4) == pytest.approx(first, rel=1e-3)


def test_coarse_values_that_agree_by_chance_are_not_taken_for_certainty() -> None:
    by_one = difference(paired(runs({"a": [0.98] * 4, "b": [0.96] * 4}), "a", "b"), "a", "b", 1, EPSILON, ERROR)
    assert (by_one.sd, by_one.relation) == (pytest.approx(0.02), "undecided")
    alike = difference(paired(runs({"a": [0.98] * 9, "b": [0.98] * 9}), "a", "b"), "a", "b", 1, EPSILON, ERROR)
    assert (alike.sd, alike.relation) == (np.inf, "undecided")
    values = {"a": [0.98, 0.96, 0.98, 0.94], "b": [0.96, 0.96, 0.94, 0.94]}
    assert difference(paired(runs(values), "a", "b"), "a", "b", 1, EPSILON, ERROR).sd == pytest.approx(0.02)


# verdicts


def test_one_that_has_not_run_yet_is_neither_out_nor_beaten() -> None:
    found = judged({"a": [0.9], "b": []})
    assert (found.status, found.leader, found.wanted) == ("undecided", "a", ("a", "b"))
    assert not found.place("b").out
    assert judge(runs({"a": [DIVERGED], "b": []}), ["a", "b"], 1, EPSILON) is None


def test_the_best_is_clear_where_all_others_are_worse() -> None:
    found = judged(noisy({"a": 0.90, "b": 0.95, "c": 0.92}, 10))
    assert (found.status, found.leader) == ("clear", "b")
    assert [place.optimizer for place in found.places] == ["b", "c", "a"]
    assert [place.out for place in found.places] == [False, True, True]
    assert [place.best for place in found.places] == [1.0, 0.0, 0.0]
    assert (found.wanted, found.contenders, found.more_runs, found.runs) == ((), ("b",), 0, 30)
    assert {(pair.one, pair.other) for pair in found.differences} == {("a", "b"), ("a", "c"), ("b", "c")}
    assert found.place("b").to_leader is None


def test_equal_ones_are_tied_and_the_worse_out() -> None:
    found = judged(noisy({"a": 0.95, "b": 0.95, "c": 0.8}, 20, spread=0.0002))
    assert (found.status, found.wanted) == ("tied", ())
    assert set(found.contenders) == {"a", "b"}
    assert found.related("equal") == (({"a", "b"} - {found.leader}).pop(),)
    assert found.place("c").out
    assert found.more_runs == 0


def test_another_round_is_wanted_of_the_leader_and_of_those_it_is_not_known_to_beat() -> None:
    values = noisy({"a": 0.95, "b": 0.9495, "c": 0.8}, 6)
    found = judged(values)
    assert found.status == "undecided"
    assert found.wanted == (found.leader, *found.related("undecided"))
    assert set(found.wanted) == {"a", "b"}
    assert found.more_runs > 0


def test_an_equal_one_wants_no_more_rounds_while_others_do() -> None:
    values = noisy({"a": 0.95, "b": 0.95}, 12, spread=0.0002)
    other = [each - 0.004 + 0.01 * (-1) ** number for number, each in enumerate(values["a"])]
    found = judged({**values, "c": other})
    assert found.status == "undecided"
    assert found.related("equal")
    assert set(found.wanted) == {found.leader, "c"}


def test_where_less_is_better_all_turns_round() -> None:
    values = noisy({"a": 0.90, "b": 0.95, "c": 0.92}, 10)
    more, less = judged(values), judged({name: [-each for each in own] for name, own in values.items()}, sign=-1)
    assert [place.optimizer for place in less.places] == [place.optimizer for place in more.places]
    assert less.differences == more.differences
    assert [place.best for place in less.places] == [place.best for place in more.places]
    assert less.place("b").value is not None
    assert less.place("b").value.mean == pytest.approx(-more.place("b").value.mean)


def test_one_that_diverged_is_out_however_good_its_other_runs_were() -> None:
    values: dict[str, list[Any]] = {**noisy({"a": 0.9, "b": 0.95}, 6)}
    values["b"][3] = DIVERGED
    found = judged(values)
    assert (found.status, found.leader) == ("clear", "a")
    place = found.place("b")
    assert (place.out, place.diverged, place.best) == (True, 1, 0.0)
    assert place.value is not None
    assert len(place.value.each) == 5
    assert place.to_leader is not None
    assert (place.to_leader.rounds, place.to_leader.relation) == (5, "better")


def test_one_that_never_finished_has_no_value() -> None:
    place = judged({"a": [0.9, 0.8], "b": [DIVERGED, DIVERGED]}).place("b")
    assert (place.value, place.loss, place.diverged, place.to_leader) == (None, None, 2, None)


def test_nothing_is_said_where_nothing_came_to_an_end() -> None:
    assert judge(runs({"a": [DIVERGED], "b": [DIVERGED]}), ("a", "b"), 1, EPSILON) is None
    assert judge([], ("a", "b"), 1, EPSILON) is None


def test_one_that_diverged_beats_nobody() -> None:
    values: dict[str, list[Any]] = {**noisy({"a": 0.9, "b": 0.95, "c": 0.9}, 6)}
    values["b"].append(DIVERGED)
    found = judged(values)
    assert set(found.contenders) == {"a", "c"}


def test_an_optimizer_that_left_early_is_not_judged_by_the_rounds_it_met() -> None:
    easy, hard = [0.99, 0.991, 0.989, 0.99], [0.90, 0.901, 0.899, 0.90]
    found = judged({"a": easy + hard, "b": [each - 0.0005 for each in easy]})
    a, b = found.place("a").value, found.place("b").value
    assert a is not None
    assert b is not None
    assert a.mean < b.mean
    assert found.leader == "a"
    assert found.differences[0].rounds == 4


def test_variants_and_optimizers_that_are_not_asked_for_change_nothing_but_the_number_of_runs() -> None:
    values = noisy({"a": 0.95, "b": 0.949}, 6)
    more = [*runs(values), made_up(0, "a", 0.1, HALF), made_up(0, "c", 0.99)]
    found = judge(more, ("a", "b"), 1, EPSILON)
    assert found is not None
    assert replace(found, runs=12) == judged(values)


def test_the_more_optimizers_are_compared_the_more_evidence_a_pair_needs() -> None:
    values = noisy({"a": 0.95, "b": 0.949}, 8)
    alone = judged(values).differences[0]
    among = judged({**values, **noisy({"c": 0.949, "d": 0.949}, 8, seed=1)}).differences[0]
    assert (among.one, among.other, among.mean) == ("a", "b", alone.mean)
    assert among.high - among.low > 1.1 * (alone.high - alone.low)


def test_values_are_cut_at_the_possible() -> None:
    value = judged({"a": [1.0, 0.9, 1.0], "b": [0.0, 0.1, 0.0]}, limits=(0.0, 1.0)).place("a").value
    assert value is not None
    assert value.high == 1.0


@pytest.mark.parametrize("mean", [0.001, 0.0])
def test_about_as_many_runs_as_were_said_decide_it(mean: float) -> None:
    swing = [mean + 0.001 * (-1) ** number for number in range(200)]
    values = {"a": [0.9 + each for each in swing], "b": [0.9] * 200}

    def after(rounds: int) -> Verdict:
        return judged({name: own[:rounds] for name, own in values.items()}, epsilon=0.0005)

    more = after(6).more_runs // 2
    assert more > 4
    assert after(6 + more // 2).status == "undecided"
    assert after(6 + more + more // 4).status != "undecided"


# the probability of being best


@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 1_000))
def test_probabilities_of_being_best_are_one_together(k: int, rounds: int, seed: int) -> None:
    found = judged(noisy({f"o{number}": 0.9 for number in range(k)}, rounds, seed=seed))
    assert sum(place.best for place in found.places) == pytest.approx(1)
    assert all(place.best == 0 for place in found.places if place.out)
    assert all(0 <= place.best <= 1 for place in found.places)


def test_two_that_did_the_same_are_as_likely_to_be_best() -> None:
    found = judged({"a": [0.9, 0.91, 0.92, 0.9], "b": [0.92, 0.9, 0.9, 0.91]})
    assert found.place("a").best == pytest.approx(0.5, abs=0.02)


def test_after_a_round_each_all_are_as_likely() -> None:
    found = judged({"a": [0.9], "b": [0.8], "c": [0.7]})
    assert {place.best for place in found.places} == {1 / 3}


def test_the_better_and_the_surer_the_likelier() -> None:
    chance = [judged(noisy({"a": 0.9 + by, "b": 0.9}, 5)).place("a").best for by in (0.0, 0.0005, 0.001, 0.002)]
    assert chance == sorted(chance)
    assert chance[-1] > 0.9


def test_the_luckiest_of_several_equals_is_not_believed_in_full() -> None:
    found = judged(noisy({f"o{number}": 0.9 for number in range(6)}, 5, spread=0.0005, seed=3), epsilon=0.0001)
    values = np.array([place.value.mean for place in found.places if place.value])
    assert 1 / 6 < found.places[0].best < 0.7
    assert values[0] == values.max()


def test_the_same_runs_have_the_same_verdict_in_any_order() -> None:
    values = noisy({"a": 0.95, "b": 0.9495, "c": 0.949}, 6)
    all_runs = runs(values)
    assert judge(all_runs, tuple(values), 1, EPSILON) == judge(all_runs[::-1], tuple(values), 1, EPSILON)


@given(st.permutations(["a", "b", "c", "d"]), st.integers(0, 50))
def test_names_and_their_order_do_not_matter(order: list[str], seed: int) -> None:
    values = noisy({"a": 0.95, "b": 0.9495, "c": 0.949, "d": 0.9}, 6, seed=seed)
    found = judged(values)
    other = judged({name: values[name] for name in order})
    assert (other.status, other.leader, other.more_runs) == (found.status, found.leader, found.more_runs)
    assert [place.optimizer for place in other.places] == [place.optimizer for place in found.places]
    for place in found.places:
        assert other.place(place.optimizer).best == pytest.approx(place.best, abs=0.03)
        assert other.place(place.optimizer).value == place.value


@given(st.floats(1e-3, 1e3), st.floats(-10, 10), st.integers(0, 20))
def test_another_unit_and_another_zero_say_the_same(unit: float, zero: float, seed: int) -> None:
    values = noisy({"a": 0.95, "b": 0.9485, "c": 0.93}, 6, seed=seed)
    other = {name: [unit * (each + zero) for each in own] for name, own in values.items()}
    found, scaled = judged(values), judged(other, epsilon=unit * EPSILON)
    assert (scaled.status, scaled.leader, scaled.wanted) == (found.status, found.leader, found.wanted)
    for pair, again in zip(found.differences, scaled.differences, strict=True):
        assert again.relation == pair.relation
        assert again.low == pytest.approx(unit * pair.low, rel=1e-4)
    for place in found.places:
        assert scaled.place(place.optimizer).best == pytest.approx(place.best, abs=0.02)
