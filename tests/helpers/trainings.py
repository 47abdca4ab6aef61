"""What several tests of training share: a plan, a network that draws random numbers, and what a training came to."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from optitune.space.configuration import Configuration
from optitune.study.best_config import BestConfig
from optitune.tasks import metrics
from optitune.tasks.data import Batch, Examples
from optitune.training.build import build_loss
from optitune.training.engine import Training
from optitune.training.export_code import python
from optitune.training.plan import Plan
from optitune.training.progress import Progress

SEED = 5

GROUPS = {"fc*": 0.5, "conv1.*": 3.0, "*.bias": 2.0}
"""Multiples of the learning rate by the names of a small network's parameters."""


def planned(configuration: Configuration, **other: Any) -> Plan:
    """A plan of 3 epochs, judged by accuracy, with other values in place of some."""
    accuracy = metrics.find("accuracy")
    return replace(Plan(configuration, functional.cross_entropy, accuracy, 3, seed=SEED, precision="fp32"), **other)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def without_clock(progress: Iterable[Progress]) -> list[tuple[object, ...]]:
    """Everything of it but the seconds."""
    return [
        (row.step, row.epoch, row.lr, row.train_loss, row.train_value, row.validation and row.validation.loss)
        for row in progress
    ]


def dropping() -> nn.Module:
    """A network whose training draws random numbers."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))


def pasted(text: str) -> dict[str, Any]:
    """The names that exported Python leaves behind."""
    names: dict[str, Any] = {}
    exec(text, names)  # noqa: S102
    return names


@dataclass
class Loader:
    """The batches that a training with `SEED` meets, in its order; like a DataLoader, it is iterated once an epoch."""

    dataset: Examples
    batch_size: int
    epochs: int = 0

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        torch.manual_seed((SEED << 20) + self.epochs + 1)
        order = torch.randperm(len(self.dataset))
        for places in order.split(self.batch_size):
            yield self.dataset.batch(places)
        self.epochs += 1


def exported_losses(config: BestConfig, model: nn.Module, images: Examples, *own: object, **other: Any) -> Any:
    """The losses of what is exported, once pasted."""
    loader = Loader(images, config.configuration.training.batch_size)
    return pasted(python(config))["train"](model, loader, *own, **other)


def searched_losses(config: BestConfig, model: nn.Module, images: Examples, own: Any = None) -> Sequence[float]:
    """The losses of the engine with the same configuration."""
    configuration = config.configuration
    loss = build_loss(configuration.training, own)
    metric = metrics.find("mse" if images.targets.is_floating_point() else "accuracy")
    plan = Plan(configuration, loss, metric, config.epochs, SEED, config.precision)
    return [progress.train_loss for progress in Training(model, plan, images).run()]
