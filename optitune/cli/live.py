"""A running search or full training on the terminal; plain lines where there is none."""

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from optitune.cli.standings import duration, number_format, standings_table
from optitune.records import TrialRecord, best, counts
from optitune.retrain_results import FullPlan
from optitune.settings import StudySettings
from optitune.workers import Event


class Silent:
    """Shows nothing."""

    def begin(self, *args: Any) -> None: ...

    def show(self, *args: Any) -> None: ...

    def note(self, *args: Any) -> None: ...

    def judged(self, *args: Any) -> None: ...

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


def bar(console: Console, what: str) -> Progress:
    left = TextColumn("{task.fields[left]}")
    return Progress(TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), left, console=console)


class LiveSearch:
    """A table of standings, what each worker does, and a bar with the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._screen = Screen(console, self._draw)
        self._doing: dict[int, str] = {}

    def begin(
        self, name: str, settings: StudySettings, metric: str, target: int, records: list[TrialRecord], workers: int
    ) -> None:
        self._settings, self._metric, self._target = settings, metric, target
        self._standings = standings_table(records, settings.optimizers, metric)
        self._before = counts(records)["finished"]
        self._began = time.monotonic()
        self._console.print(f"[bold]{name}[/bold]: {_about(settings, target, workers)}", highlight=False)
        self._progress = bar(self._console, "trials")
        self._bar = self._progress.add_task("", total=target, completed=self._before, left="")
        self._screen.begin()

    def show(self, event: Event, records: list[TrialRecord]) -> None:
        body = event.body
        if event.kind in ("started", "progress"):
            doing = f"trial {body['number']}: {body['optimizer']} lr {number_format(body['lr'])}"
            if event.kind == "progress":
                doing += f", epoch {body['epoch']:.2f} of {self._settings.epochs}, {self._metric} {body['value']:.4g}"
            self._doing[event.worker] = doing
        elif event.kind == "failed":
            self._console.print(
                f"trial {body['number']} failed: {body['reason']}", style="red", highlight=False, markup=False
            )
        elif event.kind == "finished":
            # made here and not at each draw, which would count thousands of trials four times a second
            self._standings = standings_table(records, self._settings.optimizers, self._metric)
            done = counts(records)["finished"]
            passed = (time.monotonic() - self._began) / max(1, done - self._before)
            self._progress.update(
                self._bar, completed=done, left=f"about {duration(passed * (self._target - done))} left"
            )

    def note(self, text: str) -> None:
        self._console.print(text, style="yellow", highlight=False, markup=False)

    def tick(self) -> None:
        """The screen draws itself."""

    def end(self) -> None:
        self._screen.end()

    def _draw(self) -> RenderableType:
        doing = dim([text for _, text in sorted(self._doing.items())])
        return Group(self._standings, *doing, self._progress)


class LinesSearch:
    """A line a trial, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: set[int] = set()

    def begin(
        self, name: str, settings: StudySettings, metric: str, target: int, records: list[TrialRecord], workers: int
    ) -> None:
        self._target, self._metric = target, metric
        self._seen = {row.number for row in records if row.outcome in ("complete", "pruned", "diverged")}
        self._line(f"{name}: {_about(settings, target, workers)}")
        if self._seen:
            self._line(f"going on after {len(self._seen)} finished trials")

    def show(self, event: Event, records: list[TrialRecord]) -> None:
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

    def begin(self, plan: FullPlan, metric: str, workers: int) -> None:
        self._plan, self._metric = plan, metric
        self._total = plan.epochs * len(plan.seeds)
        self._began = time.monotonic()
        self._console.print(_about_plan(plan, workers), highlight=False)
        self._progress = bar(self._console, "epochs")
        self._bar = self._progress.add_task("", total=self._total, left="")
        self._screen.begin()

    def show(self, event: Event) -> None:
        body = event.body
        if event.kind == "progress":
            self._done[body["seed"]] = body["epoch"]
            self._seeds[body["seed"]] = _epoch_line(body, self._plan.epochs, self._metric)
            done = sum(self._done.values())
            left = (time.monotonic() - self._began) / done * (self._total - done)
            self._progress.update(self._bar, completed=done, left=f"about {duration(left)} left")
        elif event.kind == "finished":
            self._seeds[body["seed"]] = _test_line(body, self._metric)

    def tick(self) -> None:
        """The screen draws itself."""

    def end(self) -> None:
        self._screen.end()

    def _draw(self) -> RenderableType:
        return Group(*dim([text for _, text in sorted(self._seeds.items())]), self._progress)


MOST_LINES = 20
"""How many lines of a log one seed's training takes at most, its test aside."""


class LinesRetrain:
    """A line an epoch, or fewer in a long training, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def begin(self, plan: FullPlan, metric: str, workers: int) -> None:
        self._plan, self._metric = plan, metric
        self._line(_about_plan(plan, workers))

    def show(self, event: Event) -> None:
        if event.kind == "progress":
            every = -(-self._plan.epochs // MOST_LINES)
            if event.body["epoch"] % every == 0 or event.body["epoch"] == self._plan.epochs:
                self._line(_epoch_line(event.body, self._plan.epochs, self._metric))
        elif event.kind == "finished":
            self._line(_test_line(event.body, self._metric))

    def tick(self) -> None:
        """Lines need no clock."""

    def end(self) -> None:
        """Lines stay as they are."""

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _about(settings: StudySettings, target: int, workers: int) -> str:
    """What a search is about to do, in a line."""
    length = f"{_many(target, 'trial')} of {_many(settings.epochs, 'epoch')}"
    how = f"{settings.precision}, {_many(workers, 'worker')}"
    return f"{length} on {settings.task}, {how}; competing: {', '.join(settings.optimizers)}"


def _about_plan(plan: FullPlan, workers: int) -> str:
    """What a full training is about to do, in a line."""
    what = f"{plan.configuration.optimizer.name} (lr {number_format(plan.configuration.lr)})"
    length = f"{_many(len(plan.seeds), 'seed')} of {_many(plan.epochs, 'epoch')}"
    return f"training {plan.task} with {what} in full: {length}, {plan.precision}, {_many(workers, 'worker')}"


def dim(lines: list[str]) -> list[Text]:
    """What the workers do now, a line each."""
    return [Text(line, style="dim") for line in lines or ["starting workers ..."]]


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _epoch_line(body: dict[str, Any], epochs: int, metric: str) -> str:
    value = f", {metric} {body['train_value']:.4g}" if body["train_value"] is not None else ""
    return (
        f"seed {body['seed'] + 1}, epoch {body['epoch']} of {epochs}: training loss {body['train_loss']:.4g}{value}, "
        f"lr {number_format(body['lr'])}"
    )


def _test_line(body: dict[str, Any], metric: str) -> str:
    return f"seed {body['seed'] + 1}: test {metric} {body['value']:.4g}"


def search_view(quiet: bool) -> Silent | LiveSearch | LinesSearch:
    """The view of a search that fits where stderr goes."""
    console = Console(stderr=True)
    if quiet:
        return Silent()
    return LiveSearch(console) if console.is_terminal else LinesSearch(console)


def retrain_view(quiet: bool) -> Silent | LiveRetrain | LinesRetrain:
    """The view of a full training that fits where stderr goes."""
    console = Console(stderr=True)
    if quiet:
        return Silent()
    return LiveRetrain(console) if console.is_terminal else LinesRetrain(console)
