"""What a training is judged by: one frozen row each. Adding a metric is adding a row.

torch is imported where tensors are computed, so that `show` needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isfinite, sqrt
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from optitune.common.text import Unit
from optitune.errors import unknown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: what tables and files call it. It may be that of a built-in metric: direction, limits and unit are its own
            all the same.
        direction: whether more or less of it is better.
        function: (outputs, targets) of all examples judged -> its value, a number or a tensor of one; or, with
            `each`, a value per example, (n,), whose mean is the metric. None for the loss itself. Outputs are as the
            network gives them in eval mode, those of all batches in one; those in a tuple, list or dict as well.
        each: see `function`; only then is it told of the training too, without a second look at the data.
        chance_level: (targets, number of examples judged) -> what a network that has learned nothing may reach by luck;
            None where that is not known.
        lowest: what its values cannot fall below.
        highest: what they cannot pass.
    """

    name: str
    direction: Direction
    function: Callable[[Tensor, Tensor], Tensor | float] | None
    each: bool = False
    chance_level: Callable[[Tensor, int], float] | None = None
    lowest: float = -inf
    highest: float = inf

    def __post_init__(self) -> None:
        if self.direction not in ("maximize", "minimize"):
            raise ValueError(f"metric '{self.name}': direction = {self.direction!r}: must be maximize or minimize")

    @property
    def ideal(self) -> float | None:
        """The best value there can be, where there is one."""
        end = self.highest if self.direction == "maximize" else self.lowest
        return end if isfinite(end) else None

    @property
    def sign(self) -> int:
        """1 where more of it is better, -1 where less is."""
        return 1 if self.direction == "maximize" else -1

    @property
    def computes(self) -> Callable[..., Tensor | float] | None:
        """Its function, whatever some of its arguments are bound to."""
        return self.function.func if isinstance(self.function, partial) else self.function

    @property
    def unit(self) -> Unit:
        """How its values are written: those of the built-in accuracy, whatever another is called, in percent."""
        return Unit(self.name, percent=self.computes is correct)

    @property
    def built_in(self) -> bool:
        """Whether it is a row of `METRICS`, and not one of a user's that bears its name."""
        row = METRICS.get(self.name)
        return row is not None and (row.function, row.document()) == (self.computes, self.document())

    def document(self) -> dict[str, Any]:
        """What of it can be kept in a file: not its function."""
        limits = {"lowest": self.lowest, "highest": self.highest}
        return {
            "name": self.name,
            "direction": self.direction,
            **{key: float(value) if isfinite(value) else None for key, value in limits.items()},
        }

    def described(self) -> str:
        """Name, direction and limits in words, for messages."""
        ends = [f"{word} {end:g}" for word, end in (("from", self.lowest), ("to", self.highest)) if isfinite(end)]
        kind = "built in" if self.built_in else "own"
        return f"'{self.name}' ({', '.join([kind, self.direction, *([' '.join(ends)] if ends else [])])})"

    def score(self, value: float) -> float:
        """The value as something of which more is better."""
        return self.sign * value


def aligned(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs in the shape of the targets where they differ by axes of one: (n, 1) minus (n,) would be (n, n)."""
    if outputs.shape == targets.shape or outputs.shape[:1] != targets.shape[:1]:
        return outputs
    ours, theirs = ([each for each in tensor.shape[1:] if each != 1] for tensor in (outputs, targets))
    return outputs.reshape(targets.shape) if ours == theirs else outputs


def correct(outputs: Tensor, targets: Tensor, ignored: int | None = None) -> Tensor:
    """Whether the class of the largest logit is the right one; of sequences, at what share of the places.

    Args:
        outputs: (n, classes) or (n, classes, ...).
        targets: (n,) or (n, ...), int64.
        ignored: the label of places that do not count.

    Returns:
        (n,); nan for an example in which no place counts.
    """
    right = outputs.argmax(1) == targets
    if ignored is None:
        return right if right.ndim == 1 else right.flatten(1).to(dtype_of_sums(right.device)).mean(1)
    counts = (targets != ignored).reshape(len(targets), -1)
    of_them = (right.reshape(len(targets), -1) & counts).sum(1).to(dtype_of_sums(right.device))
    return of_them / counts.sum(1)


def leaving_out(metric: Metric, ignored: int | None) -> Metric:
    """The metric without the places of that label, where it is the package's accuracy; any other as it is."""
    if ignored is None or metric.function is not correct:
        return metric
    return replace(metric, function=partial(correct, ignored=ignored))


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean over an example's numbers of the squared error. (n,)"""
    return (aligned(outputs, targets) - targets).square().reshape(len(targets), -1).mean(1)


def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean over an example's numbers of the absolute error. (n,)"""
    return (aligned(outputs, targets) - targets).abs().reshape(len(targets), -1).mean(1)


def r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of the targets' variance that is explained. ()"""
    away = (targets - targets.mean(0)).square().sum()
    return 1 - (aligned(outputs, targets) - targets).square().sum() / away


def commonest(labels: Tensor, examples: int) -> float:
    """The accuracy that guessing may reach: the share of the commonest class, and one standard error for luck.

    A network that is stuck gives every example the same answer and never passes that share; a wider
    margin would end slow learners on small data.

    Args:
        labels: int64, whose commonest value is guessed.
        examples: how many of them the accuracy is measured on.
    """
    import torch

    share = float(torch.unique(labels, return_counts=True)[1].max()) / labels.numel()
    return share + sqrt(share * (1 - share) / examples)


def spread(targets: Tensor, examples: int) -> float:
    """The mean squared error of answering the mean of the targets, whatever the input."""
    targets = targets.cpu().double()
    return float((targets - targets.mean(0)).square().mean())


def deviation(targets: Tensor, examples: int) -> float:
    """The mean absolute error of answering the median of the targets, whatever the input."""
    targets = targets.cpu().double()
    return float((targets - targets.median(0).values).abs().mean())


ROWS = (
    Metric("accuracy", "maximize", correct, each=True, chance_level=commonest, lowest=0.0, highest=1.0),
    Metric("mse", "minimize", squared_error, each=True, chance_level=spread, lowest=0.0),
    Metric("mae", "minimize", absolute_error, each=True, chance_level=deviation, lowest=0.0),
    Metric("r2", "maximize", r2, chance_level=lambda targets, examples: 0.0, highest=1.0),
    Metric("loss", "minimize", None),
)

METRICS: Mapping[str, Metric] = MappingProxyType({row.name: row for row in ROWS})


def find(name: str) -> Metric:
    """The row called `name`.

    Raises:
        UsageError: there is none; the message has the nearest names.
    """
    try:
        return METRICS[name]
    except KeyError:
        raise unknown("metric", name, METRICS, "(or give a Metric of your own)") from None


def kept(metric: Metric) -> dict[str, Any]:
    """A metric as a study keeps it; `restored` reads it."""
    return {**metric.document(), "built_in": metric.built_in}


def restored(document: Mapping[str, Any]) -> Metric:
    """The metric that `kept` wrote; one of a user's own without its function.

    Args:
        document: of an older version it has name and, of a study, direction alone.
    """
    name, direction = document["name"], document.get("direction")
    row = METRICS.get(name)
    if row is not None and document.get("built_in", direction in (None, row.direction)):
        return row
    limits = {key: document[key] for key in ("lowest", "highest") if document.get(key) is not None}
    return Metric(name, direction or "maximize", None, **limits)


def dtype_of_sums(device: torch.device) -> torch.dtype:
    """What sums over many examples are kept in on a device: double precision, which Apple's GPUs do not have."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64
