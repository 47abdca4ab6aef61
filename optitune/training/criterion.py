"""The loss of a training and its evaluations, with aligned outputs, ignored labels and parameters of its own."""

import copy
import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from optitune.tasks.data import Part
from optitune.tasks.metrics import aligned
from optitune.tasks.task import Loss

LEFT_OUT = -100
"""The label that torch's losses for classes leave out where nothing else is said; torch documentation, cross_entropy"""

OF_CLASSES = (functional.cross_entropy, functional.nll_loss)
"""torch's functions that take classes as whole numbers, and mean over the places that count."""

MODULES_OF_CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss)


OF_TRUTHS = (functional.binary_cross_entropy, functional.binary_cross_entropy_with_logits)
MODULES_OF_TRUTHS = (nn.BCELoss, nn.BCEWithLogitsLoss)


class Criterion(nn.Module):
    """A loss function or module, with the label that it ignores.

    Attributes:
        own: (outputs, targets) -> mean loss, (); or a class of modules, which `fresh` builds.
        ignored: label of targets that do not count; None where all count.
    """

    def __init__(self, own: Loss | type[nn.Module], ignored: int | None = None) -> None:
        super().__init__()
        self.own: Any = own
        self.ignored = label_left_out(own) if ignored is None else ignored
        self._aligns = of_torch(own)

    def fresh(self) -> "Criterion":
        """A copy for another training, with initial parameters and buffers of its own."""
        if isinstance(self.own, type):
            return Criterion(self.own(), self.ignored)
        return copy.deepcopy(self) if isinstance(self.own, nn.Module) else self

    def forward(self, outputs: Any, targets: Tensor) -> Tensor:
        """The mean over what counts, (); nan where nothing does."""
        if self._aligns and isinstance(outputs, Tensor):
            outputs = aligned(outputs, targets)
        loss: Tensor = self.own(outputs, targets)
        return loss

    def weighs(self, part: Part) -> bool:
        """Whether batches of `part` differ in how much counts, so that the mean of their means is not that of all."""
        targets = part.targets
        if targets is None:
            return self.ignored is not None or self._class_weight() is not None
        if targets.is_floating_point():
            return False
        return self._class_weight() is not None or (self.ignored is not None and bool((targets == self.ignored).any()))

    def weight(self, targets: Tensor) -> Tensor:
        """What a batch's mean is divided by: how many places count, or the sum of the weights of their classes. ()"""
        if targets.is_floating_point():
            return torch.tensor(float(len(targets)), device=targets.device)
        counts = torch.ones_like(targets, dtype=torch.bool) if self.ignored is None else targets != self.ignored
        weight = self._class_weight()
        if weight is None:
            return counts.sum().float()
        return (weight.to(targets.device)[targets.where(counts, 0)] * counts).sum().float()

    def _class_weight(self) -> Tensor | None:
        base, given = parted(self.own)
        if base in OF_CLASSES:
            return given.get("weight")
        if isinstance(base, MODULES_OF_CLASSES) and type(base).forward in (each.forward for each in MODULES_OF_CLASSES):
            return base.weight if base.reduction == "mean" else None
        return None


class Together(nn.Module):
    """A module of a network and the loss that is trained with it; names of the network's parameters stay the same."""

    def __init__(self, network: nn.Module, loss: Criterion) -> None:
        super().__init__()
        self.network, self.loss = network, loss.own

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """The network's modules by their own names, then those of the loss by names that begin with `loss`.

        Args:
            memo: modules to leave out; see `torch.nn.Module.named_modules`.
            prefix: of all names.
            remove_duplicate: whether a module that is used twice is given once.
        """
        memo = set() if memo is None else memo
        inner = f"{prefix}.loss" if prefix else "loss"
        yield from self.network.named_modules(memo, prefix, remove_duplicate)
        yield from self.loss.named_modules(memo, inner, remove_duplicate)


def fresh(loss: Loss) -> Criterion:
    """A criterion for one training, of a loss function, module, class or criterion."""
    return (loss if isinstance(loss, Criterion) else Criterion(loss)).fresh()


def own(loss: Loss) -> Loss:
    """The task's own loss within a criterion."""
    return loss.own if isinstance(loss, Criterion) else loss


def together(network: nn.Module, loss: Criterion) -> nn.Module:
    """The module to train: network and loss, or the network alone where the loss has no parameters."""
    return Together(network, loss) if any(each.requires_grad for each in loss.parameters()) else network


def parted(loss: Any) -> tuple[Any, dict[str, Any]]:
    """A loss and the arguments that `functools.partial` has bound to it."""
    return (loss.func, loss.keywords) if isinstance(loss, partial) else (loss, {})


def label_left_out(loss: Any) -> int | None:
    """The label that a loss ignores; None where it has none."""
    base, given = parted(loss)
    label = given.get("ignore_index", LEFT_OUT if base in OF_CLASSES else getattr(base, "ignore_index", None))
    if isinstance(base, type) and issubclass(base, MODULES_OF_CLASSES):
        return LEFT_OUT
    return label if isinstance(label, int) else None


def of_classes(loss: Any) -> bool:
    """Whether a loss is one of torch's for classes as whole numbers."""
    base = parted(loss)[0]
    return base in OF_CLASSES or isinstance(base, MODULES_OF_CLASSES)


def of_torch(loss: Any) -> bool:
    """Whether a loss is one of torch's that compare outputs with targets element by element."""
    base = parted(loss)[0]
    if of_classes(loss):
        return False
    class_ = base if isinstance(base, type) else type(base)
    module = class_.__module__ if isinstance(base, nn.Module | type) else getattr(base, "__module__", "")
    return str(module).startswith("torch.nn.")


def binary(loss: Any) -> bool:
    """Whether a loss is one of torch's for binary targets, which must be floating point."""
    base = parted(loss)[0]
    return base in OF_TRUTHS or isinstance(base, MODULES_OF_TRUTHS)


def hidden_modules(function: Any) -> dict[str, nn.Module]:
    """The modules that a loss function refers to, by the name in the function; empty for a loss that is a module."""
    function = parted(function)[0]
    if isinstance(function, nn.Module | type):
        return {}
    owner = getattr(function, "__self__", None)
    found: dict[str, Any] = {"self": owner} if isinstance(owner, nn.Module) else {}
    try:
        variables = inspect.getclosurevars(function)
    except TypeError:
        return found
    return {
        name: each
        for name, each in {**variables.globals, **variables.nonlocals, **found}.items()
        if isinstance(each, nn.Module)
    }
