"""The built-in data sets: training data for a search, and the sealed test set for the one evaluation afterwards."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch

from optitune.errors import OptituneError
from optitune.tasks.data import Examples, split

Half = Literal["train", "test"]


@dataclass(frozen=True)
class Dataset:
    """A built-in data set.

    Attributes:
        name: what a user types.
        torchvision: class of torchvision that reads its files; None for scikit-learn's digits.
        about: content and source, in a line.
    """

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


def load_train(dataset: str, data_dir: Path) -> Examples:
    """Load all data but the test set.

    Raises:
        OptituneError: the files are missing and cannot be downloaded, or are damaged.
    """
    return _load(dataset, data_dir, "train")


def load_test(dataset: str, data_dir: Path) -> Examples:
    """Load the test set: for one evaluation, after all choices are made.

    Raises:
        OptituneError: the files are missing and cannot be downloaded, or are damaged.
    """
    return _load(dataset, data_dir, "test")


def _load(dataset: str, data_dir: Path, half: Half) -> Examples:
    row = DATASETS[dataset]
    return _digits(half) if row.torchvision is None else _torchvision(row.torchvision, data_dir, half)


def _digits(half: Half) -> Examples:
    from sklearn.datasets import load_digits

    bundled = load_digits()
    pixels = torch.from_numpy(bundled.images.astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bundled.target.astype(np.int64))
    train, test = split(labels, len(labels), validation=360)
    return Examples(pixels, labels, max_pixel=16.0).take(train if half == "train" else test)


def _torchvision(name: str, data_dir: Path, half: Half) -> Examples:
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
            loaded = dataset_class(str(data_dir), train=half == "train")
        pixels, labels = loaded.data, loaded.targets.to(torch.int64)
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[1:] != (28, 28) or len(pixels) == 0:
            raise ValueError(f"images of shape {tuple(pixels.shape)}, not (n, 28, 28)")
        if labels.shape != (len(pixels),):
            raise ValueError(f"{len(pixels)} images but {len(labels)} labels")
        if int(labels.min()) < 0 or int(labels.max()) > 9:
            raise ValueError(f"a label of {int(labels.max())}, not 0 to 9")
    except (OSError, ValueError, RuntimeError, AssertionError, IndexError, KeyError, TypeError) as error:
        # torchvision has no error of its own for a damaged file: it fails wherever the bytes first make no sense
        kind = "train" if half == "train" else "t10k"
        sizes = ", ".join(f"{f} {(folder / f).stat().st_size:,} bytes" for f in IDX_FILES if f.startswith(kind))
        raise OptituneError(
            f"the {name} files in {folder} are damaged ({str(error).strip() or 'not in the IDX format'}; {sizes}): "
            "delete them and run the same command again to download them, or copy them anew"
        ) from error
    return Examples(pixels.clone().unsqueeze(1), labels.clone(), max_pixel=255.0)


def _download(dataset_class: type, data_dir: Path, folder: Path, missing: list[str]) -> None:
    try:
        dataset_class(str(data_dir), train=True, download=True)
    except (OSError, RuntimeError) as error:
        reasons = re.findall(r"urlopen error ([^>]*)>", str(error))
        cause = reasons[-1] if reasons else " ".join(str(error).split()) or type(error).__name__
        name = dataset_class.__name__
        raise OptituneError(
            f"{', '.join(missing)} not found in {folder}, and downloading failed ({cause}): "
            f"copy {name}'s files there, name the folder above {name}/raw as data_dir, "
            "or use --task digits, which needs no download"
        ) from error
