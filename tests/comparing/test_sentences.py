"""The verdict in words: a decision first."""

from dataclasses import replace
from math import inf
from typing import Any

import pytest
from made_up_runs import DIVERGED, noisy, runs

from optitune.common.summary import summarise
from optitune.common.text import Unit, listed
from optitune.comparing.sentences import chance, interval, said, worth_more
from optitune.statistics.choice import Ratio, Recommendation
from optitune.statistics.costs import Untuned
from optitune.statistics.differences import Difference, Relation
from optitune.statistics.runs import TWICE
from optitune.statistics.verdict import Place, Verdict, judge

ACCURACY, MSE = Unit("accuracy", percent=True), Unit("mse")


def apart(one: str, other: str, mean: float, low: float, high: float, relation: Relation) -> Difference:
    within = max(abs(low), abs(high))
    return Difference(
        one=one, other=other, rounds=6, mean=mean, sd=0.001, low=low, high=high, relation=relation, within=within
    )


def place(name: str, values: tuple[float, ...], to_leader: Difference | None = None, **fields: Any) -> Place:
    known = {"diverged": 0, "best": 0.5, "out": False, "regret": 0.0009, **fields}
    value = summarise(values) if values else None
    return Place(optimizer=name, value=value, loss=value, to_leader=to_leader, **known)


def verdict(status: Any, *places: Place, **fields: Any) -> Verdict:
    known = {
        "leader": places[0].optimizer,
        "differences": tuple(each.to_leader for each in places if each.to_leader is not None),
        "epsilon": 0.001,
        "error": 0.05,
        "runs": 12,
        "loss": places[0].regret,
        "rule": "planned rounds",
        "rounds": 12,
        "next_runs": 2 if status == "undecided" else 0,
        "next_loss": 0.92 * places[0].regret,
        **fields,
    }
    return Verdict(status=status, places=places, **known)


SIX = (0.990, 0.992, 0.991, 0.991, 0.990, 0.992)
LEADER = place("muon", SIX)
FAR = place("muon", SIX, regret=0.003)
WORSE = place("adam", (0.98, 0.982), apart("adam", "muon", -0.01, -0.014, -0.006, "worse"), best=0.0, out=True)
WORST = place("sgd", (0.96, 0.962), apart("sgd", "muon", -0.03, -0.034, -0.026, "worse"), best=0.0, out=True)
EQUAL = place("adam", SIX, apart("adam", "muon", -0.0001, -0.0008, 0.0005, "equal"))
OPEN = place("sgd", SIX, apart("sgd", "muon", -0.0004, -0.003, 0.002, "undecided"), best=0.31, regret=0.004)
FELL = place("adam", (0.98,), apart("adam", "muon", 0.0, -0.01, 0.01, "undecided"), diverged=1, best=0.0, out=True)
LOST = place("adam", (), diverged=4, out=True, regret=inf)


def opens(number: int) -> list[Place]:
    return [
        place(f"o{each}", SIX, apart(f"o{each}", "muon", 0.0, -0.003, 0.002, "undecided"), regret=0.004)
        for each in range(number)
    ]


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


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1.0, ">0.99"), (0.995, ">0.99"), (0.99, "0.99"), (0.5, "0.50"), (0.004, "<0.01"), (0, "<0.01")],
)
def test_a_probability_is_never_written_as_certain(probability: float, text: str) -> None:
    assert chance(probability) == text


@pytest.mark.parametrize(("unit", "text"), [(ACCURACY, "0.10 to 1.40 pp"), (MSE, "0.001 to 0.014")])
def test_the_size_of_a_difference_has_no_sign(unit: Unit, text: str) -> None:
    assert unit.sizes(0.001, 0.014) == text


# a decision first


def sentence(found: Verdict, choice: Recommendation | None = None, unit: Unit = ACCURACY) -> str:
    return said(found, unit, choice).sentence


