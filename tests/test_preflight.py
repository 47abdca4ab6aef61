"""What does not fit together is refused in one line before anything trains."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from optitune import Metric, Task
from optitune.errors import UsageError
from optitune.preflight import check, check_configuration, fingerprint, fresh_model
from optitune.settings import StudySettings
from optitune.task_data import search_data
from optitune.validation import validated

INPUTS = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(60) % 3
NUMBERS = INPUTS.sum(1)
HOLED = torch.where(torch.arange(60)[:, None] == 7, torch.nan, INPUTS)


def tried(fields: dict[str, Any], **said: Any) -> str:
    """Take a task, sound but for `fields`, as far as a search takes it before anything trains."""
    task = Task(**{"model": lambda: nn.Linear(4, 3), "data": (INPUTS, CLASSES), "name": "mine", **fields})
    settings = validated(StudySettings, {**said, "task": "mine"}, "study 'mine'")
    return check(task, search_data(task, None).train, settings)


def refused(fields: dict[str, Any], **said: Any) -> str:
    with pytest.raises(UsageError) as caught:
        tried(fields, **said)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 240
    return message


def linear(outputs: int) -> Any:
    return lambda: nn.Linear(4, outputs)


def fail(*_: Any) -> Any:
    raise ZeroDivisionError("no\nluck")


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Counted(Dataset[Any]):
    """Gives what a function makes of the number of an example."""

    def __init__(self, give: Any, total: int = 60) -> None:
        self.give, self.total = give, total

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, place: int) -> Any:
        return self.give(place)


def broken_from(place: int) -> Any:
    if place >= 5:
        raise OSError(f"cannot open {place}.png")
    return INPUTS[place], CLASSES[place]


def test_what_fits_is_not_refused() -> None:
    assert tried({}).startswith("sha256:")
    assert tried({"model": linear(1), "data": (INPUTS, NUMBERS), "loss": "mse", "metric": "r2"})


NETWORKS = {
    "an instance": (
        {"model": nn.Linear(4, 3)},
        "Task(model=...): is of type Linear, but must be a function that builds a fresh network, since every trial "
        "trains one of its own: write model=lambda: Net()",
    ),
    "a name": ({"model": "resnet"}, "Task(model=...): is of type str, but must be a function"),
    "nothing to train": (
        {"model": nn.Flatten},
        "task 'mine': model() gives a network without parameters to train",
    ),
    "all frozen": ({"model": lambda: nn.Linear(4, 3).requires_grad_(False)}, "without parameters to train"),
    "no network": (
        {"model": lambda: None},
        "task 'mine': model() gives something of type NoneType, but must give a torch.nn.Module",
    ),
    "raises": ({"model": fail}, "task 'mine': model() fails: ZeroDivisionError: no luck ("),
    "needs arguments": ({"model": nn.Linear}, "task 'mine': model() fails: TypeError: "),
    "gives several": (
        {"model": lambda: nn.LSTM(4, 3)},
        "task 'mine': the model gives something of type tuple, but must give a tensor",
    ),
    "takes other inputs": (
        {"model": lambda: nn.Linear(5, 3)},
        "task 'mine': the model on inputs of shape (8, 4), torch.float32 fails: RuntimeError: ",
    ),
    "takes no whole numbers": (
        {"data": (CLASSES.expand(4, 60).t(), CLASSES)},
        "task 'mine': the model on inputs of shape (8, 4), torch.int64 fails: RuntimeError: ",
    ),
}

LABELS = {
    "too few outputs": (
        {"model": linear(2)},
        "task 'mine': the model gives 2 logits, but the classes go from 0 to 2: they must be numbered from 0, and the "
        "last layer have 3 outputs; if they are numbers to be predicted, make them floating",
    ),
    "from one": ({"data": (INPUTS, CLASSES + 1)}, "gives 3 logits, but the classes go from 1 to 3: they must be"),
    "minus one": (
        {"model": linear(2), "data": (INPUTS, torch.where(CLASSES == 0, -1, 1))},
        "gives 2 logits, but the classes go from -1 to 1: they must be numbered from 0",
    ),
    "one logit": (
        {"model": linear(1), "data": (INPUTS, CLASSES % 2)},
        "gives 1 logits, but the classes go from 0 to 1: they must be numbered from 0, and the last layer have 2",
    ),
    "a column": (
        {"data": (INPUTS, CLASSES[:, None])},
        "task 'mine': the model gives outputs of shape (8, 3) for targets of shape (8, 1), but with classes as targets "
        "it must give a logit per class, (batch, classes) for targets of shape (batch,)",
    ),
    "an output too many": (
        {"model": lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Linear(2, 3))},
        "the model gives outputs of shape (8, 2, 3) for targets of shape (8,), but with classes as targets",
    ),
    "numbers": (
        {"model": linear(1), "data": (INPUTS, NUMBERS)},
        "task 'mine': its targets are numbers, which the loss 'cross-entropy' cannot take; use loss='mse', or classes "
        "as whole numbers",
    ),
    "two for one number": (
        {"model": linear(2), "data": (INPUTS, NUMBERS), "loss": "mse", "metric": "mse"},
        "task 'mine': the model gives outputs of shape (8, 2) for targets of shape (8,), but the loss 'mse' compares "
        "them number by number",
    ),
}

JUDGING = {
    "accuracy of numbers": (
        {"model": linear(1), "data": (INPUTS, NUMBERS), "loss": "mse"},
        "task 'mine': the metric 'accuracy' needs classes as targets and a logit for each, at least two; use "
        "metric='mse', 'mae', "
        "'r2', 'loss', or a Metric of your own",
    ),
    "mse of classes": (
        {"metric": "mse"},
        "task 'mine': the metric 'mse' compares numbers, but the model gives outputs of shape (8, 3) for targets of "
        "shape (8,); use metric='accuracy' for classes",
    ),
    "no such metric": (
        {"metric": "acuracy"},
        "unknown metric 'acuracy': did you mean 'accuracy'? (or give a Metric of your own)",
    ),
    "a bare function": (
        {"metric": lambda outputs, targets: 1.0},
        "Task(metric=...): is of type function, but must be a name or a Metric",
    ),
    "raises": (
        {"metric": Metric("mine", "maximize", fail)},
        "task 'mine': the metric 'mine' fails: ZeroDivisionError: no luck (",
    ),
    "gives nothing": (
        {"metric": Metric("mine", "maximize", lambda outputs, targets: None)},  # type: ignore[arg-type, return-value]
        "task 'mine': the metric 'mine' fails: TypeError: ",
    ),
    "one value for each": (
        {"metric": Metric("mine", "maximize", lambda outputs, targets: outputs.mean(), each=True)},
        "task 'mine': the metric 'mine' says each=True, so its function must give a tensor with one value per example, "
        "(8,)",
    ),
    "a loss for each": (
        {"loss": nn.CrossEntropyLoss(reduction="none")},
        "task 'mine': the loss must give one number that follows from the network's outputs",
    ),
    "a loss from nowhere": (
        {"loss": lambda outputs, targets: torch.tensor(1.0)},
        "the loss must give one number that follows from the network's outputs",
    ),
    "a loss that raises": (
        {"loss": fail},
        "task 'mine': its own loss on outputs (8, 3) and targets (8,) fails: ZeroDivisionError: no luck (",
    ),
    "a loss that is none": ({"loss": 3}, "Task(loss=...): is of type int, but must be a name or a function"),
    "no such loss": ({"loss": "cross_entropy"}, "unknown loss 'cross_entropy': did you mean 'cross-entropy'?"),
}

DATA = {
    "unequal lengths": (
        {"data": (INPUTS, CLASSES[:50])},
        "task 'mine': data has inputs of shape (60, 4) and targets of shape (50,), but must have one target for every "
        "input, and some of them",
    ),
    "none at all": ({"data": (INPUTS[:0], CLASSES[:0])}, "data has inputs of shape (0, 4) and targets of shape (0,)"),
    "an empty data set": ({"data": Counted(fail, total=0)}, "task 'mine': data is empty"),
    "too few to seal": (
        {"data": (INPUTS[:9], CLASSES[:9])},
        "task 'mine': 9 examples are too few to seal a fifth of them away for the test",
    ),
    "a hole in the inputs": (
        {"data": (HOLED, CLASSES)},
        "task 'mine': the inputs of data hold nan or infinite numbers; clean them first",
    ),
    "a hole in the targets": (
        {"data": (INPUTS, HOLED[:, 0] + torch.inf), "loss": "mse", "metric": "mse"},
        "task 'mine': the targets of data hold nan or infinite numbers; clean them first",
    ),
    "a hole in a data set": (
        {"data": TensorDataset(HOLED, CLASSES)},
        "task 'mine': the inputs of data hold nan or infinite numbers; clean them first",
    ),
    "a hole in a data set that is read": (
        {"data": Counted(lambda place: (HOLED[place], CLASSES[place]))},
        "task 'mine': the inputs of data hold nan or infinite numbers; clean them first",
    ),
    "endless": ({"data": Endless()}, "task 'mine': data is of type Endless, but must be a pair (inputs, targets) of"),
    "no data": ({"data": None}, "task 'mine': data is of type NoneType, but must be a pair (inputs, targets) of"),
    "three tensors": (
        {"data": TensorDataset(INPUTS, CLASSES, CLASSES)},
        "task 'mine': data is a TensorDataset of 3 tensors, but must have two: inputs and targets",
    ),
    "three each": (
        {"data": Counted(lambda place: (place, place, place))},
        "task 'mine': data[0] is of type tuple, but must be a pair (input, target)",
    ),
    "raises": ({"data": fail}, "task 'mine': data() fails: ZeroDivisionError: no luck ("),
    "raises in the midst": ({"data": Counted(broken_from)}, "task 'mine': data fails: OSError: cannot open "),
    "raises in the midst of a stream": (
        {"data": Counted(broken_from), "in_memory": False},
        "fails: OSError: cannot open ",
    ),
    "of other lengths": (
        {"data": Counted(lambda place: (torch.ones(2 + place % 2), 0))},
        "task 'mine': data fails: RuntimeError: ",
    ),
    "of other lengths in a stream": (
        {"data": Counted(lambda place: (torch.ones(2 + place % 2), 0)), "in_memory": False},
        "fails: RuntimeError: ",
    ),
    "words": (
        {"data": (INPUTS, np.array(["cat", "dog", "eel"] * 20))},
        "task 'mine': data fails: TypeError: ",
    ),
}

HELD_OUT = {
    "none": ({"validation": 0}, "Task(validation=0): must be a share between 0 and 1, or a number of examples"),
    "more than all": ({"validation": 1.5}, "Task(validation=1.5): must be a share between 0 and 1, or a number"),
    "no number": ({"validation": "0.2"}, "Task(validation='0.2'): must be a share between 0 and 1, or a number"),
    "most": (
        {"validation": 0.6},
        "task 'mine' holds out 29 examples for validation, but there are only 48, and at most half may be held out",
    ),
    "as many as there are": ({"validation": 48}, "task 'mine' holds out 48 examples for validation, but there are"),
}

EVERYTHING = {
    f"{subject}: {name}": case
    for subject, cases in {
        "network": NETWORKS,
        "labels": LABELS,
        "judging": JUDGING,
        "data": DATA,
        "held out": HELD_OUT,
    }.items()
    for name, case in cases.items()
}


@pytest.mark.parametrize(("fields", "message"), EVERYTHING.values(), ids=EVERYTHING)
def test_a_task_that_does_not_fit_is_refused_in_one_line(fields: dict[str, Any], message: str) -> None:
    assert message in refused(fields)


def test_where_it_happened_is_named_by_file_and_line() -> None:
    for fields in ({"model": fail}, {"data": fail}, {"loss": fail}, {"metric": Metric("mine", "maximize", fail)}):
        place = re.search(r"\(([^()]*), line (\d+)\)$", refused(fields))
        assert place is not None
        assert Path(place[1]) == Path(__file__)
        assert "ZeroDivisionError" in Path(__file__).read_text().splitlines()[int(place[2]) - 1]


def test_a_loss_that_is_said_to_be_the_tasks_own_needs_one() -> None:
    message = "loss = 'task': the task has no loss function of its own; name one: cross-entropy, mse"
    assert refused({}, loss="task") == message
    assert tried({"loss": nn.CrossEntropyLoss()}, loss="task")


def test_a_loss_of_the_study_is_held_against_the_labels() -> None:
    numbers = {"model": linear(1), "data": (INPUTS, NUMBERS), "loss": "mse", "metric": "mse"}
    assert "its targets are numbers, which the loss 'cross-entropy' cannot take" in refused(
        numbers, loss="cross-entropy"
    )


# what a search and a full training hold against each other


def test_networks_of_one_architecture_have_one_fingerprint_and_others_others() -> None:
    torch.manual_seed(0)
    found = [fingerprint(nn.Sequential(nn.Linear(4, width), nn.Linear(width, 3))) for width in (5, 5, 6)]
    assert found[0] == found[1] != found[2]
    assert fingerprint(nn.BatchNorm1d(4)) != fingerprint(nn.BatchNorm1d(4, track_running_stats=False))


def test_a_configuration_is_held_against_a_task_as_a_study_is(configured: Any) -> None:
    task = Task(model=linear(3), data=(INPUTS, CLASSES), name="mine")
    train = search_data(task, None).train
    assert check_configuration(task, train, configured()) == tried({})
    for training, message in (
        ({"groups": {"fc*": 2.0}}, 'groups."fc*": fits no parameter'),
        ({"loss": "task"}, "the task has no loss function of its own"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            check_configuration(task, train, configured(training=training))
    wrong = Task(model=linear(2), data=(INPUTS, CLASSES), name="mine")
    with pytest.raises(UsageError, match="gives 2 logits, but the classes go from 0 to 2"):
        check_configuration(wrong, train, configured())


def test_a_network_that_is_the_same_at_every_call_is_refused() -> None:
    net = nn.Linear(4, 3)
    task = Task(model=lambda: net, data=(torch.rand(60, 4), torch.arange(60) % 3), name="mine")
    with pytest.raises(UsageError, match=r"model\(\) gives the same network again"):
        fresh_model(task)


def test_looking_at_a_task_leaves_the_callers_draws_as_they_were() -> None:
    task = Task(model=lambda: nn.Linear(4, 3), data=(torch.rand(60, 4), torch.arange(60) % 3), name="mine")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fresh_model(task)
    assert torch.equal(torch.rand(3), expected)


def test_one_logit_has_no_class_to_choose() -> None:
    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs.reshape(-1), targets.float())

    task = Task(model=lambda: nn.Linear(4, 1), data=(torch.rand(60, 4), torch.arange(60) % 2), loss=loss, name="mine")
    settings = StudySettings(task="mine", loss="task")
    with pytest.raises(UsageError, match="a logit for each, at least two"):
        check(task, search_data(task, None).train, settings)
