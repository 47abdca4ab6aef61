"""Small tasks of different kinds, each trained in about a second, on which searches are recorded and replayed.

Data are drawn from a seed, or are MNIST's images at half size, from a folder that is given. Adding a task is adding a
row to `ROWS`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optitune.tasks.datasets import load_train
from optitune.tasks.task import Task

Pair = tuple[Tensor, Tensor]

SIDE = 14
"""Pixels of an image's side, half of MNIST's."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def images(data_dir: Path, first: int, last: int) -> Pair:
    """MNIST's training images `first` to `last` at half size, (n, 1, 14, 14) from 0 to 1, and their classes."""
    read = load_train("mnist", data_dir).take(slice(first, last))
    return F.avg_pool2d(read.inputs.float() / 255, 2), read.targets


class Adding(nn.Module):
    """A gated recurrent unit that sums up what was marked."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.GRU(2, 24, batch_first=True)
        self.head = nn.Linear(24, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.cells(inputs)[0][:, -1])


def adding_data() -> Pair:
    """Sequences of 6 numbers of which two are marked, and the sum of those two (Hochreiter & Schmidhuber 1997)."""
    draws, total, length = generator(1), 3_600, 6
    numbers = torch.rand(total, length, generator=draws)
    places = torch.rand(total, length, generator=draws).argsort(1)[:, :2]
    marks = torch.zeros(total, length).scatter_(1, places, 1.0)
    return torch.stack([numbers, marks], 2), (numbers * marks).sum(1, keepdim=True)


def gru(data_dir: Path) -> Task:
    return Task(model=Adding, data=adding_data, loss="mse", metric="mse")


WORDS, CONTEXT, WIDTH = 24, 12, 32


class Transformer(nn.Module):
    """Predicts the next word; a block with normalisation before attention and perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
        self.before, self.between, self.after = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.mix, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.words(inputs) + self.places
        heads = self.mix(self.before(x)).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*heads.unbind(0), is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        x = x + self.wide(self.between(x))
        return self.head(self.after(x)).transpose(1, 2)


def language() -> Pair:
    """A Markov chain in which a word depends on the two before it, cut into pieces: words, and the next words."""
    draws, total = generator(2), 2_200
    chances = (3 * torch.randn(6, WORDS, WORDS, generator=draws)).softmax(2).cumsum(2)
    words = torch.randint(WORDS, (total, 2), generator=draws)
    for place in range(2, CONTEXT + 1):
        before, last = words[:, place - 2] % 6, words[:, place - 1]
        drawn = torch.rand(total, 1, generator=draws)
        following = (drawn > chances[before, last]).sum(1).clamp(max=WORDS - 1)
        words = torch.cat([words, following[:, None]], 1)
    return words[:, :-1].contiguous(), words[:, 1:].contiguous()


def transformer(data_dir: Path) -> Task:
    return Task(model=Transformer, data=language, metric="loss")


def autoencoder_model() -> nn.Module:
    sizes = (SIDE * SIDE, 96, 64, 24, 64, 96, SIDE * SIDE)
    layers: list[nn.Module] = [nn.Flatten()]
    for one, other in pairwise(sizes):
        layers += [nn.Linear(one, other), nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Sigmoid())


def autoencoder(data_dir: Path) -> Task:
    def data() -> Pair:
        inputs, _ = images(data_dir, 0, 4_800)
        return inputs, inputs.flatten(1)

    return Task(model=autoencoder_model, data=data, loss="mse", metric="mse")


class Block(nn.Module):
    """Two convolutions with batch norm, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.within = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.within(x))


def residual_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        *(Block(8) for _ in range(2)),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def residual(data_dir: Path) -> Task:
    return Task(
        model=residual_model,
        data=partial(images, data_dir, 5_000, 7_000),
        validation=partial(images, data_dir, 8_000, 8_600),
    )


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10)
    )


def turned(inputs: Tensor, degrees: float) -> Tensor:
    """Images turned about their middle."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]])
    grid = F.affine_grid(matrix.repeat(len(inputs), 1, 1), list(inputs.shape), align_corners=False)
    return F.grid_sample(inputs, grid, align_corners=False)


@cache
def pretrained(data_dir: Path, first: int = 10_000, last: int = 22_000) -> Mapping[str, Tensor]:
    """Weights of a perceptron trained on upright images: the same in every process with one thread."""
    inputs, labels = images(data_dir, first, last)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = perceptron()
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(8):
            for batch in torch.randperm(len(inputs)).split(128):
                optimizer.zero_grad()
                F.cross_entropy(model(inputs[batch]), labels[batch]).backward()
                optimizer.step()
    return model.state_dict()


def fine_tuning(data_dir: Path) -> Task:
    def model() -> nn.Module:
        found = perceptron()
        found.load_state_dict(pretrained(data_dir))
        return found

    def data() -> Pair:
        # most labels are drawn at random, so that a network that forgets what it knew learns those
        inputs, labels = images(data_dir, 30_000, 31_250)
        wrong = torch.rand(len(labels), generator=generator(4)) < 0.6
        others = torch.randint(10, (len(labels),), generator=generator(5))
        return turned(inputs, 10), torch.where(wrong, others, labels)

    def validation() -> Pair:
        inputs, labels = images(data_dir, 40_000, 42_000)
        return turned(inputs, 10), labels

    return Task(model=model, data=data, validation=validation)


