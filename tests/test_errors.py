"""Errors: their exit codes, and the advice for an unknown name."""

import pytest

from optitune.errors import Interrupted, OptituneError, UsageError, unknown


@pytest.mark.parametrize(("kind", "code"), [(OptituneError, 1), (UsageError, 2), (Interrupted, 130)])
def test_each_kind_of_error_has_its_exit_code(kind: type[OptituneError], code: int) -> None:
    assert issubclass(kind, OptituneError)
    assert kind("why").exit_code == code
    assert str(kind("why")) == "why"


def test_unknown_suggests_the_nearest_name() -> None:
    error = unknown("optimizer", "adamm", ["sgd", "adam", "rmsprop"])
    assert isinstance(error, UsageError)
    assert str(error) == "unknown optimizer 'adamm': did you mean 'adam'?"


def test_unknown_suggests_at_most_two_names() -> None:
    text = str(unknown("optimizer", "adam2", ["adam", "adamw", "adamax"]))
    assert text.count("'") == 6
    assert " or " in text


def test_unknown_lists_all_names_in_order_where_none_is_near() -> None:
    assert str(unknown("task", "xyz", ["sgd", "adam"])) == "unknown task 'xyz': there are: adam, sgd"


def test_unknown_says_when_there_is_nothing_to_know() -> None:
    assert str(unknown("study", "a", [])) == "unknown study 'a': there is none yet"


def test_unknown_ends_in_its_hint() -> None:
    assert str(unknown("task", "digit", ["digits"], "(see there)")).endswith("did you mean 'digits'? (see there)")
