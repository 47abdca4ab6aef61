"""Before anything trains: do model, data, loss, metric, groups and optimizers fit each other?"""

import hashlib
import random

import numpy as np
import torch
from torch import Tensor, nn

from optitune import losses, metrics
from optitune.building import build_loss
from optitune.configuration import Configuration, TrainingSettings
from optitune.data import Examples, Part
from optitune.errors import UsageError
from optitune.preflight_optimizers import check_groups, check_optimizers, try_optimizer
from optitune.settings import StudySettings
from optitune.tasks import TASKS, Task, build, theirs

LOOKED_AT = 8
"""How many examples are tried."""

CPU = torch.device("cpu")


def check(task: Task, train: Part, settings: StudySettings) -> str:
    """Try the parts of a study on a few examples.

    Returns:
        the fingerprint of the network.

    Raises:
        UsageError: they do not fit; the message names the place.
    """
    model = fresh_model(task)
    loss = settings.loss or task.loss_name
    if settings.task not in TASKS or loss != task.loss_name:
        _try_network(task, model, train, loss)
    check_optimizers(settings, model)
    return fingerprint(model)


def check_configuration(task: Task, train: Part, configuration: Configuration) -> str:
    """Try one configuration on a few examples; the fingerprint of its network.

    Raises:
        UsageError: its parts do not fit; the message names the place.
    """
    model, training = fresh_model(task), configuration.training
    _try_network(task, model, train, training.loss)
    check_groups(model, training.groups)
    try_optimizer(configuration.optimizer, training, model)
    return fingerprint(model)


def fresh_model(task: Task) -> nn.Module:
    """A network of the task, on the CPU.

    Raises:
        UsageError: it cannot be built, or has nothing to train.
    """
    kept = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        with theirs(task.name, "model()"):
            model = build(task, 0, CPU)
            again = task.model()
    finally:
        # whoever calls optitune from Python goes on with their own draws
        torch.set_rng_state(kept[0])
        random.setstate(kept[1])
        np.random.set_state(kept[2])
    if again is model or {id(each) for each in again.parameters()} & {id(each) for each in model.parameters()}:
        raise UsageError(
            f"task '{task.name}': model() gives the same network again, but must build a fresh one at every call, "
            "since every trial trains one of its own"
        )
    if not any(each.requires_grad for each in model.parameters()):
        raise UsageError(f"task '{task.name}': model() gives a network without parameters to train")
    return model


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over the names and shapes of all that a network keeps: two of another architecture differ."""
    parts = [f"{name} {tuple(value.shape)}" for name, value in model.state_dict().items() if hasattr(value, "shape")]
    return f"sha256:{hashlib.sha256('; '.join(parts).encode()).hexdigest()}"


def _try_network(task: Task, model: nn.Module, train: Part, name: str) -> None:
    """Take a few examples through network, loss and metric.

    Raises:
        UsageError: they do not fit.
    """
    some = train.take(slice(0, LOOKED_AT))
    with theirs(task.name, "reading the data"):
        inputs, targets = next(some.in_turn(LOOKED_AT))
    with theirs(task.name, f"the model on inputs of shape {tuple(inputs.shape)}, {inputs.dtype}"):
        outputs = model(inputs)
    if not isinstance(outputs, Tensor):
        raise UsageError(
            f"task '{task.name}': the model gives something of type {type(outputs).__name__}, but must give a tensor"
        )
    known = targets if not isinstance(train, Examples) else train.targets
    _fits_loss(task, name, outputs, targets, known)
    function = build_loss(TrainingSettings(loss=name), task.own_loss)
    called = "its own loss" if name == losses.OF_TASK else f"the loss '{name}'"
    with theirs(task.name, f"{called} on outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"):
        loss = function(outputs.float(), targets)
    if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
        raise UsageError(f"task '{task.name}': the loss must give one number that follows from the network's outputs")
    _fits_metric(task, outputs.detach().float(), targets)


def _fits_loss(task: Task, name: str, outputs: Tensor, targets: Tensor, all_targets: Tensor) -> None:
    """Hold outputs and targets against what a loss of the package takes.

    Raises:
        UsageError: it takes others.
    """
    if name == losses.OF_TASK:
        return
    row = losses.find(name)
    shapes = f"the model gives outputs of shape {tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}"
    whole = not targets.is_floating_point()
    if not whole and not row.one_hot:
        raise UsageError(
            f"task '{task.name}': its targets are numbers, which the loss '{name}' cannot take; "
            "use loss='mse', or classes as whole numbers"
        )
    if not whole:
        if metrics.aligned(outputs, targets).shape != targets.shape:
            raise UsageError(f"task '{task.name}': {shapes}, but the loss '{name}' compares them number by number")
        return
    if outputs.ndim != targets.ndim + 1 or (row.one_hot and targets.ndim != 1):
        raise UsageError(
            f"task '{task.name}': {shapes}, but with classes as targets it must give a logit per class, "
            "(batch, classes) for targets of shape (batch,)"
        )
    low, high = int(all_targets.min()), int(all_targets.max())
    if low < 0 or high >= outputs.shape[1]:
        raise UsageError(
            f"task '{task.name}': the model gives {outputs.shape[1]} logits, but the classes go from {low} to {high}: "
            f"they must be numbered from 0, and the last layer have {high - min(low, 0) + 1} outputs; "
            "if they are numbers to be predicted, make them floating"
        )


def _fits_metric(task: Task, outputs: Tensor, targets: Tensor) -> None:
    """Hold outputs and targets against what the metric takes.

    Raises:
        UsageError: it takes others, or gives no number.
    """
    metric = task.judge
    if metric.function is None:
        return
    if metric is metrics.METRICS.get("accuracy"):
        if targets.is_floating_point() or outputs.ndim != targets.ndim + 1 or outputs.shape[1] < 2:
            raise UsageError(
                f"task '{task.name}': the metric 'accuracy' needs classes as targets and a logit for each, at least "
                "two; use metric='mse', 'mae', 'r2', 'loss', or a Metric of your own"
            )
    elif metric in metrics.ROWS and metrics.aligned(outputs, targets).shape != targets.shape:
        raise UsageError(
            f"task '{task.name}': the metric '{metric.name}' compares numbers, but the model gives outputs of shape "
            f"{tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}; use metric='accuracy' for classes"
        )
    with theirs(task.name, f"the metric '{metric.name}'"):
        given = metric.function(outputs, targets)
        if not metric.each:
            float(given)
    if metric.each and (not isinstance(given, Tensor) or given.shape != (len(targets),)):
        raise UsageError(
            f"task '{task.name}': the metric '{metric.name}' says each=True, so its function must give a tensor with "
            f"one value per example, ({len(targets)},)"
        )
