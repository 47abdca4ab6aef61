"""Full trainings in words: how long, on what, and which weights were kept."""

from collections.abc import Sequence
from typing import Literal

from optitune.common.text import Unit, listed, plural
from optitune.retraining.results import FoundLength, FullPlan

Judged = Literal["test", "validation"]


def length_found(length: FoundLength, unit: Unit) -> str:
    """How long to train, as was found on validation data, and what other lengths came to.

    Args:
        length: what was tried.
        unit: how the metric is written.
    """
    return f"found {plural(length.epochs, 'epoch')}: {lengths_tried(length, unit)}"


def lengths_tried(length: FoundLength, unit: Unit) -> str:
    """What each length came to on validation data, the shortest first."""
    tried = [
        f"{'diverged' if each.value is None else unit.value(each.value)} after {each.epochs}"
        for each in sorted(length.tried, key=lambda each: each.epochs)
    ]
    ended = max(each.epochs for each in length.tried) == length.epochs
    more = "; no longer one is tried, and more epochs may be better still" if ended else ""
    return f"validation {unit.metric} {', '.join(tried)}{more}"


def trained_on(plan: FullPlan) -> str:
    """The data of a full training."""
    return "everything but the test set" + " and the validation part" * (plan.keep == "best")


def weights_kept(plan: FullPlan, epochs: Sequence[int | None]) -> str:
    """Which weights were kept; empty where those are the last ones.

    Args:
        plan: of the full training.
        epochs: the epoch of each seed.
    """
    if plan.keep == "last":
        return ""
    names = [str(each) for each in epochs]
    which = names[0] if len(set(names)) == 1 else listed(names)
    return f"kept: the weights of epoch {which}, the best on the validation part"


def about_training(plan: FullPlan, length: FoundLength | None, kept: Sequence[int | None], unit: Unit) -> list[str]:
    """How its length was found, and which weights were kept, a line each; nothing of what is as usual.

    Args:
        plan: of the full training.
        length: how the number of epochs was found; None where it was given.
        kept: the epoch of each seed whose weights were kept.
        unit: how the metric is written.
    """
    found = length_found(length, unit) if length is not None else ""
    return [line for line in (found, weights_kept(plan, kept)) if line]
