"""Division of data that a training loop of the user's own loads: what it trains on and what it is judged on."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from optitune.common.randomness import random_state, seed_everything, set_random_state
from optitune.errors import UsageError
from optitune.tasks.data import CPU, SAMPLED_INPUTS, SPLIT_SEED, digest
from optitune.tasks.grouping import Fold, Order, SplitBy, check_order, first_of, group_codes, places_of
from optitune.tasks.splits import DIFFER, SEALED_SEED, SEALED_SHARE, parted, split_digest
from optitune.tasks.task import kind

Stage = Literal["search", "compare", "retrain"]


@dataclass(frozen=True)
class Share:
    """Which part of the data a training gets.

    Attributes:
        stage: that trains.
        train_examples: size of a fixed random subset to train on in a search; None for all.
        fold: the round of a comparison.
        test: whether a full training is judged on the test set, or, as a search, on validation data.
        checksum: that the data must have; empty for any.
    """

    stage: Stage = "search"
    train_examples: int | None = None
    fold: Fold | None = None
    test: bool = False
    checksum: str = ""


@dataclass(frozen=True)
class Division:
    """Indices of examples, int64, and what is known of the whole.

    Attributes:
        train: to train on.
        judged: to judge on; None for data of their own.
        trained: how many examples a search may train on.
        validation: how many it holds out; None for validation data of their own.
        kept: all but the test set.
        sealed: how many are the test set; None for test data of their own.
        digests: of the indices, and of the groups, as in `SearchData`.
        split_by: how the examples are split.
        groups: how many of the examples that a search may train on each group has, where they are split by groups.
    """

    train: Tensor
    judged: Tensor | None
    trained: int
    validation: int | None
    kept: Tensor
    sealed: int | None
    digests: Mapping[str, str]
    split_by: SplitBy = "random"
    groups: tuple[int, ...] = ()


def divide(
    total: int,
    classes: Tensor | None,
    validation: int | float | None,
    own_test: bool,
    share: Share,
    by: SplitBy = "random",
    groups: Tensor | None = None,
) -> Division:
    """Divide examples just as a `Task`'s are.

    Args:
        total: number of examples.
        classes: (total,), int64, whose shares are kept; None where they are not known.
        validation: share or number of examples to hold out; None for validation data of their own.
        own_test: whether there are test data of their own; if not, a fifth is set apart.
        share: which part is wanted.
        by: how they are split.
        groups: of the examples, (total,), int64, where they are split by groups.

    Raises:
        UsageError: there are too few examples or groups, or a number is out of range.
    """
    kept, away = torch.arange(total), None
    digests = split_digest(by, groups)
    if not own_test:
        if total < 10:
            raise UsageError(f"run.split: {total} examples are too few to seal a fifth of them away for the test")
        kept, away = parted(kept, classes, groups, by, round(SEALED_SHARE * total), SEALED_SEED)
        digests["sealed"] = digest(away)
    held: Tensor | None = None
    if validation is None:
        mixed = torch.randperm(len(kept), generator=torch.Generator().manual_seed(SPLIT_SEED))
        train = kept if by == "time" else kept[mixed]
    else:
        number = validation if isinstance(validation, int) else max(1, round(validation * len(kept)))
        if not 1 <= number <= len(kept) / 2:
            raise UsageError(
                f"run.split(validation={validation!r}): holds out {number} of {len(kept)} examples; at least 1 and at "
                "most half may be held out"
            )
        strata, codes = (None if each is None else each[kept] for each in (classes, groups))
        first, second = parted(torch.arange(len(kept)), strata, codes, by, number, SPLIT_SEED)
        train, held = kept[first], kept[second]
        digests["held_out"] = digest(second)
    if share.train_examples is not None and share.train_examples > len(train):
        raise UsageError(
            f"train_examples = {share.train_examples}: there are {len(train)} examples to train on; ask for at most "
            "that"
        )
    searched = trained = first_of(train, share.train_examples, by)
    judged = held
    if share.fold is not None:
        places, others = places_of(len(train), share.fold, by, None if groups is None else groups[train])
        trained, judged = train[places], None if validation is None else train[others]
    elif share.test:
        trained, judged = kept, away
    return Division(
        trained,
        judged,
        len(searched),
        None if held is None else len(held),
        kept,
        None if away is None else len(away),
        digests,
        by,
        () if groups is None else tuple(groups[searched].bincount().tolist()),
    )


@dataclass(frozen=True)
class Parts:
    """Data that were divided.

    Attributes:
        train: to train on.
        judged: to judge on.
        division: by which.
        checksum: of all but the test set.
        own: whether the validation data are their own.
    """

    train: Any
    judged: Any
    division: Division
    checksum: str
    own: bool


def parts_of(data: Any, validation: Any, test: Any, share: Share, groups: Any = None, order: Order = "random") -> Parts:
    """Divide data; see `optitune.Run.split`.

    Args:
        data: all data but test and validation data of their own.
        validation: share or number of examples to hold out, or data of their own.
        test: test data of their own; None to set a fifth apart.
        share: which part is wanted.
        groups: an id per example; None for none.
        order: `random`, or `time` where they are in order of time.

    Raises:
        UsageError: they cannot be divided, or are others than before.
    """
    if validation is None or isinstance(validation, bool):
        raise UsageError(f"run.split(validation={validation!r}): give a share, a number of examples, or data")
    data = given(data)
    total = length(data, "data")
    own = not isinstance(validation, int | float)
    check_order(order, groups, "run.split")
    codes = None if groups is None else group_codes(groups, total, "run.split")
    by: SplitBy = order if codes is None else "groups"
    held = None if own else validation
    found = divide(total, classes_of(data, total), held, test is not None, share, by, codes)
    sum_ = checksum(taken(data, found.kept), len(found.kept), found.digests.get("split", ""))
    if share.checksum and sum_ != share.checksum:
        raise UsageError(f"run.split: {DIFFER}")
    own_data = test if share.test else validation
    judged = given(own_data) if found.judged is None else taken(data, found.judged)
    return Parts(taken(data, found.train), judged, found, sum_, own)


def sharded(parts: Parts, rank: int, ranks: int) -> tuple[Any, Any]:
    """What one of several processes trains and judges on: every so many-th example, in the form of the data.

    Args:
        parts: of all of them.
        rank: of the process.
        ranks: how many there are.

    Returns:
        (to train on, as many for each process; to judge on, all of them together)
    """
    total, judged = length(parts.train, "data"), length(parts.judged, "validation")
    even = total - total % ranks
    return taken(parts.train, torch.arange(rank, even, ranks)), taken(parts.judged, torch.arange(rank, judged, ranks))


def given(data: Any) -> Any:
    """Data, or what a function without arguments gives."""
    return data() if callable(data) and not hasattr(data, "__getitem__") and not hasattr(data, "__iter__") else data


def length(data: Any, name: str) -> int:
    """How many examples there are.

    Args:
        data: a data set, tensor, array, DataFrame or list; a tuple or dict of these; or a number of examples.
        name: of the argument, for messages.

    Raises:
        UsageError: that cannot be known.
    """
    if isinstance(data, int) and not isinstance(data, bool):
        return data
    if isinstance(data, tuple | Mapping):
        parts = list(data.values()) if isinstance(data, Mapping) else list(data)
        sizes = [length(each, name) for each in parts]
        if not sizes or len(set(sizes)) > 1:
            raise UsageError(f"run.split({name}): its parts have {sizes or 'no'} examples; give as many in each")
        return sizes[0]
    try:
        return len(data)
    except TypeError:
        raise UsageError(
            f"run.split({name}): is {kind(data)} without a length, so that it cannot be divided: give a data set with "
            "__len__ and __getitem__, tensors, arrays, a DataFrame, or the number of examples, for which indices come "
            "back"
        ) from None


def taken(data: Any, places: Tensor) -> Any:
    """The examples at these places, in the form of the data; of a number of examples the places, as a list."""
    if isinstance(data, int):
        return places.tolist()
    if isinstance(data, Mapping):
        return {key: taken(each, places) for key, each in data.items()}
    if isinstance(data, tuple):
        return tuple(taken(each, places) for each in data)
    if isinstance(data, Tensor):
        return data[places.to(data.device)]
    if isinstance(data, np.ndarray):
        return data[places.numpy()]
    if hasattr(data, "iloc"):
        return data.iloc[places.numpy()]
    if isinstance(data, list):
        return [data[place] for place in places.tolist()]
    if hasattr(data, "select") and hasattr(data, "column_names"):
        # a data set of Hugging Face stays one
        return data.select(places.tolist())
    return Subset(data, places.tolist())


def classes_of(data: Any, total: int) -> Tensor | None:
    """The classes by which a division is stratified: a pair's second part, or a data set's `targets` or `labels`."""
    found: Any = data[1] if isinstance(data, tuple) and len(data) == 2 else None
    if found is None and not isinstance(data, int | Tensor | np.ndarray | list | Mapping):
        found = getattr(data, "targets", None)
        found = getattr(data, "labels", None) if found is None else found
    try:
        values = torch.as_tensor(found.to_numpy(copy=True) if hasattr(found, "iloc") else found)
    except (TypeError, ValueError, RuntimeError):
        return None
    whole = values.ndim == 1 and len(values) == total and not values.is_floating_point() and not values.is_complex()
    return values.to(CPU, torch.int64) if whole and values.dtype != torch.bool else None


def checksum(data: Any, total: int, split: str = "") -> str:
    """SHA-256 of the number of examples and of some of them, with all global generators seeded, and of their groups.

    Each is read twice; what differs even so, as augmentation from a generator of its own does, is left out.

    Args:
        data: all but the test set.
        total: number of examples.
        split: digest of their groups, or `time`; empty where they are split at random.
    """
    found = hashlib.sha256(f"{total}{split}".encode())
    if total and not isinstance(data, int):
        random = random_state(CPU)
        try:
            for place in np.unique(np.linspace(0, total - 1, SAMPLED_INPUTS, dtype=np.int64)).tolist():
                twice = []
                for _ in range(2):
                    seed_everything(place)
                    twice.append(_leaves(_one(data, place)))
                for first, second in zip(*twice, strict=False):
                    found.update(first if first == second else b"")
        finally:
            set_random_state(random, CPU)
    return f"sha256:{found.hexdigest()}"


def _one(data: Any, place: int) -> Any:
    if isinstance(data, Mapping):
        return {key: _one(each, place) for key, each in data.items()}
    if isinstance(data, tuple):
        return tuple(_one(each, place) for each in data)
    return data.iloc[place].to_dict() if hasattr(data, "iloc") and hasattr(data, "columns") else _item(data)(place)


def _item(data: Any) -> Callable[[int], Any]:
    item: Callable[[int], Any] = data.iloc.__getitem__ if hasattr(data, "iloc") else data.__getitem__
    return item


def _leaves(value: Any) -> list[bytes]:
    """A digest of each part of an example."""
    if isinstance(value, Mapping):
        return [leaf for key in sorted(value, key=str) for leaf in _leaves(value[key])]
    if isinstance(value, list | tuple):
        return [leaf for each in value for leaf in _leaves(each)]
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return [hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest()]
    if hasattr(value, "tobytes"):
        # an image
        return [hashlib.sha256(value.tobytes()).digest()]
    return [repr(value).encode()] if value is None or isinstance(value, str | bytes | int | float) else []
