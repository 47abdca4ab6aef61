"""The verdict in words."""

from dataclasses import replace
from typing import Any

import pytest
from made_up_runs import DIVERGED, noisy, runs

from optitune.common.summary import summarise
from optitune.common.text import Unit, listed
from optitune.comparing.sentences import advice, bound, headline, interval
from optitune.statistics.costs import Recommendation
from optitune.statistics.differences import Difference, Relation
from optitune.statistics.verdict import Place, Verdict, judge

ACCURACY, MSE = Unit("accuracy", percent=True), Unit("mse")


def apart(
    one: str, other: str, mean: float, low: float, high: float, relation: Relation, rounds: int = 6
) -> Difference:
    return Difference(one, other, rounds, mean, 0.001, low, high, relation)


def place(name: str, values: tuple[float, ...], to_leader: Difference | None = None, **fields: Any) -> Place:
    known = {"diverged": 0, "best": 0.5, "out": False, **fields}
    value = summarise(values) if values else None
    return Place(name, value, value, to_leader=to_leader, **known)


def verdict(status: Any, *places: Place, more: int = 0) -> Verdict:
    return Verdict(status, places[0].optimizer, places, (), 0.001, 0.05, 12, more)


SIX = (0.990, 0.992, 0.991, 0.991, 0.990, 0.992)
LEADER = place("muon", SIX)
WORSE = place("adam", (0.98, 0.982), apart("adam", "muon", -0.01, -0.014, -0.006, "worse"), best=0.0, out=True)
WORST = place("sgd", (0.96, 0.962), apart("sgd", "muon", -0.03, -0.034, -0.026, "worse"), best=0.0, out=True)
EQUAL = place("adam", SIX, apart("adam", "muon", -0.0001, -0.0008, 0.0005, "equal"))
OPEN = place("sgd", SIX, apart("sgd", "muon", -0.0004, -0.003, 0.002, "undecided"), best=0.31)
FELL = place("adam", (0.98,), apart("adam", "muon", 0.0, -0.01, 0.01, "undecided"), diverged=1, best=0.0, out=True)


# parts


@pytest.mark.parametrize(
    ("unit", "value", "difference", "signed", "span", "signed_span"),
    [
        (ACCURACY, "99.12 %", "0.13 pp", "-0.13 pp", "98.00 to 99.12 %", "-0.13 to +0.20 pp"),
        (MSE, "0.9912", "0.0013", "-0.0013", "0.98 to 0.9912", "-0.0013 to +0.002"),
    ],
)
def test_values_are_written_in_their_unit(
    unit: Unit, value: str, difference: str, signed: str, span: str, signed_span: str
) -> None:
    assert unit.value(0.9912) == value
    assert unit.difference(-0.0013) == difference
    assert unit.signed(-0.0013) == signed
    assert unit.span(0.98, 0.9912) == span
    assert unit.span(-0.0013, 0.002, signed=True) == signed_span


