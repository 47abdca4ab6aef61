"""Tasks whose examples say who they are, and data sets that count or change their readings."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from optitune import Task
from optitune.tasks.data import Part


def never() -> Any:
    raise AssertionError("the test set was asked for")


def task(data: Any, **fields: Any) -> Task:
    """A task of these data, whose network nobody builds."""
    return Task(model=lambda: nn.Linear(1, 2), data=data, name="mine", **fields)


def numbered(total: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Examples that each say in their input who they are."""
    return torch.arange(total, dtype=torch.float32).reshape(total, 1), torch.arange(total) % classes


def who(part: Part) -> list[int]:
    """The numbers of the examples of a part of `numbered`, in its own order."""
    return [int(number) for inputs, _ in part.in_turn(50) for number in inputs.flatten()]


class Pairs(Dataset[tuple[Any, Any]]):
    """Pairs as they stand, and how often each was read."""

    def __init__(self, inputs: Any, targets: Any) -> None:
        self.inputs, self.labels = inputs, targets
        self.read = [0] * len(targets)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        self.read[place] += 1
        return self.inputs[place], self.labels[place]


class Turned(Pairs):
    """Every other reading turns an example round, by chance."""

    def __init__(self, inputs: Any, targets: Any, coin: Callable[[], float]) -> None:
        super().__init__(inputs, targets)
        self.coin = coin

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        given = super().__getitem__(place)
        return (given[0].flip(0), given[1]) if self.coin() < 0.5 else given


class Told(Pairs):
    """Tells its targets without being read, as torchvision's data sets do."""

    @property
    def targets(self) -> Any:
        return self.labels
