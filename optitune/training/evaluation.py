"""Judging a network on examples that it is not trained on."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from optitune.space.configuration import Precision
from optitune.tasks.data import Batch, Part
from optitune.tasks.metrics import Metric, dtype_of_sums, leaving_out
from optitune.tasks.scaling import Scaling
from optitune.tasks.task import Loss
from optitune.training.criterion import Criterion

EVALUATION_BATCH = {"cpu": 250, "cuda": 5_000}
"""Examples evaluated at once: what stays in a processor's cache, what keeps a GPU busy."""

EVALUATION_NUMBERS = 4_000_000
"""How many numbers may be in the inputs evaluated at once: large examples go in smaller batches."""

SAME = 1e-6
"""Up to what difference, as a share of the largest output, outputs are the same but for rounding."""


@dataclass(frozen=True)
class Evaluation:
    """What a network does on so many examples.

    Attributes:
        loss: mean over them.
        value: of the task's metric.
        predicted: the class answered for each, int64; None where there are no classes.
        each: the metric of each, (n,); None where it is no mean over examples.
        same: whether the network gave all examples the same outputs, as one whose last hidden layer is dead does.
    """

    loss: float
    value: float
    examples: int
    predicted: Tensor | None
    each: Tensor | None = None
    same: bool = False


def numbers_of(model: nn.Module) -> torch.dtype:
    """The numbers that a network takes as inputs: those of its weights, single precision where they are of several."""
    kinds = {each.dtype for each in model.parameters() if each.is_floating_point()}
    return kinds.pop() if len(kinds) == 1 else torch.float32


def fed(batch: Batch, kind: torch.dtype) -> Batch:
    """A batch for a network of such numbers; targets in single precision at least."""
    if kind == torch.float32:
        return batch
    inputs, targets = batch
    if inputs.is_floating_point():
        inputs = inputs.to(kind)
    return inputs, targets.to(of_outputs(kind)) if targets.is_floating_point() else targets


def of_outputs(kind: torch.dtype) -> torch.dtype:
    """What a loss is computed in, for a network of such numbers: single precision at least."""
    return kind if kind == torch.float64 else torch.float32


def in_full(outputs: Any, kind: torch.dtype) -> Any:
    """Outputs as a loss takes them, those in tuples, lists and dicts included."""
    if isinstance(outputs, Tensor):
        return outputs.to(of_outputs(kind)) if outputs.is_floating_point() else outputs
    if isinstance(outputs, dict):
        made = copy(outputs)
        for key, value in outputs.items():
            made[key] = in_full(value, kind)
        return made
    if isinstance(outputs, tuple | list):
        values = [in_full(each, kind) for each in outputs]
        return outputs._make(values) if hasattr(outputs, "_make") else type(outputs)(values)
    return outputs


def joined(batches: Sequence[Any]) -> Any:
    """The outputs of several batches as those of one.

    Raises:
        TypeError: they are nothing that can be put together.
    """
    first = batches[0]
    if isinstance(first, Tensor):
        return torch.cat(batches)  # type: ignore[arg-type]
    if isinstance(first, dict):
        return {key: joined([batch[key] for batch in batches]) for key in first}
    if isinstance(first, tuple | list):
        return tuple(joined(column) for column in zip(*batches, strict=True))
    raise TypeError(f"outputs of type {type(first).__name__} cannot be put together for a metric: give tensors")


@torch.no_grad()
def evaluate(
    model: nn.Module, examples: Part, loss: Loss, metric: Metric, precision: Precision, scaling: Scaling | None = None
) -> Evaluation:
    """Mean loss and metric of a network on examples.

    Not under `torch.inference_mode`: tensors that a network keeps between batches are used by its training as well.

    Args:
        model: the network, which is put into eval mode.
        examples: on the network's device.
        loss: (outputs, targets) -> mean loss, ().
        metric: computed beside the loss.
        precision: `fp32` or `bf16`.
        scaling: of the targets that the network was trained on; None where they were not scaled.
    """
    model.eval()
    criterion = loss if isinstance(loss, Criterion) else Criterion(loss)
    criterion.eval()
    device = next(model.parameters()).device
    kind, sums = numbers_of(model), dtype_of_sums(device)
    weighs = criterion.weighs(examples)
    left_out = leaving_out(metric, criterion.ignored if weighs else None)
    function = left_out.function
    total = torch.zeros((), dtype=sums, device=device)
    counted = torch.zeros((), dtype=sums, device=device)
    predicted, answers, truths, each = [], [], [], []
    first: Tensor | None = None
    apart, largest = torch.zeros((), device=device), torch.zeros((), device=device)
    batch = max(1, min(EVALUATION_BATCH.get(device.type, 1_000), EVALUATION_NUMBERS // max(1, examples.numbers)))
    for inputs, targets in (fed(each, kind) for each in examples.in_turn(batch)):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            outputs = model(inputs)
        outputs = in_full(outputs, kind)
        if scaling is not None:
            outputs = scaling.back(outputs)
        mean = criterion(outputs, targets)
        if weighs:
            weight = criterion.weight(targets)
            # the mean over nothing is nan
            total += torch.where(weight > 0, mean, 0).to(sums) * weight
            counted += weight
        else:
            total += mean.to(sums) * len(targets)
        if isinstance(outputs, Tensor) and outputs.ndim:
            first = outputs[:1] if first is None else first
            if outputs.shape[1:] == first.shape[1:]:
                apart = torch.maximum(apart, (outputs - first).abs().amax())
                largest = torch.maximum(largest, outputs.abs().amax())
            if outputs.ndim == 2 and outputs.shape[1] > 1 and targets.ndim == 1 and not targets.is_floating_point():
                predicted.append(outputs.argmax(1))
        if metric.each and function is not None:
            each.append(function(outputs, targets))
        elif function is not None:
            answers.append(outputs)
            truths.append(targets)
    judged_loss = total.item() / ((counted.item() or 1.0) if weighs else len(examples))
    values = torch.cat(each) if each else None  # type: ignore[arg-type]
    if function is None:
        judged = judged_loss
    elif values is not None:
        of_each = values.to(sums)
        # an example in which no place counts has no value
        judged = (of_each.nanmean() if left_out is not metric else of_each.sum() / len(examples)).item()
        values = values if isfinite(of_each.sum().item()) else None
    else:
        judged = float(function(joined(answers), torch.cat(truths)))
    same = first is not None and len(examples) > 1 and bool(apart <= SAME * largest)
    return Evaluation(judged_loss, judged, len(examples), torch.cat(predicted) if predicted else None, values, same)


def guessing_level(
    metric: Metric, found: Evaluation, targets: Tensor | None, ignored: int | None = None
) -> float | None:
    """The value of guessing where a network has learned nothing so far; None where it has, or that cannot be known.

    Its value alone does not say so: where one class in thirty is rare, accuracy stays at the share of the others for
    many epochs in which the network learns. So its outputs have to be the same for all examples.

    Args:
        metric: of the task.
        found: the last evaluation.
        targets: (n,) or (n, ...) targets that it was judged on; None where they are not known.
        ignored: a class that does not count; None where all do.
    """
    if not found.same or metric.chance_level is None or targets is None:
        return None
    if ignored is not None and not targets.is_floating_point():
        targets = targets[targets != ignored]
    if not targets.numel():
        return None
    level = metric.chance_level(targets, found.examples)
    return level if metric.score(found.value) <= metric.score(level) else None
