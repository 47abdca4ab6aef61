"""By how much a learning rate is still to change, as told beforehand and as torch has it in a training."""

from collections.abc import Callable
from math import log10

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial
from torch import nn
from torch.optim import Optimizer
from torch.optim import lr_scheduler as torch_schedules
from torch.optim.lr_scheduler import LRScheduler

from optitune.sampling import forecast
from optitune.searching.objective import changes_ahead
from optitune.space.configuration import ScheduleSettings
from optitune.space.schedules import ROWS, Schedule
from optitune.study.steps import compared_step
from optitune.training.build import lr_ahead

pytestmark = pytest.mark.wide

EPOCHS, EVALUATIONS = 5, 4
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)

PER_STEP: dict[str, Callable[[Optimizer, int], LRScheduler]] = {
    "cosine": lambda optimizer, steps: torch_schedules.CosineAnnealingLR(optimizer, steps),
    "linear": lambda optimizer, steps: torch_schedules.LinearLR(optimizer, 1.0, 0.0, steps),
    "polynomial": lambda optimizer, steps: torch_schedules.PolynomialLR(optimizer, steps, 0.9),
    "one-cycle": lambda optimizer, steps: torch_schedules.OneCycleLR(optimizer, 0.1, steps, cycle_momentum=False),
}
PER_EPOCH: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "step": lambda optimizer: torch_schedules.StepLR(optimizer, 4, 0.1),
    "multistep": lambda optimizer: torch_schedules.MultiStepLR(optimizer, [2, 4], 0.1),
    "exponential": lambda optimizer: torch_schedules.ExponentialLR(optimizer, 0.630957),
}
NEVER = {"constant", "reduce-on-plateau"}


def known_good(row: Schedule, warmup: float = 0.0, epochs: int = EPOCHS) -> ScheduleSettings:
    return ScheduleSettings(name=row.name, settings=row.arguments(row.known_good(epochs)), warmup=warmup)


def trained(name: str, steps_per_epoch: int, warmup: int = 0) -> list[float]:
    """What is ahead by torch's schedulers, stepped as in a training of that many steps and a warm-up over `warmup`."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    total = EPOCHS * steps_per_epoch
    per_step = [PER_STEP[name](optimizer, total)] if name in PER_STEP else []
    per_epoch = [PER_EPOCH[name](optimizer)] if name in PER_EPOCH else []
    if warmup:
        per_step.append(torch_schedules.LinearLR(optimizer, 1 / (warmup + 1), 1.0, warmup))
    lrs = []
    for step in range(1, total + 1):
        if step % (steps_per_epoch // EVALUATIONS) == 0:
            lrs.append(log10(max(0.01, optimizer.param_groups[0]["lr"] / 0.1)))
        optimizer.step()
        for scheduler in per_step + (per_epoch if step % steps_per_epoch == 0 else []):
            scheduler.step()
    return [lrs[-1] - lr for lr in lrs]


def test_every_row_is_compared() -> None:
    assert {row.name for row in ROWS} == {*PER_STEP, *PER_EPOCH, *NEVER}


@pytest.mark.parametrize(("steps", "off"), [(40, 1e-4), (400, 0.15)])
@pytest.mark.parametrize("warm", [False, True])
@every_row
def test_what_is_ahead_is_what_torch_does_in_a_training(row: Schedule, warm: bool, steps: int, off: float) -> None:
    warmup = 0.2 if warm and not row.warms_up else 0.0
    told = lr_ahead(known_good(row, warmup), EPOCHS, EVALUATIONS)
    assert len(told) == EPOCHS * EVALUATIONS
    assert told == pytest.approx(trained(row.name, steps, round(warmup * EPOCHS * steps)), abs=off)


@every_row
def test_nothing_is_ahead_of_the_end(row: Schedule) -> None:
    for warmup in (0.0, 0.3) if not row.warms_up else (0.0,):
        assert lr_ahead(known_good(row, warmup), EPOCHS, EVALUATIONS)[-1] == 0


@pytest.mark.parametrize("name", sorted(NEVER))
def test_a_fall_that_depends_on_the_loss_is_not_foreseen(name: str) -> None:
    (row,) = (row for row in ROWS if row.name == name)
    assert lr_ahead(known_good(row), EPOCHS, EVALUATIONS) == [0.0] * 20


@pytest.mark.parametrize("name", sorted(NEVER))
def test_a_warm_up_is_a_rise_that_is_ahead(name: str) -> None:
    (row,) = (row for row in ROWS if row.name == name)
    told = lr_ahead(known_good(row, warmup=0.4), EPOCHS, EVALUATIONS)
    assert all(change > 0 for change in told[:7])
    assert told[:8] == sorted(told[:8], reverse=True)
    assert told[8:] == [0.0] * 12


def test_the_step_schedule_tells_its_one_drop() -> None:
    told = lr_ahead(ScheduleSettings(name="step", settings={"step_size": 4, "gamma": 0.1}), EPOCHS, EVALUATIONS)
    assert told == [-1.0] * 16 + [0.0] * 4


def test_changes_are_told_up_to_the_steps_that_are_reported() -> None:
    settings = ScheduleSettings(name="multistep", settings={"milestones": [2, 4], "gamma": 0.1})
    assert changes_ahead(settings, EPOCHS, EVALUATIONS, 100) == {"200": -2.0, "400": -1.0}
    step = ScheduleSettings(name="step", settings={"step_size": 1, "gamma": 0.5})
    assert changes_ahead(step, 3, EVALUATIONS, 100) == {"100": -0.6, "200": -0.3}


@pytest.mark.parametrize("name", sorted(NEVER))
def test_of_a_constant_learning_rate_nothing_is_told(name: str) -> None:
    (row,) = (row for row in ROWS if row.name == name)
    assert changes_ahead(known_good(row), EPOCHS, EVALUATIONS, 100) == {}


@every_row
def test_what_is_told_is_of_steps_that_are_reported(row: Schedule) -> None:
    told = changes_ahead(known_good(row), EPOCHS, EVALUATIONS, 100)
    assert set(told) <= {str(25 * point) for point in range(1, 20)}


def says_what_is_ahead(settings: ScheduleSettings, epochs: int, evaluations: int, usual: int, off: float) -> None:
    told = changes_ahead(settings, epochs, evaluations, usual)
    trial = create_trial(state=TrialState.RUNNING, user_attrs={"lr_ahead": told})
    for point, change in enumerate(lr_ahead(settings, epochs, evaluations), start=1):
        step = compared_step(point / evaluations, evaluations, usual)
        if step is not None:
            assert forecast.lr_ahead(trial, step) == pytest.approx(change, abs=off)


@every_row
@given(usual=st.sampled_from([4, 5, 7, 100]), evaluations=st.integers(1, 4), epochs=st.integers(1, 7))
def test_a_trial_says_what_is_ahead_of_each_step_it_reports(
    row: Schedule, usual: int, evaluations: int, epochs: int
) -> None:
    says_what_is_ahead(known_good(row, 0.0 if row.warms_up else 0.3, epochs), epochs, evaluations, usual, off=0.006)


@every_row
@given(usual=st.integers(1, 3), evaluations=st.integers(1, 4), epochs=st.integers(1, 7))
def test_it_nearly_does_where_several_evaluations_have_one_step(
    row: Schedule, usual: int, evaluations: int, epochs: int
) -> None:
    says_what_is_ahead(known_good(row, epochs=epochs), epochs, evaluations, usual, off=0.1)
