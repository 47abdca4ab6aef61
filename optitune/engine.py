"""Training and evaluation, on tensors that lie in memory; knows nothing of searches.

`Training.run` is a generator that yields a `Progress` at every evaluation: whoever drives it may
stop, interleave or prune a training by not asking for the next one.

Same seed, same precision, same number of threads: the same numbers to the last bit on a CPU, also when a
training is taken up again at the end of an epoch.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import isfinite, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from optitune import optimizers, schedules
from optitune.configuration import Configuration, OptimizerSettings, ScheduleSettings
from optitune.data import Images
from optitune.graphs import Replayed
from optitune.settings import Precision
from optitune.tasks import Loss

GUARD_STEPS = {"cpu": 50}
"""How many steps at most a training goes on after its loss became nan or infinite. Elsewhere looking means
waiting for the device, so it is done at evaluations alone."""

QUICK_IMAGES = 1_000
"""How many images an evaluation before the last one judges on: enough to see what is hopeless."""

EVALUATION_BATCH = {"cpu": 250, "cuda": 5_000}
"""Images evaluated at once: what stays in a processor's cache, what keeps a GPU busy."""


class Diverged(Exception):
    """The training loss became nan or infinite."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"diverged at step {step}: loss {loss}")
        self.step = step


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and share of correct answers over so many images; `predicted` is the class answered for each."""

    loss: float
    accuracy: float
    images: int
    predicted: Tensor


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        step: optimizer steps taken.
        epoch: epochs done, a fraction within one.
        lr: learning rate of the first parameter group in the step just taken.
        train_loss: mean over the images trained on since the last progress, as they were met.
        train_accuracy: share of them answered correctly, as they were met.
        validation: None where there is nothing to validate on.
        seconds: spent in this training so far.
    """

    step: int
    epoch: float
    lr: float
    train_loss: float
    train_accuracy: float
    validation: Evaluation | None
    seconds: float


@dataclass(frozen=True)
class Plan:
    """How long and how exactly to train.

    Attributes:
        evaluations: how often an epoch is interrupted to evaluate, its end included.
    """

    configuration: Configuration
    loss: Loss
    epochs: int
    batch_size: int
    seed: int
    precision: Precision
    evaluations: int = 1


def _class(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(module), name)


def build_optimizer(settings: OptimizerSettings, parameters: Sequence[nn.Parameter]) -> Optimizer:
    """The torch optimizer that these settings describe.

    Raises:
        ValueError: torch refuses a setting.
    """
    row = optimizers.find(settings.name)
    fused = {"fused": True} if row.fused and parameters[0].device.type in ("cpu", "cuda") else {}
    optimizer: Optimizer = _class(row.path)(parameters, **settings.settings, **fused)
    return optimizer


def build_schedule(settings: ScheduleSettings, optimizer: Optimizer) -> LRScheduler | None:
    """The torch scheduler that these settings describe; None for a learning rate that never changes."""
    row = schedules.find(settings.name)
    if not row.path:
        return None
    scheduler: LRScheduler = _class(row.path)(optimizer, **settings.settings)
    return scheduler


class Training:
    """One network on its way through a plan.

    Args:
        model: trained in place, on its own device.
        plan: what to do with it.
        train: what to train on, on the same device.
        validation: what to judge on, on the same device; None to train without looking.
    """

    def __init__(self, model: nn.Module, plan: Plan, train: Images, validation: Images | None = None) -> None:
        self.model = model
        self.plan = plan
        self.train = train
        self.validation = validation
        self.parameters = list(model.parameters())
        self.device = self.parameters[0].device
        self.optimizer = build_optimizer(plan.configuration.optimizer, self.parameters)
        self.schedule = build_schedule(plan.configuration.schedule, self.optimizer)
        self.epoch = 0
        self.seconds = 0.0
        self.steps_per_epoch = -(-len(train) // plan.batch_size)
        self._step = Replayed(self._forward_backward, self.parameters, plan.batch_size)

    def run(self) -> Iterator[Progress]:
        """Train what is left of the plan.

        Yields:
            a `Progress` at every evaluation; after the last one of an epoch, `state_dict` may be taken.

        Raises:
            Diverged: the loss became nan or infinite.
        """
        stops = sorted(
            {
                max(1, round(self.steps_per_epoch * k / self.plan.evaluations))
                for k in range(1, self.plan.evaluations + 1)
            }
        )
        while self.epoch < self.plan.epochs:
            began = time.perf_counter()
            # seeded anew each epoch, so that a training taken up again meets the same batches and the same dropout
            torch.manual_seed((self.plan.seed << 20) + self.epoch + 1)
            order = torch.randperm(len(self.train)).to(self.device)
            start = 0
            for stop in stops:
                lr = float(self.optimizer.param_groups[0]["lr"])
                train_loss, train_accuracy = self._steps(order, start, stop)
                last = stop == self.steps_per_epoch
                if last:
                    self.epoch += 1
                    if self.schedule is not None:
                        self.schedule.step()
                done = self.epoch if last else self.epoch + stop / self.steps_per_epoch
                validation = self._validate(done)
                self.seconds += time.perf_counter() - began
                step = round(done * self.steps_per_epoch)
                yield Progress(step, done, lr, train_loss, train_accuracy, validation, self.seconds)
                began, start = time.perf_counter(), stop

    def _steps(self, order: Tensor, start: int, stop: int) -> tuple[float, float]:
        """Take the steps `start` to `stop` of an epoch; mean loss and accuracy over their images."""
        plan, total = self.plan, 0.0
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        self.model.train()
        stride = GUARD_STEPS.get(self.device.type, stop - start)
        for guard in range(start, stop, stride):
            losses, sizes = [], []
            for number in range(guard, min(guard + stride, stop)):
                places = order[number * plan.batch_size : (number + 1) * plan.batch_size]
                loss, right = self._step(places)
                self.optimizer.step()
                losses.append(loss)
                sizes.append(len(places))
                correct += right
            for offset, value in enumerate(torch.stack(losses).tolist()):
                if not isfinite(value):
                    raise Diverged(self.epoch * self.steps_per_epoch + guard + offset + 1, value)
                total += value * sizes[offset]
        images_met = min(stop * plan.batch_size, len(order)) - start * plan.batch_size
        return total / images_met, int(correct) / images_met

    def _forward_backward(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and correct answers of a batch; its gradients are left in the parameters."""
        images, labels = self.train.batch(places)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"):
            logits = self.model(images)
        loss = self.plan.loss(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def _validate(self, done: float) -> Evaluation | None:
        if self.validation is None:
            return None
        whole = done >= self.plan.epochs
        images = self.validation if whole else self.validation.take(slice(0, QUICK_IMAGES))
        return evaluate(self.model, images, self.plan.loss, self.plan.precision)

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on from the end of the last epoch."""
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter in self.parameters:
            for name, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # fused kernels walk weights and state in memory order, which a file does not keep
                    self.optimizer.state[parameter][name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.epoch = state["epoch"]
        self.seconds = state["seconds"]


@torch.inference_mode()
def evaluate(model: nn.Module, images: Images, loss: Loss, precision: Precision) -> Evaluation:
    """Mean loss and accuracy of `model` on all of `images`, which lie on its device."""
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=images.labels.device)
    predicted = []
    batch = EVALUATION_BATCH.get(images.labels.device.type, 1_000)
    for start in range(0, len(images), batch):
        pixels, labels = images.batch(slice(start, start + batch))
        with torch.autocast(labels.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(pixels)
        total += loss(logits.float(), labels).double() * len(labels)
        predicted.append(logits.argmax(1))
    answers = torch.cat(predicted)
    accuracy = (answers == images.labels).double().mean().item()
    return Evaluation(total.item() / len(images), accuracy, len(images), answers)


def guessing(labels: Tensor, images: int) -> float:
    """The accuracy that guessing may reach: the share of the commonest class, and one standard error for luck.

    A network that is stuck gives every image the same answer and never passes that share; a wider
    margin would end slow learners on small data.

    Args:
        labels: int64, (n,), the labels that an accuracy is measured on.
        images: how many of them it is measured on.
    """
    share = float(torch.bincount(labels).max()) / len(labels)
    return share + sqrt(share * (1 - share) / images)
