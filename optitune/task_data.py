"""A task's data as a search and a full training may see them: the split, and the sealed test set.

A search sees `search_data` alone. `load_test` is for the one evaluation after a full training.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from optitune.data import Examples, Part, Streamed, as_input, as_target, share, shared, split
from optitune.errors import UsageError
from optitune.tasks import Task, kind, theirs

IN_MEMORY = 2 * 2**30
"""Bytes up to which a torch data set is read into memory once; larger ones are read batch by batch."""

LOOKED_AT = 32
"""How many examples of a data set are read twice to see whether they stay the same."""

SEALED_SHARE = 0.2
"""What share of the data is sealed away as test set where a task brings none."""

SEALED_SEED = 1
"""Fixed for good: the same examples are sealed away in every search and every full training."""


@dataclass(frozen=True)
class SearchData:
    """What a search may see.

    Attributes:
        train: examples to train on, in a fixed random order.
        validation: examples to judge on, disjoint from `train`, in a fixed random order.
        checksum: of everything but the test set, before any split.
    """

    train: Part
    validation: Part
    checksum: str


def all_but_test(task: Task) -> Part:
    """Everything but the test set.

    Raises:
        UsageError: the task's data are not what they must be.
        OptituneError: built-in data cannot be had.
    """
    everything = _part(task, task.data, "data")
    if task.test is not None:
        return everything
    return everything.take(_sealed(task, everything)[0])


def load_test(task: Task) -> Part:
    """The sealed test set: for one evaluation, after all choices are made.

    Raises:
        UsageError: the task's data are not what they must be.
        OptituneError: built-in data cannot be had.
    """
    if task.test is not None:
        return _part(task, task.test, "test")
    everything = _part(task, task.data, "data")
    return everything.take(_sealed(task, everything)[1])


def _sealed(task: Task, everything: Part) -> tuple[Tensor, Tensor]:
    """Places to train on and places sealed away."""
    total = len(everything)
    if total < 10:
        raise UsageError(f"task '{task.name}': {total} examples are too few to seal a fifth of them away for the test")
    return split(everything.strata, total, round(SEALED_SHARE * total), SEALED_SEED)


def _part(task: Task, given: Any, field: str) -> Part:
    """What a user gave as data, as a training takes it.

    Raises:
        UsageError: it is not data.
    """
    if not isinstance(given, Examples | Dataset | tuple | list) and callable(given):
        with theirs(task.name, f"{field}()"):
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
        with theirs(task.name, field):
            inputs, targets = as_input(given[0]), as_target(given[1])
        return _checked(task, field, inputs, targets)
    if isinstance(given, IterableDataset) or not (hasattr(given, "__getitem__") and hasattr(given, "__len__")):
        raise UsageError(
            f"task '{task.name}': {field} is {kind(given)}, but must be a pair (inputs, targets) of tensors or "
            "arrays, or a torch Dataset with a length and (input, target) at each index"
        )
    return _read(task, given, field)


def _checked(task: Task, field: str, inputs: Tensor, targets: Tensor) -> Examples:
    """Inputs and targets that belong together.

    Raises:
        UsageError: they do not.
    """
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
    with theirs(task.name, f"{field}[0]"):
        first = dataset[0]
    if not isinstance(first, tuple | list) or len(first) != 2:
        raise UsageError(f"task '{task.name}': {field}[0] is {kind(first)}, but must be a pair (input, target)")
    in_memory = task.in_memory
    with theirs(task.name, field):
        if in_memory is None:
            bytes_in_all = total * (as_input(first[0]).nbytes + as_target(first[1]).nbytes)
            in_memory = bytes_in_all <= IN_MEMORY and _same_again(dataset, total)
        if in_memory:
            pairs = [dataset[number] for number in range(total)]
            inputs = torch.stack([as_input(pair[0]) for pair in pairs])
            targets = torch.stack([as_target(pair[1]) for pair in pairs])
    known = _known_targets(dataset, total)
    if in_memory:
        # split as if it were streamed, so that what is sealed away does not hang on how it is read
        return replace(_checked(task, field, inputs, targets), stratify=known is not None)
    return Streamed(dataset, torch.arange(total), known)


def _known_targets(dataset: Any, total: int) -> Tensor | None:
    """The targets of a data set that tells them as torchvision's do, without reading every example."""
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
    """Whether examples are the same whenever they are read; not where they are cut or turned at random."""
    return all(
        torch.equal(torch.nan_to_num(as_input(one)), torch.nan_to_num(as_input(again)))
        for number in range(0, total, max(1, total // LOOKED_AT))
        for one, again in zip(dataset[number], dataset[number], strict=True)
    )


def search_data(task: Task, train_examples: int | None) -> SearchData:
    """Load a task's data and split it once, always the same way.

    Args:
        task: whose data.
        train_examples: train on a fixed random subset of this size; None for all.

    Raises:
        OptituneError: the data cannot be had.
        UsageError: there are fewer examples than `train_examples`, or too few to hold out a validation set.
    """
    everything = all_but_test(task)
    total = len(everything)
    held = task.validation if isinstance(task.validation, int) else max(1, round(task.validation * total))
    if total < 2 * held:
        raise UsageError(
            f"task '{task.name}' holds out {held} examples for validation, but there are only {total}, and at most "
            "half may be held out: is the data set complete, or validation= too large?"
        )
    train, validation = split(everything.strata, total, held)
    if train_examples is not None and train_examples > len(train):
        raise UsageError(
            f"--train-examples {train_examples}: task '{task.name}' has {len(train)} examples to train on; "
            "ask for at most that"
        )
    with theirs(task.name, "reading the data"):
        checksum = everything.checksum()
    return SearchData(everything.take(train[:train_examples]), everything.take(validation), checksum)


def without_data(task: Task, data: SearchData) -> Task:
    """The task for a process that gets its data from elsewhere: only a data set that is streamed goes with it."""
    return replace(task, data=task.data if isinstance(data.train, Streamed) else None, test=None)


def save(data: SearchData, path: Path) -> None:
    """Write `data` where worker processes find it.

    Raises:
        OptituneError: the file cannot be written.
    """
    share({"train": data.train, "validation": data.validation}, path, {"checksum": data.checksum})


def load(path: Path, task: Task) -> SearchData:
    """What `save` wrote, shared by all processes; of streamed data, the task brings the data set."""
    parts, about = shared(path)
    return SearchData(**opened(parts, task), checksum=about["checksum"])


def opened(parts: Mapping[str, Examples | Tensor], task: Task) -> dict[str, Part]:
    """Shared parts as data, those that are places in the task's own data set included."""
    whole = None
    found: dict[str, Part] = {}
    for name, part in parts.items():
        if isinstance(part, Examples):
            found[name] = part
            continue
        # what the search found to be streamed stays so, however it looks at a second reading
        whole = whole or _part(replace(task, in_memory=False), task.data, "data")
        assert isinstance(whole, Streamed)
        found[name] = replace(whole, places=part)
    return found
