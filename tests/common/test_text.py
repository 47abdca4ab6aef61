"""Numbers in words: settings, and durations, measured and estimated."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optitune.common.text import Unit, digest, duration, plural, roughly, setting


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s"), (0.0123, "0.012 s"), (1.26, "1.3 s"), (9.97, "10 s"), (45.4, "45 s"), (61, "1 min 01 s")),
        *((3659.6, "1 h 01 min"), (90_000, "1 d 1 h")),
    ],
)
def test_a_measured_time_has_two_units_or_two_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.2, "5 s"), (12, "10 s"), (83, "85 s"), (100, "1.5 min"), (290, "5 min"), (740, "12 min")),
        *((5000, "83 min"), (7000, "2 h"), (12_000, "3.5 h"), (200_000, "2.3 d")),
    ],
)
def test_an_estimate_is_given_no_finer_than_it_is_known(seconds: float, text: str) -> None:
    assert roughly(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.99952, "0.99952"),
        ([0.8961234567, 0.9995234567], "(0.8961, 0.999523)"),
        (1 - 1e-7, "0.9999999"),
        (1 - 1.23456e-9, "0.99999999877"),
        (0.00123456789, "0.001235"),
        (0.05, "0.05"),
        (1e-8, "1e-08"),
        (1.0, "1"),
        (1234567.0, "1234567"),
        (0.0, "0"),
        (65536, "65536"),
        (True, "True"),
    ],
)
def test_a_setting_has_as_many_digits_as_it_needs(value: Any, text: str) -> None:
    assert setting(value) == text


@given(st.floats(0.5, 1, exclude_max=True))
def test_no_setting_below_one_is_rounded_to_one(value: float) -> None:
    read = float(setting(value))
    assert read < 1
    assert 1 - read == pytest.approx(1 - value, rel=0.01, abs=1e-16)


@pytest.mark.parametrize(
    ("number", "thing", "text"),
    [
        *(
            (1, "epoch", "1 epoch"),
            (1.0, "epoch", "1 epoch"),
            (0, "run", "0 runs"),
            (60_000, "example", "60000 examples"),
        ),
        (60_000, "example", "60000 examples"),
        *((0.5, "epoch", "0.5 epochs"), (2, "batch", "2 batches"), (3, "class", "3 classes")),
    ],
)
def test_a_number_of_things_is_one_or_several(number: float, thing: str, text: str) -> None:
    assert plural(number, thing) == text


RMSE, ACCURACY = Unit("rmse"), Unit("accuracy", percent=True)


def test_a_column_says_better_or_worse_and_has_no_sign() -> None:
    assert RMSE.change(-11.2) == "11 worse"
    assert ACCURACY.change(0.0031) == "0.31 better"
    assert ACCURACY.change(-0.00001) == "0.00"
    assert RMSE.between(-0.5, -0.02) == "0.5 to 0.02 worse"
    assert RMSE.between(-0.5, 0.25) == "0.5 worse to 0.25 better"
    assert ACCURACY.between(0.0, 0.25) == "0.00 to 25.00 better"


def test_a_checksum_is_shown_by_its_first_digits() -> None:
    assert digest("sha256:" + 64 * "a") == "sha256:aaaaaaaaaaaa..."
    assert digest("sha256:ab") == "sha256:ab"