@pytest.mark.parametrize(("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_names_are_listed_as_one_speaks(names: list[str], text: str) -> None:
    assert listed(names) == text


def test_a_value_is_told_with_its_interval_and_what_it_rests_on() -> None:
    assert interval(LEADER, ACCURACY) == "99.10 % (95 % interval 99.01 to 99.19 %, 6 runs)"
    assert interval(place("a", (0.5,)), ACCURACY) == "50.00 % (1 run)"
    assert interval(place("a", ()), ACCURACY) == "no run came to its end"


def test_a_bound_is_signed() -> None:
    assert bound(apart("a", "b", 0.01, -0.002, 0.014, "undecided"), ACCURACY) == "-0.20 to +1.40 pp"


# sentences


def test_the_best_is_told_with_its_distance_to_the_nearest() -> None:
    assert headline(verdict("clear", LEADER, WORSE, WORST), ACCURACY, 30) == (
        "muon is the best: 99.10 % (95 % interval 99.01 to 99.19 %, 6 runs). adam, the nearest, is worse by 1.00 pp "
        "(from +0.60 to +1.40 pp); with 95 % confidence none is better than muon."
    )


def test_those_that_diverged_are_named() -> None:
    assert headline(verdict("clear", LEADER, WORST, place("adam", (), diverged=4, out=True)), ACCURACY, 30).endswith(
        "with 95 % confidence none is better than muon. adam diverged."
    )
    assert headline(verdict("clear", LEADER, FELL, WORST), ACCURACY, 30) == (
        "muon is the best: 99.10 % (95 % interval 99.01 to 99.19 %, 6 runs). sgd, the nearest, is worse by 3.00 pp "
        "(from +2.60 to +3.40 pp); with 95 % confidence none is better than muon. adam diverged."
    )
    assert headline(verdict("clear", LEADER, place("adam", (), diverged=4, out=True)), ACCURACY, 30) == (
        "muon alone did not diverge: 99.10 % (95 % interval 99.01 to 99.19 %, 6 runs)."
    )


def test_one_alone_is_not_called_the_best() -> None:
    assert headline(verdict("clear", LEADER), ACCURACY, 30) == (
        "muon was compared with nothing: 99.10 % (95 % interval 99.01 to 99.19 %, 6 runs)."
    )


def test_equal_ones_are_told_by_how_much_they_may_differ_and_what_does_not_matter() -> None:
    assert headline(verdict("tied", LEADER, EQUAL, WORST), ACCURACY, 30) == (
        "muon and adam are equal for practical purposes, at 99.10 %: with 95 % confidence they differ by at most "
        "0.08 pp, and 0.10 pp is said not to matter."
    )


def test_what_is_not_known_is_said_so_with_what_it_would_take() -> None:
    text = headline(verdict("undecided", LEADER, OPEN, WORST, more=14), ACCURACY, 30)
    assert text == (
        "Not enough evidence to tell muon and sgd apart (probability of being best: muon 0.50 and sgd 0.31): about 14 "
        "more runs would be needed. muon leads with 99.10 % (95 % interval 99.01 to 99.19 %, 6 runs)."
    )
    plural = [replace(OPEN, optimizer=f"o{number}", best=0.1) for number in range(4)]
    assert headline(verdict("undecided", LEADER, *plural, more=14), ACCURACY, 30).startswith(
        "Not enough evidence to tell 5 optimizers apart (the likeliest to be best: muon 0.50, o0 0.10, o1 0.10 and "
        "o2 0.10): about 14 more runs would be needed."
    )
    assert "needed, and there are data for 9. muon" in headline(
        verdict("undecided", LEADER, OPEN, more=14), ACCURACY, 9
    )
    assert "it takes more data, not more runs. muon" in headline(
        verdict("undecided", LEADER, OPEN, more=14), ACCURACY, 0
    )
    assert ": more runs are needed. muon" in headline(verdict("undecided", LEADER, OPEN), ACCURACY, 30)


@pytest.mark.parametrize(
    ("status", "others", "taken", "text"),
    [
        ("undecided", (OPEN,), Recommendation("muon"),
         "Until that is known, take muon, which is the likeliest to be best."),
        ("clear", (WORSE,), Recommendation("muon"), "Take muon."),
        ("tied", (EQUAL,), Recommendation("muon"),
         "None of them is much quicker or lighter; take muon, which is the likeliest to be best."),
        ("tied", (EQUAL,), Recommendation("adam", seconds=0.6),
         "adam reaches 99.00 % in 60 % of the time of muon: take adam."),
        ("tied", (EQUAL,), Recommendation("adam", state=0.5), "adam keeps 50 % of the memory of muon: take adam."),
        ("tied", (EQUAL,), Recommendation("adam", seconds=0.6, state=0.5),
         "adam reaches 99.00 % in 60 % of the time of muon and keeps 50 % of its memory: take adam."),
    ],
)  # fmt: skip
def test_the_advice_has_a_reason(status: Any, others: tuple[Place, ...], taken: Recommendation, text: str) -> None:
    assert advice(verdict(status, LEADER, *others), taken, {}, 0.99, ACCURACY) == text


# real verdicts


@pytest.mark.parametrize("unit", [ACCURACY, MSE])
@pytest.mark.parametrize("rounds", [1, 2, 4, 20])
@pytest.mark.parametrize("means", [(0.9, 0.9), (0.9, 0.8, 0.7), (0.9, 0.9, 0.5), (0.9, 0.8995, 0.899)])
def test_every_verdict_can_be_said(means: tuple[float, ...], rounds: int, unit: Unit) -> None:
    values: dict[str, list[Any]] = {**noisy({f"o{i}": mean for i, mean in enumerate(means)}, rounds)}
    values["lost"] = [DIVERGED] * rounds
    found = judge(runs(values), tuple(values), -1 if unit is MSE else 1, 0.001)
    assert found is not None
    text = headline(found, unit, 30)
    assert text.endswith(".")
    assert found.leader in text
    assert "nan" not in text
    assert "inf" not in text
    start = {"clear": "is the best", "tied": "equal for practical purposes", "undecided": "Not enough evidence"}
    assert start[found.status] in text
