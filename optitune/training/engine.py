"""Training; knows nothing of searches.

`Training.run` is a generator that yields a `Progress` at every evaluation: whoever drives it may
stop, interleave or prune a training by not asking for the next one.

Same seed, same precision, same number of threads: the same numbers to the last bit on a CPU, also when a
training is taken up again at an evaluation.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from optitune.common.randomness import random_state, seed_everything, set_random_state
from optitune.common.text import plural
from optitune.study.steps import batches, steps_per_epoch
from optitune.tasks.data import Examples, Item, Part, size
from optitune.tasks.metrics import Metric, dtype_of_sums, leaving_out
from optitune.tasks.scaling import Scaling
from optitune.training.build import build_optimizer, build_schedules, initialise, penalise, regularised
from optitune.training.criterion import fresh, own, together
from optitune.training.cuda_graphs import Replayed
from optitune.training.evaluation import Evaluation, evaluate, fed, guessing_level, in_full, numbers_of, of_outputs
from optitune.training.plan import Plan
from optitune.training.progress import Diverged, Progress
from optitune.training.resume import Record
from optitune.training.weights import bare, kinds

GUARD_STEPS = {"cpu": 50}
"""How many steps at most a training goes on after its loss became nan or infinite. Elsewhere looking means
waiting for the device, so it is done at evaluations alone."""

TINY = 1e-30
"""What keeps a step whose batches have nothing that counts from dividing by zero."""


@dataclass
class EpochProgress:
    """How far an epoch is: steps taken, and the sums over the examples met so far."""

    steps: int = 0
    loss: float = 0.0
    examples: int = 0


class Training:
    """One network on its way through a plan.

    Args:
        model: trained in place, on its own device.
        plan: what to do with it.
        train: what to train on, on the same device.
        validation: what to judge on, on the same device; None to train without looking.
    """

    def __init__(self, model: nn.Module, plan: Plan, train: Part, validation: Part | None = None) -> None:
        self.model = model
        self.plan = plan
        self.train = train
        self.validation = validation
        self.scaling = Scaling.of(train) if plan.scale_targets else None
        configuration = plan.configuration
        self._settings = configuration.training
        self._traits = configuration.optimizer.how[1]
        self._numbers = numbers_of(model)
        initialise(model, self._a_few)
        if "closure" in self._traits:
            # torch's LBFGS lays all weights out in one row, which it can in their plain order alone
            model.to(memory_format=torch.contiguous_format)
        self.device = next(each for each in model.parameters() if each.requires_grad).device
        self.loss = fresh(plan.loss).to(self.device, of_outputs(self._numbers))
        same = plan.eval_loss is None or own(plan.eval_loss) is own(plan.loss)
        eval_loss = self.loss if same else fresh(plan.eval_loss)  # type: ignore[arg-type]
        self.eval_loss = eval_loss.to(self.device, of_outputs(self._numbers))
        trained = together(model, self.loss)
        self.parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
        self._weighs = self.loss.weighs(train)
        self._metric = leaving_out(plan.metric, self.loss.ignored if self._weighs else None)
        self._tells = plan.metric.each
        self.steps_per_epoch = steps_per_epoch(len(train), self._settings)
        self._used = batches(len(train), self._settings.batch_size) * self._settings.batch_size
        self.optimizer = build_optimizer(configuration.optimizer, trained, self._settings, self._a_few)
        self._penalised = [
            parameter
            for parameter, kind in kinds(trained).values()
            if parameter.requires_grad and regularised(kind, self._settings)
        ]
        # a group that has a factor was given its lr multiplied
        self._factor: float = self.optimizer.param_groups[0]["lr"] / configuration.lr
        self.schedules = build_schedules(configuration.schedule, self.optimizer, plan.epochs, self.steps_per_epoch)
        self.epoch = 0
        self.seconds = 0.0
        self._within = EpochProgress()
        self._random: dict[str, Any] | None = None
        self._lr = configuration.lr
        self._step = Replayed(self._forward_backward, self.parameters, self._settings.batch_size)

    def drive(self, run: Record) -> None:
        """Train what is left of the plan and report every evaluation to `run`.

        Raises:
            Stopped: the run says so.
            Diverged: the loss became nan or infinite.
        """
        run.take_up(self, self.steps_per_epoch)
        for progress in self.run():
            run.progress(progress)

    def run(self) -> Iterator[Progress]:
        """Train what is left of the plan.

        Yields:
            a `Progress` at every evaluation, where `state_dict` may be taken.

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
            items = self._items()
            within = self._within
            for stop in stops:
                if stop <= within.steps:
                    continue
                self._mode("train")
                train_loss, train_value, examples = self._steps(items, within.steps, stop)
                within.loss += train_loss * examples
                within.examples += examples
                within.steps = stop
                last = stop == self.steps_per_epoch
                if last:
                    self.epoch += 1
                    self._end_epoch(within.loss / within.examples)
                    self._within = EpochProgress()
                done = self.epoch if last else self.epoch + stop / self.steps_per_epoch
                step = round(done * self.steps_per_epoch)
                self._mode("eval")
                validation = self._validate(done, step)
                self.seconds += time.perf_counter() - began
                yield Progress(step, done, self._lr, train_loss, train_value, validation, self.seconds)
                began = time.perf_counter()

    def _items(self) -> Iterator[Item]:
        """What is left of this epoch's batches."""
        # seeded anew each epoch, so that a training taken up again meets the same batches and the same dropout
        seed_everything((self.plan.seed << 20) + self.epoch + 1)
        order = torch.randperm(len(self.train))[: self._used].to(self.device)
        met = self._within.steps * self._settings.accumulation * self._settings.batch_size
        if self._random is not None:
            set_random_state(self._random, self.device)
            self._random = None
        return self.train.items(order[met:], self._settings.batch_size)

    def _a_few(self) -> Tensor:
        """Inputs to look at the network with."""
        return fed(next(self.train.take(slice(0, 2)).in_turn(2)), self._numbers)[0]

    def _mode(self, name: str) -> None:
        """Some optimizers keep other weights to train than to judge."""
        if "modes" in self._traits:
            getattr(self.optimizer, name)()

    def _steps(self, items: Iterator[Item], start: int, stop: int) -> tuple[float, float | None, int]:
        """Take the steps `start` to `stop` of an epoch; mean loss and metric over their examples, and how many."""
        total, counted, met = 0.0, 0.0, 0
        value = torch.zeros((), dtype=dtype_of_sums(self.device), device=self.device)
        valued = torch.zeros_like(value)
        self.model.train()
        self.loss.train()
        stride = GUARD_STEPS.get(self.device.type, stop - start)
        for guard in range(start, stop, stride):
            losses: list[Tensor] = []
            weights: list[Tensor | int] = []
            for _ in range(guard, min(guard + stride, stop)):
                group = list(islice(items, self._settings.accumulation))
                loss, right = self._take_step(group)
                losses.append(loss)
                weights.append(sum(map(self._weight, group)))
                met += sum(map(size, group))
                value += right
                if self._weighs:
                    valued += sum(map(self._valued, group))
            weighed = torch.stack(weights).tolist() if self._weighs else weights  # type: ignore[arg-type]
            for offset, (each, weight) in enumerate(zip(torch.stack(losses).tolist(), weighed, strict=True)):
                if not isfinite(each):
                    raise Diverged(self.epoch * self.steps_per_epoch + guard + offset + 1, each)
                total += each * weight
                counted += weight
        of = (valued.item() or 1.0) if self._weighs else met
        return total / (counted or 1.0), value.item() / of if self._tells else None, met

    def _targets(self, item: Item) -> Tensor:
        return item[1].to(self.device) if isinstance(item, tuple) else self.train.targets[item]  # type: ignore[index]

    def _weight(self, item: Item) -> Tensor | int:
        """What the mean over a batch counts for."""
        return self.loss.weight(self._targets(item)) if self._weighs else size(item)

    def _valued(self, item: Item) -> Tensor | int:
        """How many examples of a batch have a value of the metric: all, but for those in which no place counts."""
        if self._metric is self.plan.metric:
            return size(item)
        counts: Tensor = self._targets(item).ne(self.loss.ignored)  # type: ignore[arg-type]
        return counts.reshape(size(item), -1).any(1).sum()

    def _take_step(self, group: list[Item]) -> tuple[Tensor, Tensor]:
        """One optimizer step on the batches of `group`; their mean loss and the sum of their metric."""
        if "closure" in self._traits:
            met = self._closure_step(group)
        else:
            met = self._gradients(group)
            self._regularise_and_clip()
            self.optimizer.step()
        self._lr = float(self.optimizer.param_groups[0]["lr"]) / self._factor
        for each in self.schedules:
            if each.per_step:
                each.scheduler.step()
        return met

    def _gradients(self, group: list[Item]) -> tuple[Tensor, Tensor]:
        """Leave the gradient of the mean loss over all examples of `group` in the parameters."""
        if len(group) == 1 and isinstance(self.train, Examples) and self.train.transform is None:
            return self._step(group[0])  # type: ignore[arg-type]
        for parameter in self.parameters:
            parameter.grad = None
        weights = [self._weight(item) for item in group]
        total = sum(weights) + (self._weighs * TINY)
        parts = [self._forward_backward(item, weight / total) for item, weight in zip(group, weights, strict=True)]
        return torch.stack([loss for loss, _ in parts]).sum(), torch.stack([right for _, right in parts]).sum()

    def _regularise_and_clip(self) -> None:
        """Penalise and clip the gradients, as far as the settings say."""
        if self._settings.l1:
            penalise(self._penalised, self._settings.l1)
        if self._settings.clip_norm:
            clip_grad_norm_(self.parameters, self._settings.clip_norm)

    def _closure_step(self, group: list[Item]) -> tuple[Tensor, Tensor]:
        """A step of an optimizer that evaluates the loss as often as it likes; what the first evaluation gave."""
        met: list[tuple[Tensor, Tensor]] = []

        def closure() -> Tensor:
            with torch.enable_grad():
                met.append(self._gradients(group))
                self._regularise_and_clip()
            penalty = sum(each.detach().abs().sum() for each in self._penalised) if self._settings.l1 else 0.0
            return met[-1][0] + self._settings.l1 * penalty

        self.optimizer.step(closure)  # type: ignore[arg-type]
        return met[0]

    def _forward_backward(self, item: Item, share: float | Tensor = 1.0) -> tuple[Tensor, Tensor]:
        """Loss and metric of a batch, its gradients times `share` left in the parameters: (), and the sum, ()."""
        inputs, targets = fed(self.train.batch(item), self._numbers)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"):
            outputs = self.model(inputs)
        outputs = in_full(outputs, self._numbers)
        loss = self.loss(outputs, targets if self.scaling is None else self.scaling.scaled(targets))
        if self._weighs:
            # the mean over nothing is nan
            loss = torch.where(self.loss.weight(targets) > 0, loss, 0)
        if isinstance(share, Tensor) or share != 1:
            loss = loss * share
        loss.backward()
        # one that trains on more than one output reports the one that is judged alone
        self._tells = self._metric.each and isinstance(outputs, Tensor)
        if self._tells and self._metric.function is not None:
            answers = outputs.detach() if self.scaling is None else self.scaling.back(outputs.detach())
            right = self._metric.function(answers, targets)
            assert isinstance(right, Tensor)
            return loss.detach(), right.nansum() if self._metric is not self.plan.metric else right.sum()
        return loss.detach(), loss.new_zeros(())

    def _end_epoch(self, loss: float) -> None:
        for each in self.schedules:
            if not each.per_step:
                each.scheduler.step(loss) if each.observes else each.scheduler.step()  # type: ignore[arg-type]

    def _validate(self, done: float, step: int) -> Evaluation | None:
        """Judge the network, on all validation examples at the end.

        Raises:
            Diverged: its loss is nan or infinite.
            RuntimeError: its metric is, while its loss is not.
        """
        if self.validation is None:
            return None
        whole = done >= self.plan.epochs
        examples = self.validation if whole else self.validation.take(slice(0, self.plan.max_eval_examples))
        plan = self.plan
        found = evaluate(self.model, examples, self.eval_loss, plan.metric, plan.precision, self.scaling)
        if not isfinite(found.loss):
            raise Diverged(step, found.loss)
        if not isfinite(found.value):
            raise RuntimeError(
                f"the metric '{plan.metric.name}' is {found.value} on {plural(found.examples, 'example')}, "
                f"while the loss is {found.loss:.4g}"
            )
        return found

    def guessing(self, metric: Metric, found: Evaluation, targets: Tensor | None) -> tuple[float | None, str]:
        """The value of guessing where the network has learned nothing so far, and how that shows; see `guessing_level`.

        Args:
            metric: of the task.
            found: the last evaluation.
            targets: that it was judged on; None where they are not known.
        """
        return guessing_level(metric, found, targets, self.eval_loss.ignored), "all examples get the same outputs"

    def outline(self) -> dict[str, Any]:
        """The names of the network's weights, in order, as a checkpoint has them."""
        return {"names": list(bare(self.model).state_dict())}

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on from the last evaluation."""
        return {
            "epoch": self.epoch,
            "within": asdict(self._within),
            "random": random_state(self.device) if self._within.steps else None,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "loss": self.loss.own.state_dict() if isinstance(self.loss.own, nn.Module) else {},
            "optimizer": self.optimizer.state_dict(),
            "schedules": [each.scheduler.state_dict() for each in self.schedules],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        if isinstance(self.loss.own, nn.Module) and "loss" in state:
            self.loss.own.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter in self.parameters:
            for name, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and value.shape == parameter.shape and not value.is_sparse:
                    # fused kernels walk weights and state in memory order, which a file does not keep
                    self.optimizer.state[parameter][name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        for each, kept in zip(self.schedules, state["schedules"], strict=True):
            each.scheduler.load_state_dict(kept)
        self.epoch = state["epoch"]
        self._within = EpochProgress(**state["within"])
        self._random = state["random"]
        self.seconds = state["seconds"]
