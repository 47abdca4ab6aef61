"""The tasks of the package."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from optitune.tasks import models
from optitune.tasks.datasets import DATASETS, load_train
from optitune.tasks.datasets import load_test as load_test_of
from optitune.tasks.task import Task


@dataclass(frozen=True)
class BuiltIn:
    """A task of the package.

    Attributes:
        name: what a user types.
        dataset: a name in `datasets.DATASETS`.
        model: builds a fresh network.
        about: the network in a few words.
        validation: how many examples a search holds out.
    """

    name: str
    dataset: str
    model: models.ModelFactory
    about: str
    validation: int = 5_000

    def task(self, data_dir: Path) -> Task:
        return Task(
            name=self.name,
            model=self.model,
            data=partial(load_train, self.dataset, data_dir),
            test=partial(load_test_of, self.dataset, data_dir),
            validation=self.validation,
            about=self.described(),
            channels_last=True,
            precision="auto",
        )

    def described(self) -> str:
        """Data and network in a line."""
        return f"{DATASETS[self.dataset].about}; {self.about}"


ROWS = (
    BuiltIn("mnist-cnn", "mnist", models.mnist_cnn, "2 convolutions (32, 64), linear 3136-128-10"),
    BuiltIn(
        "mnist-mlp", "mnist", models.mnist_mlp, "perceptron 784-300-200-10, ReLU after every layer, the last included"
    ),
    BuiltIn("mnist-net", "mnist", models.mnist_net, "perceptron 784-128-10"),
    BuiltIn("fashion-mnist-cnn", "fashion-mnist", models.mnist_cnn, "the network of mnist-cnn"),
    BuiltIn("kmnist-cnn", "kmnist", models.mnist_cnn, "the network of mnist-cnn"),
    BuiltIn("digits", "digits", models.digits_cnn, "2 convolutions (16, 32), linear 128-64-10", validation=287),
)

TASKS: Mapping[str, BuiltIn] = MappingProxyType({row.name: row for row in ROWS})
