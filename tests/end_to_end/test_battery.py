"""Every optimizer with every schedule; a new row of either inherits all of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from math import isfinite
from typing import Any

import pytest
import torch
from torch.nn import functional

from optitune.space.configuration import Configuration, OptimizerSettings, ScheduleSettings, TrainingSettings
from optitune.space.optimizers import OPTIMIZERS, Optimizer
from optitune.space.schedules import SCHEDULES, Schedule
from optitune.tasks import metrics
from optitune.tasks.data import Examples
from optitune.tasks.models import Mlp
from optitune.training.engine import Training
from optitune.training.plan import Plan
from optitune.training.progress import Diverged, Progress

pytestmark = pytest.mark.wide

Values = Mapping[str, Any]

EPOCHS = 2
"""Of a training from a corner: enough for a schedule to be stepped in both ways."""

every_pair = pytest.mark.parametrize(
    ("row", "schedule"),
    [
        pytest.param(row, schedule, id=f"{row.name}-{schedule.name}")
        for row in OPTIMIZERS.values()
        for schedule in SCHEDULES.values()
    ],
)


def trained(
    configuration: Configuration, images: Examples, epochs: int, widths: tuple[int, ...] = (16, 8, 8, 3)
) -> Iterator[Progress]:
    torch.manual_seed(0)
    plan = Plan(configuration, functional.cross_entropy, metrics.find("accuracy"), epochs, seed=0, precision="fp32")
    return Training(Mlp(widths), plan, images, images).run()


def extremes(row: Optimizer, schedule: Schedule) -> Iterator[tuple[Values, Values]]:
    """All low and all high of both, in every pairing."""
    lows_and_highs = [
        [{name: space.ends()[end] for name, space in ranges.items()} for end in (0, -1)]
        for ranges in (row.ranges, schedule.ranges(EPOCHS))
    ]
    yield from product(*lows_and_highs)


def single_ends(row: Optimizer, schedule: Schedule) -> Iterator[tuple[Values, Values]]:
    """Every end of every range alone, the others at known-good."""
    good, shape = row.known_good[0], schedule.known_good(EPOCHS)
    for name, space in row.ranges.items():
        yield from (({**good, name: end}, shape) for end in space.ends())
    for name, space in schedule.ranges(EPOCHS).items():
        yield from ((good, {**shape, name: end}) for end in space.ends())


def ends_or_diverges(
    row: Optimizer, schedule: Schedule, values: Values, shape: Values, images: Examples, **other: Any
) -> None:
    """Train from these settings; whatever is raised but `Diverged` is a fault."""
    configuration = Configuration(
        optimizer=OptimizerSettings(name=row.name, settings=row.arguments(values)),
        schedule=ScheduleSettings(name=schedule.name, settings=schedule.arguments(shape), **other),
        training=TrainingSettings(batch_size=24),
    )
    reached: list[Progress] = []
    with suppress(Diverged):
        reached.extend(trained(configuration, images, EPOCHS))
        assert [progress.step for progress in reached] == [4, 8]
        assert all(isfinite(progress.train_loss) for progress in reached)


@every_pair
def test_known_good_settings_lower_the_loss(
    row: Optimizer, schedule: Schedule, images: Examples, configured: Callable[..., Configuration]
) -> None:
    for variant in range(len(row.known_good)):
        configuration = configured(row.name, schedule.name, epochs=12, variant=variant, training={"batch_size": 10})
        losses = [progress.train_loss for progress in trained(configuration, images, 12, (16, 64, 64, 3))]
        assert all(map(isfinite, losses))
        # the slowest wait some 50 steps before their lr is what it says
        assert losses[-1] < 0.95 * losses[0], variant


@every_pair
def test_from_every_corner_of_the_ranges_a_training_ends_or_diverges(
    row: Optimizer, schedule: Schedule, images: Examples
) -> None:
    for values, shape in (*extremes(row, schedule), *single_ends(row, schedule)):
        ends_or_diverges(row, schedule, values, shape, images)


@every_pair
def test_so_it_does_after_a_warm_up(row: Optimizer, schedule: Schedule, images: Examples) -> None:
    # one that warms up by itself takes no other
    share = 0.0 if schedule.warms_up else 0.2
    for values, shape in extremes(row, schedule):
        ends_or_diverges(row, schedule, values, shape, images, warmup=share)
