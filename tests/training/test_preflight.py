"""What does not fit together is refused in one line before anything trains."""

import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from preflight_tasks import (
    CLASSES,
    COLUMN,
    INPUTS,
    NUMBERS,
    Remembering,
    Two,
    cross_entropy_of_both,
    linear,
    refused,
    tried,
)
from torch import nn

from optitune import Metric, Task
from optitune.errors import Note, UsageError
from optitune.study.settings import StudySettings
from optitune.tasks.splits import search_data
from optitune.training.preflight import check, check_configuration, fingerprint, fresh_model

FITTING: dict[str, dict[str, Any]] = {
    "plain": {},
    "numbers": {"model": linear(1), "data": (INPUTS, NUMBERS), "loss": "mse", "metric": "r2"},
    "two outputs in training": {"model": lambda: Two(training=-3, judged=3), "loss": cross_entropy_of_both},
    "two outputs": {
        "model": lambda: Two(training=-3, judged=-3),
        "loss": cross_entropy_of_both,
        "metric": Metric("own", "maximize", lambda outputs, targets: float(outputs[1].mean())),
    },
    "a state without its graph": {"model": lambda: Remembering(detach=True)},
    "a metric of more examples": {
        "metric": Metric("often", "maximize", lambda outputs, targets: 1 / (len(targets) > 30)),
    },
    "a metric of all classes": {
        "model": linear(10),
        "data": (INPUTS, torch.arange(60) // 6),
        "metric": Metric("all", "maximize", lambda outputs, targets: 1 / (len(targets.unique()) == 10)),
    },
    "numpy's numbers": {"metric": Metric("own", "maximize", lambda outputs, targets: np.float32(outputs.mean()))},
    "torch's loss on a column": {**COLUMN, "loss": nn.SmoothL1Loss()},
    "binary": {
        "model": linear(1),
        "data": (INPUTS, (CLASSES > 0).float()),
        "loss": nn.BCEWithLogitsLoss(),
        "metric": Metric("right", "maximize", lambda o, t: ((o[:, 0] > 0) == (t > 0)).float().mean()),
    },
    "several labels": {
        "data": (INPUTS, (INPUTS[:, :3] > 0.5).float()),
        "loss": nn.BCEWithLogitsLoss(),
        "metric": Metric("right", "maximize", lambda o, t: ((o > 0) == (t > 0)).float().mean()),
    },
    "soft labels": {"data": (INPUTS, INPUTS[:, :3].softmax(1)), "loss": nn.CrossEntropyLoss(), "metric": "loss"},
    "nll": {"model": lambda: nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1)), "loss": nn.NLLLoss()},
    "a column by hand": {**COLUMN, "loss": lambda o, t: (o[:, 0] - t).square().mean()},
    "a column of targets by hand": {**COLUMN, "loss": lambda o, t: nn.functional.mse_loss(o, t[:, None])},
    "zeros in a column": {
        **COLUMN,
        "model": lambda: nn.Sequential(nn.Linear(4, 1), Zeroed()),
        "loss": lambda o, t: nn.functional.mse_loss(o, t[:, None]),
    },
    "padding left out": {"data": (INPUTS, torch.where(torch.arange(60) < 9, 255, CLASSES)), "ignore_index": 255},
    "forces": {"model": lambda: Force(), "data": (INPUTS, INPUTS), "loss": "mse", "metric": "mse"},
    "double": {"model": lambda: nn.Linear(4, 3).double()},
    "half": {"model": lambda: nn.Linear(4, 3).bfloat16()},
    "images with a border": {
        "model": lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 1)),
        "data": (INPUTS, torch.where(INPUTS.reshape(60, 2, 2) > 0.9, 255, CLASSES[:, None, None])),
        "ignore_index": 255,
    },
}


class Zeroed(nn.Module):
    """Gives zeros at first, as a last layer that is set to zero does."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * self.gate


class Force(nn.Module):
    """A derivative by the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            inputs = inputs.requires_grad_()
            (slope,) = torch.autograd.grad(self.layer(inputs).sum(), inputs, create_graph=True)
        return slope


