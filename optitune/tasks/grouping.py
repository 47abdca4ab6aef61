"""Splits by groups, which stay together, and by time, where what is judged is later than what is trained on."""

import heapq
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from optitune.errors import UsageError
from optitune.tasks.data import CPU, rotated

Order = Literal["random", "time"]
"""How examples are split: at random, or in order of time."""

SplitBy = Literal["random", "groups", "time"]


class Fold(NamedTuple):
    """A round of a comparison.

    Attributes:
        training: examples to train on.
        held_out: examples to judge on, about as many where groups stay together; 0 with validation data of their own.
        number: of the round, from 0.
        rounds: how many there are.
    """

    training: int
    held_out: int
    number: int
    rounds: int = 1


def check_order(order: Any, groups: Any, where: str) -> None:
    """Check what a user asks for.

    Args:
        order: `random` or `time`.
        groups: of the examples; None for none.
        where: it is asked for, as the beginning of a message.

    Raises:
        UsageError: it is none of them, or both are asked for.
    """
    if order not in ("random", "time"):
        raise UsageError(f"{where}(split={order!r}): must be 'random' or 'time'")
    if order == "time" and groups is not None:
        raise UsageError(
            f"{where}(groups=..., split='time'): give one of them: a group that goes on through all times cannot be "
            "kept together and be judged later than it is trained on"
        )


def group_codes(given: Any, total: int, where: str) -> Tensor:
    """Groups as numbers in the order of their first appearance, (total,), int64.

    Args:
        given: an id of any kind per example: an array, tensor, list or column of pandas, or a function that gives it.
        total: number of examples.
        where: it was given, as the beginning of a message.

    Raises:
        UsageError: there is not one id per example.
    """
    import pandas as pd

    given = given() if callable(given) else given
    if isinstance(given, list | tuple) and given and isinstance(given[0], Tensor):
        given = torch.stack(list(given))
    values: Any = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
    values = values.to_numpy() if hasattr(values, "iloc") else list(values) if isinstance(values, range) else values
    if isinstance(values, np.ndarray) and values.shape[1:] == (1,):
        values = values[:, 0]
    if not isinstance(values, np.ndarray | list | tuple) or getattr(values, "ndim", 1) != 1:
        shape = f"shape {values.shape}" if isinstance(values, np.ndarray) else f"type {type(values).__name__}"
        raise UsageError(f"{where}(groups=...): is of {shape}, but must be one id per example, such as an array (n,)")
    if len(values) != total:
        raise UsageError(f"{where}(groups=...): has {len(values)} ids for {total} examples; give one for each")
    codes, found = pd.factorize(values if isinstance(values, np.ndarray) else pd.Series(list(values)))
    if missing := int((codes < 0).sum()):
        raise UsageError(f"{where}(groups=...): {missing} of {total} ids are missing (None or nan); give each one")
    if len(found) < 2:
        raise UsageError(f"{where}(groups=...): all {total} examples have one id, so that nothing can be held out")
    return torch.from_numpy(codes.astype(np.int64))


def split_groups(codes: Tensor, classes: Tensor | None, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split examples at random by groups, with about the shares of the classes.

    Groups are taken in a random order, each where it brings the number of held-out examples nearer to what is wanted:
    first for every class, by the commonest class of a group, then of all. At most half is held out.

    Args:
        codes: group of each example, (n,), int64.
        classes: class of each example, (n,), int64; None where they are not known.
        held_out: about how many examples to hold out.
        seed: of the split.

    Returns:
        (training indices, held-out indices), int64, disjoint, each in a random order.

    Raises:
        UsageError: one group is all that there is.
    """
    groups, places, sizes = np.unique(codes.numpy(), return_inverse=True, return_counts=True)
    if len(groups) < 2:
        raise UsageError("too few groups to hold one out for the test, one for validation and to train on one")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(groups), generator=generator).tolist()
    of = np.zeros(len(groups), dtype=np.int64)
    if classes is not None and classes.ndim == 1 and not classes.is_floating_point():
        pairs, counts = np.unique(np.stack([places, classes.numpy()]), axis=1, return_counts=True)
        rising = counts.argsort(kind="stable")
        # of several assignments to one place the last stays
        of[pairs[0, rising]] = np.unique(pairs[1, rising], return_inverse=True)[1]
    wanted = held_out * np.bincount(of, weights=sizes) / len(codes)
    taken = np.zeros(len(groups), dtype=bool)
    count, of_class = 0, np.zeros(len(wanted))
    for by_class in (True, False):
        for group in order:
            size = int(sizes[group])
            there, limit = (of_class[of[group]], wanted[of[group]]) if by_class else (count, held_out)
            if not taken[group] and there + size / 2 <= limit and count + size <= len(codes) / 2:
                taken[group] = True
                count += size
                of_class[of[group]] += size
    if not count:
        taken[sizes.argmin()] = True
    mixed = torch.randperm(len(codes), generator=generator)
    away = torch.from_numpy(taken[places])[mixed]
    return mixed[~away], mixed[away]


def group_folds(codes: Tensor, rounds: int) -> Tensor:
    """The number of the fold of each example, (n,): folds of whole groups, as even as these are, in a random order.

    How many examples each fold has follows from the groups' sizes alone.
    """
    _, places, sizes = np.unique(codes.numpy(), return_inverse=True, return_counts=True)
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(0)).numpy()
    folds = [(0, number) for number in range(rounds)]
    of = np.zeros(len(sizes), dtype=np.int64)
    for group in order[(-sizes[order]).argsort(kind="stable")]:
        size, number = folds[0]
        of[group] = number
        heapq.heapreplace(folds, (size + int(sizes[group]), number))
    return torch.from_numpy(of[places])


def places_of(total: int, fold: Fold, by: SplitBy, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The examples of a round of a comparison.

    At random, and by groups, each round holds out other examples. By time a window of one length moves through them:
    each round judges the block that follows the window, the first round the latest block.

    Args:
        total: number of examples, in order of time, or in a random order.
        fold: of the round.
        by: how they are split.
        groups: of each example, (total,), int64, where they are split by groups.

    Returns:
        (training indices, held-out indices), int64, disjoint.
    """
    if by == "time":
        end = total - fold.number * fold.held_out
        begin = end - fold.held_out
        return torch.arange(begin - fold.training, begin), torch.arange(begin, end)
    if by == "random" or not fold.held_out:
        return rotated(total, fold.training, fold.held_out, fold.number)
    assert groups is not None
    held = group_folds(groups.to(CPU), fold.rounds) == fold.number
    others = (~held).nonzero()[:, 0].roll(-fold.number * fold.held_out)
    return others[: fold.training], held.nonzero()[:, 0]


def first_of(places: Tensor, number: int | None, by: SplitBy) -> Tensor:
    """So many examples to train on: the first of a random order, the latest in time.

    Args:
        places: of all that may be trained on, in a random order, or in order of time.
        number: how many; None for all.
        by: how they are split.
    """
    if number is None:
        return places
    return places[len(places) - min(number, len(places)) :] if by == "time" else places[:number]
