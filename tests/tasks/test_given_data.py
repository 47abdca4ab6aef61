"""Tables, lists and data sets as users have them: taken by position, or refused in a line that says what to do."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from optitune import Task
from optitune.errors import UsageError
from optitune.tasks.data import Examples
from optitune.tasks.given_data import part_of

NUMBERS = np.random.default_rng(0).normal(size=(40, 2))
TABLE = pd.DataFrame({"a": NUMBERS[:, 0], "b": NUMBERS[:, 1], "kind": np.arange(40) % 2})
SHUFFLED = TABLE.sample(frac=1, random_state=1)
SENTENCES = [torch.arange(3 + place % 4) for place in range(40)]


def read(data: Any, **fields: Any) -> Examples:
    found = part_of(Task(model=lambda: nn.Linear(2, 2), data=data, name="mine", **fields), data, "data")
    assert isinstance(found, Examples)
    return found


@pytest.mark.parametrize(
    "data",
    [
        (SHUFFLED[["a", "b"]], SHUFFLED["kind"]),
        (SHUFFLED[["a", "b"]].to_numpy(), SHUFFLED["kind"]),
        (SHUFFLED[["a", "b"]], SHUFFLED[["kind"]]),
        [(SHUFFLED[["a", "b"]].iloc[place], SHUFFLED["kind"].iloc[place]) for place in range(40)],
        (SHUFFLED[["a", "b"]].astype(object), SHUFFLED["kind"].astype("Int64")),
        (list(SHUFFLED[["a", "b"]].to_numpy()), SHUFFLED["kind"].tolist()),
    ],
    ids=["tables", "a column", "a table of targets", "rows", "objects", "lists"],
)
def test_tables_and_lists_are_taken_by_position(data: Any) -> None:
    found = read(data)
    assert torch.allclose(found.inputs, torch.tensor(SHUFFLED[["a", "b"]].to_numpy()).float())
    assert found.targets.tolist() == SHUFFLED["kind"].tolist()
    assert found.targets.dtype == torch.int64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((NUMBERS, ["cat", "dog"] * 20), "the targets of data are of the type .* not numbers .*LabelEncoder"),
        ((SENTENCES, [0, 1] * 20), r"several shapes, such as \(3,\) and \(6,\): pad them"),
        ([(each, 0) for each in SENTENCES], r"several shapes, such as \(3,\) and \(.*\): pad them"),
        ([(torch.rand(2), torch.rand(2), 0)] * 12, "data.0. is a tuple of 3 parts"),
        ([{"x": torch.rand(2), "y": 0}] * 12, "data.0. is of type dict with the keys 'x', 'y'"),
        (TABLE, r"is of type DataFrame, .* give data=.table.FEATURES..to_numpy.., table.TARGET..to_numpy"),
        (lambda: TABLE, r"is of type DataFrame, .* give data=.table.FEATURES..to_numpy.., table.TARGET..to_numpy"),
        (DataLoader(TensorDataset(torch.rand(9, 2), torch.zeros(9))), "give data=loader.dataset"),
    ],
    ids=["words", "lengths", "a data set of lengths", "three parts", "dicts", "a table", "a function", "a loader"],
)
def test_what_is_no_pair_of_numbers_is_refused_with_the_way_out(data: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(data)
