"""Tasks: data, model and loss under one name. Adding a built-in task is adding a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from optitune import models
from optitune.data import DATASETS, Images, load_train, share, shared, split
from optitune.errors import UsageError, unknown

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """What is trained, on what.

    Attributes:
        name: what a user types.
        dataset: a name in `data.DATASETS`.
        model: builds a fresh network; its initial weights come from torch's global generator.
        about: the network in a few words.
        loss: (logits (batch, classes), labels (batch,)) -> mean loss, ().
        validation: how many images a search holds out for validation.
    """

    name: str
    dataset: str
    model: models.ModelFactory
    about: str
    loss: Loss = functional.cross_entropy
    validation: int = 5_000


ROWS = (
    Task("mnist-cnn", "mnist", models.mnist_cnn, "2 convolutions (32, 64), linear 3136-128-10"),
    Task(
        "mnist-mlp", "mnist", models.mnist_mlp, "perceptron 784-300-200-10, ReLU after every layer, the last included"
    ),
    Task("mnist-net", "mnist", models.mnist_net, "perceptron 784-128-10"),
    Task("fashion-mnist-cnn", "fashion-mnist", models.mnist_cnn, "the network of mnist-cnn"),
    Task("kmnist-cnn", "kmnist", models.mnist_cnn, "the network of mnist-cnn"),
    Task("digits", "digits", models.digits_cnn, "2 convolutions (16, 32), linear 128-64-10", validation=287),
)

TASKS: Mapping[str, Task] = MappingProxyType({row.name: row for row in ROWS})


def find(name: str) -> Task:
    """The task called `name`.

    Raises:
        UsageError: there is none; the message has the nearest names.
    """
    try:
        return TASKS[name]
    except KeyError:
        raise unknown("task", name, TASKS, "(see 'optitune tasks')") from None


@dataclass(frozen=True)
class SearchData:
    """What a search may see.

    Attributes:
        train: images to train on, in a fixed random order.
        validation: images to judge on, disjoint from `train`, in a fixed random order.
        checksum: of everything but the test set, before any split.
    """

    train: Images
    validation: Images
    checksum: str


def search_data(task: Task, data_dir: Path, train_images: int | None) -> SearchData:
    """Load a task's data and split it once, stratified, always the same way.

    Args:
        task: whose data.
        data_dir: where torchvision's files lie.
        train_images: train on a fixed random subset of this size; None for all.

    Raises:
        OptituneError: the data cannot be had.
        UsageError: there are fewer images than `train_images`, or too few to hold out a validation set.
    """
    everything = load_train(task.dataset, data_dir)
    if len(everything) < 2 * task.validation:
        raise UsageError(
            f"task '{task.name}' holds out {task.validation} images for validation, "
            f"but there are only {len(everything)} in {data_dir}: is the data set complete?"
        )
    train, validation = split(everything.labels, task.validation)
    if train_images is not None and train_images > len(train):
        raise UsageError(
            f"--train-images {train_images}: task '{task.name}' has {len(train)} images to train on; "
            "ask for at most that"
        )
    chosen = train[:train_images]
    return SearchData(everything.take(chosen), everything.take(validation), everything.checksum())


def save(data: SearchData, path: Path) -> None:
    """Write `data` where worker processes find it.

    Raises:
        OptituneError: the file cannot be written.
    """
    share({"train": data.train, "validation": data.validation}, path, {"checksum": data.checksum})


def load(path: Path) -> SearchData:
    """What `save` wrote, shared by all processes."""
    parts, about = shared(path)
    return SearchData(**parts, checksum=about["checksum"])


def described(task: Task) -> str:
    """The task's data and network in a line."""
    return f"{DATASETS[task.dataset].about}; {task.about}"


def build(task: Task, seed: int, device: torch.device) -> torch.nn.Module:
    """A fresh network whose initial weights follow from `seed` alone, channels last in memory."""
    torch.manual_seed(seed)
    model: torch.nn.Module = task.model().to(device).to(memory_format=torch.channels_last)
    return model
