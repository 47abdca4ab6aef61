"""A training by several processes, its ranks: each runs the same loop, and rank 0 holds the record of the training."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from optitune.common.text import plural
from optitune.errors import OptituneError, UsageError
from optitune.training.progress import Diverged, Progress


class Peers(Protocol):
    """The ranks of a training, as one of them sees them.

    Attributes:
        rank: of this process, from 0.
        ranks: how many there are.
    """

    rank: int
    ranks: int

    def gather(self, value: Any) -> list[Any]:
        """What every rank gives, by rank, on rank 0; nothing on others."""

    def share(self, value: Any) -> Any:
        """What rank 0 gives, on every rank; others give anything."""

    def group(self) -> AbstractContextManager[None]:
        """While a loop runs: `torch.distributed` may make its group of all ranks, which is destroyed in the end."""


class Alone:
    """The only process of a training."""

    rank, ranks = 0, 1

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def share(self, value: Any) -> Any:
        return value

    def group(self) -> AbstractContextManager[None]:
        return nullcontext()


ALONE = Alone()


@dataclass(frozen=True)
class Elsewhere:
    """What a training by other processes came to.

    Attributes:
        state_bytes: of what the optimizers keep.
        weight_bytes: of what was trained.
        weights: of all networks, as `Run.weights` gives them; None where nobody wants them.
    """

    state_bytes: int
    weight_bytes: int
    weights: dict[str, Tensor] | None


@dataclass(frozen=True)
class Word:
    """What rank 0 has the others do after a report: write down their part of a checkpoint, go on, or end."""

    do: Literal["report", "keep", "go on", "stop"]
    progress: Progress | None = None


@dataclass(frozen=True)
class RankReport:
    """What a rank reports of an epoch.

    Attributes:
        found: an evaluation, or why it is none.
        judged: on how many examples of its own; 0 where that is not known.
    """

    found: Progress | Diverged | UsageError
    judged: int


def sizes(judged: int, shard: int, ranks: int) -> Collection[int]:
    """How many values of examples a rank may report.

    Args:
        judged: examples that are judged on in all; 0 where that is not known.
        shard: those of this rank; 0 where data are not sharded by us.
        ranks: how many there are.

    Returns:
        Empty where any number is right.
    """
    if shard:
        return (shard,)
    # as many on every rank, as torch's DistributedSampler has it
    return (judged, ceil(judged / ranks)) if judged else ()


def combined(reports: Sequence[RankReport], judged: int) -> Progress:
    """One evaluation of what all ranks report: the value over all examples, the mean of the losses.

    Values of examples are put into the order of the data, of which rank r has the r-th of every so many. Without them
    the value is the mean over ranks, weighted by how many examples each judged, where that is known.

    Args:
        reports: by rank.
        judged: examples in all; 0 where that is not known.

    Raises:
        Diverged, UsageError: a rank reports that; the first one.
    """
    rows: list[Progress] = []
    for rank, report in enumerate(reports):
        if isinstance(report.found, UsageError) and rank:
            raise UsageError(f"rank {rank}: {report.found}")
        if isinstance(report.found, Exception):
            raise report.found
        rows.append(report.found)
    evaluations = [row.validation for row in rows if row.validation is not None]
    given = [found.each for found in evaluations if found.each is not None]
    if len(given) not in (0, len(rows)):
        raise UsageError(f"run.report: each was given by {len(given)} of {len(rows)} ranks: give it on every rank")
    each = in_order(given, judged) if given else None
    if each is not None:
        value = float(each.mean())
    else:
        weights = [report.judged or 1 for report in reports]
        value = sum(one.value * weight for one, weight in zip(evaluations, weights, strict=True)) / sum(weights)
    losses = [row.train_loss for row in rows if row.train_loss is not None]
    evaluation = replace(evaluations[0], value=value, examples=judged, each=each)
    return replace(rows[0], train_loss=sum(losses) / len(losses) if losses else None, validation=evaluation)


def in_order(parts: Sequence[Tensor], judged: int) -> Tensor:
    """The values of all examples, (n,), in the order of the data.

    Args:
        parts: those of each rank.
        judged: examples in all; 0 where that is not known.

    Raises:
        UsageError: the ranks judged parts that do not make up the whole.
    """
    if judged and all(len(part) == judged for part in parts):
        return torch.stack(list(parts)).mean(0)
    long, count = max(map(len, parts)), sum(map(len, parts))
    ragged = [part for part in parts if len(part) < long]
    if any(len(part) < long - 1 for part in ragged) or (judged and not judged <= count < judged + len(parts)):
        raise UsageError(
            f"run.report: each has {' and '.join(str(len(part)) for part in parts)} values, by rank, for "
            f"{plural(judged or count, 'example')}: judge every example on every rank, or each on one"
        )
    rows = torch.stack([torch.nn.functional.pad(part, (0, long - len(part)), value=float("nan")) for part in parts], 1)
    values = rows.flatten()
    values = values[: judged or count]
    if bool(values.isnan().any()):
        raise UsageError(
            "run.report: each is longer on a later rank than on an earlier one: let rank r judge the "
            "r-th of every so many examples, as DistributedSampler(shuffle=False) does"
        )
    return values


def unreadable(rank: int) -> OptituneError:
    """Why a training cannot go on: ranks read different checkpoints of it."""
    return OptituneError(f"rank {rank} reads another checkpoint than rank 0: run the same command again")
