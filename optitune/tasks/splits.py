"""The split of a task's data into training, validation and sealed test set.

A search reads `search_data` alone. `load_test` is for the one evaluation after a full training.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from optitune.common.text import plural
from optitune.errors import UsageError
from optitune.tasks.data import SPLIT_SEED, Examples, Part, Places, Streamed, digest, share, shared, split
from optitune.tasks.equal_rows import equal_rows
from optitune.tasks.given_data import part_of, same_again, transform_fits
from optitune.tasks.grouping import SplitBy, first_of, group_codes, split_groups
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.scaling import unscaled
from optitune.tasks.task import Task
from optitune.tasks.user_code import calling

SEALED_SHARE = 0.2
"""Share of the data that is the test set where a task has none of its own."""

SEALED_SEED = 1
"""It must never change: the test set is the same in every search and every full training."""


@dataclass(frozen=True)
class SearchData:
    """The data of a search.

    Attributes:
        train: training examples, in a fixed random order; in order of time where the task is split by time.
        validation: validation examples, disjoint from `train`, in a fixed random order.
        checksum: of all data but the test set, before the split.
        digests: further SHA-256 digests where they apply: of the indices of the test set (`sealed`) and of the
            validation set (`held_out`), of the inputs of some streamed examples (`inputs`), of the task's own
            validation data (`validation`), of the groups (`split`), which is `time` where it goes by time.
        sealed: how many examples are sealed away for the test; None where the task has a test set of its own.
    """

    train: Part
    validation: Part
    checksum: str
    digests: Mapping[str, str] = field(default_factory=dict)
    sealed: int | None = None


@dataclass(frozen=True)
class FullData:
    """The data of a full training.

    Attributes:
        train: all data but the test set.
        sealed: test set taken from the task's data; None where the task has one of its own.
        checksum: of `train`.
        digests: as in `SearchData`.
    """

    train: Part
    sealed: Part | None
    checksum: str
    digests: Mapping[str, str]


def full_data(task: Task) -> FullData:
    """Read a task's data once, and split them into training data and test set.

    Raises:
        UsageError: the task's data are not what they must be.
        OptituneError: built-in data cannot be had.
    """
    if isinstance(task, LoopTask):
        known = task.known
        test = None if known.sealed is None else placeholders(known.sealed)
        return FullData(placeholders(known.everything), test, known.checksum, known.digests)
    everything = _everything(task)
    train, sealed, digests = everything, None, split_digest(task.split_by, everything.groups)
    if task.test is None:
        kept, away = _sealed(task, everything)
        train, sealed = everything.take(kept), everything.take(away)
        digests["sealed"] = digest(away)
    train = replace(train, transform=task.transform)
    transform_fits(task, train)
    with calling(task.name, "reading the data"):
        if isinstance(train, Streamed) and (inputs := train.inputs_checksum()):
            digests["inputs"] = inputs
        return FullData(train, sealed, train.checksum(), digests)


def _everything(task: Task) -> Part:
    """All data but a test set of the task's own, with their groups."""
    everything = part_of(task, task.data, "data")
    if task.groups is None:
        return everything
    with calling(task.name, "groups"):
        return replace(everything, groups=group_codes(task.groups, len(everything), f"task '{task.name}': Task"))


def split_digest(by: SplitBy, groups: Tensor | None) -> dict[str, str]:
    """What is kept of how examples are split, among their digests; nothing where it is at random."""
    if by == "random":
        return {}
    return {"split": by if groups is None else digest(groups)}


