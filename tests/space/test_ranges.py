"""Ranges: what they contain, and which cannot be made."""

import json
from dataclasses import FrozenInstanceError
from math import inf, nan, nextafter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from optitune.space import ranges
from optitune.space.ranges import Choice, Fixed, Float, Int, Range, Scale, around

numbers = st.floats(-1e6, 1e6)
options = st.one_of(st.booleans(), st.integers(-5, 5), st.floats(-5, 5), st.text(max_size=3))
SCALES: dict[Scale, st.SearchStrategy[float]] = {
    "linear": numbers,
    "log": st.floats(1e-12, 1e6),
    "complement": st.floats(-1e6, 1 - 1e-9),
}
drawn_floats = st.sampled_from(sorted(SCALES)).flatmap(
    lambda scale: st.lists(SCALES[scale], min_size=2, max_size=2, unique=True).map(
        lambda ends: Float(min(ends), max(ends), scale)
    )
)


@given(drawn_floats)
def test_a_float_range_contains_its_ends_and_nothing_beyond(space: Float) -> None:
    low, high = space.ends()
    assert space.contains(low)
    assert space.contains(high)
    assert not space.contains(nextafter(low, -inf))
    assert not space.contains(nextafter(high, inf))


@given(drawn_floats, st.floats(0, 1))
def test_a_float_range_contains_what_lies_between_its_ends(space: Float, share: float) -> None:
    between = min(max(space.low + share * (space.high - space.low), space.low), space.high)
    assert space.contains(between)


@pytest.mark.parametrize("value", [nan, inf, -inf, True, False, "0.5", None, [0.5]])
def test_a_float_range_contains_only_numbers(value: object) -> None:
    assert not Float(-1.0, 1.0).contains(value)


def test_a_float_range_contains_whole_numbers_too() -> None:
    assert Float(0.0, 2.0).contains(1)


@given(numbers, numbers)
def test_a_float_range_must_rise(low: float, high: float) -> None:
    assume(low >= high)
    with pytest.raises(ValueError, match="must be below high"):
        Float(low, high)


@pytest.mark.parametrize(("low", "high"), [(nan, 1.0), (0.0, nan), (-inf, 1.0), (0.0, inf), (1.0, 1.0)])
def test_a_float_range_must_be_finite_and_not_empty(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="both finite"):
        Float(low, high)


@given(st.floats(-1e6, 0), st.floats(1e-6, 1e6))
def test_a_log_range_must_stay_above_zero(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="above 0 on a log scale"):
        Float(low, high, "log")


@given(st.floats(-1e6, 0.9), st.floats(1, 1e6))
def test_a_complement_range_must_stay_below_one(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="below 1"):
        Float(low, high, "complement")


@given(st.integers(), st.integers())
def test_an_int_range_contains_its_ends_and_nothing_beyond(one: int, other: int) -> None:
    space = Int(min(one, other), max(one, other))
    low, high = space.ends()
    assert space.contains(low)
    assert space.contains(high)
    assert not space.contains(low - 1)
    assert not space.contains(high + 1)


@pytest.mark.parametrize("value", [1.0, 1.5, True, "1", None])
def test_an_int_range_contains_only_whole_numbers(value: object) -> None:
    assert not Int(0, 2).contains(value)


@given(st.integers(), st.integers(1, 100))
def test_an_int_range_must_not_fall(high: int, more: int) -> None:
    with pytest.raises(ValueError, match="must not be above high"):
        Int(high + more, high)


@given(st.lists(options, min_size=1, max_size=6, unique=True))
def test_a_choice_contains_its_options(some: list[bool | int | float | str]) -> None:
    space = Choice(tuple(some))
    assert space.ends() == tuple(some)
    assert all(space.contains(option) for option in some)


@pytest.mark.parametrize("value", [1, 0, 1.0, "True", None, [True]])
def test_a_choice_contains_nothing_of_another_type(value: object) -> None:
    assert not Choice((True, False)).contains(value)


@given(st.lists(options, min_size=1, max_size=4))
def test_a_choice_refuses_an_option_that_stands_twice(some: list[bool | int | float | str]) -> None:
    with pytest.raises(ValueError, match="all different"):
        Choice((*some, some[0]))


