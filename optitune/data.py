"""From data files to tensors; the split into training and validation; the sealed test set.

A search sees `load_train` alone. `load_test` is for the one evaluation after a full training.
"""

import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from optitune.errors import OptituneError
from optitune.files import replacing

Part = Literal["train", "test"]

SPLIT_SEED = 0
"""Fixed for good: the split decides what a recorded accuracy means."""


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Attributes:
        pixels: uint8, (n, channels, height, width), 0 to `white`.
        labels: int64, (n,).
        white: the value of a full pixel.
    """

    pixels: Tensor
    labels: Tensor
    white: float = 255.0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    def take(self, indices: Tensor | slice) -> "Images":
        """The images at these places, in that order."""
        if isinstance(indices, slice):
            return Images(self.pixels[indices], self.labels[indices], self.white)
        # copies whole images, where indexing with brackets goes byte by byte
        return Images(self.pixels.index_select(0, indices), self.labels.index_select(0, indices), self.white)

    def to(self, device: torch.device) -> "Images":
        return Images(self.pixels.to(device), self.labels.to(device), self.white)

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Images as float in -1 to 1, channels last in memory, and their labels."""
        chosen, half = self.take(indices), self.white / 2
        pixels = chosen.pixels.to(torch.float32).sub_(half).div_(half)
        return pixels.contiguous(memory_format=torch.channels_last), chosen.labels

    def checksum(self) -> str:
        """SHA-256 over pixels and labels: two data sets with one checksum are the same."""
        digest = hashlib.sha256(repr(tuple(self.pixels.shape)).encode())
        digest.update(self.pixels.contiguous().numpy().tobytes())
        digest.update(self.labels.contiguous().numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True)
class Dataset:
    """A data set by name; `torchvision` names the class that reads its files, or None for scikit-learn's digits."""

    name: str
    torchvision: str | None
    about: str


DATASETS: Mapping[str, Dataset] = MappingProxyType(
    {
        row.name: row
        for row in (
            Dataset("mnist", "MNIST", "70,000 handwritten digits, 28x28 (LeCun et al. 1998)"),
            Dataset("fashion-mnist", "FashionMNIST", "70,000 pieces of clothing, 28x28 (Xiao et al. 2017)"),
            Dataset("kmnist", "KMNIST", "70,000 cursive Japanese characters, 28x28 (Clanuwat et al. 2018)"),
            Dataset("digits", None, "1,797 handwritten digits, 8x8, bundled with scikit-learn"),
        )
    }
)

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def load_train(dataset: str, data_dir: Path) -> Images:
    """Everything but the test set.

    Raises:
        OptituneError: the files are missing and cannot be downloaded, or are damaged.
    """
    return _load(dataset, data_dir, "train")


def load_test(dataset: str, data_dir: Path) -> Images:
    """The sealed test set: for one evaluation, after all choices are made.

    Raises:
        OptituneError: the files are missing and cannot be downloaded, or are damaged.
    """
    return _load(dataset, data_dir, "test")


def split(labels: Tensor, validation: int, seed: int = SPLIT_SEED) -> tuple[Tensor, Tensor]:
    """Places for training and for validation, disjoint, with the classes in equal shares.

    Args:
        labels: int64, (n,).
        validation: how many places to hold out.
        seed: another seed, another split.

    Returns:
        (training places, validation places), int64, each in a random order, so that a leading part
        of either is a random sample of it.
    """
    from sklearn.model_selection import train_test_split

    train, held_out = train_test_split(
        np.arange(len(labels)), test_size=validation, random_state=seed, stratify=labels.numpy()
    )
    return torch.from_numpy(train), torch.from_numpy(held_out)


def share(parts: Mapping[str, Images], path: Path, about: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write images, by the name of their part, where worker processes find them.

    Raises:
        OptituneError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    kept = dict(about)
    for part, images in parts.items():
        tensors |= {f"{part}.pixels": images.pixels.contiguous(), f"{part}.labels": images.labels.contiguous()}
        kept[f"{part}.white"] = repr(images.white)
    with replacing(path) as scratch:
        save_file(tensors, scratch, metadata=kept)


def shared(path: Path) -> tuple[dict[str, Images], dict[str, str]]:
    """What `share` wrote, mapped into memory, so that all processes have one copy."""
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        parts = [key.removesuffix(".white") for key in about if key.endswith(".white")]
        images = {
            part: Images(
                file.get_tensor(f"{part}.pixels"), file.get_tensor(f"{part}.labels"), float(about[f"{part}.white"])
            )
            for part in parts
        }
    return images, about


def _load(dataset: str, data_dir: Path, part: Part) -> Images:
    row = DATASETS[dataset]
    return _digits(part) if row.torchvision is None else _torchvision(row.torchvision, data_dir, part)


def _digits(part: Part) -> Images:
    from sklearn.datasets import load_digits

    bundled = load_digits()
    pixels = torch.from_numpy(bundled.images.astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bundled.target.astype(np.int64))
    train, test = split(labels, validation=360)
    return Images(pixels, labels, white=16.0).take(train if part == "train" else test)


def _torchvision(name: str, data_dir: Path, part: Part) -> Images:
    from torchvision import datasets

    folder = data_dir / name / "raw"
    missing = [file for file in IDX_FILES if not (folder / file).is_file()]
    dataset_class = getattr(datasets, name)
    if missing:
        _download(dataset_class, data_dir, folder, missing)
    try:
        with warnings.catch_warnings():
            # torchvision hands torch a read-only buffer; it is copied below
            warnings.simplefilter("ignore")
            loaded = dataset_class(str(data_dir), train=part == "train")
        pixels, labels = loaded.data, loaded.targets.to(torch.int64)
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[1:] != (28, 28) or len(pixels) == 0:
            raise ValueError(f"images of shape {tuple(pixels.shape)}, not (n, 28, 28)")
        if labels.shape != (len(pixels),):
            raise ValueError(f"{len(pixels)} images but {len(labels)} labels")
        if int(labels.min()) < 0 or int(labels.max()) > 9:
            raise ValueError(f"a label of {int(labels.max())}, not 0 to 9")
    except (OSError, ValueError, RuntimeError, AssertionError, IndexError, KeyError, TypeError) as error:
        # torchvision has no error of its own for a damaged file: it fails wherever the bytes first make no sense
        kind = "train" if part == "train" else "t10k"
        sizes = ", ".join(f"{f} {(folder / f).stat().st_size:,} bytes" for f in IDX_FILES if f.startswith(kind))
        raise OptituneError(
            f"the {name} files in {folder} are damaged ({str(error).strip() or 'not in the IDX format'}; {sizes}): "
            "delete them and run the same command again to download them, or copy them anew"
        ) from error
    return Images(pixels.clone().unsqueeze(1), labels.clone())


def _download(dataset_class: type, data_dir: Path, folder: Path, missing: list[str]) -> None:
    try:
        dataset_class(str(data_dir), train=True, download=True)
    except (OSError, RuntimeError) as error:
        reasons = re.findall(r"urlopen error ([^>]*)>", str(error))
        cause = reasons[-1] if reasons else " ".join(str(error).split()) or type(error).__name__
        name = dataset_class.__name__
        raise OptituneError(
            f"{', '.join(missing)} not found in {folder}, and downloading failed ({cause}): "
            f"copy {name}'s files there, name the folder above {name}/raw with --data-dir, "
            "or use --task digits, which needs no download"
        ) from error
