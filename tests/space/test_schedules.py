"""What every schedule of the registry must do, and the curves of those that are there."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import optuna
import pytest
import torch
from torch import nn
from torch.nn import functional

from optitune.errors import UsageError
from optitune.sampling.parameters import known_good_parameters, suggest
from optitune.space import schedules
from optitune.space.configuration import Configuration, ScheduleSettings
from optitune.space.ranges import Fixed, Float
from optitune.space.schedules import DEFAULT_SCHEDULES, LIMITS, ROWS, SCHEDULES, Schedule, Settings
from optitune.study.best_config import BestConfig
from optitune.study.settings import StudySettings
from optitune.tasks import metrics
from optitune.tasks.data import Examples
from optitune.tasks.models import Mlp
from optitune.tasks.task import Task
from optitune.training import preflight
from optitune.training.build import at, build_schedules
from optitune.training.engine import Training
from optitune.training.export_code import python
from optitune.training.plan import Plan

Configured = Callable[..., Configuration]

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
every_length = pytest.mark.parametrize("epochs", [1, 2, 5, 100])

STEPS = 4
"""Of an epoch."""


def curve(name: str, settings: Settings, epochs: int, lr: float = 1.0, steps: int = STEPS) -> list[float]:
    """The learning rate of each step, of a training whose loss never falls."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    built = build_schedules(ScheduleSettings(name=name, settings=settings), optimizer, epochs, steps)
    rates = []
    for _ in range(epochs):
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            for each in built:
                if each.per_step:
                    each.scheduler.step()
        for each in built:
            if not each.per_step:
                each.scheduler.step(*([1.0] if each.observes else []))  # type: ignore[arg-type]
    return rates


def corners(row: Schedule, epochs: int) -> Iterator[Settings]:
    """Known-good, every end of every range with the others at known-good, then all low and all high."""
    good, ranges = row.known_good(epochs), row.ranges(epochs)
    yield row.arguments(good)
    for name, space in ranges.items():
        for end in space.ends():
            yield row.arguments({**good, name: end})
    for number in (0, -1):
        yield row.arguments({name: space.ends()[number] for name, space in ranges.items()})


@every_row
def test_the_curve_starts_at_the_learning_rate_or_warms_up_to_it(row: Schedule) -> None:
    for settings in corners(row, 5):
        rates = curve(row.name, settings, 5, lr=0.03)
        assert rates[0] == (pytest.approx(0.03 / 25) if row.warms_up else 0.03)
        assert max(rates) == (pytest.approx(0.03, rel=0.1) if row.warms_up else 0.03)


@every_length
@every_row
def test_every_corner_of_the_ranges_falls_and_stays_above_zero(row: Schedule, epochs: int) -> None:
    for settings in corners(row, epochs):
        rates = curve(row.name, settings, epochs)
        top = rates.index(max(rates)) if row.warms_up else 0
        assert all(later >= earlier for earlier, later in pairwise(rates[: top + 1]))
        assert all(later <= earlier for earlier, later in pairwise(rates[top:]))
        assert rates[-1] > 0


@every_row
def test_a_row_means_the_same_for_every_batch_size(row: Schedule) -> None:
    for settings in corners(row, 4):
        few, plural = (curve(row.name, settings, 4, steps=steps) for steps in (40, 400))
        # a step of the one is ten of the other; of an epoch's start both have the same, but for the step's own length
        assert few[::40] == pytest.approx(plural[::400], abs=0.05)


@every_length
@every_row
def test_known_good_settings_lie_in_the_ranges(row: Schedule, epochs: int) -> None:
    good, ranges = row.known_good(epochs), row.ranges(epochs)
    assert good.keys() == ranges.keys()
    for name, space in ranges.items():
        assert space.contains(good[name]), name
    assert not ranges.keys() & row.fixed.keys()


@every_length
def test_the_known_good_exponential_falls_to_a_tenth_over_the_whole_training(epochs: int) -> None:
    rates = curve("exponential", SCHEDULES["exponential"].known_good(epochs), epochs + 1)
    assert rates[-1] == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("epochs", "high"), [(2, 1), (3, 2), (5, 4), (10, 8), (100, 80)])
def test_the_known_good_step_drops_once_for_the_last_fifth(epochs: int, high: int) -> None:
    rates = curve("step", SCHEDULES["step"].known_good(epochs), epochs, steps=1)
    assert rates == pytest.approx([1.0] * high + [0.1] * (epochs - high))


