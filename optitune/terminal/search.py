"""A running search or full training on the terminal; plain lines where there is none."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from optitune.common.text import Unit, many
from optitune.retraining.results import FullPlan
from optitune.study.records import TrialRecord, best, counts
from optitune.study.settings import StudySettings
from optitune.terminal.drawing import BAD, NOTE, QUIET, Bar, Column, Fitted, duration, one_above_other
from optitune.terminal.format import number_format, standings_table
from optitune.terminal.time_left import roughly, time_left
from optitune.workers.pool import Event

RECKON_S = 1.0
"""How often the time left is reckoned, at most."""

LEAVING = ("finished", "failed", "left", "retired")
"""What a worker tells when its trial is no longer under way."""


class Silent:
    """Shows nothing."""

    def begin(self, *args: Any) -> None: ...

    def show(self, *args: Any) -> None: ...

    def note(self, *args: Any) -> None: ...

    def judged(self, *args: Any) -> None: ...

    def others(self, *args: Any) -> None: ...

    def tick(self) -> None: ...

    def end(self) -> None: ...


class Screen:
    """A block of the terminal that is drawn anew a few times a second."""

    def __init__(self, console: Console, draw: Callable[[], RenderableType]) -> None:
        self._console = console
        self._draw = draw
        self._live: Live | None = None

    def begin(self) -> None:
        # made here, since it draws at once
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=4, transient=True)
        self._live.start()

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()


@dataclass
class Doing:
    """What a worker does: its trial, since when, what it last told of it, and when, as `time.monotonic` counts."""

    number: int
    optimizer: str
    lr: float
    began: float
    told: float | None
    epoch: float = 0.0
    value: float | None = None


class LiveSearch:
    """A table of standings, what each worker does, and a bar with the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._screen = Screen(console, self._draw)
        self._doing: dict[int, Doing] = {}
        self._reckoned = -inf

    def begin(
        self, name: str, settings: StudySettings, unit: Unit, target: int, records: list[TrialRecord], workers: int
    ) -> None:
        self._settings, self._unit, self._target, self._workers = settings, unit, target, workers
        self._records = records
        self._standings = standings_table(records, settings.optimizers, unit)
        self._console.print(Text.assemble((name, "bold"), f": {_about(settings, target, workers)}"))
        self._bar = Bar("trials", target, counts(records)["finished"])
        self._screen.begin()

    def show(self, event: Event, records: list[TrialRecord]) -> None:
        body, now = event.body, time.monotonic()
        if event.kind == "sized":
            self._target, self._workers = body["target"], body["workers"]
            self._bar.update(total=self._target)
        elif event.kind in ("started", "progress"):
            self._heed(event, now)
        elif event.kind == "failed":
            self._console.print(
                f"trial {body['number']} failed: {body['reason']}", style=BAD, highlight=False, markup=False
            )
        if event.kind in LEAVING:
            self._doing.pop(event.worker, None)
        if event.kind in ("finished", "failed"):
            # made here and not at each draw, which would count thousands of trials four times a second
            self._records = records
            self._standings = standings_table(records, self._settings.optimizers, self._unit)
            self._bar.update(counts(records)["finished"])
        if now - self._reckoned >= RECKON_S:
            self._reckon(now)

    def _heed(self, event: Event, now: float) -> None:
        body = event.body
        doing = self._doing.get(event.worker)
        if doing is None or doing.number != body["number"]:
            began = now - body.get("since", 0.0)
            doing = self._doing[event.worker] = Doing(body["number"], body["optimizer"], body["lr"], began, began)
        if event.kind == "progress":
            doing.epoch, doing.value = body["epoch"], body["value"]
            doing.told = now if body.get("fresh", True) else None

    def _reckon(self, now: float) -> None:
        under_way = [(doing.optimizer, doing.epoch) for doing in self._doing.values()]
        left = time_left(self._records, under_way, self._settings, self._target, max(1, self._workers))
        if left is not None:
            self._reckoned = now
            self._bar.update(left=f"about {roughly(left)} left" if left else "")

    def note(self, text: str) -> None:
        self._console.print(text, style=NOTE, highlight=False, markup=False)

    def tick(self) -> None:
        """The screen draws itself."""

    def end(self) -> None:
        self._screen.end()

    def _draw(self) -> RenderableType:
        doing = doing_table(self._doing, self._settings.epochs, self._unit)
        # headings, what is left out, empty lines and the bar
        above, below = one_above_other(self._standings, doing, self._console.height - 10)
        return Group(above, "", below if len(doing) else dim("no trial is under way"), "", self._bar)


