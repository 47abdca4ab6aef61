"""What is said of optimizers, from runs that nobody trained."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import DIVERGED, made_up, noisy, runs

from optitune.statistics.differences import SeparateRuns
from optitune.statistics.runs import HALF, Run, finalists_runs
from optitune.statistics.sequential_test import student
from optitune.statistics.verdict import Verdict, judge

EPSILON, ROUNDS = 0.001, 20

Values = Mapping[str, Sequence[float | str | None]]


def judged(values: Values, epsilon: float = EPSILON, sign: int = 1, **other: Any) -> Verdict:
    found = judge(runs(values), tuple(values), sign, epsilon, **{"rounds": ROUNDS, "until": "clear", **other})
    assert found is not None
    return found


# verdicts


def test_one_that_has_not_run_yet_is_neither_out_nor_beaten() -> None:
    found = judged({"a": [0.9], "b": []})
    assert (found.status, found.leader, found.wanted) == ("undecided", "a", ("a", "b"))
    assert not found.place("b").out
    assert judge(runs({"a": [DIVERGED], "b": []}), ["a", "b"], 1, EPSILON, ROUNDS) is None


def test_the_best_is_clear_where_all_others_are_worse() -> None:
    found = judged(noisy({"a": 0.90, "b": 0.95, "c": 0.92}, 10))
    assert (found.status, found.leader) == ("clear", "b")
    assert [place.optimizer for place in found.places] == ["b", "c", "a"]
    assert [place.out for place in found.places] == [False, True, True]
    assert [place.best for place in found.places] == [1.0, 0.0, 0.0]
    assert (found.wanted, found.contenders, found.next_runs, found.runs) == ((), ("b",), 0, 30)
    assert (found.loss, found.place("b").regret) == (0.0, 0.0)
    assert found.place("a").regret > 0.04
    assert {(each.one, each.other) for each in found.differences} == {("a", "b"), ("a", "c"), ("b", "c")}
    assert found.place("b").to_leader is None


def test_equal_ones_are_tied_and_the_worse_out() -> None:
    found = judged(noisy({"a": 0.95, "b": 0.95, "c": 0.8}, 20, spread=0.0002))
    assert (found.status, found.wanted) == ("tied", ())
    assert set(found.contenders) == {"a", "b"}
    assert found.related("equal") == (({"a", "b"} - {found.leader}).pop(),)
    assert found.place("c").out
    assert (found.next_runs, found.next_loss) == (0, found.loss)
    assert found.differences[0].within <= EPSILON


def test_another_round_is_wanted_of_the_leader_and_of_those_it_is_not_known_to_beat() -> None:
    values = noisy({"a": 0.95, "b": 0.9495, "c": 0.8}, 6)
    found = judged(values)
    assert found.status == "undecided"
    assert found.wanted == (found.leader, *found.related("undecided"))
    assert set(found.wanted) == {"a", "b"}
    assert found.next_runs == 2
    assert 0 < found.next_loss <= found.loss


def test_an_equal_one_wants_no_more_rounds_while_others_do() -> None:
    values = noisy({"a": 0.95, "b": 0.95}, 12, spread=0.0002)
    other = [each - 0.0008 + 0.002 * (-1) ** number for number, each in enumerate(values["a"])]
    found = judged({**values, "c": other}, rounds=13)
    assert found.related("equal")
    assert set(found.wanted) == {"a", "b", "c"}
    assert found.place("c").to_leader is not None


def test_a_tie_holds_for_all_its_pairs() -> None:
    generator = np.random.default_rng(4)
    # two scatters of exactly these spreads about 0, which hang together in nothing
    scatter = np.linalg.qr(np.column_stack([np.ones(20), generator.standard_normal((20, 2))]))[0][:, 1:] * sqrt(19)
    mid = np.full(20, 0.95) + 0.0005 * generator.standard_normal(20)
    # either is within epsilon of the one between them, but not of each other
    values = {"low": mid - 0.00045 + 0.0011 * scatter[:, 0], "mid": mid, "high": mid + 0.00045 + 0.0011 * scatter[:, 1]}
    found = judged({name: own.tolist() for name, own in values.items()})
    by = {(each.one, each.other): each.relation for each in found.differences}
    assert by == {("low", "mid"): "equal", ("low", "high"): "undecided", ("mid", "high"): "equal"}
    assert found.status == "good enough"


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
    assert (place.to_leader.rounds, place.to_leader.relation) == (5, "undecided")
    assert place.to_leader.mean > 0.04


def test_one_that_never_finished_has_no_value() -> None:
    place = judged({"a": [0.9, 0.8], "b": [DIVERGED, DIVERGED]}).place("b")
    assert (place.value, place.loss, place.diverged, place.to_leader) == (None, None, 2, None)


def test_nothing_is_said_where_nothing_came_to_an_end() -> None:
    assert judge(runs({"a": [DIVERGED], "b": [DIVERGED]}), ("a", "b"), 1, EPSILON, ROUNDS) is None
    assert judge([], ("a", "b"), 1, EPSILON, ROUNDS) is None


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
    found = judge(more, ("a", "b"), 1, EPSILON, ROUNDS, until="clear")
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


# what a choice can cost


def test_the_loss_is_the_largest_bound_of_how_much_better_another_may_be() -> None:
    found = judged(noisy({"a": 0.95, "b": 0.9498, "c": 0.9496}, 6))
    means = {place.optimizer: place.to_leader.mean for place in found.places if place.to_leader is not None}
    assert found.loss == found.place(found.leader).regret > max(means.values())
    assert all(place.regret >= found.loss for place in found.places)


def test_the_loss_falls_with_every_round() -> None:
    values = noisy({"a": 0.95, "b": 0.95, "c": 0.9495, "d": 0.94}, 15)
    losses = [judged({name: own[:rounds] for name, own in values.items()}).loss for rounds in range(1, 16)]
    assert losses[:2] == [inf, inf]
    assert losses[2:] == sorted(losses[2:], reverse=True)
    assert losses[-1] < losses[2] / 3


def test_a_choice_that_can_cost_no_more_than_epsilon_is_good_enough() -> None:
    values = noisy({"a": 0.9505, "b": 0.95, "c": 0.95}, 8, spread=0.0004)
    found = judged(values, epsilon=0.0007, until="good-enough")
    assert (found.status, found.leader, found.wanted) == ("good enough", "a", ())
    assert 0 < found.loss <= 0.0007
    on = judged(values, epsilon=0.0007, until="clear")
    assert (on.status, on.loss) == ("good enough", found.loss)
    assert on.next_runs == len(on.wanted) > 0
    assert judged(values, epsilon=found.loss * 0.99, until="good-enough").status == "undecided"


def test_after_the_last_planned_round_nothing_more_is_wanted() -> None:
    values = noisy({"a": 0.95, "b": 0.95}, 6)
    assert judged(values, rounds=7, epsilon=0.0).wanted
    found = judged(values, rounds=6, epsilon=0.0)
    assert (found.status, found.wanted, found.next_runs, found.next_loss) == ("undecided", (), 0, found.loss)


def test_what_another_round_is_expected_to_bring_is_about_what_it_brings() -> None:
    gained = []
    for seed in range(40):
        values = noisy({"a": 0.95, "b": 0.95, "c": 0.9495}, 7, seed=seed)
        found = judged({name: own[:6] for name, own in values.items()})
        if found.wanted == (found.leader, *found.related("undecided")):
            gained.append((found.next_loss / found.loss, judged(values).loss / found.loss))
    assert len(gained) > 20
    expected, brought = np.array(gained).mean(0)
    assert 0.5 < expected < 1
    assert brought == pytest.approx(expected, abs=0.12)


def test_without_planned_rounds_bounds_are_wider_and_hold_for_ever() -> None:
    values = noisy({"a": 0.95, "b": 0.9495}, 10)
    planned, open_ended = judged(values), judged(values, rounds=None)
    assert (planned.rule, open_ended.rule) == ("planned rounds", "any number of rounds")
    assert open_ended.rounds is None
    for one, other in zip(planned.differences, open_ended.differences, strict=True):
        assert other.high - other.low > one.high - one.low


@pytest.mark.parametrize("by", [0.002, 0.0])
def test_runs_that_share_nothing_are_compared_by_their_own_spreads(by: float) -> None:
    generator = np.random.default_rng(1)
    values = {"a": (0.95 + by + 0.0005 * generator.standard_normal(12)).tolist(),
              "b": (0.95 + 0.0005 * generator.standard_normal(7)).tolist()}  # fmt: skip
    found = judged(values, paired=False)
    each = found.differences[0]
    assert each.relation == ("better" if by else each.relation)
    assert each.low <= by <= each.high
    # seeds that happen to have the same number are not paired
    shuffled = judged({**values, "b": values["b"][::-1]}, paired=False).differences[0]
    assert shuffled.mean == pytest.approx(each.mean)


def test_few_runs_of_three_that_share_nothing_do_not_count_several_times() -> None:
    own = {
        name: [mean + each for each in (-0.001, 0.0, 0.001)] for name, mean in (("a", 0.95), ("b", 0.951), ("c", 0.952))
    }
    pairs = SeparateRuns([finalists_runs(runs(own), name) for name in own], 1)
    # all three have 2 degrees of freedom each, and no pair more than all together
    width = student(0.01, 6) * 0.001 * sqrt(2 / 3)
    assert np.all(pairs.half_widths(3, 0.01, np.full(3, True)) >= width)
    # two alone are compared as Welch does
    assert pairs.half_widths(3, 0.01, np.array([True, False, False])) == pytest.approx(
        student(0.01, 4) * 0.001 * sqrt(2 / 3)
    )


def test_a_cheaper_one_gets_further_rounds_until_it_is_known_whether_it_is_as_good() -> None:
    values = noisy({"a": 0.9508, "b": 0.95}, 5, spread=0.0003)
    quick = [replace(run, seconds=1.0 if run.key.optimizer == "b" else 2.0) for run in runs(values)]

    def taken(own: list[Run], prefer: Any) -> Verdict:
        found = judge(own, ("a", "b"), 1, EPSILON, ROUNDS, prefer=prefer)
        assert found is not None
        return found

    assert (taken(quick, "value").leader, taken(quick, "value").wanted) == ("a", ())
    assert set(taken(quick, "time").wanted) == {"a", "b"}
    # a dear one is left where it is
    slow = [replace(run, seconds=3.0 - run.seconds) for run in quick]
    assert taken(slow, "time").wanted == ()


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
    assert 1 / 6 < max(place.best for place in found.places) < 0.7


def test_the_same_runs_have_the_same_verdict_in_any_order() -> None:
    values = noisy({"a": 0.95, "b": 0.9495, "c": 0.949}, 6)
    all_runs = runs(values)
    assert judge(all_runs, tuple(values), 1, EPSILON, ROUNDS) == judge(
        all_runs[::-1], tuple(values), 1, EPSILON, ROUNDS
    )


@given(st.permutations(["a", "b", "c", "d"]), st.integers(0, 50))
def test_names_and_their_order_do_not_matter(order: list[str], seed: int) -> None:
    values = noisy({"a": 0.95, "b": 0.9495, "c": 0.949, "d": 0.9}, 6, seed=seed)
    found = judged(values)
    other = judged({name: values[name] for name in order})
    assert (other.status, other.leader, other.loss) == (found.status, found.leader, pytest.approx(found.loss))
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
    for each, again in zip(found.differences, scaled.differences, strict=True):
        assert again.relation == each.relation
        assert again.low == pytest.approx(unit * each.low, rel=1e-4)
    for place in found.places:
        assert scaled.place(place.optimizer).best == pytest.approx(place.best, abs=0.02)
