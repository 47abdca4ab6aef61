"""Check before a training that network, loss and metric fit each other, in training and in evaluation."""

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from optitune.common.text import plural
from optitune.errors import Note, UsageError
from optitune.space import losses
from optitune.space.configuration import TrainingSettings
from optitune.tasks import metrics
from optitune.tasks.data import Batch, Part
from optitune.tasks.metrics import Metric, aligned
from optitune.tasks.task import Task
from optitune.tasks.user_code import calling, of_a_library
from optitune.training.build import build_loss, lazy
from optitune.training.criterion import Criterion, binary, hidden_modules, label_left_out, of_classes, parted
from optitune.training.evaluation import EVALUATION_NUMBERS, fed, in_full, numbers_of

SIZES = (8, 64, 512, 1_000)
"""Numbers of examples that are tried: the first to train on, and all, in turn, until the metric takes them. Trials are
evaluated on as many as the last, so that a metric must take them."""

PAIRS = 64
"""Number of examples on which is tried whether a function compares each output with every target."""

BROADCAST = "Using a target size"
"""Beginning of torch's warning that outputs and targets have different shapes."""


def try_network(task: Task, model: nn.Module, train: Part, name: str) -> Criterion:
    """Run network, loss and metric on a few examples, as training and evaluation do; warnings become notes.

    Args:
        task: of the network.
        model: network on the CPU; it runs two steps without an optimizer, and an evaluation.
        train: training examples.
        name: of the loss.

    Returns:
        The loss, with parameters of its own where it has any.

    Raises:
        UsageError: they do not fit.
    """
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always")
        criterion = _Trial(task, model, train, name, met).run()
    for line in dict.fromkeys(_lines(met)):
        warnings.warn(f"task '{task.name}': {line}", Note, stacklevel=2)
    return criterion


def _lines(met: Sequence[warnings.WarningMessage]) -> list[str]:
    """The warnings of the user's own code, without those of libraries."""
    return [
        f"{' '.join(str(each.message).split())} ({each.filename}, line {each.lineno})"
        for each in met
        if issubclass(each.category, UserWarning | RuntimeWarning) and not of_a_library(each.filename)
    ]