def test_a_choice_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="must be some"):
        Choice(())


@given(st.floats(1e-6, 1e6), st.floats(1.1, 100))
def test_around_is_a_log_range_with_the_value_in_its_middle(value: float, factor: float) -> None:
    space = around(value, factor, "why")
    assert (space.scale, space.source) == ("log", "why")
    assert space.low * space.high == pytest.approx(value**2)
    assert space.high / value == pytest.approx(factor)


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (Float(0.0, 0.5), "0 to 0.5"),
        (Float(1e-10, 1e-4, "log"), "1e-10 to 0.0001, log scale"),
        (Float(0.5, 0.99, "complement"), "0.5 to 0.99, log scale of 1 - value"),
        (Int(1, 5), "1 to 5, whole"),
        (Choice((False, True)), "False or True"),
        (Fixed(0.001), "always 0.001"),
    ],
)
def test_a_range_says_what_it_is(space: Range, text: str) -> None:
    assert str(space) == text


@given(drawn_floats, st.floats(0, 1))
def test_places_rise_from_the_low_end_to_the_high_one(space: Float, share: float) -> None:
    # ends that are one and the same after rounding have no places between them
    assume(space.high - space.low > 1e-6 * max(1.0, abs(space.low), abs(space.high)))
    assert space.place(space.low) == 0
    assert space.place(space.high) == 1
    between = min(max(space.low + share * (space.high - space.low), space.low), space.high)
    assert -1e-9 <= space.place(between) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("space", "middle"),
    [(Float(0.0, 0.5), 0.25), (Float(1e-4, 1e-2, "log"), 1e-3), (Float(0.9, 0.999, "complement"), 0.99)],
)
def test_the_middle_of_a_range_is_that_of_its_scale(space: Float, middle: float) -> None:
    assert space.place(middle) == pytest.approx(0.5)


@given(options)
def test_a_fixed_value_contains_itself_alone(value: bool | int | float | str) -> None:
    space = Fixed(value)
    assert space.ends() == (value,)
    assert space.contains(value)
    assert not space.contains("no such value")
    assert not space.contains(1 if value is True else 0 if value is False else 17)


@pytest.mark.parametrize(("fixed", "other"), [(True, 1), (1, True), (0, False), (1.0, True), ("1", 1)])
def test_a_fixed_truth_value_is_no_number(fixed: bool | int | float | str, other: object) -> None:
    assert not Fixed(fixed).contains(other)


def test_a_range_is_open_unless_it_is_said_to_be_closed() -> None:
    assert not Float(0.0, 1.0).closed
    assert not Int(0, 1).closed
    assert Float(0.0, 1.0, closed=True).closed


@pytest.mark.parametrize("space", [Float(0.0, 1.0), Int(0, 1), Choice((0, 1)), Fixed(1)])
def test_a_range_is_frozen(space: Range) -> None:
    with pytest.raises(FrozenInstanceError):
        space.source = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value_range", "text"),
    [
        (Float(0.1, 0.12345678), "0.1 to 0.12345678"),
        (Float(1e-4 / 10, 1e-4 * 10, "log"), "1e-05 to 0.001, log scale"),
        (Float(0.9, 0.9999999, "complement"), "0.9 to 0.9999999, log scale of 1 - value"),
    ],
)
def test_a_range_is_told_in_the_digits_that_it_has(value_range: Float, text: str) -> None:
    assert str(value_range) == text


def test_two_ranges_are_the_same_if_their_numbers_are() -> None:
    # 0.1 + 0.2 is not 0.3 to the last bit: how a release computes an end must not matter
    assert ranges.numbers(Float(0.1, 0.1 + 0.2)) == ranges.numbers(Float(0.1, 0.3))
    different = [
        Float(0.1, 0.3),
        Float(0.1, 0.3, "log"),
        Float(0.1, 0.30000001),
        Int(1, 3),
        Float(1.0, 3.0),
        Choice((1, 3)),
        Fixed(1),
        Fixed("1"),
    ]
    kept = [json.dumps(ranges.numbers(each)) for each in different]
    assert len(set(kept)) == len(different)