def doing_table(doing: Mapping[int, Doing], epochs: int, unit: Unit) -> Fitted:
    """What each worker does now, a row each."""
    now, rows = time.monotonic(), sorted(doing.items())
    return Fitted(
        [
            Column("worker", [str(worker + 1) for worker, _ in rows], keep=3),
            Column("trial", [str(row.number) for _, row in rows]),
            Column("optimizer", [row.optimizer for _, row in rows], left=True),
            Column("lr", [number_format(row.lr) for _, row in rows]),
            Column("epoch", [f"{row.epoch:.2f} of {epochs}" for _, row in rows], keep=5),
            Column(unit.metric, ["-" if row.value is None else unit.share(row.value) for _, row in rows], keep=4),
            Column("for", [duration(now - row.began) for _, row in rows], keep=2),
            Column("last told", [f"{duration(now - row.told)} ago" if row.told else "-" for _, row in rows], keep=1),
        ],
        style=QUIET,
    )


class LinesSearch:
    """A line a trial, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: set[int] = set()

    def begin(
        self, name: str, settings: StudySettings, unit: Unit, target: int, records: list[TrialRecord], workers: int
    ) -> None:
        self._target, self._metric = target, unit.metric
        self._seen = {row.number for row in records if row.outcome in ("complete", "pruned", "diverged")}
        competing = ", ".join(settings.optimizers)
        self._line(f"{name}: {_about(settings, target, workers)}; competing: {competing}")
        if self._seen:
            self._line(f"going on after {len(self._seen)} finished trials")

    def show(self, event: Event, records: list[TrialRecord]) -> None:
        if event.kind == "sized":
            self._target = event.body["target"]
        if event.kind == "failed":
            self._line(f"trial {event.body['number']} failed: {event.body['reason']}")
        if event.kind != "finished":
            return
        leader = best(records)
        for row in records:
            if row.outcome in ("complete", "pruned", "diverged") and row.number not in self._seen:
                self._seen.add(row.number)
                lr = number_format(row.configuration.lr) if row.configuration else "?"
                value = f"{self._metric} {row.value:.4g}" if row.value is not None else ""
                ending = ", ".join(text for text in (value, row.reason) if text)
                lead = (
                    f"; best {leader.value:.4g} ({leader.optimizer}, trial {leader.number})"
                    if leader and leader.value is not None
                    else ""
                )
                self._line(
                    f"[{len(self._seen)}/{self._target}] trial {row.number}: {row.optimizer} lr {lr}: {ending}{lead}"
                )

    def note(self, text: str) -> None:
        self._line(text)

    def tick(self) -> None:
        """Lines need no clock."""

    def end(self) -> None:
        """Lines stay as they are."""

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class LiveRetrain:
    """A bar of epochs over all seeds, and where each seed stands."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._screen = Screen(console, self._draw)
        self._seeds: dict[int, str] = {}
        self._done: dict[int, int] = {}

    def begin(self, plan: FullPlan, unit: Unit, workers: int, done: Collection[int] = ()) -> None:
        self._plan, self._unit = plan, unit
        self._total = plan.epochs * len(plan.seeds)
        self._done = dict.fromkeys(done, plan.epochs)
        self._trained = 0
        self._began = time.monotonic()
        self._console.print(_about_plan(plan, workers), highlight=False, markup=False)
        self._bar = Bar("epochs", self._total, sum(self._done.values()))
        self._screen.begin()

    def show(self, event: Event) -> None:
        body = event.body
        if event.kind == "progress":
            self._done[body["seed"]] = body["epoch"]
            self._seeds[body["seed"]] = _epoch_line(body, self._plan.epochs, self._unit)
            done = sum(self._done.values())
            # the epochs of an earlier run took none of this one's time
            self._trained += body.get("fresh", True)
            seconds = time.monotonic() - self._began
            left = seconds / self._trained * (self._total - done) if self._trained else None
            self._bar.update(done, f"about {roughly(left)} left" if left else "")
        elif event.kind == "finished":
            self._seeds[body["seed"]] = _test_line(body, self._unit)

    def tick(self) -> None:
        """The screen draws itself."""

    def end(self) -> None:
        self._screen.end()

    def _draw(self) -> RenderableType:
        return Group(dim([text for _, text in sorted(self._seeds.items())]), self._bar)


