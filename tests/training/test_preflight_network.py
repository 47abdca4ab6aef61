"""A task whose network, loss, metric and data do not fit together is refused in one line."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from preflight_tasks import (
    CLASSES,
    COLUMN,
    HOLED,
    INPUTS,
    NUMBERS,
    Counted,
    Endless,
    Remembering,
    Two,
    Unconnected,
    both,
    broken_from,
    fail,
    linear,
    refused,
)
from torch import nn
from torch.utils.data import TensorDataset

from optitune import Metric

SCALE = nn.Linear(3, 1)


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
        "task 'mine': model() gives None, but must give a torch.nn.Module",
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
        "gives 1 logit, but the classes go from 0 to 1: they must be numbered from 0, and the last layer have 2",
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
    "padding": (
        {"data": (INPUTS, torch.where(CLASSES == 0, 255, CLASSES % 3)), "model": linear(3)},
        "gives 3 logits, but the classes go from 1 to 255",
    ),
    "a label that does not count": (
        {"data": (INPUTS, torch.where(torch.arange(60) < 9, 255, CLASSES))},
        "task 'mine': the label 255 is none of the model's 3 classes, 0 to 2: where it marks places that do not count, "
        "say Task(ignore_index=255), which the loss 'cross-entropy' leaves out",
    ),
    "a label that its own loss does not leave out": (
        {"data": (INPUTS, torch.where(torch.arange(60) < 9, 255, CLASSES)), "loss": nn.CrossEntropyLoss()},
        "where it marks places that do not count, give ignore_index=255 to the loss",
    ),
    "another label than its own loss leaves out": (
        {"loss": nn.CrossEntropyLoss(), "ignore_index": 255},
        "task 'mine': Task(ignore_index=255), but its loss leaves out -100: give ignore_index=255 to the loss",
    ),
    "a label that is none": ({"ignore_index": "pad"}, "Task(ignore_index='pad'): must be a whole number, or None"),
    "nothing counts": (
        {"data": (INPUTS, torch.full((60,), -100))},
        "task 'mine': none of its targets counts: all have the label -100",
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
        "task 'mine': the metric 'mine' on 38 examples fails: ZeroDivisionError: no luck (",
    ),
    "gives nothing": (
        {"metric": Metric("mine", "maximize", lambda outputs, targets: None)},  # type: ignore[arg-type, return-value]
        "task 'mine': the metric 'mine' on 38 examples fails: TypeError: ",
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
    "torch's loss of other shapes": (
        {"model": linear(1), "data": (INPUTS, INPUTS[:, :3]), "loss": nn.MSELoss(), "metric": "loss"},
        "task 'mine': its own loss on outputs (8, 1) and targets (8, 3) compares each output with every target, as "
        "torch warns: give both the same shape",
    ),
    "torch's loss in a function": (
        {"loss": lambda outputs, targets: nn.functional.mse_loss(outputs, targets), **COLUMN},
        "its own loss on outputs (8, 1) and targets (8,) compares each output with every target, as torch warns: give "
        "both the same shape, with outputs.squeeze(1)",
    ),
    "a loss of all pairs": (
        {"loss": lambda outputs, targets: (outputs - targets).square().mean(), **COLUMN},
        "task 'mine': its own loss on outputs (38, 1) and targets (38,) compares each output with every target: give "
        "both the same shape, with outputs.squeeze(1)",
    ),
    "a loss of all pairs, turned": (
        {
            "loss": lambda outputs, targets: (outputs - targets).square().mean(),
            **COLUMN,
            "model": lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)),
            "data": (INPUTS, NUMBERS[:, None]),
        },
        "its own loss on outputs (38,) and targets (38, 1) compares each output with every target: give both the same "
        "shape, with outputs.reshape(targets.shape)",
    ),
    "a metric of all pairs": (
        {**COLUMN, "loss": "mse", "metric": Metric("rmse", "minimize", lambda o, t: (o - t).square().mean().sqrt())},
        "task 'mine': the metric 'rmse' on outputs (38, 1) and targets (38,) compares each output with every target",
    ),
    "a metric of all pairs in numpy": (
        {
            **COLUMN,
            "loss": "mse",
            "metric": Metric("l1", "minimize", lambda o, t: float(np.abs(o.numpy() - t.numpy()).mean())),
        },
        "the metric 'l1' on outputs (38, 1) and targets (38,) compares each output with every target",
    ),
    "a sum": (
        {"loss": nn.CrossEntropyLoss(reduction="sum")},
        "task 'mine': its loss is a sum over a batch, but must be a mean: say reduction='mean'",
    ),
    "whole numbers for truths": (
        {"model": linear(1), "data": (INPUTS, CLASSES % 2), "loss": nn.BCEWithLogitsLoss(), "metric": "loss"},
        "task 'mine': its targets are whole numbers, which its loss cannot take: make them floating",
    ),
    "hidden parameters": (
        {"loss": lambda outputs, targets: SCALE(outputs)[:, 0].mean()},
        "task 'mine': its loss is a function that uses 'SCALE', a module whose parameters would not be trained: give "
        "the loss as one torch.nn.Module that holds it, or freeze it with requires_grad_(False)",
    ),
    "no gradient": (
        {"loss": Unconnected},
        "task 'mine': no parameter of the network has a gradient: the loss must follow from its outputs",
    ),
    "a state that keeps its graph": (
        {"model": lambda: Remembering(detach=False)},
        "task 'mine': the network keeps a tensor with its graph from one batch to the next: keep what detach() gives",
    ),
    "fewer logits when judged": (
        {"model": lambda: Two(training=3, judged=1)},
        "task 'mine': the model in eval mode gives 1 logit, but the classes go from 0 to 2",
    ),
    "breaks when judged": (
        {"model": lambda: Two(training=3, judged=0)},
        "the model in eval mode on inputs of shape (8, 4), torch.float32 fails: ZeroDivisionError: no luck",
    ),
    "two outputs to a metric": (
        {"model": lambda: Two(training=3, judged=-3), "loss": lambda outputs, targets: both(outputs).mean()},
        "task 'mine': the model in eval mode gives something of type tuple, but must give a tensor for the metric "
        "'accuracy'",
    ),
    "a metric that needs more": (
        {"metric": Metric("often", "maximize", lambda outputs, targets: 1 / (len(targets) > 99))},
        "task 'mine': the metric 'often' on 38 examples fails: ZeroDivisionError: division by zero",
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
        "task 'mine' has 9 examples, too few to seal a fifth of them away for the test",
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
    "no data": ({"data": None}, "task 'mine': data is None, but must be a pair (inputs, targets) of"),
    "three tensors": (
        {"data": TensorDataset(INPUTS, CLASSES, CLASSES)},
        "task 'mine': data is a TensorDataset of 3 tensors, but must have two: inputs and targets",
    ),
    "three each": (
        {"data": Counted(lambda place: (place, place, place))},
        "task 'mine': data[0] is a tuple of 3 parts, but must be a pair (input, target)",
    ),
    "raises": ({"data": fail}, "task 'mine': data() fails: ZeroDivisionError: no luck ("),
    "raises in the midst": ({"data": Counted(broken_from)}, "task 'mine': data fails: OSError: cannot open "),
    "raises in the midst of a stream": (
        {"data": Counted(broken_from), "in_memory": False},
        "fails: OSError: cannot open ",
    ),
    "of other lengths": (
        {"data": Counted(lambda place: (torch.ones(2 + place % 2), 0))},
        "task 'mine': the inputs of data have several shapes, such as (2,) and (3,): pad them to one length",
    ),
    "of other lengths in a stream": (
        {"data": Counted(lambda place: (torch.ones(2 + place % 2), 0)), "in_memory": False},
        "inputs have several shapes, such as (2,) and (3,): pad them to one length",
    ),
    "words": (
        {"data": (INPUTS, np.array(["cat", "dog", "eel"] * 20))},
        "task 'mine': the targets of data are of the type <U3, not numbers (shape (60,)): give words as codes",
    ),
}


HELD_OUT = {
    "none": (
        {"validation": 0},
        "Task(validation=0): must be a share between 0 and 1, a number of examples, or data of its own",
    ),
    "more than all": ({"validation": 1.5}, "Task(validation=1.5): must be a share between 0 and 1, a number"),
    "no number": ({"validation": "0.2"}, "Task(validation='0.2'): must be a share between 0 and 1, a number"),
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
        assert Path(place[1]) == Path(fail.__code__.co_filename)
        assert "ZeroDivisionError" in Path(place[1]).read_text().splitlines()[int(place[2]) - 1]
