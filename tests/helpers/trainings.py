"""What several tests of training share: a plan, a network that draws random numbers, and what a training came to."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from optitune.space.configuration import Configuration
from optitune.tasks import metrics
from optitune.training.engine import Progress
from optitune.training.plan import Plan


def planned(configuration: Configuration, **other: Any) -> Plan:
    """A plan of 3 epochs, judged by accuracy, with other values in place of some."""
    accuracy = metrics.find("accuracy")
    return replace(Plan(configuration, functional.cross_entropy, accuracy, 3, seed=5, precision="fp32"), **other)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def without_clock(progress: Iterable[Progress]) -> list[tuple[object, ...]]:
    """Everything of it but the seconds."""
    return [
        (row.step, row.epoch, row.lr, row.train_loss, row.train_value, row.validation and row.validation.loss)
        for row in progress
    ]


def dropping() -> nn.Module:
    """A network whose training draws random numbers."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))


def pasted(text: str) -> dict[str, Any]:
    """The names that exported Python leaves behind."""
    names: dict[str, Any] = {}
    exec(text, names)  # noqa: S102
    return names