LEVELS = (5, 8, 12, 20, 30, 40)
"""How many values each categorical column has."""

NUMERIC = 4


class Tabular(nn.Module):
    """Embeddings of the categorical columns beside the numeric ones, then a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(levels, 6) for levels in LEVELS)
        self.rest = nn.Sequential(nn.Linear(6 * len(LEVELS) + NUMERIC, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        codes = inputs[:, : len(LEVELS)].long()
        embedded = [each(codes[:, place]) for place, each in enumerate(self.embeddings)]
        return self.rest(torch.cat([*embedded, inputs[:, len(LEVELS) :]], 1))


def table() -> Pair:
    """Columns of categories and numbers, and one of three classes that depends on products of their effects."""
    draws, total = generator(6), 4_000
    codes = torch.stack([torch.randint(levels, (total,), generator=draws) for levels in LEVELS], 1)
    numbers = torch.randn(total, NUMERIC, generator=draws)
    effects = [torch.randn(levels, 4, generator=draws)[codes[:, place]] for place, levels in enumerate(LEVELS)]
    hidden = torch.cat([effects[0] * effects[3], effects[1] + effects[4], effects[2] * effects[5], numbers], 1)
    scores = torch.tanh(hidden @ torch.randn(16, 24, generator=draws) / 2) @ torch.randn(24, 3, generator=draws)
    return torch.cat([codes.float(), numbers], 1), (scores + 0.5 * torch.randn(total, 3, generator=draws)).argmax(1)


def tabular_classes(data_dir: Path) -> Task:
    return Task(model=Tabular, data=table)


def unscaled() -> Pair:
    """Ten inputs and a target of some hundreds (the first problem of Friedman 1991, times ten, about 300)."""
    draws, total = generator(7), 5_000
    x = torch.rand(total, 10, generator=draws)
    friedman = 10 * torch.sin(math.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return x, (150 + 10 * (friedman + torch.randn(total, generator=draws)))[:, None]


def tabular_regression_model() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


def tabular_regression(data_dir: Path) -> Task:
    return Task(model=tabular_regression_model, data=unscaled, loss="mse", metric="mae")


USERS, ITEMS = 300, 200


class Factors(nn.Module):
    """A rating as the product of a user's and an item's factors, and a level of each."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(USERS, 8), nn.Embedding(ITEMS, 8)
        self.levels = nn.Embedding(USERS + ITEMS, 1)
        for each in (self.users, self.items, self.levels):
            nn.init.normal_(each.weight, std=0.3)

    def forward(self, inputs: Tensor) -> Tensor:
        user, item = inputs.unbind(1)
        return (
            (self.users(user) * self.items(item)).sum(1, keepdim=True) + self.levels(user) + self.levels(item + USERS)
        )


def ratings() -> Pair:
    """Ratings of items by users, which have four factors each; some users and items are rated far more often."""
    draws, total = generator(8), 12_000
    user = (USERS * torch.rand(total, generator=draws) ** 1.5).long()
    item = (ITEMS * torch.rand(total, generator=draws) ** 1.5).long()
    users, items = torch.randn(USERS, 4, generator=draws), torch.randn(ITEMS, 4, generator=draws)
    ratings = (users[user] * items[item]).sum(1) / 2 + 0.3 * torch.randn(total, generator=draws)
    return torch.stack([user, item], 1), ratings[:, None]


def factors(data_dir: Path) -> Task:
    return Task(model=Factors, data=ratings, loss="mse", metric="mse")


def deep_model() -> nn.Module:
    hidden = [layer for _ in range(6) for layer in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 64), nn.ReLU(), *hidden, nn.Linear(64, 10))


def deep(data_dir: Path) -> Task:
    return Task(
        model=deep_model,
        data=partial(images, data_dir, 48_000, 53_000),
        validation=partial(images, data_dir, 53_000, 54_000),
    )


@dataclass(frozen=True)
class SmallTask:
    """A task that is recorded.

    Attributes:
        make: builds it, from the folder that holds MNIST.
        epochs: of a full training.
        about: data and network in a line.
    """

    make: Callable[[Path], Task]
    epochs: int
    about: str


ROWS: Mapping[str, SmallTask] = {
    "gru": SmallTask(gru, 6, "sums of two marked numbers of 6; GRU of 24, squared error"),
    "transformer": SmallTask(transformer, 6, "Markov chain of 24 words; a causal block of width 32, cross-entropy"),
    "autoencoder": SmallTask(autoencoder, 10, "MNIST 14x14; 196-96-64-24-64-96-196, squared error"),
    "residual": SmallTask(residual, 5, "MNIST 14x14; 2 residual blocks of width 8 with batch norm, accuracy"),
    "fine-tuning": SmallTask(
        fine_tuning, 16, "MNIST 14x14 turned by 10 degrees, 60 % random labels; perceptron trained upright, accuracy"
    ),
    "tabular-classes": SmallTask(tabular_classes, 8, "6 categorical and 4 numeric columns; embeddings, accuracy"),
    "tabular-regression": SmallTask(
        tabular_regression, 10, "10 columns, targets about 300; 10-64-64-1 on squared errors, judged by absolute error"
    ),
    "factors": SmallTask(factors, 10, "12,000 ratings of 200 items by 300 users; factors of 8, squared error"),
    "deep": SmallTask(deep, 8, "MNIST 14x14; 8 layers without normalisation, accuracy"),
}
