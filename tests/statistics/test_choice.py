"""Which optimizer to take, and what another would save."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from made_up_runs import DIVERGED, made_up

from optitune.statistics.choice import Kind, Ratio, ratio, recommend
from optitune.statistics.runs import Prefer, Run

SOME = (1.0, 1.02, 0.99, 1.01)
"""How slow the machine was in each round."""


def trained(seconds: Mapping[str, float], state: Mapping[str, int] | None = None, rounds: int = 4) -> list[Run]:
    """Runs that take about so many seconds, a few per cent more or less, and keep so many bytes."""
    chance = np.random.default_rng(0)
    return [
        made_up(
            number,
            name,
            0.9,
            seconds=each * SOME[number] * (1 + 0.01 * chance.normal()),
            state_bytes=(state or {}).get(name, 200),
        )
        for number in range(rounds)
        for name, each in seconds.items()
    ]


def test_times_are_compared_round_by_round() -> None:
    found = ratio(trained({"a": 10.0, "b": 5.0}), "b", "a", "time")
    assert found is not None
    assert found.mean == pytest.approx(0.5, rel=0.02)
    assert found.low is not None
    assert found.high is not None
    assert 0.45 < found.low < 0.5 < found.high < 0.55
    assert found.less
    assert not found.alike
    once = ratio(trained({"a": 10.0, "b": 5.0}, rounds=1), "b", "a", "time")
    assert once == Ratio(pytest.approx(0.5, rel=0.05), None, None)
    assert once is not None
    assert once.alike
    assert not once.less


def test_memory_does_not_vary() -> None:
    rows = trained({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}, {"a": 200, "b": 100, "c": 0, "d": 201})
    assert ratio(rows, "b", "a", "memory") == Ratio(0.5, 0.5, 0.5)
    assert ratio(rows, "c", "a", "memory") == Ratio(0.0, 0.0, 0.0)
    assert ratio(rows, "a", "c", "memory") == Ratio(float("inf"), float("inf"), float("inf"))
    same = ratio(rows, "d", "a", "memory")
    assert same is not None
    assert same.alike


@pytest.mark.parametrize("kind", ["time", "memory"])
def test_costs_that_were_not_measured_are_not_known(kind: Kind) -> None:
    rows = [made_up(0, name, 0.9, seconds=0.0, state_bytes=0, weight_bytes=0) for name in "ab"]
    assert ratio(rows, "a", "b", kind) is None
    assert ratio([made_up(0, "a", 0.9), made_up(0, "b", DIVERGED)], "a", "b", kind) is None
    assert recommend(rows, "a", {"a": 0.0, "b": 0.0}, 0.1, kind).optimizer == "a"


@pytest.mark.parametrize(
    ("prefer", "seconds", "losses", "taken", "equal", "front"),
    [
        ("value", {"a": 10, "b": 5}, {"a": 0.0, "b": 0.1}, "a", (), ("a", "b")),
        ("time", {"a": 10, "b": 5}, {"a": 0.0, "b": 0.1}, "b", (), ("a", "b")),
        ("time", {"a": 10, "b": 5}, {"a": 0.0, "b": 0.11}, "a", (), ()),  # not as good
        ("time", {"a": 10, "b": 10}, {"a": 0.0, "b": 0.1}, "a", ("b",), ()),
        ("time", {"a": 10, "b": 11}, {"a": 0.0, "b": 0.1}, "a", (), ()),
        ("time", {"a": 10, "b": 5, "c": 5}, {"a": 0.0, "b": 0.1, "c": 0.05}, "c", ("b",), ("a", "c")),
        ("time", {"a": 10, "b": 5, "c": 8}, {"a": 0.0, "b": 0.1, "c": 0.05}, "b", (), ("a", "c", "b")),
        ("time", {"a": 10, "b": 5, "c": 8}, {"a": 0.0, "b": 0.05, "c": 0.1}, "b", (), ("a", "b")),
        ("memory", {"a": 10, "b": 5}, {"a": 0.0, "b": 0.1}, "a", ("b",), ()),
    ],
)
def test_of_those_as_good_the_cheapest_is_taken(
    prefer: Prefer,
    seconds: Mapping[str, float],
    losses: Mapping[str, float],
    taken: str,
    equal: Sequence[str],
    front: Sequence[str],
) -> None:
    found = recommend(trained(seconds), "a", losses, 0.1, prefer)
    assert (found.optimizer, found.equal, found.front) == (taken, equal, front)
    assert found.good == ("a", *(name for name in losses if name != "a" and losses[name] <= 0.1))


def test_the_least_memory_is_taken_where_it_is_preferred() -> None:
    rows = trained({"a": 1.0, "b": 3.0, "c": 3.0}, {"a": 200, "b": 100, "c": 100})
    losses = {"a": 0.0, "b": 0.08, "c": 0.05}
    found = recommend(rows, "a", losses, 0.1, "memory")
    assert (found.optimizer, found.equal, found.front) == ("c", ("b",), ("a", "c"))
    assert recommend(rows, "a", losses, 0.1, "time").optimizer == "a"
    assert recommend(rows, "a", losses, 0.06, "memory").good == ("a", "c")


@pytest.mark.parametrize(
    ("seconds", "losses", "cheaper"),
    [
        ({"a": 10, "b": 7}, {"a": 0.0, "b": 0.1}, "b"),
        ({"a": 10, "b": 9}, {"a": 0.0, "b": 0.1}, None),  # saves too little
        ({"a": 10, "b": 5, "c": 7}, {"a": 0.0, "b": 0.2, "c": 0.1}, "c"),  # as good before cheapest
        ({"a": 10, "b": 5}, {"a": 0.3, "b": 0.4}, "b"),
        ({"a": 10, "b": 5}, {"a": 0.3, "b": float("inf")}, None),
    ],
)
def test_what_would_save_much_is_known_although_the_value_counts(
    seconds: Mapping[str, float], losses: Mapping[str, float], cheaper: str | None
) -> None:
    found = recommend(trained(seconds), "a", losses, 0.1)
    assert (found.optimizer, found.cheaper) == ("a", cheaper)
    assert recommend(trained(seconds), "a", losses, 0.1, "time").cheaper is None


def test_memory_is_mentioned_where_no_time_is_saved() -> None:
    rows = trained({"a": 1.0, "b": 1.0}, {"a": 200, "b": 100})
    found = recommend(rows, "a", {"a": 0.0, "b": 0.05}, 0.1)
    assert (found.cheaper, found.saves) == ("b", "memory")


def test_the_truly_cheapest_is_found_where_times_vary() -> None:
    chance = np.random.default_rng(1)
    seconds = {"a": 1.5, "b": 1.2, "c": 1.0, "d": 2.0}
    taken = []
    for _ in range(100):
        rows = [
            made_up(number, name, 0.9, seconds=each * float(np.exp(0.05 * chance.normal())))
            for number in range(5)
            for name, each in seconds.items()
        ]
        taken.append(recommend(rows, "a", {"a": 0.0, "b": 0.02, "c": 0.05, "d": 0.01}, 0.1, "time").optimizer)
    assert taken.count("c") >= 80
