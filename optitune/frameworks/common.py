"""What the Trainers of all frameworks have in common."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from optitune.errors import UsageError
from optitune.tasks.user_code import caller_place
from optitune.training.run import Run


def keep(run: Run, model: nn.Module) -> None:
    """Keep a network with all optimizers and schedulers of a run.

    Args:
        run: that gave them.
        model: to train.
    """
    optimizers = {f"optimizer {name}".strip(): each for name, each in run.optimizers.items()}
    schedulers = {f"scheduler {number}": each for number, each in enumerate(run.schedulers.values())}
    run.keep(model=model, **optimizers, **schedulers)


def check_place(run: Run, device: torch.device, processes: int, advice: str) -> None:
    """Check that a Trainer trains where its run is to.

    Args:
        run: the training.
        device: that the Trainer chose.
        processes: how many processes or GPUs it trains on.
        advice: how its device is chosen.

    Raises:
        UsageError: it trains elsewhere, or on several devices.
    """
    wanted = run.device
    if device.type != wanted.type or (wanted.index is not None and device.index != wanted.index):
        raise UsageError(
            f"the Trainer trains on {device}, but this training is to be on {wanted}{caller_place()}: {advice}, or "
            f"search with --device {device}"
        )
    if processes != 1:
        raise UsageError(f"the Trainer trains on {processes} devices, but may use one{caller_place()}: {advice}")


def metric_in(found: Mapping[str, Any], name: str, how: str) -> Any:
    """The value of a metric among all that a Trainer found.

    Args:
        found: values by name.
        name: of the metric.
        how: where such values come from.

    Raises:
        UsageError: it is not among them.
    """
    if name not in found:
        there = ", ".join(f"'{each}'" for each in found) or "nothing"
        raise UsageError(
            f"the Trainer finds no '{name}', only {there}{caller_place()}: {how}, or name one of these as "
            "fit(..., metric=...)"
        )
    return found[name]
