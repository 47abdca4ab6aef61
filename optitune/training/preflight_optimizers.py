"""Check before a training that the network, its parameter groups and the optimizers fit each other."""

import copy
import inspect
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from optitune.common import checkpoint
from optitune.errors import OptituneError, UsageError
from optitune.space import search_space
from optitune.space.configuration import Configuration, OptimizerSettings, ScheduleSettings, TrainingSettings
from optitune.space.ranges import Range
from optitune.study.settings import StudySettings
from optitune.tasks import metrics
from optitune.tasks.builtin import TASKS
from optitune.tasks.data import Part
from optitune.tasks.task import Task
from optitune.tasks.user_code import reason, script
from optitune.training.build import at, build, build_loss, build_optimizer, factor, parameter_groups
from optitune.training.engine import Training
from optitune.training.optimizer_classes import asked_traits
from optitune.training.plan import Plan
from optitune.training.progress import Diverged
from optitune.training.weights import bare, kinds

LOOKED_AT = 8
"""Number of examples of a trial step."""

CPU = torch.device("cpu")


class Refusal(Exception):
    """An optimizer cannot train a network; the message has the reason."""


@dataclass(frozen=True)
class Steps:
    """Takes a real training step with an optimizer, on a copy of the network.

    Attributes:
        task: of the network.
        network: on the CPU; it is not changed.
        train: training examples.
    """

    task: Task
    network: nn.Module
    train: Part

    def take(self, chosen: OptimizerSettings, settings: TrainingSettings) -> None:
        """Take a step, and check that the state of the training can be saved.

        Raises:
            UsageError: either fails.
        """
        path, traits = chosen.how
        try:
            self._take(chosen, settings)
        except Refusal as refusal:
            place = f"optimizer '{chosen.name}' ({path.replace(':', '.')})"
            if "closure" not in traits and "closure" in inspect.signature(at(path).step).parameters and chosen.path:
                with suppress(Refusal):
                    self._take(chosen.model_copy(update={"traits": (*traits, "closure")}), settings)
                    raise UsageError(
                        f'{place}: say traits = ["closure"] in its row, as its step needs one ({refusal})'
                    ) from None
            raise UsageError(f"{place}: cannot train this network: {refusal}; leave it out{self._others()}") from None

    def _others(self) -> str:
        sparse = any(kind == "sparse" for _, kind in kinds(self.network).values())
        return "; sgd, adagrad and sparseadam train embeddings with sparse=True" if sparse else ""

    def _take(self, chosen: OptimizerSettings, settings: TrainingSettings) -> None:
        """Take a step; `Refusal` if it fails, `UsageError` if the network's state cannot be saved."""
        some = self.train.take(slice(0, LOOKED_AT))
        try:
            model = copy.deepcopy(bare(self.network))
        except Exception:  # a network that holds what cannot be copied
            model = build(self.task, 0, CPU)
        configuration = Configuration(
            optimizer=chosen,
            schedule=ScheduleSettings(name="constant", settings={}),
            training=settings.model_copy(update={"batch_size": LOOKED_AT, "accumulation": 1}),
        )
        loss = build_loss(settings, self.task.own_loss, self.task.ignore_index)
        plan = Plan(configuration, loss, metrics.find("loss"), 1, 0, "fp32")
        try:
            with warnings.catch_warnings():
                # the network was tried before, and what its code warns of is noted then
                warnings.simplefilter("ignore")
                training = Training(model, plan, some)
                for _ in training.run():
                    pass
        except Diverged:
            return
        except OptituneError:
            raise
        except Exception as error:
            raise Refusal(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
        for name, value in model.state_dict().items():
            if isinstance(value, Tensor) and value.layout != torch.strided:
                raise UsageError(
                    f"task '{self.task.name}': the network keeps '{name}' as a tensor of {value.layout}, which "
                    "model.safetensors cannot hold: make it dense, or register it with persistent=False"
                )
        try:
            checkpoint.dumps(training.state_dict())
        except TypeError as error:
            what = str(error)
            if not what.startswith("model."):
                raise Refusal(f"{what}, so that no training could be taken up again") from None
            raise UsageError(
                f"task '{self.task.name}': the network's state holds what no file can: {what.removeprefix('model.')}; "
                "let get_extra_state() give tensors, numbers, strings, or lists and dicts of them"
            ) from None


def check_optimizers(settings: StudySettings, model: nn.Module, steps: Steps) -> None:
    """Check that parameter groups and every competing optimizer fit the network.

    Args:
        settings: of the study.
        model: network of the task, with its loss where that is trained.
        steps: takes a step with an optimizer.

    Raises:
        UsageError: they do not fit; the message names the place.
    """
    refused: dict[str, str] = {}
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
        training = TrainingSettings(
            loss=settings.loss or steps.task.loss_name,
            decay_biases=settings.decay_biases,
            groups=groups,
            **{name: _furthest(space.training[name], 0.0) for name in ("clip_norm", "l1")},
        )
        try_optimizer(chosen, training, model)
        if own or settings.task not in TASKS:
            try:
                steps.take(chosen, training)
            except UsageError as error:
                if ": cannot train this network: " not in str(error):
                    raise
                refused[row.name] = str(error)
    if len(refused) == 1:
        raise UsageError(*refused.values())
    if refused:
        left = ",".join(name for name in space.rows if name not in refused)
        why = next(iter(refused.values())).partition("cannot train this network: ")[2]
        raise UsageError(
            f"optimizers {', '.join(refused)}: cannot train this network: {why.partition('; leave it out')[0]}; "
            + (f"leave them out: --optimizers {left}" if left else f"choose others{steps._others()}")
        )


def _furthest(value_range: Range, usual: float) -> Any:
    """The end of a range that is not the default value, if there is one."""
    return next((end for end in reversed(value_range.ends()) if end != usual), usual)


def check_groups(model: nn.Module, patterns: object) -> None:
    """Check that every pattern of parameter groups matches a parameter.

    Raises:
        UsageError: one matches none, or none that an earlier one has left.
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
    """Build an optimizer as a training does.

    Args:
        chosen: the optimizer.
        training: training settings, which decide the parameter groups.
        model: network of the task, with its loss where that is trained.

    Raises:
        UsageError: its class cannot be imported, refuses its settings, or does not match its traits.
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
        with script(None):
            class_ = at(path)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{place}: cannot be imported: {reason(error)}") from error
    if not isinstance(class_, type) or not issubclass(class_, torch.optim.Optimizer):
        raise UsageError(f"{place}: is no torch.optim.Optimizer")
    for trait, (needs, can) in asked_traits(class_).items():
        if needs > (trait in traits) or (trait in traits) > can:
            remedy = f'say traits = ["{trait}"] in its row' if needs else f'leave "{trait}" out of its traits'
            raise UsageError(f"{place}: {remedy}, as its class {'does' if needs else 'does not'} ask for it")
    if "sparse" in traits and not any(kind == "sparse" for _, kind in kinds(model).values()):
        raise UsageError(
            f"optimizer '{chosen.name}' is for embeddings with sparse=True, and this network has none: leave it out"
        )
    try:
        optimizer = build_optimizer(chosen, model, training)
        for mode in ("train", "eval") * ("modes" in traits):
            getattr(optimizer, mode)()
    except Exception as error:
        text = " ".join(str(error).split())
        raise UsageError(f"{place}: refuses {dict(chosen.settings)}: {type(error).__name__}: {text}") from None
