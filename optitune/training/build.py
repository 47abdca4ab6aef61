"""Build torch's objects from settings: the network, parameter groups, optimizer, schedules and loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib import import_module
from math import log10
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler

from optitune.common.randomness import random_state, seed_everything, set_random_state
from optitune.common.renamed_modules import current_path
from optitune.errors import UsageError
from optitune.space import losses, schedules
from optitune.space.configuration import OptimizerSettings, ScheduleSettings, TrainingSettings
from optitune.space.losses import LOSSES, UNNAMED
from optitune.tasks.metrics import aligned
from optitune.tasks.task import Loss, Task
from optitune.tasks.task import kind as type_of
from optitune.training.criterion import Criterion, Together
from optitune.training.sharded import is_sharded
from optitune.training.weights import bare, kinds
from optitune.training.weights import hidden as hidden_matrices

NAMES = ", ".join(LOSSES)

FUSED: Mapping[str, tuple[str, ...]] = {"fused": ("cpu", "cuda"), "fused-cpu": ("cpu",)}
"""The devices on which torch has a fused kernel, by trait; for real parameters with dense gradients alone."""

STEPS_OF_A_GLANCE = 10
"""Simulated optimizer steps between two evaluations, from which `lr_ahead` reads a schedule."""


def at(path: str) -> Any:
    """Import the object that `module:name` names.

    Raises:
        ImportError: there is no such module.
        AttributeError: it has no such name.
    """
    module, name = current_path(path).split(":")
    return getattr(import_module(module), name)


def initialise(model: nn.Module, inputs: Callable[[], Tensor]) -> None:
    """Initialise lazy layers, such as `nn.LazyLinear`, in place, from the shapes of a batch.

    Weights follow from torch's generator on the CPU and the shape of the batch alone. Other buffers, such as batch-norm
    statistics, are left as they were, and a network without lazy layers is not called.

    Args:
        model: to initialise.
        inputs: gives a batch of inputs.
    """
    network = bare(model)
    if not lazy(network):
        return
    device = next(network.parameters()).device
    random = random_state(device)
    batch = inputs().cpu()
    # a data set may draw while it is read
    set_random_state(random, device)
    modes = {each: each.training for each in network.modules()}
    network.cpu()
    for mode in (False, True):
        left = lazy(network)
        if not left:
            break
        kept = {name: each.clone() for name, each in network.named_buffers() if name not in left}
        norms = [each for each in network.modules() if isinstance(each, _NormBase) and lazy(each)]
        with torch.no_grad():
            network.train(mode)(batch)
            for name, each in network.named_buffers():
                if name in kept:
                    each.copy_(kept[name])
        for norm in norms:
            if not lazy(norm):
                norm.reset_running_stats()
    for module, training in modes.items():
        module.training = training
    network.to(device)


def lazy(model: nn.Module) -> list[str]:
    """The parameters and buffers that have no shape yet, by name."""
    return [name for name, each in [*model.named_parameters(), *model.named_buffers()] if is_lazy(each)]


def factor(name: str, groups: Mapping[str, float]) -> float:
    """The learning-rate factor of the parameter called `name`: that of the first pattern that matches, or 1."""
    return next((value for pattern, value in groups.items() if fnmatchcase(name, pattern)), 1.0)


def regularised(kind: str, training: TrainingSettings) -> bool:
    """Whether weight decay and `l1` apply to a parameter of this kind (`weights.kinds`): never to sparse ones."""
    return kind != "sparse" and (training.decay_biases or kind != "other")


def parameter_groups(
    model: nn.Module,
    settings: OptimizerSettings,
    training: TrainingSettings,
    inputs: Callable[[], Any] = lambda: None,
) -> list[dict[str, Any]]:
    """The trained parameters of a network as torch's parameter groups, as few as possible.

    Groups differ in their learning-rate factor, in whether weight decay applies, and, for optimizers with the trait
    `matrices`, in whether they hold hidden weight matrices.

    Args:
        model: the network, with its loss where that is trained.
        settings: of the optimizer.
        training: training settings.
        inputs: gives a batch of inputs, from which the output layer is found; by default it is the one registered last.
    """
    decay = bool(settings.settings.get("weight_decay", 0.0))
    matrices = None
    if "matrices" in settings.how[1]:
        matrices = hidden_matrices(model.network if isinstance(model, Together) else model, inputs())
    groups: dict[tuple[float, bool, bool], dict[str, Any]] = {}
    for name, (parameter, kind) in kinds(model).items():
        if not parameter.requires_grad:
            continue
        times = factor(name, training.groups)
        free = decay and not regularised(kind, training)
        matrix = matrices is not None and name in matrices
        group = groups.setdefault((times, free, matrix), {"params": []})
        group["params"].append(parameter)
        if times != 1:
            lr = settings.settings["lr"]
            assert isinstance(lr, int | float)
            group["lr"] = lr * times
        if free:
            group["weight_decay"] = 0.0
        if matrices is not None:
            group["matrix"] = matrix
    return list(groups.values())


def build_optimizer(
    settings: OptimizerSettings,
    model: nn.Module,
    training: TrainingSettings,
    inputs: Callable[[], Any] = lambda: None,
) -> Optimizer:
    """Build the torch optimizer of the parameters of a network.

    Args:
        settings: of the optimizer.
        model: the network, with its loss where that is trained.
        training: training settings, which decide the parameter groups.
        inputs: as for `parameter_groups`.

    Raises:
        ValueError, TypeError: torch refuses a setting.
    """
    path, traits = settings.how
    groups = parameter_groups(model, settings, training, inputs)
    devices = FUSED.get(next((trait for trait in traits if trait in FUSED), ""), ())
    fused = all(
        parameter.is_floating_point()
        and kind != "sparse"
        and parameter.device.type in devices
        # torch has fused steps of whole tensors alone for some optimizers
        and not is_sharded(parameter)
        for parameter, kind in kinds(model).values()
        if parameter.requires_grad
    )
    optimizer: Optimizer = at(path)(groups, **settings.settings, **({"fused": True} if fused else {}))
    return optimizer


@dataclass(frozen=True)
class Stepped:
    """A torch scheduler and how it is stepped.

    Attributes:
        scheduler: torch's.
        per_step: whether it is stepped after every optimizer step, or after every epoch.
        observes: whether its step takes the training loss of the epoch.
    """

    scheduler: LRScheduler
    per_step: bool
    observes: bool = False


def build_schedules(
    settings: ScheduleSettings, optimizer: Optimizer, epochs: int, steps_per_epoch: int
) -> Sequence[Stepped]:
    """Build the torch schedulers of an optimizer: the schedule and its warm-up, which multiply; none if constant.

    Args:
        settings: of the schedule.
        optimizer: whose learning rates they change.
        epochs: of the training.
        steps_per_epoch: optimizer steps.
    """
    row = schedules.find(settings.name)
    built = []
    if row.path:
        lrs = {row.lr_argument: [group["lr"] for group in optimizer.param_groups]} if row.lr_argument else {}
        arguments = row.in_steps(settings.settings, steps_per_epoch)
        if arguments.get("pct_start", 0) * arguments.get("total_steps", 0) == 1:
            # torch divides by the length of the rise less one step
            arguments["pct_start"] *= 1 + 1e-12
        built.append(Stepped(at(row.path)(optimizer, **lrs, **arguments), row.per == "step", row.observes))
    ramp = warmup_steps(settings, epochs, steps_per_epoch)
    if ramp:
        built.append(Stepped(LinearLR(optimizer, start_factor=1 / (ramp + 1), total_iters=ramp), per_step=True))
    return built


def warmup_steps(settings: ScheduleSettings, epochs: int, steps_per_epoch: int) -> int:
    """The number of optimizer steps of the warm-up.

    Args:
        settings: of the schedule.
        epochs: of the training.
        steps_per_epoch: optimizer steps.
    """
    return round(settings.warmup * epochs * steps_per_epoch)


def lr_ahead(settings: ScheduleSettings, epochs: int, evaluations: int) -> list[float]:
    """The changes of the learning rate still to come after each evaluation, in powers of ten.

    torch's own schedulers are stepped through a simulated training. Factors below 0.01 count as 0.01; changes that
    depend on the loss are left out.

    Args:
        settings: of the schedule.
        epochs: of the training.
        evaluations: per epoch.

    Returns:
        A number for each evaluation, the last one 0; negative where the learning rate falls.
    """
    steps = STEPS_OF_A_GLANCE * evaluations
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    stepped = [each for each in build_schedules(settings, optimizer, epochs, steps) if not each.observes]
    lrs = []
    for step in range(1, epochs * steps + 1):
        lr = optimizer.param_groups[0]["lr"]
        if step % STEPS_OF_A_GLANCE == 0:
            lrs.append(log10(max(lr, 0.01)))
        optimizer.step()
        for each in stepped:
            if each.per_step or step % steps == 0:
                each.scheduler.step()
    return [round(lrs[-1] - lr, 6) for lr in lrs]


def build_loss(training: TrainingSettings, own: Loss | None, ignored: int | None = None) -> Criterion:
    """Build the loss of a training.

    Args:
        training: training settings, which name it.
        own: the task's own loss: a function, a module, or a class of modules; None where it has none.
        ignored: label of targets that do not count; None for the label that the loss itself ignores.

    Raises:
        UsageError: the settings name the task's own loss, and there is none.
    """
    if training.loss in UNNAMED:
        if own is None:
            raise UsageError(f"loss = '{training.loss}': the task has no loss function of its own; name one: {NAMES}")
        return Criterion(own, ignored)
    row = losses.find(training.loss)
    function: Callable[..., Tensor] = at(row.path)
    if row.one_hot:

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            if not targets.is_floating_point():
                targets = functional.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
            return function(aligned(outputs, targets), targets)

        return Criterion(loss)
    arguments = {name: getattr(training, name) for name in row.settings if getattr(training, name)}
    if ignored is not None:
        arguments["ignore_index"] = ignored
    return Criterion(partial(function, **arguments) if arguments else function)


def penalise(parameters: Sequence[nn.Parameter], l1: float) -> None:
    """Add the gradient of the L1 penalty, `l1` times the sum of absolute values, to the gradients of `parameters`."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach().sgn(), alpha=l1)


def build(task: Task, seed: int, device: torch.device) -> nn.Module:
    """Build a network of a task.

    Args:
        task: whose `model` is called.
        seed: that its initial weights follow from.
        device: that it is moved to.

    Raises:
        UsageError: `model` does not give a network.
    """
    seed_everything(seed)
    model = task.model()
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"task '{task.name}': model() gives {type_of(model, 'something ')}, but must give a torch.nn.Module"
        )
    model = model.to(device)
    if task.channels_last and not any(map(is_lazy, model.parameters())):
        return model.to(memory_format=torch.channels_last)
    return model
