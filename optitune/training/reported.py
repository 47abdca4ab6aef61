"""What a training loop of the user's own reports, checked."""

from collections.abc import Collection, Iterable
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from optitune.common.text import plural
from optitune.errors import UsageError
from optitune.tasks.metrics import Metric
from optitune.tasks.task import kind
from optitune.training.progress import Diverged
from optitune.training.sharded import own_part


def checked(value: Any, loss: Any, metric: Metric, epoch: int, place: str) -> tuple[float, float | None]:
    """Value and training loss of an epoch as numbers.

    Args:
        value: of the metric.
        loss: of the training; None where it is not known.
        metric: of the study.
        epoch: from 1.
        place: file and line of the loop, for messages.

    Raises:
        Diverged: the loss is nan or infinite, or the value is and there is no loss.
        UsageError: one is no number, or the value is out of range.
    """
    number, train_loss = _number(value, "value", place), None if loss is None else _number(loss, "loss", place)
    if train_loss is not None and not isfinite(train_loss):
        raise Diverged(epoch, train_loss, f"diverged in epoch {epoch}: loss {train_loss}{place}")
    if not isfinite(number):
        if train_loss is None:
            raise Diverged(epoch, number, f"diverged in epoch {epoch}: {metric.name} {number}{place}")
        raise UsageError(f"run.report: the {metric.name} is {number}, while the loss is {train_loss:.4g}{place}")
    if not metric.lowest <= number <= metric.highest:
        percent = "; give a share, not percent" if (metric.lowest, metric.highest) == (0, 1) else ""
        raise UsageError(
            f"run.report: the {metric.name} is {number:g}, which must be from {metric.lowest:g} to {metric.highest:g}"
            f"{percent}{place}"
        )
    return number, train_loss


def check_weights(trained: Iterable[nn.Module], epoch: int, place: str) -> None:
    """Check that all weights are finite: a loop may report no loss.

    Args:
        trained: networks.
        epoch: from 1.
        place: file and line of the loop, for messages.

    Raises:
        Diverged: one is not.
    """
    weights = [own_part(each.detach()) for module in trained for each in module.parameters() if each.requires_grad]
    # a sum may overflow where no weight is infinite
    if any(not bool(each.sum().isfinite()) and not bool(each.isfinite().all()) for each in weights):
        raise Diverged(epoch, float("nan"), f"diverged in epoch {epoch}: a weight is nan or infinite{place}")


def values_of(each: Any, value: float, judged: Collection[int], place: str) -> Tensor:
    """The metric of each example, (n,), float64.

    Args:
        each: as reported.
        value: their mean.
        judged: how many there may be; empty where that is not known.
        place: file and line of the loop, for messages.

    Raises:
        UsageError: they are no numbers, too few or too many, or have another mean.
    """
    try:
        values = torch.as_tensor(each).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(f"run.report: each is {kind(each)}, but must be a value per example{place}") from None
    if values.ndim != 1 or (judged and len(values) not in judged):
        raise UsageError(
            f"run.report: each has shape {tuple(values.shape)}, but must have a value for each of the "
            f"{plural(max(judged, default=0), 'example')} judged{place}"
        )
    mean = float(values.mean())
    if abs(mean - value) > 1e-4 * max(1.0, abs(value)):
        raise UsageError(f"run.report: the mean of each is {mean:.6g}, but the value is {value:.6g}{place}")
    return values


def _number(value: Any, name: str, place: str) -> float:
    if isinstance(value, str | bytes | bool) or value is None:
        raise UsageError(f"run.report: {name} = {value!r}: must be a number{place}")
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(
            f"run.report: {name} is {kind(value)}, but must be a number or a tensor of one{place}"
        ) from None