class _Trial:
    """A trial run of examples through network, loss and metric of a task."""

    def __init__(
        self, task: Task, model: nn.Module, train: Part, name: str, met: Sequence[warnings.WarningMessage]
    ) -> None:
        self.task, self.model, self.train, self.name, self.met = task, model, train, name, met
        self.numbers = numbers_of(model)
        called = "its own loss" if name == losses.OF_TASK else f"the loss '{name}'"
        with self.doing(called):
            self.criterion = build_loss(TrainingSettings(loss=name), task.own_loss, task.ignore_index).fresh()
        self.criterion.to(dtype=torch.float64 if self.numbers == torch.float64 else torch.float32)
        self.called = called
        most = max(SIZES[0], min(SIZES[-1], EVALUATION_NUMBERS // max(1, self._numbers_of_input())))
        self.places = one_of_each_class_first(train, most)

    def doing(self, what: str) -> AbstractContextManager[None]:
        return calling(self.task.name, what)

    def refused(self, text: str) -> UsageError:
        return UsageError(f"task '{self.task.name}': {text}")

    def _numbers_of_input(self) -> int:
        with self.doing("reading the data"):
            return self.train.numbers

    def examples(self, size: int) -> Batch:
        """The first `size` examples as the network takes them."""
        with self.doing("reading the data"):
            return fed(next(self.train.take(self.places[:size]).in_turn(size)), self.numbers)

    def outputs(self, inputs: Tensor, mode: str) -> Any:
        with self.doing(f"the model{mode} on inputs of shape {tuple(inputs.shape)}, {inputs.dtype}"):
            return in_full(self.model(inputs), self.numbers)

    def run(self) -> Criterion:
        self._own_loss()
        self._trains()
        self._is_judged()
        if left := lazy(self.model):
            raise self.refused(
                f"the network does not use '{left[0]}', so that its shape stays unknown: leave the layer out, or build "
                "one that is given its shape, such as nn.Linear for nn.LazyLinear"
            )
        self.model.zero_grad()
        self.model.train()
        return self.criterion

    def _own_loss(self) -> None:
        """Check the task's own loss: its ignored label, its reduction, and modules hidden in it."""
        own, label = self.task.own_loss, self.task.ignore_index
        if self.name != losses.OF_TASK or own is None:
            return
        if label is not None and of_classes(own) and label_left_out(own) != label:
            raise self.refused(
                f"Task(ignore_index={label}), but its loss leaves out {label_left_out(own)}: give ignore_index={label} "
                "to the loss"
            )
        base, given = parted(own)
        if given.get("reduction", getattr(base, "reduction", "mean")) == "sum":
            raise self.refused("its loss is a sum over a batch, but must be a mean: say reduction='mean'")
        for name, module in hidden_modules(own).items():
            if any(each.requires_grad for each in module.parameters()):
                raise self.refused(
                    f"its loss is a function that uses '{name}', a module whose parameters would not be trained: give "
                    "the loss as one torch.nn.Module that holds it, or freeze it with requires_grad_(False)"
                )

    def _trains(self) -> None:
        """Two steps without an optimizer, the second with fewer examples, as the last of an epoch may be."""
        self.model.train()
        self.criterion.train()
        for step in range(2):
            inputs, targets = self.examples(min(len(self.places), SIZES[0]))
            if step and len(targets) > 2:
                inputs, targets = inputs[:-1], targets[:-1]
            outputs = self.outputs(inputs, " in a second step" if step else "")
            if step == 0:
                self._fits(outputs, targets, "")
                if self.task.judge.each and isinstance(outputs, Tensor):
                    self._fits_each(self._judged(outputs.detach(), targets), targets)
            loss = self._loss(outputs, targets)
            if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
                raise self.refused("the loss must give one number that follows from the network's outputs")
            with self.doing("the backward pass"):
                try:
                    loss.backward()  # type: ignore[no-untyped-call]
                except RuntimeError as error:
                    if not str(error).startswith("Trying to backward through the graph a second time"):
                        raise
                    raise self.refused(
                        "the network keeps a tensor with its graph from one batch to the next: keep what detach() gives"
                    ) from None
        if all(each.grad is None for each in self.model.parameters()):
            raise self.refused("no parameter of the network has a gradient: the loss must follow from its outputs")

    def _loss(self, outputs: Any, targets: Tensor) -> Tensor:
        shapes = _shapes(outputs, targets)
        before = len(self.met)
        with self.doing(f"{self.called} on {shapes}"):
            loss: Tensor = self.criterion(outputs, targets)
        for each in self.met[before:]:
            if str(each.message).startswith(BROADCAST):
                raise self.refused(
                    f"{self.called} on {shapes} compares each output with every target, as torch warns: give both the "
                    f"same shape{_remedy(outputs, targets)}"
                )
        return loss

    def _is_judged(self) -> None:
        """Judge the network as trials are, on as few examples as its metric takes."""
        self.model.eval()
        self.criterion.eval()
        for size in SIZES:
            inputs, targets = self.examples(size)
            with torch.no_grad():
                outputs = self.outputs(inputs, " in eval mode")
                self._fits(outputs, targets, " in eval mode")
                loss = self._loss(outputs, targets)
                with self.doing(f"{self.called} in eval mode"):
                    float(loss)
                try:
                    given = self._judged(outputs, targets)
                    break
                except UsageError:
                    if len(targets) == len(self.places):
                        raise
        self._fits_each(given, targets)
        self._compares_one_by_one(outputs, targets)

    def _compares_one_by_one(self, outputs: Any, targets: Tensor) -> None:
        """Hold functions of the task's own against outputs that differ from targets by axes of one."""
        if not isinstance(outputs, Tensor) or outputs.shape == aligned(outputs, targets).shape:
            return
        metric = self.task.judge
        own = self.criterion if self.name == losses.OF_TASK else None
        judging = None if metric.built_in else metric.function
        inputs, targets = self.examples(PAIRS)
        with torch.no_grad():
            outputs = self.outputs(inputs, " in eval mode")
            for called, function in ((self.called, own), (f"the metric '{metric.name}'", judging)):
                if function is not None and compares_all_pairs(function, outputs, targets):
                    raise self.refused(
                        f"{called} on {_shapes(outputs, targets)} compares each output with every "
                        f"target: give both the same shape{_remedy(outputs, targets)}"
                    )

    def _fits(self, outputs: Any, targets: Tensor, mode: str) -> None:
        """Hold outputs and targets against what losses and metrics of the package take.

        Raises:
            UsageError: they take others.
        """
        judged = self.task.judge in metrics.ROWS and self.task.judge.function is not None
        if not isinstance(outputs, Tensor):
            if self.name != losses.OF_TASK or (mode and judged):
                named = self.name != losses.OF_TASK
                wants = f"the loss '{self.name}'" if named else f"the metric '{self.task.judge.name}'"
                raise self.refused(
                    f"the model{mode} gives something of type {type(outputs).__name__}, but must give a tensor for "
                    f"{wants}"
                )
            return
        if self.name != losses.OF_TASK:
            self._fits_loss(outputs, targets, mode)
        elif binary(self.criterion.own) and not targets.is_floating_point():
            raise self.refused("its targets are whole numbers, which its loss cannot take: make them floating")
        elif of_classes(self.criterion.own) and not targets.is_floating_point() and outputs.ndim == targets.ndim + 1:
            self._fits_classes(outputs, targets, mode)
        if judged:
            self._fits_metric(self.task.judge, outputs, targets, mode)

    def _fits_loss(self, outputs: Tensor, targets: Tensor, mode: str) -> None:
        """Hold outputs and targets against what a loss of the package takes."""
        row = losses.find(self.name)
        shapes = f"the model{mode} gives outputs of shape {tuple(outputs.shape)} for targets of shape"
        shapes += f" {tuple(targets.shape)}"
        if targets.is_floating_point():
            if not row.one_hot:
                raise self.refused(
                    f"its targets are numbers, which the loss '{self.name}' cannot take; "
                    "use loss='mse', or classes as whole numbers"
                )
            if aligned(outputs, targets).shape != targets.shape:
                raise self.refused(f"{shapes}, but the loss '{self.name}' compares them number by number")
            return
        if outputs.ndim != targets.ndim + 1 or (row.one_hot and targets.ndim != 1):
            raise self.refused(
                f"{shapes}, but with classes as targets it must give a logit per class, "
                "(batch, classes) for targets of shape (batch,)"
            )
        self._fits_classes(outputs, targets, mode)

    def _fits_classes(self, outputs: Tensor, targets: Tensor, mode: str) -> None:
        """Hold the classes of all targets against the number of logits."""
        known = targets if self.train.targets is None else self.train.targets
        ignored, logits = self.criterion.ignored, outputs.shape[1]
        counted = known if ignored is None else known[known != ignored]
        if not len(counted):
            raise self.refused(f"none of its targets counts: all have the label {ignored}")
        low, high = int(counted.min()), int(counted.max())
        if low >= 0 and high < logits:
            return
        beyond = counted[(counted < 0) | (counted >= logits)]
        label = int(beyond[0])
        # one label beyond, and all classes there without it
        others = bool((beyond == label).all()) and bool((counted == 0).any()) and bool((counted == logits - 1).any())
        if others and label != logits:
            if self.name == losses.OF_TASK and of_classes(self.criterion.own):
                remedy = f"give ignore_index={label} to the loss"
            elif self.name == losses.OF_TASK:
                remedy = f"say Task(ignore_index={label}), and leave it out of the loss"
            else:
                remedy = f"say Task(ignore_index={label}), which the loss 'cross-entropy' leaves out"
            raise self.refused(
                f"the label {label} is none of the model's {logits} classes, 0 to {logits - 1}: where it marks "
                f"places that do not count, {remedy}"
            )
        raise self.refused(
            f"the model{mode} gives {plural(logits, 'logit')}, but the classes go from {low} to {high}: "
            f"they must be numbered from 0, and the last layer have {high - min(low, 0) + 1} outputs; "
            "if they are numbers to be predicted, make them floating"
        )

    def _fits_metric(self, metric: Metric, outputs: Tensor, targets: Tensor, mode: str) -> None:
        """Hold outputs and targets against what a metric of the package takes."""
        if metric is metrics.METRICS.get("accuracy"):
            if targets.is_floating_point() or outputs.ndim != targets.ndim + 1 or outputs.shape[1] < 2:
                raise self.refused(
                    "the metric 'accuracy' needs classes as targets and a logit for each, at least "
                    "two; use metric='mse', 'mae', 'r2', 'loss', or a Metric of your own"
                )
            self._fits_classes(outputs, targets, mode)
        elif aligned(outputs, targets).shape != targets.shape:
            raise self.refused(
                f"the metric '{metric.name}' compares numbers, but the model{mode} gives outputs of shape "
                f"{tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}; use metric='accuracy' for classes"
            )

    def _judged(self, outputs: Any, targets: Tensor) -> Any:
        """What the metric gives.

        Raises:
            UsageError: it fails, or gives no number.
        """
        metric = self.task.judge
        if metric.function is None:
            return None
        with self.doing(f"the metric '{metric.name}' on {plural(len(targets), 'example')}"):
            given = metric.function(outputs, targets)
            if not metric.each:
                float(given)
        return given

    def _fits_each(self, given: Any, targets: Tensor) -> None:
        metric = self.task.judge
        if metric.each and (not isinstance(given, Tensor) or given.shape != (len(targets),)):
            raise self.refused(
                f"the metric '{metric.name}' says each=True, so its function must give a tensor with "
                f"one value per example, ({len(targets)},)"
            )


def _shapes(outputs: Any, targets: Tensor) -> str:
    of_outputs = tuple(outputs.shape) if isinstance(outputs, Tensor) else f"of type {type(outputs).__name__}"
    return f"outputs {of_outputs} and targets {tuple(targets.shape)}"


def _remedy(outputs: Any, targets: Tensor) -> str:
    """How to bring outputs into the shape of the targets, where that can be said."""
    if not isinstance(outputs, Tensor) or aligned(outputs, targets).shape != targets.shape:
        return ""
    if outputs.ndim == targets.ndim + 1 and outputs.shape[1] == 1:
        return ", with outputs.squeeze(1)"
    return ", with outputs.reshape(targets.shape)"


def one_of_each_class_first(train: Part, most: int) -> Tensor:
    """Places of at most so many examples: the first of every class, then the second of every class, and so on."""
    targets = train.targets
    if targets is None or targets.ndim != 1 or targets.is_floating_point():
        return torch.arange(min(most, len(train)))
    order = targets.argsort(stable=True)
    by_class = targets[order]
    within = torch.arange(len(order)) - torch.searchsorted(by_class, by_class)
    return order[within.argsort(stable=True)][:most]


def compares_all_pairs(function: Callable[[Any, Tensor], Any], outputs: Any, targets: Tensor) -> bool:
    """Whether a loss or metric broadcasts, such as (n, 1) minus (n,) to (n, n).

    The order of the targets then changes nothing, but outputs in the shape of the targets change its value.

    Args:
        function: (outputs, targets) -> a number or a tensor.
        outputs: of the network, (n, ...).
        targets: (n, ...).
    """
    if not isinstance(outputs, Tensor) or outputs.shape == targets.shape:
        return False
    if aligned(outputs, targets).shape != targets.shape:
        return False
    # what all examples have in common would make any order the same
    noise = 0.5 + 0.5 * torch.rand(len(outputs), generator=torch.Generator().manual_seed(0))
    noise = noise.reshape(-1, *[1] * (outputs.ndim - 1))
    answers = (
        outputs * noise if bool(outputs.any()) else noise.expand(outputs.shape),
        targets.reshape(outputs.shape) * noise,
    )
    return any(_takes_any_order(function, each.double(), targets) for each in answers)


def _takes_any_order(function: Callable[[Any, Tensor], Any], answers: Tensor, targets: Tensor) -> bool:
    """Whether a function gives the same in any order of the targets, but not for answers of their shape."""

    def value(outputs: Tensor, truths: Tensor) -> float:
        given = function(outputs, truths.double() if truths.is_floating_point() else truths)
        return float(given.double().mean() if isinstance(given, Tensor) else given)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain, lined_up = value(answers, targets), value(answers.reshape(targets.shape), targets)
            turned = [value(answers, targets.roll(places, 0)) for places in (1, 2, 3, 5, 7)]
    except Exception:  # it does not take what it is tried with, which says nothing of what it is given
        return False
    close = partial(math.isclose, plain, rel_tol=1e-7)
    return not close(lined_up) and all(map(close, turned))
