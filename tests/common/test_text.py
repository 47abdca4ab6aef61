"""Numbers in words: durations, measured and estimated."""

import pytest

from optitune.common.text import duration, roughly


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
