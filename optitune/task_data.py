"""A task's data as a search and a full training may see them: the split, and the sealed test set.

A search sees `search_data` alone. `load_test` is for the one evaluation after a full training.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from optitune.data import Examples, Part, Streamed, as_input, as_target, digest, share, shared, split
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
        digests: what else tells these data from others: of the places sealed away as `sealed`, of those held out as
            `held_out`, of the inputs of some streamed examples as `inputs`; each where there is one.
    """

    train: Part
    validation: Part
    checksum: str
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FullData:
    """What a full training sees.

    Attributes:
        train: everything but the test set.
        sealed: the test set where it was sealed away from the task's data; None where the task brings its own.
        checksum: of `train`.
        digests: as in `SearchData`.
    """

    train: Part
    sealed: Part | None
    checksum: str
    digests: Mapping[str, str]


def full_data(task: Task) -> FullData:
    """Read a task's data once, and part them into what is trained on and what is sealed away.

    Raises:
        UsageError: the task's data are not what they must be.
        OptituneError: built-in data cannot be had.
    """
    everything = _part(task, task.data, "data")
    train, sealed, digests = everything, None, {}
    if task.test is None:
        kept, away = _sealed(task, everything)
        train, sealed = everything.take(kept), everything.take(away)
        digests["sealed"] = digest(away)
    with theirs(task.name, "reading the data"):
        if isinstance(train, Streamed) and (inputs := train.inputs_checksum()):
            digests["inputs"] = inputs
        return FullData(train, sealed, train.checksum(), digests)


def all_but_test(task: Task) -> Part:
    """Everything but the test set.

    Raises:
        UsageError: the task's data are not what they must be.
        OptituneError: built-in data cannot be had.
    """
    everything = _part(task, task.data, "data")
    return everything if task.test is not None else everything.take(_sealed(task, everything)[0])


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


def is_function(given: Any) -> bool:
    """Whether data are given by a function, and not as they are."""
    return callable(given) and not isinstance(given, Examples | Dataset | tuple | list)


def _part(task: Task, given: Any, field: str) -> Part:
    """What a user gave as data, as a training takes it.

    Raises:
        UsageError: it is not data.
    """
    if is_function(given):
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
    return Streamed(dataset, torch.arange(total), known, origin=field)


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
    full = full_data(task)
    everything, total = full.train, len(full.train)
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
    return SearchData(
        everything.take(train[:train_examples]),
        everything.take(validation),
        full.checksum,
        {**full.digests, "held_out": digest(validation)},
    )


DIFFER = (
    "the data differ from reading to reading, so that examples of the test would get into the training: give the "
    "split or the shuffle a fixed seed, e.g. random_state=0 or generator=torch.Generator().manual_seed(0)"
)
"""What is wrong with data that are others whenever they are read, and what helps."""


def unchanged() -> str:
    """Why data may be others though nobody has changed them."""
    splitter = f"another version of scikit-learn (here {version('scikit-learn')}) parts them otherwise"
    return f"if nothing was changed, {DIFFER}; or {splitter}"


DIGESTS = ("sealed", "held_out", "inputs")
"""The keys of digests, wherever they are kept."""


def differs(found: Mapping[str, Any], data: SearchData | FullData) -> bool:
    """Whether `data` are others than those with the checksum and the digests `found`."""
    here = {"checksum": data.checksum, **data.digests}
    return any(key in found and key in here and found[key] != here[key] for key in ("checksum", "inputs"))


def moved(found: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Why data are parted otherwise than when the digests were `found`; empty where they are not.

    Digests that are not in both, as of studies of older versions, are not compared.
    """
    held_out = found.get("validation_examples") == now.get("validation_examples")
    for key, what in (("sealed", "sealed away for the test"), *[("held_out", "held out for validation")] * held_out):
        if key in found and key in now and found[key] != now[key]:
            return (
                f"other examples are {what} than before: the data are others, or another version of scikit-learn "
                f"(here {version('scikit-learn')}) parts them otherwise; bring back what the study was made with, or "
                "begin another study with --study NAME"
            )
    return ""


def others(task: Task, data: FullData, found: Mapping[str, Any]) -> bool:
    """Whether the data of a full training are others than those of the search, without harm to the test.

    Args:
        task: whose data.
        data: of the full training.
        found: checksum and digests of those of the search.

    Raises:
        UsageError: other examples may be sealed away than in the search, which has seen some of them.
    """
    other = differs(found, data)
    if other and data.sealed is not None:
        raise UsageError(
            f"task '{task.name}': the data are not those of the search (their checksums differ), so that examples "
            "that the search has seen would be sealed away for the test: bring back the same data, or search again "
            f"with --study NAME; {unchanged()}"
        )
    if not other and (why := moved(found, data.digests)):
        raise UsageError(f"task '{task.name}': {why}")
    return other


def without_data(task: Task, *parts: Part) -> Task:
    """The task for a process that gets these parts from a file: only data sets that are streamed go with it."""
    streamed = {part.origin for part in parts if isinstance(part, Streamed)}
    return replace(task, data=task.data if "data" in streamed else None, test=task.test if "test" in streamed else None)


def save(data: SearchData, path: Path) -> None:
    """Write `data` where worker processes find it.

    Raises:
        OptituneError: the file cannot be written.
    """
    share({"train": data.train, "validation": data.validation}, path, {"checksum": data.checksum})


def load(path: Path, task: Task) -> SearchData:
    """What `save` wrote, shared by all processes; of streamed data, the task brings the data set."""
    parts, about = opened(path, task)
    return SearchData(parts["train"], parts["validation"], about["checksum"])


def opened(path: Path, task: Task) -> tuple[dict[str, Part], dict[str, str]]:
    """What `share` wrote, as data, those parts included that are places in a data set of the task's.

    Returns:
        (data by the name of their part; what was written `about` them)

    Raises:
        UsageError: the task gives another data set here.
    """
    parts, about = shared(path)
    wholes: dict[str, Streamed] = {}
    found: dict[str, Part] = {}
    for name, part in parts.items():
        if isinstance(part, Examples):
            found[name] = part
            continue
        origin = about[f"{name}.origin"]
        if origin not in wholes:
            # what was found to be streamed stays so, however it looks at a second reading
            whole = _part(replace(task, in_memory=False), getattr(task, origin), origin)
            assert isinstance(whole, Streamed)
            with theirs(task.name, "reading the data"):
                known = zip(whole.identity(), json.loads(about[f"{name}.identity"]), strict=True)
                if any(here and there and here != there for here, there in known):
                    raise UsageError(f"task '{task.name}': {DIFFER}")
            wholes[origin] = whole
        found[name] = replace(wholes[origin], places=part)
    return found, about
