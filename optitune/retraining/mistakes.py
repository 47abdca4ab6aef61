"""What the networks of a full training answered wrong on the test set: counts by class, and the worst mistakes."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from optitune.common import checkpoint
from optitune.errors import OptituneError
from optitune.space.configuration import Precision
from optitune.tasks.data import Examples, Part
from optitune.training.evaluation import fed, numbers_of

MISTAKES = "mistakes.safetensors"
"""The worst mistakes of the first seed's network, beside its results."""

MOST_MISTAKES = 16


def confusion(test: Part, answers: Tensor | None, ignored: int | None = None) -> tuple[tuple[int, ...], ...]:
    """Counts of true class by answered class; empty where there are no classes or no answers.

    Args:
        test: the test set.
        answers: (n,) classes that the network answered; None where they are not known at once.
        ignored: a class that does not count; None where all do.
    """
    if answers is None or test.targets is None:
        return ()
    labels = test.targets.to(answers.device)
    if ignored is not None:
        labels, answers = labels[labels != ignored], answers[labels != ignored]
    if not len(labels):
        return ()
    classes = int(max(labels.max(), answers.max())) + 1
    matrix = torch.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, classes)
    return tuple(tuple(int(count) for count in row) for row in matrix)


@dataclass(frozen=True)
class Mistakes:
    """Images that a network answered wrong, the most confident mistake first.

    Attributes:
        images: (n, channels, height, width), bytes.
        max_pixel: the value of a full pixel.
        truths: their classes.
        answers: what they were taken for.
    """

    images: Tensor
    max_pixel: float
    truths: tuple[int, ...]
    answers: tuple[int, ...]


@torch.no_grad()
def worst_mistakes(
    model: nn.Module, test: Part, answers: Tensor | None, precision: Precision, ignored: int | None = None
) -> Mistakes | None:
    """The mistakes whose answer is furthest above the true class; None where the examples are no images, or all right.

    Args:
        model: judges, on the device of `test`.
        answers: the class that it answered for each example.
        ignored: the label of examples that do not count.
    """
    if answers is None or not isinstance(test, Examples) or test.max_pixel is None or test.inputs.ndim != 4:
        return None
    counts = torch.ones_like(answers, dtype=torch.bool) if ignored is None else test.targets != ignored
    wrong = ((answers != test.targets) & counts).nonzero().flatten()
    if not len(wrong):
        return None
    apart, kind = [], numbers_of(model)
    for places in torch.split(wrong, 250):
        inputs, truths = fed(test.batch(places), kind)
        with torch.autocast(places.device.type, torch.bfloat16, enabled=precision == "bf16"):
            outputs = model(inputs)
        rows = torch.arange(len(places), device=places.device)
        apart.append(outputs[rows, answers[places]].float() - outputs[rows, truths].float())
    worst = wrong[torch.cat(apart).argsort(descending=True, stable=True)[:MOST_MISTAKES]]
    shown = test.take(worst)
    return Mistakes(shown.inputs, test.max_pixel, tuple(shown.targets.tolist()), tuple(answers[worst].tolist()))


def save_mistakes(found: Mistakes, path: Path) -> None:
    """Write them, all of them or nothing.

    Raises:
        OptituneError: the file cannot be written.
    """
    checkpoint.save(vars(found), path)


def load_mistakes(path: Path) -> Mistakes | None:
    """What `save_mistakes` wrote; None where there is nothing that can be read."""
    try:
        if not path.exists():
            return None
        state = checkpoint.load(path)
        if "white" in state:  # as files of before named it
            state["max_pixel"] = state.pop("white")
        found = Mistakes(**state)
        if found.images.ndim != 4 or not isinstance(found.max_pixel, int | float) or not found.max_pixel > 0:
            return None
        return found if len(found.images) == len(found.truths) == len(found.answers) else None
    except (OptituneError, TypeError, AttributeError):
        return None
