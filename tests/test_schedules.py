"""What every schedule of the registry must do, and the curves of those that are there."""

from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from optitune import schedules
from optitune.configuration import ScheduleSettings
from optitune.engine import build_schedule
from optitune.errors import UsageError
from optitune.schedules import DEFAULT_SCHEDULES, LIMITS, ROWS, SCHEDULES, Schedule, Settings

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
every_length = pytest.mark.parametrize("epochs", [1, 2, 5, 100])


def curve(name: str, settings: Settings, epochs: int, lr: float = 1.0) -> list[float]:
    """The learning rate of each epoch."""
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=lr)
    scheduler = build_schedule(ScheduleSettings(name=name, settings=settings), optimizer)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return rates


def corners(row: Schedule, epochs: int) -> Iterator[Settings]:
    """Known-good, every end of every range with the others at known-good, then all low and all high."""
    good, ranges, fixed = row.known_good(epochs), row.ranges(epochs), row.fixed(epochs)
    yield {**fixed, **good}
    for name, space in ranges.items():
        for end in space.ends():
            yield {**fixed, **good, name: end}
    for number in (0, -1):
        yield {**fixed, **{name: space.ends()[number] for name, space in ranges.items()}}


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("constant", {}, [1.0, 1.0, 1.0]),
        ("step", {"step_size": 1, "gamma": 0.7}, [1.0, 0.7, 0.49, 0.343]),
        ("step", {"step_size": 2, "gamma": 0.1}, [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]),
        ("step", {"step_size": 4, "gamma": 0.1}, [1.0, 1.0, 1.0, 1.0]),
        ("exponential", {"gamma": 0.5}, [1.0, 0.5, 0.25, 0.125]),
        ("exponential", {"gamma": 1}, [1.0, 1.0]),
        ("cosine", {"T_max": 4}, [1.0, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_the_curve_is_as_documented(name: str, settings: Settings, expected: list[float]) -> None:
    assert curve(name, settings, len(expected)) == pytest.approx(expected)


@every_row
def test_the_curve_starts_at_the_learning_rate(row: Schedule) -> None:
    for settings in corners(row, 5):
        assert curve(row.name, settings, 5, lr=0.03)[0] == 0.03


@every_length
@every_row
def test_every_corner_of_the_ranges_falls_and_stays_above_zero(row: Schedule, epochs: int) -> None:
    for settings in corners(row, epochs):
        rates = curve(row.name, settings, epochs)
        assert all(later <= earlier for earlier, later in pairwise(rates))
        assert rates[-1] > 0


@every_length
@every_row
def test_known_good_settings_lie_in_the_ranges(row: Schedule, epochs: int) -> None:
    good, ranges = row.known_good(epochs), row.ranges(epochs)
    assert good.keys() == ranges.keys()
    for name, space in ranges.items():
        assert space.contains(good[name]), name
    assert not ranges.keys() & row.fixed(epochs).keys()


@every_length
@pytest.mark.parametrize("name", ["step", "exponential"])
def test_known_good_settings_fall_to_a_tenth_over_the_whole_training(name: str, epochs: int) -> None:
    rates = curve(name, SCHEDULES[name].known_good(epochs), epochs + 1)
    assert rates[-1] == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("constant", {}),
        ("step", {"step_size": 1, "gamma": 0.7}),
        ("step", {"step_size": 3, "gamma": 0.2}),
        ("exponential", {"gamma": 0.4}),
        ("cosine", {"T_max": 6}),
    ],
)
def test_a_stretched_curve_has_the_same_shape(name: str, settings: Settings, times: int) -> None:
    short = curve(name, settings, 6)
    long = curve(name, SCHEDULES[name].stretched(settings, times), 6 * times)
    assert long[::times] == pytest.approx(short)


def test_every_schedule_is_among_the_stretched_ones_above() -> None:
    assert set(SCHEDULES) == {"constant", "step", "exponential", "cosine"}


@pytest.mark.parametrize("ratio", [1 / 1000, 1 / 3, 1.0, 2.5, 1000.0])
@every_row
def test_stretching_gives_settings_that_are_allowed_and_leaves_the_old_ones(row: Schedule, ratio: float) -> None:
    for settings in corners(row, 1000):
        before = dict(settings)
        stretched = ScheduleSettings(name=row.name, settings=row.stretched(settings, ratio))
        assert stretched.settings.keys() == settings.keys()
        assert settings == before


@every_row
def test_a_ratio_of_one_changes_nothing(row: Schedule) -> None:
    for settings in corners(row, 7):
        assert row.stretched(settings, 1.0) == settings


@every_row
def test_every_setting_has_a_limit_and_every_range_a_source(row: Schedule) -> None:
    for epochs in (1, 5):
        for name, space in row.ranges(epochs).items():
            assert space.source
            assert all(LIMITS[name][1](end) for end in space.ends())
        for name, value in {**row.known_good(epochs), **row.fixed(epochs)}.items():
            assert LIMITS[name][1](value), name


@every_row
def test_a_row_names_its_class_and_has_its_words(row: Schedule) -> None:
    assert SCHEDULES[row.name] is row
    assert row.source
    assert row.note
    weight = nn.Parameter(torch.zeros(1))
    settings: dict[str, Any] = {**row.fixed(3), **row.known_good(3)}
    scheduler = build_schedule(ScheduleSettings(name=row.name, settings=settings), torch.optim.SGD([weight], lr=1.0))
    module, _, name = row.path.partition(":")
    assert type(scheduler) is (getattr(import_module(module), name) if row.path else type(None))


def test_the_names_are_distinct_and_the_default_ones_exist() -> None:
    assert len(SCHEDULES) == len(ROWS)
    assert set(DEFAULT_SCHEDULES) <= set(SCHEDULES)


def test_an_unknown_schedule_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown schedule 'cosin': did you mean 'cosine'"):
        schedules.find("cosin")
