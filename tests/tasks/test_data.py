"""How the numbers of a user's data arrive, whatever kind they were given as."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from optitune import Task
from optitune.tasks.data import as_input, as_target
from optitune.tasks.splits import full_data, search_data


def task(inputs: Any, targets: Any, in_memory: bool | None) -> Task:
    """A task of these data: as a pair of all, or as a data set of pairs that is read once or streamed."""
    data = (inputs, targets) if in_memory is None else list(zip(inputs, targets, strict=True))
    return Task(model=lambda: nn.Linear(1, 2), data=data, test=(inputs, targets), name="mine", in_memory=in_memory)


every_way = pytest.mark.parametrize("in_memory", [True, False, None], ids=["in memory", "streamed", "a pair"])

INPUTS: dict[str, tuple[Any, torch.dtype]] = {
    "float64": (torch.rand(12, 2, dtype=torch.float64), torch.float32),
    "float16": (torch.rand(12, 2).half(), torch.float32),
    "bfloat16": (torch.rand(12, 2).bfloat16(), torch.float32),
    "float32": (torch.rand(12, 2), torch.float32),
    "int32": (torch.arange(24, dtype=torch.int32).reshape(12, 2), torch.int64),
    "int64": (torch.arange(24).reshape(12, 2), torch.int64),
    "bool": (torch.arange(24).reshape(12, 2) % 3 == 0, torch.float32),
    "uint8": (torch.arange(24, dtype=torch.uint8).reshape(12, 2), torch.uint8),
    "array of float64": (np.random.default_rng(0).random((12, 2)), torch.float32),
    "array of int16": (np.arange(24, dtype=np.int16).reshape(12, 2), torch.int64),
    "array of bool": (np.arange(24).reshape(12, 2) % 2 == 0, torch.float32),
    "lists": ([[0.5, 1.0]] * 12, torch.float32),
    "with a gradient": (torch.rand(12, 2, requires_grad=True), torch.float32),
    "not contiguous": (torch.rand(2, 12).t(), torch.float32),
}


@pytest.mark.parametrize(("values", "dtype"), INPUTS.values(), ids=INPUTS)
@every_way
def test_inputs_arrive_as_layers_take_them(values: Any, dtype: torch.dtype, in_memory: bool | None) -> None:
    targets = [0, 1] * 6
    whole = full_data(task(values, targets, in_memory)).train
    inputs, labels = next(whole.in_turn(12))
    assert (inputs.dtype, labels.dtype) == (dtype, torch.int64)
    assert not inputs.requires_grad
    assert torch.equal(inputs, torch.as_tensor(values).detach().to(dtype))
    assert labels.tolist() == targets


TARGETS: dict[str, tuple[Any, torch.dtype]] = {
    "float64": (torch.rand(12, dtype=torch.float64), torch.float32),
    "float16": (torch.rand(12).half(), torch.float32),
    "int32": (torch.arange(12, dtype=torch.int32), torch.int64),
    "uint8": (torch.arange(12, dtype=torch.uint8), torch.int64),
    "bool": (torch.arange(12) % 2 == 0, torch.int64),
    "array of int8": (np.arange(12, dtype=np.int8), torch.int64),
    "array of float64": (np.arange(12) / 7, torch.float32),
    "whole numbers of Python": (list(range(12)), torch.int64),
    "numbers of Python": ([number / 3 for number in range(12)], torch.float32),
    "several each": (torch.rand(12, 3, dtype=torch.float64), torch.float32),
}


@pytest.mark.parametrize(("values", "dtype"), TARGETS.values(), ids=TARGETS)
@every_way
def test_targets_arrive_as_losses_take_them(values: Any, dtype: torch.dtype, in_memory: bool | None) -> None:
    inputs = torch.rand(12, 2)
    whole = full_data(task(inputs, values, in_memory)).train
    _, targets = next(whole.in_turn(12))
    assert targets.dtype == dtype
    torch.testing.assert_close(targets, torch.as_tensor(values).to(dtype), rtol=1e-6, atol=0)


def test_what_a_user_gave_is_not_changed() -> None:
    inputs, targets = torch.rand(20, 2, requires_grad=True), torch.arange(20) % 2
    before = inputs.detach().clone()
    search_data(task(inputs, targets, None), None)
    assert torch.equal(inputs, before)
    assert inputs.requires_grad


@given(st.sampled_from([torch.float64, torch.float16, torch.int8, torch.bool, torch.uint8]), st.integers(0, 5))
def test_to_convert_twice_changes_nothing(dtype: torch.dtype, length: int) -> None:
    for convert in (as_input, as_target):
        once = convert(torch.ones(length, 2, dtype=dtype))
        assert convert(once) is once or torch.equal(convert(once), once)
        assert convert(once).dtype == once.dtype
