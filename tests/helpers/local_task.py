"""A task that is an object of its program, of which no part has a name in a module."""

from typing import Any

import torch
from torch import Tensor, nn

from optitune import Metric, Task


def local_task(examples: int = 200, **fields: Any) -> Task:
    """A task of which nothing could be imported by name: local classes, lambdas, what they enclose."""
    width = 4
    inputs = torch.rand(examples, width, generator=torch.Generator().manual_seed(0))
    targets = (inputs.sum(1) > width / 2).long()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(width, 8)
            self.head = nn.Linear(8, 2)

        def forward(self, given: Tensor) -> Tensor:
            return self.head(torch.relu(self.inner(given - 0.5)))

    def loss(outputs: Tensor, wanted: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, wanted)

    def share(outputs: Tensor, wanted: Tensor) -> float:
        return float((outputs.argmax(1) == wanted).double().mean())

    judge = Metric("share", "maximize", share, lowest=0.0, highest=1.0)
    return Task(**{"model": lambda: Net(), "data": lambda: (inputs, targets), "loss": loss, "metric": judge, **fields})
