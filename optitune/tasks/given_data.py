"""Conversion of a user's data to examples in memory, or to ones that are read batch by batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from optitune.common.randomness import random_state, set_random_state
from optitune.errors import UsageError
from optitune.tasks.data import CPU, Examples, Part, Streamed, as_input, as_target
from optitune.tasks.task import Task, kind
from optitune.tasks.user_code import calling

IN_MEMORY = 2 * 2**30
"""Size in bytes up to which a torch data set is read into memory once; larger ones are read batch by batch."""

LOOKED_AT = 32
"""Number of examples of a data set that are read twice to see whether they stay the same."""


def is_function(given: Any) -> bool:
    """Whether data are given by a function."""
    return callable(given) and not isinstance(given, Examples | Dataset | tuple | list)


def part_of(task: Task, given: Any, field: str) -> Part:
    """Convert a user's data to examples.

    Args:
        task: that they belong to.
        given: a pair (inputs, targets), a torch data set, or a function that gives either.
        field: the argument of `Task` that holds them, for messages.

    Raises:
        UsageError: they are not data.
    """
    if is_function(given):
        with calling(task.name, f"{field}()"):
            given = given()
    if isinstance(given, Examples):
        return given
    if isinstance(given, TensorDataset):
        if len(given.tensors) != 2:
            raise UsageError(
                f"task '{task.name}': {field} is a TensorDataset of {len(given.tensors)} tensors, but must have two: "
                "inputs and targets"
            )
        given = given.tensors
    if isinstance(given, tuple | list) and len(given) == 2:
        with calling(task.name, field):
            inputs = as_input(_numbers(task, f"the inputs of {field}", given[0]))
            column = given[1].iloc[:, 0] if hasattr(given[1], "iloc") and given[1].shape[1:] == (1,) else given[1]
            targets = as_target(_numbers(task, f"the targets of {field}", column))
        return _checked(task, field, inputs, targets)
    if isinstance(given, DataLoader):
        raise UsageError(
            f"task '{task.name}': {field} is a DataLoader, but must be what it reads: give {field}=loader.dataset "
            "(batch sizes are a setting of the study)"
        )
    if hasattr(given, "iloc"):
        raise UsageError(
            f"task '{task.name}': {field} is {kind(given)}, but must be a pair (inputs, targets): give "
            f"{field}=(table[FEATURES].to_numpy(), table[TARGET].to_numpy())"
        )
    if isinstance(given, IterableDataset) or not (hasattr(given, "__getitem__") and hasattr(given, "__len__")):
        raise UsageError(
            f"task '{task.name}': {field} is {kind(given)}, but must be a pair (inputs, targets) of tensors or "
            "arrays, or a torch Dataset with a length and (input, target) at each index"
        )
    return _read(task, given, field)


def _numbers(task: Task, what: str, values: Any) -> Any:
    """Values that a tensor can be made of: tables in the order of their rows, lists of arrays as one.

    Raises:
        UsageError: they are words, objects, or of several lengths.
    """
    if hasattr(values, "iloc"):
        # by position: torch would ask a table for its labels, which another order has moved
        values = values.to_numpy()
    if isinstance(values, list | tuple) and values and hasattr(values[0], "shape"):
        tensors = [each if isinstance(each, Tensor) else torch.from_numpy(np.array(each)) for each in values]
        _of_one_shape(task, what, tensors)
        return torch.stack(tensors)
    if isinstance(values, Tensor | int | float):
        return values
    try:
        array = np.asarray(values)
    except ValueError:
        raise _of_several(task, what, sorted({len(each) for each in values})) from None
    if array.dtype == object:
        try:
            return (
                array.astype(np.float64)
                if any(isinstance(each, float) for each in array.flat)
                else np.array([int(each) for each in array.flat]).reshape(array.shape)
            )
        except (TypeError, ValueError):
            pass
    if array.dtype.kind not in "biufc":
        raise UsageError(
            f"task '{task.name}': {what} are of the type {array.dtype}, not numbers (shape {array.shape}): give words "
            "as codes, e.g. sklearn.preprocessing.LabelEncoder().fit_transform(...), and fill what is missing"
        )
    # torch warns of memory that it may not write to, as tables give it
    return array if array.flags.writeable else array.copy()


def _of_one_shape(task: Task, what: str, tensors: Sequence[Tensor]) -> None:
    """Check that all examples have one shape."""
    shapes = sorted({tuple(each.shape) for each in tensors})
    if len(shapes) > 1:
        raise _of_several(task, what, shapes)


def _of_several(task: Task, what: str, shapes: Sequence[Any]) -> UsageError:
    return UsageError(
        f"task '{task.name}': {what} have several shapes, such as {shapes[0]} and {shapes[-1]}: pad them to one "
        "length, e.g. with torch.nn.utils.rnn.pad_sequence(..., batch_first=True)"
    )


def _checked(task: Task, field: str, inputs: Tensor, targets: Tensor) -> Examples:
    """Examples of inputs and targets, after a check of their shapes and numbers."""
    if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets) or len(inputs) == 0:
        raise UsageError(
            f"task '{task.name}': {field} has inputs of shape {tuple(inputs.shape)} and targets of shape "
            f"{tuple(targets.shape)}, but must have one target for every input, and some of them"
        )
    for what, tensor in (("inputs", inputs), ("targets", targets)):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UsageError(
                f"task '{task.name}': the {what} of {field} hold nan or infinite numbers; clean them first"
            )
    return Examples(inputs, targets)


def _read(task: Task, dataset: Any, field: str) -> Part:
    """A torch data set, in memory where it fits and is the same at every reading."""
    total = len(dataset)
    if total == 0:
        raise UsageError(f"task '{task.name}': {field} is empty")
    with calling(task.name, f"{field}[0]"):
        first = dataset[0]
    if not isinstance(first, tuple | list) or len(first) != 2:
        parts = f"a {type(first).__name__} of {len(first)} parts" if isinstance(first, tuple | list) else kind(first)
        keys = f" with the keys {', '.join(map(repr, first))}" if isinstance(first, dict) else ""
        raise UsageError(
            f"task '{task.name}': {field}[0] is {parts}{keys}, but must be a pair (input, target): wrap the data set "
            "in one that gives one tensor and its target"
        )
    for part in first:
        if not isinstance(part, Tensor):
            with calling(task.name, f"{field}[0]"):
                _numbers(task, f"{field}[0]", part)
    in_memory = task.in_memory
    with calling(task.name, field):
        if in_memory is None:
            bytes_in_all = total * (as_input(first[0]).nbytes + as_target(first[1]).nbytes)
            in_memory = bytes_in_all <= IN_MEMORY and _same_again(dataset, total)
        elif in_memory and not _same_again(dataset, total):
            way = ", and the augmentation as Task(transform=...)" if field == "data" else ""
            raise UsageError(
                f"task '{task.name}': {field} gives other examples at every reading, of which in_memory=True would "
                f"keep one for all epochs: give a data set without its augmentation{way}; or leave in_memory out"
            )
        if in_memory:
            pairs = [dataset[number] for number in range(total)]
            _of_one_shape(task, f"the inputs of {field}", [as_input(pair[0]) for pair in pairs])
            inputs = torch.stack([as_input(pair[0]) for pair in pairs])
            targets = torch.stack([as_target(pair[1]) for pair in pairs])
    known = _known_targets(dataset, total)
    if in_memory:
        # split as if it were streamed, so that what is sealed away does not hang on how it is read
        return replace(_checked(task, field, inputs, targets), stratify=known is not None)
    return Streamed(dataset, torch.arange(total), known, origin=field)


def _known_targets(dataset: Any, total: int) -> Tensor | None:
    """The targets of a data set with an attribute `targets`, as torchvision's have; None where they are unknown."""
    try:
        known = as_target(getattr(dataset, "targets", None))
        if known.ndim != 1 or len(known) != total:
            return None
        # what it gives may be others, after a transform of targets, say
        looked_at = range(0, total, max(1, total // LOOKED_AT))
        same = all(torch.equal(as_target(dataset[number][1]), known[number]) for number in looked_at)
    except (TypeError, ValueError, RuntimeError):
        return None
    return known if same else None


def _same_again(dataset: Any, total: int) -> bool:
    """Whether examples are the same at every reading; not where the data set augments them."""
    return all(
        torch.equal(torch.nan_to_num(as_input(one)), torch.nan_to_num(as_input(again)))
        for number in range(0, total, max(1, total // LOOKED_AT))
        for one, again in zip(dataset[number], dataset[number], strict=True)
    )


def same_again(part: Streamed) -> bool:
    """Whether examples are the same at every reading."""
    return _same_again(Subset(part.dataset, part.places.tolist()), len(part))


def transform_fits(task: Task, train: Part) -> None:
    """Check that the task's transform runs and keeps the shape of inputs.

    Raises:
        UsageError: it does not.
    """
    if task.transform is None:
        return
    some = train.take(slice(0, 2))
    kept = random_state(CPU)
    try:
        with calling(task.name, "transform() on an input"):
            before = next(some.in_turn(2))[0]
            after = some.batch(next(some.items(torch.arange(len(some)), 2)))[0]
    finally:
        set_random_state(kept, CPU)
    if after.shape != before.shape:
        raise UsageError(
            f"task '{task.name}': transform() gives {tuple(after.shape[1:])} for an input of shape "
            f"{tuple(before.shape[1:])}, but must keep the shape, since examples are judged without it"
        )