def test_the_best_is_taken_with_its_distance_to_the_nearest() -> None:
    clear = verdict("clear", LEADER, WORSE, WORST)
    assert sentence(clear) == (
        "Take muon. With 95 % confidence it is the best of the three; adam, the nearest, is worse by 0.60 to 1.40 pp."
    )
    assert sentence(clear, unit=MSE).endswith("adam, the nearest, is worse by 0.006 to 0.014.")
    assert sentence(verdict("clear", LEADER, WORSE)) == (
        "Take muon. With 95 % confidence it is better than adam by 0.60 to 1.40 pp."
    )
    # beaten by another one than the leader
    unsure = place("adam", SIX, apart("adam", "muon", -0.002, -0.005, 0.001, "undecided"), out=True)
    assert sentence(verdict("clear", LEADER, unsure, WORST)).endswith("adam, the nearest, is worse by 0.20 pp.")


def test_those_that_diverged_are_named() -> None:
    assert sentence(verdict("clear", LEADER, WORST, LOST)).endswith("is worse by 2.60 to 3.40 pp (adam diverged).")
    assert sentence(verdict("clear", LEADER, FELL, WORST)).endswith("is worse by 2.60 to 3.40 pp (adam diverged).")
    assert sentence(verdict("clear", LEADER, LOST)) == (
        "Take muon. It alone did not diverge: 99.10 % (95 % interval 99.01 to 99.19 %, 6 runs) (adam diverged)."
    )


def test_one_alone_is_not_called_the_best() -> None:
    assert sentence(verdict("clear", LEADER)) == (
        "muon was compared with nothing: 99.10 % (95 % interval 99.01 to 99.19 %, 6 runs)."
    )


def test_equal_ones_are_named_with_by_how_much_any_two_may_differ() -> None:
    third = place("sgd", SIX, apart("sgd", "muon", 0.0, -0.0003, 0.0003, "equal"))
    between = apart("adam", "sgd", 0.0, -0.00095, 0.0005, "equal")
    assert sentence(verdict("tied", LEADER, EQUAL, WORST)) == (
        "Take muon. muon and adam are equal for practical purposes: with 95 % confidence they differ by at most "
        "0.08 pp (sgd is out)."
    )
    three = verdict("tied", LEADER, EQUAL, third)
    wider = verdict("tied", LEADER, EQUAL, third, differences=(*three.differences, between))
    assert "muon, adam and sgd are equal for practical purposes" in sentence(three)
    assert "at most 0.08 pp" in sentence(three)
    assert "at most 0.10 pp" in sentence(wider)
    many = [place(f"o{each}", SIX, apart(f"o{each}", "muon", 0.0, -5e-4, 5e-4, "equal")) for each in range(4)]
    assert "All five are equal" in sentence(verdict("tied", LEADER, *many))
    assert "Five of the six are equal" in sentence(verdict("tied", LEADER, *many, WORST))
    # one that is worse stays in where cost counts
    cheap = replace(WORST, out=False)
    assert sentence(verdict("tied", LEADER, EQUAL, cheap)) == sentence(verdict("tied", LEADER, EQUAL, WORST)).replace(
        "sgd is out", "sgd is worse"
    )


def test_good_enough_says_what_the_choice_can_cost_and_how_the_others_stand() -> None:
    assert sentence(verdict("good enough", LEADER, OPEN, WORSE)) == (
        "Take muon. With 95 % confidence none of the three is better by more than 0.09 pp "
        "(adam is out; sgd is not distinguishable from it)."
    )
    equal = replace(EQUAL, optimizer="adamw", to_leader=apart("adamw", "muon", -0.0001, -0.0008, 0.0005, "equal"))
    lost = replace(LOST, optimizer="nadam")
    assert sentence(verdict("good enough", LEADER, equal, OPEN, *opens(4), WORSE, lost)) == (
        "Take muon. With 95 % confidence none of the nine is better by more than 0.09 pp (adam is out; nadam diverged; "
        "adamw is equal to it; five others are not distinguishable from it)."
    )
    assert sentence(verdict("good enough", LEADER, OPEN), unit=MSE) == (
        "Take muon. With 95 % confidence sgd is not better by more than 0.0009 (sgd is not distinguishable from it)."
    )
    assert "none of the 14 is" in sentence(verdict("good enough", LEADER, *opens(13)))


