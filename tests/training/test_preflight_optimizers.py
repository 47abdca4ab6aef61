"""Groups and optimizers that do not fit a network are refused in one line before anything trains."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from optitune import Task
from optitune.common.schema import validated
from optitune.errors import UsageError
from optitune.space.configuration import Configuration, OptimizerSettings
from optitune.study.settings import StudySettings
from optitune.tasks import metrics
from optitune.tasks.data import Examples
from optitune.tasks.splits import search_data
from optitune.training.engine import Training
from optitune.training.plan import Plan
from optitune.training.preflight import check


def tried(model: Any = lambda: nn.Linear(4, 3), **said: Any) -> str:
    """Take a sound task with this network as far as a search takes it before anything trains."""
    task = Task(model=model, data=(torch.rand(60, 4), torch.arange(60) % 3), name="mine")
    settings = validated(StudySettings, {**said, "task": "mine"}, "study 'mine'")
    return check(task, search_data(task, None).train, settings)


def refused(model: Any = lambda: nn.Linear(4, 3), **said: Any) -> str:
    with pytest.raises(UsageError) as caught:
        tried(model, **said)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 240
    return message


@pytest.mark.parametrize("pattern", ["fc*", "Weight", "weight.*"])
def test_a_pattern_that_fits_nothing_is_refused_with_the_names_that_there_are(pattern: str) -> None:
    message = f'groups."{pattern}": fits no parameter of the network that is left; there are: weight, bias'
    assert refused(groups={pattern: 2.0}) == message


def test_a_pattern_that_comes_too_late_is_refused() -> None:
    assert 'groups."bias": fits no parameter of the network that is left' in refused(groups={"*": 2.0, "bias": 3.0})


def test_of_many_names_the_first_are_shown() -> None:
    message = refused(lambda: nn.Sequential(*[nn.Linear(4, 4) for _ in range(9)]), groups={"head": 2.0})
    assert message.endswith(
        "there are: 0.weight, 0.bias, 1.weight, 1.bias, 2.weight, 2.bias, 3.weight, 3.bias, "
        "4.weight, 4.bias, 5.weight, 5.bias, ..."
    )


def test_lbfgs_takes_no_groups() -> None:
    message = "optimizer 'lbfgs' takes no parameter groups: leave out groups, or leave it out of optimizers"
    assert refused(optimizers="sgd,lbfgs", groups={"bias": 2.0}) == message
    assert tried(optimizers="sgd,lbfgs")


class Plain:
    """Steps, but is no optimizer of torch's."""

    def __init__(self, parameters: Any, lr: float) -> None:
        self.parameters = parameters

    def step(self) -> None:
        """Do nothing."""


class Bare(torch.optim.SGD):
    """A step without a closure."""

    def step(self) -> None:  # type: ignore[override]
        """Take a step."""
        super().step()


class SharpSGD(torch.optim.Optimizer):
    """Sharpness-aware steps: the closure has a default, as torch's own signature has, and is needed all the same."""

    def __init__(self, params: Any, lr: float = 0.05, rho: float = 0.05) -> None:
        super().__init__(params, {"lr": lr, "rho": rho})

    def step(self, closure: Any = None) -> Any:
        """Go up, look, come down, and step."""
        if closure is None:
            raise RuntimeError("SharpSGD needs a closure that evaluates the loss again")
        loss = closure()
        parameters = [each for group in self.param_groups for each in group["params"] if each.grad is not None]
        norm = torch.stack([each.grad.norm() for each in parameters]).norm() + 1e-12
        with torch.no_grad():
            moves = [each.grad * (0.05 / norm) for each in parameters]
            for each, move in zip(parameters, moves, strict=True):
                each.add_(move)
        closure()
        with torch.no_grad():
            for each, move in zip(parameters, moves, strict=True):
                each.sub_(move).sub_(each.grad, alpha=self.param_groups[0]["lr"])
        return loss


class Remembering(torch.optim.SGD):
    """Keeps what no file can hold."""

    def step(self, closure: Any = None) -> Any:
        """Take a step."""
        self.state[self.param_groups[0]["params"][0]]["seen"] = {1}
        return super().step(closure)


RANGE = {"low": 0.01, "high": 3.0, "scale": "log"}


def own(**row: Any) -> dict[str, Any]:
    """A study with an optimizer of its own, SGD but for `row`."""
    sound = {"name": "own", "path": "torch.optim:SGD", "known_good": [{"lr": 0.1}], "ranges": {"lr": RANGE}}
    return {"optimizers": "own", "optimizer": [{**sound, **row}]}


OWN = {
    "an argument": (
        own(known_good=[{"lr": 0.1, "zest": 2.0}], ranges={"lr": RANGE, "zest": RANGE}),
        "optimizer 'own' (torch.optim.SGD): refuses {'lr': 0.1, 'zest': 2.0}: TypeError: ",
    ),
    "no such module": (
        own(path="nowhere.at.all:Lion"),
        "optimizer 'own' (nowhere.at.all.Lion): cannot be imported: ModuleNotFoundError: No module named 'nowhere'",
    ),
    "no such class": (
        own(path="torch.optim:Lion"),
        "optimizer 'own' (torch.optim.Lion): cannot be imported: AttributeError: module 'torch.optim' has no",
    ),
    "no optimizer": (
        own(path=f"{__name__}:Plain"),
        f"optimizer 'own' ({__name__}.Plain): is no torch",
    ),
    "a module": (own(path="torch:optim"), "optimizer 'own' (torch.optim): "),
    "a closure": (
        own(path="torch.optim:LBFGS"),
        "optimizer 'own' (torch.optim.LBFGS): say traits = [\"closure\"] in its row, as its class does ask for it",
    ),
    "no closure": (
        own(path=f"{__name__}:Bare", traits=["closure"]),
        f"optimizer 'own' ({__name__}.Bare): leave \"closure\" out of its traits, as its class does not",
    ),
    "modes": (
        own(path="schedulefree:SGDScheduleFree"),
        "optimizer 'own' (schedulefree.SGDScheduleFree): say traits = [\"modes\"] in its row",
    ),
    "no modes": (own(traits=["modes"]), "optimizer 'own' (torch.optim.SGD): leave \"modes\" out of its traits"),
    "no such trait": (
        own(traits=["closures"]),
        "optimizer.0.traits.0 = 'closures': must be 'fused', ",
    ),
}


@pytest.mark.parametrize(("said", "message"), OWN.values(), ids=OWN)
def test_an_optimizer_of_ones_own_that_is_none_is_refused(said: dict[str, Any], message: str) -> None:
    assert message in refused(**said)


def test_an_optimizer_of_ones_own_that_is_one_is_taken() -> None:
    assert tried(**own())
    assert tried(**own(path="torch.optim:LBFGS", traits=["closure", "one-group"]))
    assert tried(**own(path="schedulefree:SGDScheduleFree", traits=["modes"]))


# one real step


def test_an_optimizer_whose_closure_has_a_default_says_itself_whether_it_needs_it() -> None:
    path = f"{__name__}:SharpSGD"
    assert tried(**own(path=path, traits=["closure"]))
    assert refused(**own(path=path)) == (
        f"optimizer 'own' ({__name__}.SharpSGD): say traits = [\"closure\"] in its row, as its step "
        "needs one (RuntimeError: SharpSGD needs a closure that evaluates the loss again)"
    )


def test_sharp_steps_count_each_loss_once(
    configured: Callable[..., Configuration],
) -> None:
    """Of the two evaluations of a step, the first is the loss of the batch; held against the loss by hand."""
    optimizer = OptimizerSettings(name="own", settings={"lr": 1e-9}, path=f"{__name__}:SharpSGD", traits=("closure",))
    configuration = configured("sgd").model_copy(update={"optimizer": optimizer})
    torch.manual_seed(0)
    model, examples = nn.Linear(4, 3), Examples(torch.rand(32, 4), torch.arange(32) % 3)
    expected = nn.functional.cross_entropy(model(examples.inputs), examples.targets).item()
    plan = Plan(configuration, nn.functional.cross_entropy, metrics.find("accuracy"), 1, 0, "fp32")
    (progress,) = Training(model, plan, examples).run()
    assert progress.train_loss == pytest.approx(expected, rel=1e-5)
    assert progress.train_value is not None
    assert 0 <= progress.train_value <= 1


def bags() -> nn.Module:
    return nn.Sequential(nn.Flatten(), Whole(), nn.EmbeddingBag(50, 4, sparse=True), nn.Linear(4, 3))


class Whole(nn.Module):
    """Numbers as tokens."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """As int64."""
        return (inputs * 40).long()


def test_optimizers_that_take_no_sparse_gradients_are_refused_together_with_those_that_do() -> None:
    assert tried(bags, optimizers="sgd,adagrad,sparseadam", clip_norm=1.0, l1=0.01)
    with pytest.raises(UsageError) as caught:
        tried(bags)
    assert str(caught.value) == (
        "optimizers adam, adamw, nadam, rmsprop, adadelta, muon: cannot train this network: RuntimeError: Adam does "
        "not support sparse gradients, please consider SparseAdam instead; leave them out: --optimizers sgd,adagrad"
    )
    assert refused(bags, optimizers="adam").endswith(
        "leave it out; sgd, adagrad and sparseadam train embeddings with sparse=True"
    )
    assert refused(optimizers="sparseadam") == (
        "optimizer 'sparseadam' is for embeddings with sparse=True, and this network has none: leave it out"
    )


class Keeping(nn.Linear):
    """A layer with state beside its tensors."""

    def __init__(self, kept: Any) -> None:
        super().__init__(4, 3)
        self.kept = kept

    def get_extra_state(self) -> Any:
        return self.kept

    def set_extra_state(self, state: Any) -> None:
        self.kept = state


class SparseBuffer(nn.Linear):
    """A layer with a buffer that no file of weights can hold."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        ones = torch.sparse_coo_tensor(torch.tensor([[0], [0]]), torch.ones(1), (2, 2), check_invariants=True)
        self.register_buffer("graph", ones)


def test_state_that_no_file_can_hold_is_named_before_anything_trains() -> None:
    assert tried(lambda: Keeping({"scale": [1.0, None, "a"]}), optimizers="adam")
    message = "task 'mine': the network's state holds what no file can: _extra_state.seen: set cannot be kept"
    assert message in refused(lambda: Keeping({"seen": {1, 2}}), optimizers="adam")
    assert "the network keeps 'graph' as a tensor of torch.sparse_coo" in refused(SparseBuffer, optimizers="adam")
    message = "cannot train this network: optimizer.state.0.seen: set cannot be kept in a checkpoint, so that no"
    assert message in refused(**own(path=f"{__name__}:Remembering"))


def test_a_step_leaves_what_is_drawn_as_it_was() -> None:
    task = Task(
        model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 3)),
        data=(torch.rand(60, 4), torch.arange(60) % 3),
        name="mine",
    )
    train = search_data(task, None).train
    before = torch.get_rng_state()
    check(task, train, validated(StudySettings, {"optimizers": "all", "task": "mine"}, "study 'mine'"))
    assert torch.equal(torch.get_rng_state(), before)
