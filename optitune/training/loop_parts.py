"""What a training loop of the user's own gets: an optimizer of its parameters, and one scheduler that it steps."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from optitune.errors import UsageError
from optitune.space.configuration import Configuration
from optitune.tasks.task import kind
from optitune.tasks.user_code import caller_place
from optitune.training.build import Stepped, build_optimizer, penalise, regularised
from optitune.training.weights import kinds

Trained = nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]


def as_module(trained: Any, name: str) -> nn.Module:
    """What is to be trained as a module, its parameters under names that begin with that of the optimizer.

    Args:
        trained: a module, a dict of modules, parameters, or pairs of names and parameters.
        name: of the optimizer; empty for the only one.

    Raises:
        UsageError: it is nothing of these, or has nothing to train.
    """
    if isinstance(trained, Mapping):
        trained = nn.ModuleDict(trained)
    module = trained if isinstance(trained, nn.Module) else _of_parameters(trained)
    if not any(each.requires_grad for each in module.parameters()):
        raise UsageError(f"run.optimizer: there is no parameter to train{caller_place()}")
    if not name:
        return module
    outer = nn.Module()
    outer.add_module(name, module)
    return outer


def _of_parameters(given: Any) -> nn.Module:
    root = nn.Module()
    try:
        there = list(given)
    except TypeError:
        there = []
    for number, each in enumerate(there):
        name, parameter = each if isinstance(each, tuple) and len(each) == 2 else (f"parameter{number}", each)
        if not isinstance(parameter, Tensor) or not isinstance(name, str):
            wrong = (
                "a dict of a parameter group: give the module, and say factors of the learning rate by name in the "
                "study, as groups"
                if isinstance(each, Mapping)
                else f"{kind(parameter)}"
            )
            raise UsageError(
                f"run.optimizer: holds {wrong}{caller_place()}; give a module, its parameters(), or its "
                "named_parameters()"
            )
        if not isinstance(parameter, nn.Parameter):
            raise UsageError(f"run.optimizer: '{name}' is a tensor, not a torch.nn.Parameter{caller_place()}")
        *path, own = name.split(".")
        place = root
        for part in path:
            if part not in place._modules:
                place.add_module(part, nn.Module())
            place = place._modules[part]  # type: ignore[assignment]
        place.register_parameter(own, parameter)
    if not there:
        raise UsageError(
            f"run.optimizer: is {kind(given)}, without a parameter{caller_place()}; give a module, its parameters(), "
            "or its named_parameters()"
        )
    return root


def hook_steps(
    optimizer: Optimizer, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None
) -> None:
    """Call functions before and after every step of an optimizer, once each.

    torch calls hooks again within a step whose class calls the step of a class that it inherits from.

    Args:
        optimizer: whose steps.
        before: called before each.
        after: called after each.
    """
    depth = 0

    def begins(*_: Any) -> None:
        nonlocal depth
        depth += 1
        if depth == 1 and before is not None:
            before()

    def ends(*_: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0 and after is not None:
            after()

    optimizer.register_step_pre_hook(begins)
    optimizer.register_step_post_hook(ends)


def optimizer_of(module: nn.Module, configuration: Configuration) -> Optimizer:
    """The optimizer of a configuration, which also clips and penalises as that says, before each step.

    Args:
        module: its parameters.
        configuration: of the training.
    """
    training, traits = configuration.training, configuration.optimizer.how[1]
    optimizer = build_optimizer(configuration.optimizer, module, training)
    if training.l1 or training.clip_norm:
        parameters = [each for each in module.parameters() if each.requires_grad]
        penalised = [each for each, kind in kinds(module).values() if regularised(kind, training)]

        def before_step() -> None:
            if training.l1:
                penalise(penalised, training.l1)
            if training.clip_norm:
                clip_grad_norm_(parameters, training.clip_norm)

        hook_steps(optimizer, before_step)
    if "modes" in traits:
        # it keeps other weights to train than to judge, and the network says which it is about to do
        module_modes(module, optimizer)
    return optimizer


def module_modes(module: nn.Module, optimizer: Any) -> None:
    """Let an optimizer that has modes follow those of its network."""

    def follow(network: nn.Module, inputs: Any) -> None:
        optimizer.train() if network.training else optimizer.eval()

    for each in [module, *module.children()]:
        each.register_forward_pre_hook(follow)


class LoopScheduler(LRScheduler):
    """The schedule of a training, with its warm-up, as one torch scheduler that is stepped after every optimizer step.

    Parts that change once an epoch do so at every `steps_per_epoch`-th step; one that observes the loss does when
    the epoch is reported.
    """

    def __init__(self, optimizer: Optimizer, parts: Iterable[Stepped], steps_per_epoch: int) -> None:
        # torch's own constructor would step
        self.optimizer = optimizer
        self.parts = list(parts)
        self.steps_per_epoch = steps_per_epoch
        self.last_epoch = 0
        self._last_lr = [group["lr"] for group in optimizer.param_groups]

    def step(self, epoch: Any = None) -> None:
        """A step of the optimizer was taken."""
        self.last_epoch += 1
        due = [each for each in self.parts if each.per_step]
        if self.last_epoch % self.steps_per_epoch == 0:
            due += [each for each in self.parts if not each.per_step and not each.observes]
        for each in due:
            each.scheduler.step()
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[Any]:
        """The present learning rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def observe(self, loss: float) -> None:
        """An epoch ended with this training loss."""
        for each in self.parts:
            if each.observes:
                each.scheduler.step(loss)  # type: ignore[arg-type]

    @property
    def observes(self) -> bool:
        """Whether a part follows the loss."""
        return any(each.observes for each in self.parts)

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {"steps": self.last_epoch, "parts": [each.scheduler.state_dict() for each in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.last_epoch = state["steps"]
        for each, kept in zip(self.parts, state["parts"], strict=True):
            each.scheduler.load_state_dict(kept)