MOST_LINES = 20
"""How many lines of a log one seed's training takes at most, its test aside."""


class LinesRetrain:
    """A line an epoch, or fewer in a long training, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def begin(self, plan: FullPlan, unit: Unit, workers: int, done: Collection[int] = ()) -> None:
        self._plan, self._unit = plan, unit
        self._line(_about_plan(plan, workers))
        if done:
            self._line(f"going on after {many(len(done), 'finished seed')}")

    def show(self, event: Event) -> None:
        if event.kind == "progress" and not event.body.get("fresh", True):
            after = f"epoch {event.body['epoch']} of {self._plan.epochs}"
            self._line(f"seed {event.body['seed'] + 1} goes on after {after}")
        elif event.kind == "progress":
            every = -(-self._plan.epochs // MOST_LINES)
            if event.body["epoch"] % every == 0 or event.body["epoch"] == self._plan.epochs:
                self._line(_epoch_line(event.body, self._plan.epochs, self._unit))
        elif event.kind == "finished":
            self._line(_test_line(event.body, self._unit))

    def tick(self) -> None:
        """Lines need no clock."""

    def end(self) -> None:
        """Lines stay as they are."""

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _about(settings: StudySettings, target: int, workers: int) -> str:
    """What a search is about to do, in a line."""
    length = f"{many(target, 'trial')} of {many(settings.epochs, 'epoch')}"
    how = f"{settings.precision}, {many(workers, 'worker')}"
    return f"{length} on {settings.task}, {how}"


def _about_plan(plan: FullPlan, workers: int) -> str:
    """What a full training is about to do, in a line."""
    what = f"{plan.configuration.optimizer.name} (lr {number_format(plan.configuration.lr)})"
    length = f"{many(len(plan.seeds), 'seed')} of {many(plan.epochs, 'epoch')}"
    return f"training {plan.task} with {what} in full: {length}, {plan.precision}, {many(workers, 'worker')}"


def dim(lines: str | list[str]) -> Text:
    """What the workers do now, a line each."""
    return Text("\n".join(lines or ["starting workers ..."]) if isinstance(lines, list) else lines, QUIET)


def _epoch_line(body: dict[str, Any], epochs: int, unit: Unit) -> str:
    value = f", training {unit.metric} {unit.value(body['train_value'])}" if body["train_value"] is not None else ""
    return (
        f"seed {body['seed'] + 1}, epoch {body['epoch']} of {epochs}: training loss {body['train_loss']:.4g}{value}, "
        f"lr {number_format(body['lr'])}"
    )


def _test_line(body: dict[str, Any], unit: Unit) -> str:
    return f"seed {body['seed'] + 1}: test {unit.metric} {unit.value(body['value'])}"


def search_view(quiet: bool) -> Silent | LiveSearch | LinesSearch:
    """The view of a search that fits where stderr goes."""
    console = Console(stderr=True)
    if quiet:
        return Silent()
    return LiveSearch(console) if console.is_interactive else LinesSearch(console)


def retrain_view(quiet: bool) -> Silent | LiveRetrain | LinesRetrain:
    """The view of a full training that fits where stderr goes."""
    console = Console(stderr=True)
    if quiet:
        return Silent()
    return LiveRetrain(console) if console.is_interactive else LinesRetrain(console)
