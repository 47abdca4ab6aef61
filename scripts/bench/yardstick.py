"""What a user would write by hand: the training loop of most tutorials, and a plain Optuna search around it.

Written as it is usually written, not as well as it could be. The benchmarks hold optitune against it.
"""

import inspect
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any

import optuna
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import datasets, transforms

from optitune.space import optimizers
from optitune.space.configuration import Configuration, OptimizerSettings, ScheduleSettings, TrainingSettings

OPTIMIZERS = ("sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad", "adadelta")
"""Those of our default that a plain script takes as they are: torch's Muon is for hidden matrices alone."""

BATCH = 64
VALIDATION_BATCH = 1_000
WARM_UP_STEPS = 10


class TutorialCnn(nn.Module):
    """The MNIST CNN as tutorials write it: ReLU before pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(3136, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        logits: Tensor = self.fc2(functional.relu(self.fc1(x.flatten(1))))
        return logits


def tutorial_loader(data_dir: Path, indices: Tensor, batch: int = BATCH, shuffle: bool = True) -> Any:
    """A DataLoader over torchvision's MNIST with transforms on every image.

    Args:
        data_dir: where torchvision's files lie.
        indices: the images to take, places in what is not the test set.
        batch: images per step.
        shuffle: another order in every epoch.
    """
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    part = torch.utils.data.Subset(datasets.MNIST(str(data_dir), train=True, transform=steps), indices.tolist())
    return torch.utils.data.DataLoader(part, batch_size=batch, shuffle=shuffle)


def tutorial_step(model: nn.Module, optimizer: torch.optim.Optimizer, pixels: Tensor, labels: Tensor) -> float:
    """One step of training; its loss."""
    optimizer.zero_grad()
    loss = functional.cross_entropy(model(pixels), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def tutorial(loader: Any, steps: int | None, epochs: int = 1, seed: int = 0) -> tuple[nn.Module, float]:
    """Train the usual way; the network and the images a second, without the first ten steps.

    Args:
        loader: of the images to train on.
        steps: so many of them in an epoch, more than ten; None for all.
        epochs: how many.
        seed: of the initial weights and the order of images.
    """
    torch.manual_seed(seed)
    model = TutorialCnn()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    began, images, loss_sum = 0.0, 0, 0.0
    for _ in range(epochs):
        for number, (pixels, labels) in enumerate(loader):
            if number == steps:
                break
            loss_sum += tutorial_step(model, optimizer, pixels, labels)
            if number == WARM_UP_STEPS - 1 and not began:
                began = time.perf_counter()
            elif began:
                images += len(labels)
    return model, images / (time.perf_counter() - began)


@torch.no_grad()
def tutorial_accuracy(model: nn.Module, loader: Any) -> float:
    """Share of the loader's images that are answered correctly."""
    model.eval()
    correct, images = 0, 0
    for pixels, labels in loader:
        correct += int((model(pixels).argmax(1) == labels).sum().item())
        images += len(labels)
    model.train()
    return correct / images


@dataclass(frozen=True)
class Ended:
    """A trial that ended, of either search.

    Attributes:
        number: as Optuna counts, from 0.
        seconds: when it ended, from the start of the search.
        state: "complete", "pruned", ...
        value: validation accuracy after the last epoch; None unless complete.
        configuration: what was trained, as our engine takes it.
        epochs: how many it was trained for.
    """

    number: int
    seconds: float
    state: str
    value: float | None
    configuration: Configuration
    epochs: float


@dataclass(frozen=True)
class Search:
    """A whole search: how long it took, and its trials by number."""

    seconds: float
    trials: list[Ended]


def incumbents(trials: Iterable[Ended]) -> list[Ended]:
    """The best complete trial at each moment, as it changes: of equal values the lowest number, as in `best.toml`.

    A configuration that was best before is not listed again.
    """
    found: list[Ended] = []
    best: tuple[float, int] = (-inf, 0)
    for trial in sorted(trials, key=lambda trial: trial.seconds):
        if trial.state == "complete" and trial.value is not None and (trial.value, -trial.number) > best:
            best = (trial.value, -trial.number)
            if all(trial.configuration != earlier.configuration for earlier in found):
                found.append(trial)
    return found


