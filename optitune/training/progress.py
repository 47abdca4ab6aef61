"""Where a training stands, and that it diverged."""

from dataclasses import dataclass
from typing import Any

from optitune.training.evaluation import Evaluation


class Diverged(Exception):
    """The training loss became nan or infinite.

    Args:
        step: at which.
        loss: that it became.
        text: what happened, in words; empty for step and loss.
    """

    def __init__(self, step: int, loss: float, text: str = "") -> None:
        super().__init__(text or f"diverged at step {step}: loss {loss}")
        self.step = step
        self.loss = loss

    def __reduce__(self) -> tuple[Any, ...]:
        return Diverged, (self.step, self.loss, str(self))


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        step: optimizer steps taken.
        epoch: epochs done, a fraction within one.
        lr: learning rate in the step just taken, before any factor of a parameter group.
        train_loss: mean over the examples trained on since the last progress, as they were met, without penalties;
            None where a loop of the user's own does not say it.
        train_value: the metric over the same; None where it is no mean over examples.
        validation: None where there is nothing to validate on.
        seconds: spent in this training so far.
    """

    step: int
    epoch: float
    lr: float
    train_loss: float | None
    train_value: float | None
    validation: Evaluation | None
    seconds: float
