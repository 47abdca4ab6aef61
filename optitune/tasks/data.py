"""Examples of a training, in memory or read batch by batch from a torch data set, and their random split."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from optitune.common.files import replacing
from optitune.common.randomness import random_state, seed_everything, set_random_state

SPLIT_SEED = 0
"""It must never change: recorded metrics refer to this split."""

Transform = Callable[[Tensor], Tensor]
"""A function of one training input that gives another, such as a random crop."""

Batch = tuple[Tensor, Tensor]

Item = Tensor | Batch
"""A batch: the indices of its examples, int64, or the examples themselves."""


def size(item: Item) -> int:
    """The number of examples of a batch."""
    return len(item) if isinstance(item, Tensor) else len(item[1])


@dataclass(frozen=True)
class Examples:
    """Examples in memory.

    Attributes:
        inputs: (n, ...).
        targets: (n,) or (n, ...); int64 for classes, floating point for numbers.
        max_pixel: largest value of images stored as bytes; None for inputs as a network takes them.
        stratify: whether a split keeps the shares of the classes; not where streaming would not know the classes.
        transform: applied to each training input, on its device; None for none. `in_turn` leaves it out.
        groups: (n,), int64: examples of one group stay together in every split; None where there are none.
    """

    inputs: Tensor
    targets: Tensor
    max_pixel: float | None = None
    stratify: bool = True
    transform: Transform | None = None
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def strata(self) -> Tensor | None:
        """What a split goes by."""
        return self.targets if self.stratify else None

    @property
    def numbers(self) -> int:
        """The number of elements of an input."""
        return self.inputs[0].numel()

    def take(self, indices: Tensor | slice) -> "Examples":
        """The examples at these places, in that order."""
        groups = None if self.groups is None else self.groups[indices]
        if isinstance(indices, slice):
            return replace(self, inputs=self.inputs[indices], targets=self.targets[indices], groups=groups)
        # copies whole examples, where indexing with brackets goes byte by byte
        inputs, targets = self.inputs.index_select(0, indices), self.targets.index_select(0, indices)
        return replace(self, inputs=inputs, targets=targets, groups=groups)

    def to(self, device: torch.device) -> "Examples":
        # no training goes by groups
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device), groups=None)

    def items(self, order: Tensor, batch_size: int) -> Iterator[Item]:
        """The batches of an epoch, for `batch`."""
        places = iter(torch.split(order.to(self.targets.device), batch_size))
        return places if self.transform is None else map(self._transformed, places)

    def _transformed(self, places: Tensor) -> Batch:
        """A batch of transformed inputs; made on demand, so that a resumed training draws the same numbers."""
        assert self.transform is not None
        inputs, targets = self.batch(places)
        return torch.stack([as_input(self.transform(each)) for each in inputs]), targets

    def batch(self, item: Item | slice) -> Batch:
        """Inputs and targets as a network takes them: bytes as float32 from -1 to 1, channels last in memory."""
        if isinstance(item, tuple):
            return item
        chosen = self.take(item)
        if isinstance(item, slice):
            # kernels choose by the alignment of memory, and so do their last bits; a mapped file lies anyhow
            chosen = replace(chosen, inputs=chosen.inputs.clone(), targets=chosen.targets.clone())
        if self.max_pixel is None:
            # a slice is a view, and a network may change its inputs in place
            return chosen.inputs.clone() if isinstance(item, slice) else chosen.inputs, chosen.targets
        half = self.max_pixel / 2
        pixels = chosen.inputs.to(torch.float32).sub_(half).div_(half)
        return pixels.contiguous(memory_format=torch.channels_last), chosen.targets

    def in_turn(self, batch_size: int) -> Iterator[Batch]:
        """All examples in their own order."""
        return (self.batch(slice(start, start + batch_size)) for start in range(0, len(self), batch_size))

    def checksum(self) -> str:
        """SHA-256 of inputs and targets."""
        digest = hashlib.sha256(repr(tuple(self.inputs.shape)).encode())
        digest.update(self.inputs.contiguous().numpy().tobytes())
        digest.update(self.targets.contiguous().numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"


SAMPLED = 64
"""Number of examples of a streamed data set that its checksum covers."""

SAMPLED_INPUTS = 32
"""Number of examples whose inputs are covered as well, each read twice."""

CPU = torch.device("cpu")


def digest(values: Tensor) -> str:
    """SHA-256 of the bytes of a tensor on the CPU."""
    return f"sha256:{hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()}"


@dataclass(frozen=True)
class Streamed:
    """Examples of a torch data set, read by a DataLoader when needed.

    Attributes:
        dataset: gives (input, target) by index.
        places: indices of these examples in it, (n,), int64.
        known: targets of all of `dataset`, int64, where they are known without reading every example.
        device: that batches are moved to.
        origin: field of the task that holds `dataset`.
        transform: as in `Examples`, before a batch is moved to the device.
        groups: of these examples, as in `Examples`.
    """

    dataset: Dataset[Any]
    places: Tensor
    known: Tensor | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    origin: str = "data"
    transform: Transform | None = None
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.places)

    @property
    def targets(self) -> Tensor | None:
        """The targets, where they are known without reading every example."""
        return None if self.known is None else self.known[self.places]

    @property
    def strata(self) -> Tensor | None:
        """What a split goes by."""
        return self.targets

    @property
    def numbers(self) -> int:
        """The number of elements of an input; reads one."""
        return as_input(self.dataset[int(self.places[0])][0]).numel()

    def take(self, indices: Tensor | slice) -> "Streamed":
        """The examples at these places, in that order."""
        groups = None if self.groups is None else self.groups[indices]
        return replace(self, places=self.places[indices], groups=groups)

    def to(self, device: torch.device) -> "Streamed":
        return replace(self, device=device)

    def items(self, order: Tensor, batch_size: int) -> Iterator[Item]:
        """The batches of an epoch, for `batch`."""
        chosen = Subset(self.dataset, self.places[order.cpu()].tolist())
        # a generator of its own: a loader draws a number from torch's, which dropout draws from too
        stacked = partial(_stacked, transform=self.transform)
        yield from DataLoader(chosen, batch_size, collate_fn=stacked, generator=torch.Generator().manual_seed(0))

    def batch(self, item: Item | slice) -> Batch:
        """Inputs and targets on the device."""
        assert isinstance(item, tuple)
        return item[0].to(self.device), item[1].to(self.device)

    def in_turn(self, batch_size: int) -> Iterator[Batch]:
        """All examples in their own order."""
        plain = replace(self, transform=None)
        return (self.batch(item) for item in plain.items(torch.arange(len(self)), batch_size))

    def checksum(self) -> str:
        """SHA-256 of the number of examples and the targets of some: reading all would take an epoch."""
        some = np.unique(np.linspace(0, len(self) - 1, SAMPLED, dtype=np.int64))
        digest = hashlib.sha256(str(len(self)).encode())
        for _, targets in replace(self, transform=None).items(torch.from_numpy(some), SAMPLED):
            digest.update(targets.contiguous().numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"

    def inputs_checksum(self) -> str:
        """SHA-256 of the inputs of some examples, with all global generators seeded; empty where they differ even so.

        So a data set that augments has a checksum, unless it draws from a generator of its own.
        """
        kept = random_state(CPU)
        digest = hashlib.sha256()
        try:
            for place in np.unique(np.linspace(0, len(self) - 1, SAMPLED_INPUTS, dtype=np.int64)).tolist():
                twice = []
                for _ in range(2):
                    seed_everything(place)
                    twice.append(as_input(self.dataset[int(self.places[place])][0]).contiguous().numpy().tobytes())
                if twice[0] != twice[1]:
                    return ""
                digest.update(twice[0])
        finally:
            # whoever calls optitune from Python goes on with their own draws
            set_random_state(kept, CPU)
        return f"sha256:{digest.hexdigest()}"

    def identity(self) -> tuple[str, str]:
        """Both checksums of the whole data set, whichever of its examples these are."""
        whole = replace(self, places=torch.arange(len(self.dataset)))  # type: ignore[arg-type]
        return whole.checksum(), whole.inputs_checksum()


Part = Examples | Streamed


def _stacked(pairs: list[tuple[Any, Any]], transform: Transform | None = None) -> Batch:
    """Examples as one batch."""
    inputs = [as_input(pair[0]) for pair in pairs]
    if transform is not None:
        inputs = [as_input(transform(each)) for each in inputs]
    shapes = sorted({tuple(each.shape) for each in inputs})
    if len(shapes) > 1:
        raise ValueError(
            f"inputs have several shapes, such as {shapes[0]} and {shapes[-1]}: pad them to one length in the data set"
        )
    return torch.stack(inputs), torch.stack([as_target(pair[1]) for pair in pairs])


def _tensor(values: Any) -> Tensor:
    # a row of pandas is taken by position, where torch would ask for labels
    return torch.as_tensor(values.to_numpy(copy=True) if hasattr(values, "iloc") else values).detach()


def as_input(values: Any) -> Tensor:
    """An input as a tensor: floating point and booleans as float32, integers as int64, bytes unchanged."""
    tensor = _tensor(values)
    if tensor.is_floating_point() or tensor.dtype == torch.bool:
        return tensor.to(torch.float32)
    return tensor if tensor.is_complex() or tensor.dtype == torch.uint8 else tensor.to(torch.int64)


def as_target(values: Any) -> Tensor:
    """A target as a tensor: floating point as float32, integers as int64."""
    tensor = _tensor(values)
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.int64)


def split(targets: Tensor | None, total: int, validation: int, seed: int = SPLIT_SEED) -> tuple[Tensor, Tensor]:
    """Split examples at random into training and validation; stratified by class where each has enough examples.

    Args:
        targets: (total,) or (total, ...), or None where they are not known.
        total: number of examples.
        validation: number of examples to hold out.
        seed: of the split.

    Returns:
        (training indices, validation indices), int64, disjoint, each in a random order.
    """
    from sklearn.model_selection import train_test_split

    classes = None
    if targets is not None and targets.ndim == 1 and targets.dtype == torch.int64:
        counts = torch.unique(targets, return_counts=True)[1]
        if int(counts.min()) >= 2 and len(counts) <= min(validation, total - validation):
            classes = targets.numpy()
    train, held_out = train_test_split(np.arange(total), test_size=validation, random_state=seed, stratify=classes)
    return torch.from_numpy(train), torch.from_numpy(held_out)


def rotated(total: int, training: int, held_out: int, number: int) -> tuple[Tensor, Tensor]:
    """The examples of a round of a comparison; each round holds out other ones.

    Args:
        total: number of examples, in a random order.
        training: number to train on, those that follow the held-out ones, cyclically.
        held_out: number to hold out.
        number: of the round, from 0.

    Returns:
        (training indices, held-out indices), int64, disjoint.
    """
    order = (torch.arange(held_out + training) + number * held_out) % total
    return order[held_out:], order[:held_out]


SAFETENSORS_SCRATCH = r"\.tmp[A-Za-z0-9]{6}"
"""Names of the scratch files of safetensors, which a killed process leaves."""


def share(parts: Mapping[str, Part], path: Path, about: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write examples to a file for worker processes; of streamed ones only their indices.

    Args:
        parts: examples by the name of their part.
        path: of the file.
        about: further texts by key.

    Raises:
        OptituneError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    memories: set[int] = set()
    kept = dict(about)
    for name, part in parts.items():
        if isinstance(part, Streamed):
            tensors[f"{name}.places"] = part.places.contiguous()
            kept |= {f"{name}.origin": part.origin, f"{name}.identity": json.dumps(part.identity())}
        else:
            for kind, values in (("inputs", part.inputs), ("targets", part.targets)):
                plain = values.contiguous()
                # the file wants tensors that share no memory, as an autoencoder's or a shifted series' do
                memory = plain.untyped_storage().data_ptr()
                tensors[f"{name}.{kind}"] = plain.clone() if memory in memories else plain
                memories.add(memory)
            kept[f"{name}.white"] = json.dumps(part.max_pixel)
        if part.groups is not None:
            tensors[f"{name}.groups"] = part.groups.clone()
    with replacing(path) as scratch:
        try:
            save_file(tensors, scratch, metadata=kept)
        except SafetensorError as error:
            # what the system said is in its words alone
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code)) from error


@dataclass(frozen=True)
class Places:
    """Indices of streamed examples in their data set, and their groups."""

    places: Tensor
    groups: Tensor | None = None


def shared(path: Path) -> tuple[dict[str, Examples | Places], dict[str, str]]:
    """Read what `share` wrote, mapped into memory, so that all processes have one copy.

    Returns:
        (examples by the name of their part, or the indices of streamed ones; the texts of `about`)
    """
    parts: dict[str, Examples | Places] = {}
    with safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
        keys = set(file.keys())
        for key in sorted(keys):
            name, _, kind = key.rpartition(".")
            groups = file.get_tensor(f"{name}.groups") if f"{name}.groups" in keys else None
            if kind == "places":
                parts[name] = Places(file.get_tensor(key), groups)
            elif kind == "inputs":
                max_pixel = json.loads(about[f"{name}.white"])
                targets = file.get_tensor(f"{name}.targets")
                parts[name] = Examples(file.get_tensor(key), targets, max_pixel, groups=groups)
    return parts, about