def test_what_is_undecided_is_a_decision_too() -> None:
    found = verdict("undecided", FAR, OPEN, WORSE)
    assert sentence(found) == (
        "Take muon. Undecided: with 95 % confidence none of the three is better by more than 0.30 pp, and 0.10 pp "
        "would not matter (adam is out; sgd is not distinguishable from it)."
    )
    assert "would not matter" not in sentence(verdict("undecided", FAR, OPEN, epsilon=0.0))
    unknown = place("muon", (0.99,), regret=inf)
    assert sentence(verdict("undecided", unknown, OPEN)) == (
        "Take muon. Undecided: it leads with 99.00 % (1 run), and so few runs do not say what that can cost."
    )


# what a cheaper one saves

CHEAP = {"time": {"sgd": Ratio(0.5, 0.45, 0.56)}, "memory": {"sgd": Ratio(0.25, 0.25, 0.25)}}


def choice(taken: str = "muon", **fields: Any) -> Recommendation:
    return Recommendation(taken, "muon", **{"good": ("muon", "sgd"), "shares": CHEAP, **fields})


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        (choice(cheaper="sgd"), "; of those as good, sgd needs 50 % of the time)."),
        (choice(cheaper="sgd", saves="memory"),
         "; of those as good, sgd needs 25 % of the memory for optimizer state)."),
        (choice(cheaper="sgd", good=("muon",)), "; sgd needs 50 % of the time, and can cost 0.15 pp)."),
        (choice(prefer="time"), "; none that is as good is known to need less time)."),
        (choice(prefer="memory", equal=("sgd",)),
         "; sgd is as good, and its memory is not distinguishable from that of muon)."),
        (choice(), "(sgd is not distinguishable from it)."),
    ],
)  # fmt: skip
def test_another_choice_is_mentioned_where_it_saves_something(chosen: Recommendation, text: str) -> None:
    cheap = place("sgd", SIX, OPEN.to_leader, regret=0.0015)
    assert sentence(verdict("good enough", LEADER, cheap), chosen).endswith(text)


def test_a_cheaper_one_that_can_lose_far_more_is_no_alternative() -> None:
    assert "time" not in sentence(verdict("good enough", LEADER, OPEN), choice(cheaper="sgd", good=("muon",)))


@pytest.mark.parametrize(
    ("prefer", "saves"), [("time", "50 % of the time"), ("memory", "25 % of the memory for optimizer state")]
)
@pytest.mark.parametrize("status", ["good enough", "tied"])
def test_a_cheaper_one_that_is_taken_says_what_it_saves_and_can_cost(status: Any, prefer: Any, saves: str) -> None:
    cheap = place("sgd", SIX, apart("sgd", "muon", -0.0001, -0.0008, 0.0005, "equal"), regret=0.0008)
    third = place("adam", SIX, apart("adam", "muon", -0.0001, -0.0008, 0.0005, "equal"))
    assert sentence(verdict(status, LEADER, cheap, third), choice("sgd", prefer=prefer, kind=prefer)).startswith(
        f"Take sgd. It needs {saves} of muon, the leader; with 95 % confidence none of the three is better by more "
        "than 0.08 pp"
    )


# whether to go on


def advice(found: Verdict, seconds: float | None = None, untuned: tuple[Untuned, ...] = ()) -> str:
    return said(found, ACCURACY, None, seconds, untuned).advice