STRETCHED: dict[str, list[Settings]] = {
    "constant": [{}],
    "step": [{"step_size": 1, "gamma": 0.7}, {"step_size": 3, "gamma": 0.2}],
    "multistep": [{"milestone1": 2, "milestone2": 4, "gamma": 0.3}, {"milestone1": 3, "milestone2": 3, "gamma": 0.3}],
    "exponential": [{"gamma": 0.4}],
    "cosine": [{"T_max": 6}],
    "linear": [{"total_iters": 6}, {"total_iters": 3}],
    "polynomial": [{"total_iters": 6, "power": 2.0}],
    "one-cycle": [{"total_steps": 6, "pct_start": 0.25}],
}


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("row", [row for row in ROWS if not row.observes], ids=lambda row: row.name)
def test_a_stretched_curve_has_the_same_shape(row: Schedule, times: int) -> None:
    for values in STRETCHED[row.name]:
        settings = row.arguments(values)
        short = curve(row.name, settings, 6, steps=40)
        long = curve(row.name, row.stretched(settings, times), 6 * times, steps=40)
        if row.name == "exponential":
            short, long = short[::40], long[:: 40 * times]
        else:
            long = long[::times]
        away = [abs(mine - theirs) for mine, theirs in zip(short, long, strict=True)]
        assert sum(away) / len(away) < 0.03


def test_patience_is_stretched_too() -> None:
    assert SCHEDULES["reduce-on-plateau"].stretched({"factor": 0.5, "patience": 2}, 2.5)["factor"] == 0.5
    long = SCHEDULES["reduce-on-plateau"].stretched({"factor": 0.5, "patience": 4}, 2.0)
    assert 8 <= long["patience"] <= 9


def test_a_milestone_keeps_its_place_in_a_stretched_training() -> None:
    settings = {"milestones": [2, 4], "gamma": 0.1}
    assert SCHEDULES["multistep"].stretched(settings, 2.5) == {"milestones": [5, 10], "gamma": 0.1}
    assert SCHEDULES["multistep"].stretched(settings, 0.1) == {"milestones": [1, 1], "gamma": 0.1}


def test_milestones_are_told_in_their_order() -> None:
    values = {"milestone1": 5, "milestone2": 2, "gamma": 0.1}
    assert SCHEDULES["multistep"].arguments(values) == {"milestones": [2, 5], "gamma": 0.1}


@pytest.mark.parametrize("ratio", [0.2, 0.6, 1.4, 7.0])
@every_row
def test_what_lasts_the_whole_training_still_does_when_stretched(row: Schedule, ratio: float) -> None:
    """Or torch would be asked for steps beyond a cycle's end, or a cosine would rise again."""
    epochs = 10
    settings = row.arguments(row.known_good(epochs))
    whole = [name for name, space in row.ranges(epochs).items() if space == Fixed(epochs, "the whole training")]
    stretched = row.stretched(settings, ratio)
    assert [stretched[name] for name in whole] == [round(ratio * epochs)] * len(whole)
    rates = curve(row.name, stretched, round(ratio * epochs))
    assert len(rates) == STEPS * round(ratio * epochs)


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
        for name, value in {**row.known_good(epochs), **row.fixed}.items():
            assert isinstance(value, bool) or LIMITS[name][1](value), name


def test_no_limit_is_left_from_a_row_that_is_gone() -> None:
    assert set(LIMITS) <= {name for row in ROWS for name in (*row.ranges(5), *row.fixed)}


@every_row
def test_what_counts_epochs_or_acts_once_an_epoch_is_a_setting(row: Schedule) -> None:
    settings = row.arguments(row.known_good(5))
    assert {*row.in_epochs, *row.per_epoch} <= set(settings)
    assert row.per == "epoch" or not row.per_epoch
    in_steps = row.in_steps(settings, 7)
    if row.per == "step":
        assert {name: in_steps[name] for name in row.in_epochs} == {name: 7 * settings[name] for name in row.in_epochs}
    assert all(in_steps[name] == settings[name] for name in settings if row.per == "epoch" or name not in row.in_epochs)


@every_row
def test_a_row_names_its_class_and_has_its_words(row: Schedule) -> None:
    assert SCHEDULES[row.name] is row
    assert row.source
    assert row.note.endswith(".")
    settings = ScheduleSettings(name=row.name, settings=row.arguments(row.known_good(3)))
    built = build_schedules(settings, torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), 3, STEPS)
    assert [type(each.scheduler) for each in built] == ([at(row.path)] if row.path else [])
    assert [(each.per_step, each.observes) for each in built] == [(row.per == "step", row.observes)] * bool(row.path)


