"""Scaling of targets to mean 0 and standard deviation 1, and of outputs back to the targets' unit."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optitune.errors import UsageError
from optitune.tasks.data import Examples, Part

SAMPLED = 1_000
"""Examples of a streamed data set that mean and deviation are computed from: reading all would take an epoch."""

FAR, NARROW = 5.0, 0.05
"""Largest mean and deviation of targets, and smallest deviation, for which known-good settings work.

Measured with two linear layers on 350 examples, 20 epochs, known-good settings: at a deviation of 5 SGD diverges, at a
mean of 5 the others end below an r2 of 0, and so does all but SGD at a deviation of 0.03.
"""


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of targets, each of an example's shape; a deviation of 0 counts as 1."""

    mean: Tensor
    sd: Tensor

    @classmethod
    def of(cls, train: Part) -> "Scaling":
        """The scaling of training examples.

        Raises:
            UsageError: their targets are classes.
        """
        targets = targets_of(train)
        if not targets.is_floating_point():
            raise UsageError(
                "Task(scale_targets=True): the targets are whole numbers, which are taken for classes; "
                "give numbers to be predicted as floating ones, targets.astype('float32')"
            )
        numbers = targets.cpu().double()
        sd = numbers.std(0, correction=0)
        sd = torch.where(sd > 0, sd, 1)
        return cls(*(each.to(targets.device, torch.float32) for each in (numbers.mean(0), sd)))

    def scaled(self, targets: Tensor) -> Tensor:
        """Targets scaled to mean 0 and standard deviation 1."""
        return (targets - self.mean.to(targets)) / self.sd.to(targets)

    def back(self, outputs: Any) -> Any:
        """Outputs of the network in the unit of the targets.

        Raises:
            UsageError: their shape is not that of the targets.
        """
        shape, wanted = getattr(outputs, "shape", torch.Size([0, 0, 0]))[1:], self.mean.shape
        if shape != wanted and (*wanted, 1) != tuple(shape):
            raise UsageError(
                f"Task(scale_targets=True): the network gives {tuple(shape)} for each target of shape {tuple(wanted)}; "
                "it must give one number for each"
            )
        row = self.mean.reshape(shape), self.sd.reshape(shape)
        return outputs * row[1].to(outputs) + row[0].to(outputs)

    def document(self) -> dict[str, Any]:
        """As JSON and TOML have it."""
        return {"mean": self.mean.tolist(), "sd": self.sd.tolist()}


def targets_of(part: Part) -> Tensor:
    """The targets of all examples in memory, or of some that are streamed."""
    if isinstance(part, Examples):
        return part.targets
    places = torch.linspace(0, len(part) - 1, min(SAMPLED, len(part))).round().long()
    return torch.cat([targets for _, targets in part.take(places).in_turn(100)])


def unscaled(part: Part) -> str:
    """A note on numerical targets far from mean 0 and standard deviation 1; empty where they are not."""
    if not next(part.take(slice(0, 1)).in_turn(1))[1].is_floating_point():
        return ""
    numbers = targets_of(part).cpu().double()
    mean, sd = numbers.mean(0).flatten(), numbers.std(0, correction=0).flatten()
    far = (mean.abs() > FAR) | (sd > FAR) | ((sd > 0) & (sd < NARROW))
    if not bool(far.any()):
        return ""
    which = int(far.nonzero()[0])
    of = f" of output {which + 1}" if len(mean) > 1 else ""
    return (
        f"the targets{of} have mean {mean[which]:.4g} and standard deviation {sd[which]:.4g}, far from 0 and 1, where "
        "known-good settings work: Task(scale_targets=True) trains on scaled ones and reports in their own unit"
    )
