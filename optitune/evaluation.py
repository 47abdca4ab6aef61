"""Judging a network on examples that it is not trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optitune.data import Part
from optitune.metrics import Metric
from optitune.settings import Precision
from optitune.tasks import Loss

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


@torch.inference_mode()
def evaluate(model: nn.Module, examples: Part, loss: Loss, metric: Metric, precision: Precision) -> Evaluation:
    """Mean loss and metric of `model` on all of `examples`, which are given on its device."""
    model.eval()
    device = next(model.parameters()).device
    total = torch.zeros((), dtype=torch.float64, device=device)
    predicted, answers, truths, each = [], [], [], []
    first: Tensor | None = None
    apart, largest = torch.zeros((), device=device), torch.zeros((), device=device)
    batch = max(1, min(EVALUATION_BATCH.get(device.type, 1_000), EVALUATION_NUMBERS // max(1, examples.numbers)))
    for inputs, targets in examples.in_turn(batch):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            outputs = model(inputs)
        outputs = outputs.float()
        if first is None:
            first = outputs[:1]
        if outputs.shape[1:] == first.shape[1:]:
            apart = torch.maximum(apart, (outputs - first).abs().amax())
            largest = torch.maximum(largest, outputs.abs().amax())
        total += loss(outputs, targets).double() * len(targets)
        if outputs.ndim == 2 and outputs.shape[1] > 1 and targets.ndim == 1 and not targets.is_floating_point():
            predicted.append(outputs.argmax(1))
        if metric.each and metric.function is not None:
            each.append(metric.function(outputs, targets))
        elif metric.function is not None:
            answers.append(outputs)
            truths.append(targets)
    mean = total.item() / len(examples)
    values = torch.cat(each) if each else None  # type: ignore[arg-type]
    if metric.function is None:
        judged = mean
    elif values is not None:
        judged = values.double().sum().item() / len(examples)
    else:
        judged = float(metric.function(torch.cat(answers), torch.cat(truths)))
    same = len(examples) > 1 and bool(apart <= SAME * largest)
    return Evaluation(mean, judged, len(examples), torch.cat(predicted) if predicted else None, values, same)
