"""Tasks as a user would write them, with nothing but `Task` and `Metric`: what the tests of own tasks train."""

import os
from pydoc_data.topics import topics
from typing import Any

import torch
from platformdirs import user_cache_path
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from optitune import Metric, Task


def perceptron(inputs: int, outputs: int) -> nn.Module:
    """A small network that brings its inputs to one scale itself, by what it has met in training."""
    # the mean over all batches met, not a sliding one, which takes more steps to settle than these trainings have
    scale = nn.BatchNorm1d(inputs, momentum=None)
    return nn.Sequential(scale, nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs))


def breast_cancer() -> Task:
    """569 tumours, 30 measurements, malignant or benign; arrays of numpy just as scikit-learn gives them."""
    return Task(model=lambda: perceptron(30, 2), data=load_breast_cancer(return_X_y=True))


def one_logit_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs.squeeze(1), targets.float())


def auc(outputs: Tensor, targets: Tensor) -> float:
    return float(roc_auc_score(targets.cpu().numpy(), outputs.squeeze(1).cpu().numpy()))


def breast_cancer_one_logit() -> Task:
    """The same with a single output, a loss and a metric of its own."""
    return Task(
        model=lambda: perceptron(30, 1),
        data=load_breast_cancer(return_X_y=True),
        loss=one_logit_loss,
        metric=Metric("auc", "maximize", auc, lowest=0.0, highest=1.0),
    )


def wine() -> Task:
    """178 wines, 13 measurements, 3 classes."""
    measured, classes = load_wine(return_X_y=True)
    return Task(model=lambda: perceptron(13, 3), data=(torch.tensor(measured), torch.tensor(classes)))


def diabetes() -> Task:
    """442 patients, 10 measurements, how far the disease has gone after a year."""

    def data() -> tuple[Any, Any]:
        # scikit-learn would scale by the mean and deviation of all patients, those of the test set among them
        measured, progress = load_diabetes(return_X_y=True, scaled=False)
        return measured, progress / 100

    return Task(model=lambda: perceptron(10, 1), data=data, loss="mse", metric="r2")


def diabetes_mse() -> Task:
    """The same judged by what is minimised."""
    task = diabetes()
    return Task(model=task.model, data=task.data, loss="mse", metric="mse")


class Residual(nn.Module):
    """A block that adds to its input what two convolutions make of it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        inner = torch.relu(self.norm1(self.conv1(images)))
        return torch.relu(self.shortcut(images) + self.norm2(self.conv2(inner)))


class ResNet(nn.Module):
    """A residual network for images given as bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Residual(1, 16, 2), Residual(16, 32, 2))
        self.head = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(images.float() / 255).mean((2, 3)))


def mnist(train: bool) -> tuple[Tensor, Tensor]:
    # read when it is asked for, so that all other tasks can be had without torchvision's files
    from torchvision.datasets import MNIST

    folder = os.environ.get("OPTITUNE_DATA_DIR") or user_cache_path("optitune", appauthor=False) / "data"
    loaded = MNIST(folder, train=train, download=True)
    return loaded.data.unsqueeze(1), loaded.targets


def mnist_resnet() -> Task:
    """MNIST with its own test set, which is read when it is asked for."""
    return Task(model=ResNet, data=lambda: mnist(train=True), test=lambda: mnist(train=False), validation=5_000)


def windows(length: int, most: int) -> Tensor:
    """Python's own documentation in pieces of so many characters that do not overlap, int64."""
    text = "".join(topics[name] for name in sorted(topics))
    codes = torch.frombuffer(bytearray(text.encode("ascii", "replace")), dtype=torch.uint8)
    return codes[: len(codes) // length * length].reshape(-1, length)[:most].long()


class Gru(nn.Module):
    """Reads character by character and answers at each with the logits of the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(128, 16)
        self.gru = nn.GRU(16, 48, batch_first=True)
        self.head = nn.Linear(48, 128)

    def forward(self, characters: Tensor) -> Tensor:
        states, _ = self.gru(self.embedding(characters))
        return self.head(states).transpose(1, 2)


def text_gru() -> Task:
    """The next character at every place: targets (n, length), outputs (n, classes, length) as torch has them."""
    pieces = windows(25, 1_500)
    return Task(model=Gru, data=(pieces[:, :-1], pieces[:, 1:]))


class Transformer(nn.Module):
    """Looks at all characters at once and answers with the logits of the one that comes after them."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(128, 32)
        self.places = nn.Parameter(0.1 * torch.randn(length, 32))
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(32, 128)

    def forward(self, characters: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(characters) + self.places)[:, -1])


def text_transformer() -> Task:
    """The character after each piece of text."""
    pieces = windows(9, 3_000)
    return Task(model=lambda: Transformer(8), data=(pieces[:, :-1], pieces[:, -1]))


class Shifted(Dataset[tuple[Tensor, int]]):
    """The digits of scikit-learn, each moved by up to a pixel whenever it is read."""

    def __init__(self) -> None:
        bundled = load_digits()
        self.images = torch.tensor(bundled.images, dtype=torch.float32).unsqueeze(1) / 16
        self.targets = bundled.target

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        down, right = torch.randint(-1, 2, (2,)).tolist()
        return self.images[place].roll((down, right), (1, 2)), int(self.targets[place])


def streamed() -> Task:
    """Images that are never twice the same, so that they are read as the training goes."""
    return Task(
        model=lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)
        ),
        data=Shifted(),
    )
