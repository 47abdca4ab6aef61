"""The registry of metrics: one frozen row each. Adding a metric is adding a row.

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
from optitune.errors import UsageError, unknown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Metric:
    """A metric by which trainings are judged.

    Attributes:
        name: in tables and files; may be that of a built-in metric, whose other attributes it then does not take over.
        direction: `maximize` or `minimize`.
        function: (outputs, targets) of all evaluated examples -> the value, a number or a tensor of one; or, with
            `each`, a value per example, (n,), whose mean is the metric. None for the loss itself. Outputs are those of
            the network in eval mode, all batches concatenated, also within a tuple, list or dict.
        each: whether `function` gives a value per example; only then is the metric computed on training batches too.
        chance_level: (targets, number of evaluated examples) -> value that a network which has learned nothing may
            reach by chance; None where it is unknown.
        lowest: smallest possible value; -inf by default.
        highest: largest possible value; inf by default.

    Raises:
        ValueError: the direction is neither of the two.

    Example:
        >>> def recall(outputs, targets):
        ...     found = outputs.argmax(1) == 1
        ...     return (found & (targets == 1)).sum() / (targets == 1).sum()
        >>> metric = optitune.Metric("recall", "maximize", recall, lowest=0.0, highest=1.0)
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
        """The best possible value; None where there is none."""
        end = self.highest if self.direction == "maximize" else self.lowest
        return end if isfinite(end) else None

    @property
    def sign(self) -> int:
        """1 where more of it is better, -1 where less is."""
        return 1 if self.direction == "maximize" else -1

    @property
    def computes(self) -> Callable[..., Tensor | float] | None:
        """The function itself, without `functools.partial`."""
        return self.function.func if isinstance(self.function, partial) else self.function

    @property
    def unit(self) -> Unit:
        """The format of its values: percent for the built-in accuracy alone."""
        return Unit(self.name, percent=self.computes is correct)

    @property
    def built_in(self) -> bool:
        """Whether it is a row of `METRICS`, rather than a user's own of the same name."""
        row = METRICS.get(self.name)
        return row is not None and (row.function, row.document()) == (self.computes, self.document())

    def document(self) -> dict[str, Any]:
        """The metric without its function, as JSON."""
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
    """Outputs in the shape of the targets where the two differ by axes of length 1: (n, 1) - (n,) would be (n, n)."""
    if outputs.shape == targets.shape or outputs.shape[:1] != targets.shape[:1]:
        return outputs
    given, wanted = ([each for each in tensor.shape[1:] if each != 1] for tensor in (outputs, targets))
    return outputs.reshape(targets.shape) if given == wanted else outputs


def correct(outputs: Tensor, targets: Tensor, ignored: int | None = None) -> Tensor:
    """The accuracy of each example: whether its largest logit is that of its class, or the share of places where it is.

    Args:
        outputs: logits, (n, classes) or (n, classes, ...).
        targets: classes, (n,) or (n, ...), int64.
        ignored: label of places that do not count; None where all do.

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
    """The built-in accuracy without the targets of the label `ignored`; any other metric unchanged."""
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
    """The coefficient of determination. ()"""
    away = (targets - targets.mean(0)).square().sum()
    return 1 - (aligned(outputs, targets) - targets).square().sum() / away


def commonest(labels: Tensor, examples: int) -> float:
    """The accuracy of answering the most common class, plus one standard error.

    A network that is stuck gives every example the same answer and does not pass that; a wider margin would end slow
    learners on small data.

    Args:
        labels: classes, int64.
        examples: number of examples that the accuracy is measured on.
    """
    import torch

    share = float(torch.unique(labels, return_counts=True)[1].max()) / labels.numel()
    return share + sqrt(share * (1 - share) / examples)


def spread(targets: Tensor, examples: int) -> float:
    """The mean squared error of always answering the mean of the targets."""
    targets = targets.cpu().double()
    return float((targets - targets.mean(0)).square().mean())


def deviation(targets: Tensor, examples: int) -> float:
    """The mean absolute error of always answering the median of the targets."""
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
        UsageError: there is none; the message suggests similar names.
    """
    try:
        return METRICS[name]
    except KeyError:
        raise unknown("metric", name, METRICS, "(or give a Metric of your own)") from None


def reported(text: str) -> Metric:
    """The metric that a training loop of the user's own reports.

    Args:
        text: a name in `METRICS`, or `NAME:minimize` or `NAME:maximize`.

    Raises:
        UsageError: the direction is missing, or neither of the two.
    """
    name, colon, direction = text.partition(":")
    row = METRICS.get(name)
    if row is not None and direction in ("", row.direction):
        return row
    if not name or direction not in ("minimize", "maximize"):
        name = name or "NAME"
        wrong = f": '{direction}' is no direction" if colon else ": is none of " + ", ".join(METRICS)
        raise UsageError(
            f"metric = '{text}'{wrong}; say whether more of it is better, '{name}:maximize', or less, '{name}:minimize'"
        )
    return Metric(name, direction, None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class StoredMetric:
    """A metric without its function, as studies and results keep it; None for an infinite limit."""

    name: str
    direction: Direction
    lowest: float | None
    highest: float | None
    built_in: bool


def kept(metric: Metric) -> dict[str, Any]:
    """A metric as JSON, as a study stores it; `restored` reads it."""
    return {**metric.document(), "built_in": metric.built_in}


def restored(document: Mapping[str, Any]) -> Metric:
    """The metric that `kept` stored; a user's own has no function.

    Args:
        document: from `kept`; one of an older version has only a name and perhaps a direction.
    """
    name, direction = document["name"], document.get("direction")
    row = METRICS.get(name)
    if row is not None and document.get("built_in", direction in (None, row.direction)):
        return row
    limits = {key: document[key] for key in ("lowest", "highest") if document.get(key) is not None}
    return Metric(name, direction or "maximize", None, **limits)


def dtype_of_sums(device: torch.device) -> torch.dtype:
    """The dtype of sums over many examples on a device: double precision, except on Apple's GPUs, which lack it."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64
