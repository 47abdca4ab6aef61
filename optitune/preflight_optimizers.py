"""Before anything trains: do the network, its parameter groups and the optimizers that compete fit each other?"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from optitune import search_space
from optitune.building import at, build_optimizer, factor, parameter_groups
from optitune.configuration import OptimizerSettings, TrainingSettings
from optitune.errors import UsageError
from optitune.settings import StudySettings
from optitune.space import Range
from optitune.weights import kinds


def check_optimizers(settings: StudySettings, model: nn.Module) -> None:
    """Hold groups and every optimizer that competes against the network.

    Raises:
        UsageError: they do not fit; the message names the place.
    """
    check_groups(model, settings.groups)
    space = settings.space()
    for first in search_space.known_good(space, settings.epochs)[: len(space.rows)]:
        row, values, groups = space.rows[first.optimizer], dict(first.values), dict(first.groups)
        if "one-group" in row.traits:
            # what a later trial may draw counts
            if "weight_decay" in values:
                values["weight_decay"] = _furthest(space.optimizers[row.name]["weight_decay"], 0.0)
            groups = {pattern: _furthest(each, 1.0) for pattern, each in space.groups.items()}
        own = any(each.name == row.name for each in settings.optimizer)
        chosen = OptimizerSettings(
            name=row.name,
            settings=row.arguments(values),
            path=row.path if own else "",
            traits=row.traits if own else (),
        )
        training = TrainingSettings(decay_biases=settings.decay_biases, groups=groups)
        try_optimizer(chosen, training, model)


def _furthest(value_range: Range, usual: float) -> Any:
    """The end of a range that is not the usual value, if there is one."""
    return next((end for end in reversed(value_range.ends()) if end != usual), usual)


def check_groups(model: nn.Module, patterns: object) -> None:
    """Hold the patterns of parameter groups against the names of the parameters.

    Raises:
        UsageError: one fits no parameter, or none that an earlier one has left.
    """
    names = [name for name, (parameter, _) in kinds(model).items() if parameter.requires_grad]
    left = list(names)
    for pattern in dict(patterns):  # type: ignore[call-overload]
        fitting = [name for name in left if factor(name, {pattern: 0.0}) == 0]
        if not fitting:
            shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise UsageError(f'groups."{pattern}": fits no parameter of the network that is left; there are: {shown}')
        left = [name for name in left if name not in fitting]


def try_optimizer(chosen: OptimizerSettings, training: TrainingSettings, model: nn.Module) -> None:
    """Build an optimizer, as the training will.

    Raises:
        UsageError: its class cannot be had, or refuses its settings, or does not behave as its traits say.
    """
    path, traits = chosen.how
    place = f"optimizer '{chosen.name}' ({path.replace(':', '.')})"
    if "one-group" in traits and len(parameter_groups(model, chosen, training)) > 1:
        raise UsageError(
            f"optimizer '{chosen.name}' takes no parameter groups: leave out groups"
            + (", or set decay_biases = true" if chosen.settings.get("weight_decay") else "")
            + ", or leave it out of optimizers"
        )
    try:
        class_ = at(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{place}: cannot be imported: {error}") from None
    if not isinstance(class_, type) or not issubclass(class_, torch.optim.Optimizer):
        raise UsageError(f"{place}: is no torch.optim.Optimizer")
    for trait, has in (("closure", _wants_closure(class_.step)), ("modes", callable(getattr(class_, "eval", None)))):
        if has != (trait in traits):
            remedy = f'say traits = ["{trait}"] in its row' if has else f'leave "{trait}" out of its traits'
            raise UsageError(f"{place}: {remedy}, as its class {'does' if has else 'does not'} ask for it")
    try:
        optimizer = build_optimizer(chosen, model, training)
        for mode in ("train", "eval") * ("modes" in traits):
            getattr(optimizer, mode)()
    except Exception as error:
        text = " ".join(str(error).split())
        raise UsageError(f"{place}: refuses {dict(chosen.settings)}: {type(error).__name__}: {text}") from None


def _wants_closure(step: Callable[..., object]) -> bool:
    parameter = inspect.signature(step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty
