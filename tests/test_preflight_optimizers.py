"""Groups and optimizers that do not fit a network are refused in one line before anything trains."""

from typing import Any

import pytest
import torch
from torch import nn

from optitune import Task
from optitune.errors import UsageError
from optitune.preflight import check
from optitune.settings import StudySettings
from optitune.task_data import search_data
from optitune.validation import validated


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
        "optimizer 'own' (nowhere.at.all.Lion): cannot be imported: No module named 'nowhere'",
    ),
    "no such class": (
        own(path="torch.optim:Lion"),
        "optimizer 'own' (torch.optim.Lion): cannot be imported: module 'torch.optim' has no attribute 'Lion'",
    ),
    "no optimizer": (
        own(path=f"{__name__}:Plain"),
        "optimizer 'own' (test_preflight_optimizers.Plain): is no torch",
    ),
    "a module": (own(path="torch:optim"), "optimizer 'own' (torch.optim): "),
    "a closure": (
        own(path="torch.optim:LBFGS"),
        "optimizer 'own' (torch.optim.LBFGS): say traits = [\"closure\"] in its row, as its class does ask for it",
    ),
    "no closure": (
        own(traits=["closure"]),
        "optimizer 'own' (torch.optim.SGD): leave \"closure\" out of its traits, as its class does not ask for it",
    ),
    "modes": (
        own(path="schedulefree:SGDScheduleFree"),
        "optimizer 'own' (schedulefree.SGDScheduleFree): say traits = [\"modes\"] in its row",
    ),
    "no modes": (own(traits=["modes"]), "optimizer 'own' (torch.optim.SGD): leave \"modes\" out of its traits"),
    "no such trait": (
        own(traits=["closures"]),
        "optimizer.0.traits.0 = 'closures': input should be 'fused', ",
    ),
}


@pytest.mark.parametrize(("said", "message"), OWN.values(), ids=OWN)
def test_an_optimizer_of_ones_own_that_is_none_is_refused(said: dict[str, Any], message: str) -> None:
    assert message in refused(**said)


def test_an_optimizer_of_ones_own_that_is_one_is_taken() -> None:
    assert tried(**own())
    assert tried(**own(path="torch.optim:LBFGS", traits=["closure", "one-group"]))
    assert tried(**own(path="schedulefree:SGDScheduleFree", traits=["modes"]))