def parted(
    places: Tensor, strata: Tensor | None, groups: Tensor | None, by: SplitBy, held_out: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Split some examples; see `split`.

    Args:
        places: of the examples, (n,), in order of time where they are split by it.
        strata: targets of all examples; None where they are not known.
        groups: of all examples; None where they have none.
        by: how they are split.
        held_out: how many to hold out; about as many by groups.
        seed: of the split.

    Returns:
        (training places, held-out places); in order of time where they are split by it, otherwise in a random order.

    Raises:
        UsageError: one group is all that there is.
    """
    if by == "time":
        return places[: len(places) - held_out], places[len(places) - held_out :]
    known = None if strata is None else strata[places]
    if groups is None:
        train, held = split(known, len(places), held_out, seed)
    else:
        train, held = split_groups(groups[places], known, held_out, seed)
    return places[train], places[held]


def placeholders(number: int, groups: Sequence[int] = ()) -> Examples:
    """Examples without content: their number, where a training loop of the user's own has the data.

    Args:
        number: of the examples.
        groups: how many examples each group has.
    """
    codes = torch.arange(len(groups)).repeat_interleave(torch.tensor(groups)) if groups else None
    return Examples(torch.empty(number, 0), torch.empty(number, 0), groups=codes)


def load_test(task: Task) -> Part:
    """The test set of a task: for one evaluation, after all choices are made.

    Raises:
        UsageError: the task's data are not what they must be.
        OptituneError: built-in data cannot be had.
    """
    if isinstance(task, LoopTask):
        return placeholders(1)
    if task.test is not None:
        return part_of(task, task.test, "test")
    everything = _everything(task)
    return everything.take(_sealed(task, everything)[1])


def _sealed(task: Task, everything: Part) -> tuple[Tensor, Tensor]:
    """The indices of the training data and of the test set."""
    total = len(everything)
    if total < 10:
        raise UsageError(
            f"task '{task.name}' has {plural(total, 'example')}, too few to seal a fifth of them away for the test"
        )
    number = round(SEALED_SHARE * total)
    return _parted(task, everything, number, SEALED_SEED)


def _parted(task: Task, part: Part, held_out: int, seed: int = SPLIT_SEED) -> tuple[Tensor, Tensor]:
    try:
        return parted(torch.arange(len(part)), part.strata, part.groups, task.split_by, held_out, seed)
    except UsageError as error:
        raise UsageError(f"task '{task.name}': {error}") from None


def search_data(task: Task, train_examples: int | None) -> SearchData:
    """Load a task's data and split them, always in the same way.

    Args:
        task: that the data belong to.
        train_examples: size of a fixed random subset to train on; None for all.

    Raises:
        OptituneError: the data cannot be loaded.
        UsageError: there are fewer examples than `train_examples`, or too few to hold out a validation set.
    """
    return held_out(task, full_data(task), train_examples)


def held_out(task: Task, full: FullData, train_examples: int | None = None) -> SearchData:
    """Split training and validation data as for a search, see `search_data`, from data that were read.

    Args:
        task: that the data belong to.
        full: its data, read before.
        train_examples: size of a fixed random subset to train on; None for all.

    Raises:
        UsageError: there are fewer examples than `train_examples`, or too few to hold out a validation set.
    """
    if isinstance(task, LoopTask):
        known = task.known
        parts = placeholders(known.trained, known.groups), placeholders(known.judged)
        return SearchData(*parts, known.checksum, known.digests, known.sealed)
    everything, total = replace(full.train, transform=None), len(full.train)
    if task.own_validation:
        return _with_validation(task, full, train_examples)
    assert isinstance(task.validation, int | float)
    held = task.validation if isinstance(task.validation, int) else max(1, round(task.validation * total))
    if total < 2 * held:
        raise UsageError(
            f"task '{task.name}' holds out {plural(held, 'example')} for validation, but there are only {total}, and "
            "at most half may be held out: is the data set complete, or validation= too large?"
        )
    train, validation = _parted(task, everything, held)
    if train_examples is not None and train_examples > len(train):
        raise _too_many(task, train_examples, len(train))
    # most evaluations are on the first of them, which must not be the earliest
    judged = validation[_random_order(len(validation))] if task.split_by == "time" else validation
    return SearchData(
        full.train.take(first_of(train, train_examples, task.split_by)),
        everything.take(judged),
        full.checksum,
        {**full.digests, "held_out": digest(validation)},
        _sealed_size(full),
    )


def test_size(task: Task, data: SearchData, built_in: bool) -> int | None:
    """How many examples the test set has; None where it is one of the user's, which nothing but a test reads.

    Args:
        task: that has the test set.
        data: of a search of it.
        built_in: whether the task is one of the package's.
    """
    return len(load_test(task)) if data.sealed is None and built_in else data.sealed


def _sealed_size(full: FullData) -> int | None:
    return None if full.sealed is None else len(full.sealed)


def _with_validation(task: Task, full: FullData, train_examples: int | None) -> SearchData:
    """All of the data as training data, and the task's own validation data, in a fixed random order."""
    given = part_of(task, task.validation, "validation")
    held = given.take(_random_order(len(given)))
    if train_examples is not None and train_examples > len(full.train):
        raise _too_many(task, train_examples, len(full.train))
    with calling(task.name, "reading the data"):
        (one, target), (other, judged) = (next(part.take(slice(0, 1)).in_turn(1)) for part in (full.train, held))
        checksum = given.checksum()
    if (one.ndim, target.shape, target.dtype) != (other.ndim, judged.shape, judged.dtype):
        raise UsageError(
            f"task '{task.name}': an example of data has an input of shape {tuple(one.shape[1:])} and a target of "
            f"shape {tuple(target.shape[1:])}, {target.dtype}, but one of validation {tuple(other.shape[1:])} and "
            f"{tuple(judged.shape[1:])}, {judged.dtype}: give both in one form"
        )
    total = len(full.train)
    order = torch.arange(total) if task.split_by == "time" else _random_order(total)
    return SearchData(
        full.train.take(first_of(order, train_examples, task.split_by)),
        held,
        full.checksum,
        {**full.digests, "validation": checksum},
        _sealed_size(full),
    )


def _random_order(number: int) -> Tensor:
    return torch.randperm(number, generator=torch.Generator().manual_seed(SPLIT_SEED))


def _too_many(task: Task, asked: int, there: int) -> UsageError:
    return UsageError(
        f"train_examples = {asked}: task '{task.name}' has {plural(there, 'example')} to train on; ask for at most that"
    )


def remarks(task: Task, data: SearchData) -> list[str]:
    """Notes on the data for the user, before a search begins, a line each."""
    if isinstance(task, LoopTask):
        return list(task.known.lacks)
    lines = []
    held = data.validation
    if not task.scale_targets and (line := unscaled(data.train)):
        lines.append(line)
    if isinstance(held, Streamed) and not same_again(held):
        if held.origin == "validation":
            lines.append("the validation data differ at every reading, so that augmented examples are judged")
        else:
            what = "validation examples" if task.test is not None else "validation and test examples"
            lines.append(
                f"the data set augments itself (its examples differ at every reading), so that {what} are augmented, "
                "too: give validation data without augmentation (Task(validation=...)), or a data set without it and "
                "the augmentation alone as Task(transform=...)"
            )
    return lines + equal_to_trained(data.train, held, "validation")


def equal_to_trained(train: Part, held: Part, what: str) -> list[str]:
    """A line where examples that are judged equal ones that are trained on; of examples in memory alone.

    Args:
        train: to train on.
        held: to judge on.
        what: they are, in a word.
    """
    if not isinstance(train, Examples) or not isinstance(held, Examples):
        return []
    return equal_rows((train.inputs, train.targets), (held.inputs, held.targets), what)


DIFFER = (
    "the data differ from reading to reading, so that examples of the test would get into the training: give the "
    "split or the shuffle a fixed seed, e.g. random_state=0 or generator=torch.Generator().manual_seed(0)"
)
"""Cause and remedy where data differ at every reading."""


def without_data(task: Task, *parts: Part) -> Task:
    """A copy of a task without the data that a process reads from a file; data sets that are streamed stay."""
    streamed = {part.origin for part in parts if isinstance(part, Streamed)}
    light = replace(
        task,
        data=task.data if "data" in streamed else None,
        test=task.test if "test" in streamed else None,
        groups=None,
    )
    # the usual share in place of data
    return replace(light, validation=Task.validation) if task.own_validation and "validation" not in streamed else light


def save(data: SearchData, path: Path) -> None:
    """Write data to a file for worker processes.

    Raises:
        OptituneError: the file cannot be written.
    """
    share({"train": data.train, "validation": data.validation}, path, {"checksum": data.checksum})


def load(path: Path, task: Task) -> SearchData:
    """Read the data that `save` wrote, in memory shared by all processes; data sets of streamed ones are the task's."""
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
            whole = part_of(replace(task, in_memory=False), getattr(task, origin), origin)
            assert isinstance(whole, Streamed)
            with calling(task.name, "reading the data"):
                known = zip(whole.identity(), json.loads(about[f"{name}.identity"]), strict=True)
                if any(here and there and here != there for here, there in known):
                    raise UsageError(f"task '{task.name}': {DIFFER}")
            wholes[origin] = whole
        assert isinstance(part, Places)
        found[name] = replace(wholes[origin], places=part.places, groups=part.groups)
    if "train" in found:
        found["train"] = replace(found["train"], transform=task.transform)
    return found, about