def draw(trial: optuna.Trial, epochs: int) -> dict[str, Any]:
    """Draw from the space a plain user writes: one wide range of learning rates for all optimizers."""
    name = trial.suggest_categorical("optimizer", OPTIMIZERS)
    trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    ranges = optimizers.find(name).ranges
    if "momentum" in ranges:
        trial.suggest_float("momentum", 0.0, 0.99)
    if "beta1" in ranges:
        trial.suggest_float("beta1", 0.8, 0.99)
        trial.suggest_float("beta2", 0.9, 0.9999)
    trial.suggest_int("step_size", 1, epochs)
    trial.suggest_float("gamma", 0.1, 1.0)
    return trial.params


def torch_class(name: str) -> Any:
    """The class of `torch.optim` that this optimizer is."""
    return getattr(torch.optim, optimizers.find(name).path.split(":")[1])


def arguments(params: dict[str, Any]) -> dict[str, Any]:
    """What a plain user hands to the torch optimizer; all else stays at torch's defaults."""
    given = {name: params[name] for name in ("lr", "momentum") if name in params}
    return given | ({"betas": (params["beta1"], params["beta2"])} if "beta1" in params else {})


def configuration(params: dict[str, Any]) -> Configuration:
    """The trial of these parameters as our engine takes it, with torch's defaults spelled out."""
    row = optimizers.find(params["optimizer"])
    defaults = {name: entry.default for name, entry in inspect.signature(torch_class(row.name)).parameters.items()}
    values = defaults | arguments(params)
    settings = {name: values[name] for name in row.arguments(row.known_good[0])}
    return Configuration(
        optimizer=OptimizerSettings(
            name=row.name,
            settings={name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        ),
        schedule=ScheduleSettings(name="step", settings={"step_size": params["step_size"], "gamma": params["gamma"]}),
        # torch's weight decay pulls at biases too
        training=TrainingSettings(batch_size=BATCH, decay_biases=True),
    )


def plain_search(
    train: Any, validation: Any, trials: int, epochs: int, seed: int, progress: Callable[[Ended], None]
) -> Search:
    """The tutorial's loop in an Optuna objective: one process, Optuna's default sampler and median pruner.

    The study goes to an SQLite file, as for anyone who looks at it in the dashboard. The clock starts with
    everything imported and the loaders made: what that takes is not held against it.

    Args:
        train: loader of the images to train on.
        validation: loader of the images to judge on.
        trials: how many.
        epochs: length of a trial.
        seed: of the sampler, and of every trial's weights and order of images.
        progress: called with every trial that ended.
    """
    began, clock = datetime.now(), time.perf_counter()

    def ended(trial: optuna.trial.FrozenTrial) -> Ended:
        assert trial.datetime_complete is not None
        complete = trial.state == optuna.trial.TrialState.COMPLETE
        return Ended(
            trial.number,
            (trial.datetime_complete - began).total_seconds(),
            trial.state.name.lower(),
            trial.value if complete else None,
            configuration(trial.params),
            len(trial.intermediate_values),
        )

    def objective(trial: optuna.Trial) -> float:
        params = draw(trial, epochs)
        torch.manual_seed(seed)
        model = TutorialCnn()
        optimizer = torch_class(params["optimizer"])(model.parameters(), **arguments(params))
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, params["step_size"], params["gamma"])
        accuracy, loss_sum = 0.0, 0.0
        for epoch in range(epochs):
            for pixels, labels in train:
                loss_sum += tutorial_step(model, optimizer, pixels, labels)
            schedule.step()
            accuracy = tutorial_accuracy(model, validation)
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return accuracy

    # an open SQLite file cannot be removed on every system
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        study = optuna.create_study(
            storage=f"sqlite:///{Path(folder).resolve() / 'plain.db'}",
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.MedianPruner(),
            direction="maximize",
        )
        study.optimize(objective, n_trials=trials, callbacks=[lambda _, trial: progress(ended(trial))])
        seconds = time.perf_counter() - clock
        return Search(seconds, [ended(trial) for trial in study.trials])