def test_what_one_more_round_costs_and_brings() -> None:
    found = verdict("undecided", FAR, OPEN)
    assert advice(found) == (
        "One more round (2 runs) is expected to bring that to 0.28 pp, all 6 that are left to 0.21 pp."
    )
    assert "(2 runs, about 4 min) is" in advice(found, 240.0)
    assert worth_more(found)
    open_ended = verdict("undecided", FAR, OPEN, rounds=None)
    assert advice(open_ended) == "One more round (2 runs) is expected to bring that to 0.28 pp."
    last = verdict("undecided", FAR, OPEN, rounds=7)
    assert advice(last) == advice(verdict("undecided", FAR, OPEN, rounds=7, runs=1))
    assert "left" not in advice(last)
    assert (
        advice(verdict("undecided", FAR, OPEN, next_loss=0.001)) == "One more round (2 runs) is expected to be enough."
    )
    assert advice(verdict("undecided", FAR, OPEN, epsilon=0.0021)).endswith("all 6 that are left to be enough.")
    unknown = verdict("undecided", place("muon", (0.99,), regret=inf), OPEN, next_loss=inf)
    assert advice(unknown) == "One more round (2 runs) will say more."
    assert worth_more(unknown)


def test_what_will_hardly_help_is_not_advised() -> None:
    hardly = verdict("undecided", FAR, OPEN, next_loss=0.00299)
    other = "to know more, compare fewer optimizers, take more data, or ask for less: an epsilon of 0.30 pp would do."
    assert advice(hardly) == f"More runs will hardly lower that: {other}"
    assert not worth_more(hardly)
    spent = verdict("undecided", FAR, OPEN, next_runs=0)
    assert advice(spent) == f"There are no more rounds: {other}"
    assert not worth_more(spent)


def test_whether_a_cheaper_one_is_as_good_is_worth_another_round() -> None:
    found = verdict("good enough", LEADER, OPEN, next_runs=2)
    assert said(found, ACCURACY, choice(prefer="time")).advice == (
        "One more round (2 runs) may show whether one that needs less time is as good."
    )
    assert worth_more(found)


def test_what_is_decided_needs_no_more_runs() -> None:
    assert advice(verdict("clear", LEADER, WORSE)) == "Nothing more has to be compared."
    assert advice(verdict("tied", LEADER, EQUAL)) == "More runs would change nothing that matters."
    assert advice(verdict("good enough", LEADER, OPEN)) == "More runs could gain no more than 0.09 pp."
    assert not worth_more(verdict("good enough", LEADER, OPEN))


def test_what_is_not_tuned_to_the_end_is_said() -> None:
    found = (Untuned("muon", TWICE, 0.002, 2), Untuned("adam", TWICE, 0.009, 2))
    assert advice(verdict("clear", LEADER, WORSE), untuned=found) == (
        "Nothing more has to be compared. "
        "muon is not tuned to the end: with twice the lr it is better by 0.20 pp (2 rounds)."
    )


# real verdicts


@pytest.mark.parametrize("unit", [ACCURACY, MSE])
@pytest.mark.parametrize("rounds", [1, 2, 4, 12])
@pytest.mark.parametrize("means", [(0.9, 0.9), (0.9, 0.8, 0.7), (0.9, 0.9, 0.5), (0.9, 0.8995, 0.899)])
def test_every_verdict_can_be_said(means: tuple[float, ...], rounds: int, unit: Unit) -> None:
    values: dict[str, list[Any]] = {**noisy({f"o{i}": mean for i, mean in enumerate(means)}, rounds)}
    values["lost"] = [DIVERGED] * rounds
    found = judge(runs(values), tuple(values), -1 if unit is MSE else 1, 0.001, 12)
    assert found is not None
    text = " ".join(said(found, unit))
    assert text.startswith(f"Take {found.leader}. ")
    assert text.endswith(".")
    assert "nan" not in text
    assert "inf" not in text
    assert ("Undecided" in text) == (found.status == "undecided")
