"""One epoch in exported Python: the lines that take its steps, and how lines and calls are written."""

from collections.abc import Iterable, Iterator
from textwrap import indent
from typing import Any

from optitune.space import losses, schedules
from optitune.space.configuration import Configuration
from optitune.study.best_config import BestConfig


def epoch_lines(config: BestConfig) -> Iterator[str]:
    """Lines that take the steps of an epoch."""
    configuration = config.configuration
    training, traits = configuration.training, configuration.optimizer.how[1]
    several = training.accumulation > 1
    if several:
        alone = " if len(batch[1]) > 1" * (training.batch_size > 1)
        yield f"batches = (batch for batch in loader{alone})"
        yield f"while group := list(itertools.islice(batches, {training.accumulation})):"
        yield "    size = sum(len(targets) for _, targets in group)"
    else:
        yield "for inputs, targets in loader:"
        yield "    size = len(targets)"
        if training.batch_size > 1:
            yield "    if size == 1:  # batch norm cannot take it, so the search left it out too"
            yield "        continue"
    if "closure" in traits:
        yield "    met = []"
        yield ""
        yield "    def closure():"
        yield from indented(_gradients(config, several), 2)
        yield "        met.append(loss_met)"
        yield "        return loss_met" + (" + penalty.detach()" if training.l1 else "")
        yield ""
        yield "    optimizer.step(closure)"
        yield "    total, seen = total + met[0].item() * size, seen + size"
    else:
        yield from indented(_gradients(config, several), 1)
        yield "    optimizer.step()"
        yield "    total, seen = total + loss_met.item() * size, seen + size"
    if has_steps_per(configuration, "step"):
        yield "    scheduler.step()"
    if configuration.schedule.warmup:
        yield "    warmup.step()"


def _gradients(config: BestConfig, several: bool) -> Iterator[str]:
    """Lines that leave gradients in the parameters and the loss in `loss_met`."""
    training = config.configuration.training
    yield "optimizer.zero_grad()"
    if several:
        yield "loss_met = 0"
        yield "for inputs, targets in group:"
        yield from indented(_forward(config), 1)
        yield "    loss = loss * (len(targets) / size)"
        yield "    loss.backward()"
        yield "    loss_met = loss_met + loss.detach()"
    else:
        yield from _forward(config)
        yield "loss.backward()"
        yield "loss_met = loss.detach()"
    if training.l1:
        yield f"penalty = {training.l1!r} * sum(p.abs().sum() for p in penalised if p.grad is not None)"
        yield "penalty.backward()"
    if training.clip_norm:
        yield f"torch.nn.utils.clip_grad_norm_(model.parameters(), {training.clip_norm!r})"


def _forward(config: BestConfig) -> Iterator[str]:
    """Lines that leave the loss of a batch in `loss`."""
    training = config.configuration.training
    outputs = "model(inputs)"
    if config.precision == "bf16":
        yield "with torch.autocast(inputs.device.type, torch.bfloat16):"
        yield "    outputs = model(inputs)"
        outputs = "outputs.float()"
    targets = "scaled" if config.scaling else "targets"
    if config.scaling:
        yield "scaled = (targets - target_mean.to(targets)) / target_sd.to(targets)"
    if training.loss == losses.OF_TASK:
        yield f"outputs = {outputs}"
        yield "# torch's losses compare (n, 1) with (n,) as (n, n)"
        yield 'of_torch = getattr(loss_of, "func", loss_of).__module__.startswith("torch.nn.")'
        yield "if of_torch and outputs.numel() == targets.numel():"
        yield "    outputs = outputs.reshape(targets.shape)"
        yield f"loss = loss_of(outputs, {targets})"
        return
    if losses.find(training.loss).one_hot:
        yield f"loss = loss_of({outputs}, {targets})"
        return
    row = losses.find(training.loss)
    said = {name: getattr(training, name) for name in row.settings if getattr(training, name)}
    yield f"loss = {call('functional.' + row.path.partition(':')[2], outputs + ', ' + targets, said)}"


def has_steps_per(configuration: Configuration, per: str) -> bool:
    """Whether the schedule's scheduler takes a step per `"step"`, or per `"epoch"`."""
    row = schedules.find(configuration.schedule.name)
    return bool(row.path) and row.per == per and not row.observes


def indented(lines: Iterable[str], depth: int) -> Iterator[str]:
    """The lines, set in by so many times four spaces."""
    return (indent(line, "    " * depth) for line in lines)


class Expression(str):
    """An expression, written as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def call(name: str, first: str, settings: dict[str, Any]) -> str:
    """A call with these arguments, tuples written as tuples.

    Args:
        name: of the function, as it is called.
        first: its arguments by position, as they are written.
        settings: its arguments by name.
    """
    arguments = [
        first,
        *(
            f"{key}={tuple(value) if isinstance(value, list) and key != 'milestones' else value!r}"
            for key, value in settings.items()
        ),
    ]
    return f"{name}({', '.join(arguments)})"
