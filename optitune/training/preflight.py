"""Before anything trains: do model, data, loss, metric, groups and optimizers fit each other?"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from optitune.common.randomness import random_state, set_random_state
from optitune.errors import UsageError
from optitune.space.configuration import Configuration
from optitune.study.settings import StudySettings
from optitune.tasks.builtin import TASKS
from optitune.tasks.data import Part
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.task import Task
from optitune.tasks.user_code import calling
from optitune.training.build import build
from optitune.training.criterion import together
from optitune.training.preflight_network import try_network
from optitune.training.preflight_optimizers import Steps, check_groups, check_optimizers, try_optimizer

CPU = torch.device("cpu")


def check(task: Task, train: Part, settings: StudySettings) -> str:
    """Try network, loss, metric and optimizers of a study on a few examples.

    Args:
        task: of the study.
        train: training examples.
        settings: of the study.

    Returns:
        The fingerprint of the network.

    Raises:
        UsageError: they do not fit; the message names the place.
    """
    if isinstance(task, LoopTask):
        return task.known.network
    loss = settings.loss or task.loss_name
    with undisturbed():
        model = network = fresh_model(task)
        if settings.task not in TASKS or loss != task.loss_name:
            model = together(model, try_network(task, model, train, loss))
        check_optimizers(settings, model, Steps(task, network, train))
        return fingerprint(model)


def check_configuration(task: Task, train: Part, configuration: Configuration) -> str:
    """Try one configuration on a few examples.

    Args:
        task: to train.
        train: training examples.
        configuration: to try.

    Returns:
        The fingerprint of the network.

    Raises:
        UsageError: its parts do not fit; the message names the place.
    """
    if isinstance(task, LoopTask):
        return task.known.network
    with undisturbed():
        network, training = fresh_model(task), configuration.training
        model = together(network, try_network(task, network, train, training.loss))
        check_groups(model, training.groups)
        try_optimizer(configuration.optimizer, training, model)
        Steps(task, network, train).take(configuration.optimizer, training)
        return fingerprint(model)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore the random state of torch, numpy and Python after the block, for the caller's own draws."""
    kept = random_state(CPU)
    try:
        yield
    finally:
        set_random_state(kept, CPU)


def fresh_model(task: Task) -> nn.Module:
    """A network of the task, on the CPU; an empty one where the loop is the user's own.

    Raises:
        UsageError: it cannot be built, or has nothing to train.
    """
    if isinstance(task, LoopTask):
        return task.model()
    with undisturbed(), calling(task.name, "model()"):
        model = build(task, 0, CPU)
        again = task.model()
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
