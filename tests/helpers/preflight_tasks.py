"""A small task with one thing changed, taken as far as a search takes it before anything trains."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from optitune import Task
from optitune.common.schema import validated
from optitune.errors import UsageError
from optitune.study.settings import StudySettings
from optitune.tasks.splits import search_data
from optitune.training.preflight import check

INPUTS = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))


CLASSES = torch.arange(60) % 3


NUMBERS = INPUTS.sum(1)


HOLED = torch.where(torch.arange(60)[:, None] == 7, torch.nan, INPUTS)


def tried(fields: dict[str, Any], **said: Any) -> str:
    """Take a task, sound but for `fields`, as far as a search takes it before anything trains."""
    task = Task(**{"model": lambda: nn.Linear(4, 3), "data": (INPUTS, CLASSES), "name": "mine", **fields})
    settings = validated(StudySettings, {**said, "task": "mine"}, "study 'mine'")
    return check(task, search_data(task, None).train, settings)


def refused(fields: dict[str, Any], **said: Any) -> str:
    with pytest.raises(UsageError) as caught:
        tried(fields, **said)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 240
    return message


def linear(outputs: int) -> Any:
    return lambda: nn.Linear(4, outputs)


def fail(*_: Any) -> Any:
    raise ZeroDivisionError("no\nluck")


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Counted(Dataset[Any]):
    """Gives what a function makes of the number of an example."""

    def __init__(self, give: Any, total: int = 60) -> None:
        self.give, self.total = give, total

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, place: int) -> Any:
        return self.give(place)


def broken_from(place: int) -> Any:
    if place >= 5:
        raise OSError(f"cannot open {place}.png")
    return INPUTS[place], CLASSES[place]


COLUMN: dict[str, Any] = {"model": linear(1), "data": (INPUTS, NUMBERS), "metric": "loss"}


class Unconnected(nn.Module):
    """A loss that follows from its own parameter alone."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.ones(()))

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.level + 0 * outputs.detach().mean()


class Remembering(nn.Module):
    """Adds what the batch before left."""

    def __init__(self, detach: bool) -> None:
        super().__init__()
        self.layer, self.detach, self.memory = nn.Linear(4, 3), detach, torch.zeros(3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(inputs) + self.memory
        self.memory = outputs.mean(0).detach() if self.detach else outputs.mean(0)
        return outputs


class Two(nn.Module):
    """So many outputs in training, and so many when judged; of a negative number, a pair; of 0, an error."""

    def __init__(self, training: int, judged: int) -> None:
        super().__init__()
        self.layer, self.widths = nn.Linear(4, 3), (judged, training)

    def forward(self, inputs: torch.Tensor) -> Any:
        width = self.widths[self.training]
        outputs = self.layer(inputs)[:, : abs(width) or fail()]
        return (outputs, 2 * outputs) if width < 0 else outputs


def both(outputs: Any) -> torch.Tensor:
    return outputs[0] + outputs[1] if isinstance(outputs, tuple) else outputs


def cross_entropy_of_both(outputs: Any, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(both(outputs), targets)