@pytest.mark.parametrize("name", FITTING)
def test_what_fits_is_not_refused(name: str) -> None:
    assert tried(FITTING[name]).startswith("sha256:")


def test_what_a_tasks_own_code_warns_of_is_noted_once() -> None:
    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        warnings.warn("mind\nthe step", UserWarning, stacklevel=1)
        warnings.warn("soon gone", DeprecationWarning, stacklevel=1)
        return nn.functional.cross_entropy(outputs, targets)

    with pytest.warns(Note) as met:
        tried({"loss": loss})
    (line,) = [str(each.message) for each in met]
    assert re.fullmatch(r"task 'mine': mind the step \(.*test_preflight\.py, line \d+\)", line)


def test_a_loss_with_parameters_is_of_the_network_that_is_known() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(outputs * self.scale, targets)

    assert tried({"loss": Scaled()}, groups={"loss.scale": 0.1}) == tried({"loss": Scaled}) != tried({})


def test_a_loss_that_is_said_to_be_the_tasks_own_needs_one() -> None:
    message = "loss = 'task': the task has no loss function of its own; name one: cross-entropy, mse"
    assert refused({}, loss="task") == message
    assert tried({"loss": nn.CrossEntropyLoss()}, loss="task")


def test_a_loss_of_the_study_is_held_against_the_labels() -> None:
    numbers = {"model": linear(1), "data": (INPUTS, NUMBERS), "loss": "mse", "metric": "mse"}
    assert "its targets are numbers, which the loss 'cross-entropy' cannot take" in refused(
        numbers, loss="cross-entropy"
    )


# what a search and a full training hold against each other


def test_networks_of_one_architecture_have_one_fingerprint_and_others_others() -> None:
    torch.manual_seed(0)
    found = [fingerprint(nn.Sequential(nn.Linear(4, width), nn.Linear(width, 3))) for width in (5, 5, 6)]
    assert found[0] == found[1] != found[2]
    assert fingerprint(nn.BatchNorm1d(4)) != fingerprint(nn.BatchNorm1d(4, track_running_stats=False))


def test_a_configuration_is_held_against_a_task_as_a_study_is(configured: Any) -> None:
    task = Task(model=linear(3), data=(INPUTS, CLASSES), name="mine")
    train = search_data(task, None).train
    assert check_configuration(task, train, configured()) == tried({})
    for training, message in (
        ({"groups": {"fc*": 2.0}}, 'groups."fc*": fits no parameter'),
        ({"loss": "task"}, "the task has no loss function of its own"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            check_configuration(task, train, configured(training=training))
    wrong = Task(model=linear(2), data=(INPUTS, CLASSES), name="mine")
    with pytest.raises(UsageError, match="gives 2 logits, but the classes go from 0 to 2"):
        check_configuration(wrong, train, configured())


def test_a_network_that_is_the_same_at_every_call_is_refused() -> None:
    net = nn.Linear(4, 3)
    task = Task(model=lambda: net, data=(torch.rand(60, 4), torch.arange(60) % 3), name="mine")
    with pytest.raises(UsageError, match=r"model\(\) gives the same network again"):
        fresh_model(task)


def test_looking_at_a_task_leaves_the_callers_draws_as_they_were() -> None:
    task = Task(model=lambda: nn.Linear(4, 3), data=(torch.rand(60, 4), torch.arange(60) % 3), name="mine")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fresh_model(task)
    settings = StudySettings(task="mine")
    check(
        Task(model=lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)), data=None, name="mine"),
        search_data(task, None).train,
        settings,
    )
    assert torch.equal(torch.rand(3), expected)


def test_one_logit_has_no_class_to_choose() -> None:
    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs.reshape(-1), targets.float())

    task = Task(model=lambda: nn.Linear(4, 1), data=(torch.rand(60, 4), torch.arange(60) % 2), loss=loss, name="mine")
    settings = StudySettings(task="mine", loss="task")
    with pytest.raises(UsageError, match="a logit for each, at least two"):
        check(task, search_data(task, None).train, settings)