def test_the_names_are_distinct_and_the_default_ones_exist() -> None:
    assert len(SCHEDULES) == len(ROWS)
    assert set(DEFAULT_SCHEDULES) <= set(SCHEDULES)


def test_an_unknown_schedule_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown schedule 'cosin': did you mean 'cosine'"):
        schedules.find("cosin")


@pytest.fixture
def halving(monkeypatch: pytest.MonkeyPatch) -> Schedule:
    """A schedule that is no more than a row."""
    row = Schedule(
        name="halving",
        path="torch.optim.lr_scheduler:ConstantLR",
        known_good=lambda epochs: {"total_iters": max(1, epochs // 2), "factor": 0.5},
        ranges=lambda epochs: {
            "total_iters": Fixed(max(1, epochs // 2), "half of it"),
            "factor": Float(0.1, 0.9, "log", "a test"),
        },
        source="a test",
        note="A part of the lr at first, then all of it.",
        per="step",
        in_epochs=("total_iters",),
    )
    monkeypatch.setattr(schedules, "SCHEDULES", MappingProxyType({**SCHEDULES, row.name: row}))
    return row


def test_a_schedule_that_was_added_as_a_row_can_be_searched_and_configured(
    halving: Schedule, configured: Configured, images: Examples
) -> None:
    settings = StudySettings.model_validate(
        {"optimizers": ["adam"], "schedules": ["halving", "step"], "epochs": 4, "halving": {"factor": [0.4, 0.6]}}
    )
    preflight.check(Task(model=lambda: Mlp((16, 3)), data=None), images, settings)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(known_good_parameters(settings)[0])
    first, *others = [suggest(study.ask(), settings, settings.space()).schedule for _ in range(20)]
    assert (first.name, first.settings) == ("halving", {"total_iters": 2, "factor": 0.5})
    assert {each.name for each in others} == {"halving", "step"}
    assert all(0.4 <= each.settings["factor"] <= 0.6 for each in others if each.name == "halving")
    assert "halving" in StudySettings(schedules=("all",)).schedules
    with pytest.raises(ValueError, match=r"settings.factor = 1.0: factor must be above 0 and below 1"):
        ScheduleSettings(name="halving", settings={"total_iters": 2, "factor": 1.0})


def test_a_schedule_that_was_added_as_a_row_trains(halving: Schedule, configured: Configured, images: Examples) -> None:
    plan = Plan(
        configured("adam", "halving", epochs=4, lr=0.01, warmup=0.25),
        functional.cross_entropy,
        metrics.find("accuracy"),
        4,
        seed=0,
        precision="fp32",
    )
    rates = [row.lr for row in Training(Mlp((16, 3)), plan, images).run()]
    # ramped up over the first of four epochs, halved over two
    assert rates == pytest.approx([0.005 * 6 / 7, 0.005, 0.01, 0.01])


def test_a_schedule_that_was_added_as_a_row_is_exported(
    halving: Schedule, configured: Configured, best_config: Callable[[Configuration], BestConfig]
) -> None:
    text = python(best_config(configured("adam", "halving", epochs=4)))
    length = "max(1, round(2 * longer))"
    assert (
        f"scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, total_iters={length} * steps, factor=0.5)" in text
    )


def test_without_its_row_the_schedule_is_unknown(configured: Configured) -> None:
    with pytest.raises(UsageError, match="unknown schedule 'halving'"):
        configured("adam", "halving")


@pytest.mark.parametrize("schedule", ["cosine", "linear", "polynomial", "one-cycle"])
def test_a_schedule_that_lasts_the_training_does_so_for_any_number_of_epochs(
    schedule: str, configured: Configured, best_config: Callable[[Configuration], BestConfig], images: Examples
) -> None:
    """One cycle would fail after its last step, and half a cosine rise again."""
    names: dict[str, Any] = {}
    exec(python(best_config(configured("adam", schedule, epochs=3))), names)  # noqa: S102
    batches = [images.batch(places) for places in torch.arange(90).split(16)]
    losses = names["train"](Mlp((16, 16, 3)), batches, epochs=5)
    assert len(losses) == 5
    assert losses[-1] < losses[0]
