"""A full training on the terminal: while it runs, and its result."""

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType

from optitune.common.summary import Summary
from optitune.common.text import Unit, plural, roughly, short
from optitune.comparing.sentences import no_interval
from optitune.retraining.events import SeedFinished, SeedProgress
from optitune.retraining.results import FullPlan
from optitune.retraining.sentences import Judged, about_training
from optitune.space.configuration import configuration_text
from optitune.terminal.drawing import Bar
from optitune.terminal.screen import Lines, Live, Silent, dim, view
from optitune.workers.events import Event

if TYPE_CHECKING:
    from optitune.retraining.run import RetrainOutcome


class LiveRetrain(Live):
    """A bar of epochs over all seeds, and where each seed stands."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._seeds: dict[int, str] = {}
        self._done: dict[int, int] = {}

    def begin(
        self, plan: FullPlan, unit: Unit, workers: int, done: Collection[int] = (), judged: Judged = "test"
    ) -> None:
        self._plan, self._unit, self._judged = plan, unit, judged
        self._seeds = {}
        self._total = plan.epochs * len(plan.seeds)
        self._done = dict.fromkeys(done, plan.epochs)
        self._trained = 0
        self._began = time.monotonic()
        self._console.print(_about_plan(plan, workers, judged), highlight=False, markup=False)
        self._bar = Bar("epochs", self._total, sum(self._done.values()))
        self._start()

    def show(self, event: Event) -> None:
        if isinstance(event, SeedProgress):
            self._done[event.seed] = event.row.epoch
            self._seeds[event.seed] = _epoch_line(event, self._plan.epochs, self._unit)
            done = sum(self._done.values())
            # the epochs of an earlier run took none of this one's time
            self._trained += event.fresh
            seconds = time.monotonic() - self._began
            left = seconds / self._trained * (self._total - done) if self._trained else None
            self._bar.update(done, f"about {roughly(left)} left" if left else "")
        elif isinstance(event, SeedFinished):
            self._seeds[event.seed] = _test_line(event, self._unit, self._judged)

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def _draw(self) -> RenderableType:
        return Group(dim([text for _, text in sorted(self._seeds.items())]), self._bar)


MOST_LINES = 20
"""How many lines of a log one seed's training takes at most, without its test."""


class LinesRetrain(Lines):
    """A line an epoch, or fewer in a long training, for logs."""

    def begin(
        self, plan: FullPlan, unit: Unit, workers: int, done: Collection[int] = (), judged: Judged = "test"
    ) -> None:
        self._plan, self._unit, self._judged = plan, unit, judged
        self.note(_about_plan(plan, workers, judged))
        if done:
            self.note(f"going on after {plural(len(done), 'finished seed')}")

    def show(self, event: Event) -> None:
        epochs = self._plan.epochs
        match event:
            case SeedProgress(fresh=False):
                self.note(f"seed {event.seed + 1} goes on after epoch {event.row.epoch} of {epochs}")
            case SeedProgress(row=row):
                every = -(-epochs // MOST_LINES)
                if row.epoch % every == 0 or row.epoch == epochs:
                    self.note(_epoch_line(event, epochs, self._unit))
            case SeedFinished():
                self.note(_test_line(event, self._unit, self._judged))


def _about_plan(plan: FullPlan, workers: int, judged: Judged) -> str:
    """What a full training is about to do, in a line."""
    what = f"{plan.configuration.optimizer.name} (lr {short(plan.configuration.lr)})"
    length = f"{plural(len(plan.seeds), 'seed')} of {plural(plan.epochs, 'epoch')}"
    why = "in full" if judged == "test" else "to find the length"
    return f"training {plan.task} with {what} {why}: {length}, {plan.precision}, {plural(workers, 'worker')}"


def _epoch_line(event: SeedProgress, epochs: int, unit: Unit) -> str:
    row = event.row
    value = f", training {unit.metric} {unit.value(row.train_value)}" if row.train_value is not None else ""
    if row.validation_value is not None:
        value += f", validation {unit.metric} {unit.value(row.validation_value)}"
    loss = "" if row.train_loss is None else f"training loss {row.train_loss:.4g}"
    said = f"{loss}{value}".removeprefix(", ")
    return f"seed {event.seed + 1}, epoch {row.epoch} of {epochs}: {said + ', ' * bool(said)}lr {short(row.lr)}"


def _test_line(event: SeedFinished, unit: Unit, judged: Judged) -> str:
    return f"seed {event.seed + 1}: {judged} {unit.metric} {unit.value(event.value)}"


def retrain_view(quiet: bool) -> Silent | LiveRetrain | LinesRetrain:
    """The view of a full training that fits where stderr goes."""
    return view(quiet, LiveRetrain, LinesRetrain)


def tested_text(unit: Unit, value: Summary, loss: Summary | None) -> str:
    """Test metric and loss with their spread, as text.

    Args:
        unit: how the metric is written.
        value: the metric over the seeds.
        loss: the loss over the seeds; None where a loop of the user's own does not say it.
    """
    test = f"test {unit.metric} {unit.value(value.mean)}"
    of_loss = "" if loss is None else f"loss {loss.mean:.4g}"
    if value.low is None or value.high is None or not value.sd:
        return f"{test} ({no_interval(value.each)}), {of_loss}".removesuffix(", ")
    return (
        f"{test}, 95 % interval {unit.span(value.low, value.high)} "
        f"(Student's t, {len(value.each)} seeds, standard deviation {unit.difference(value.sd)}); "
        f"{of_loss}"
    ).removesuffix("; ")


def print_retrained(result: "RetrainOutcome") -> None:
    """The end of a full training: test accuracy and loss with their spread, and where everything lies."""
    console = Console(highlight=False, soft_wrap=True)
    if not result.trained:
        console.print(f"'{result.name}' was trained and tested just so before; nothing was trained")
    console.print(tested_text(result.unit, result.test_value, result.test_loss), markup=False)
    length = plural(result.plan.epochs, "epoch")
    console.print(f"  {configuration_text(result.plan.configuration)}; {length}", markup=False)
    for line in about_training(result.plan, result.length, result.kept, result.unit):
        console.print(f"  {line}", markup=False)
    of_loss = " and loss.safetensors" * (result.folder / "loss.safetensors").exists()
    files = f"model.safetensors{of_loss} (the first seed's), metrics.json, curves.png, train.py, config.toml"
    console.print(f"  {result.folder}: {files}", markup=False)
