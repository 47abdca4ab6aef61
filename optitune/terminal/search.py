"""A running search or full training on the terminal; plain lines where there is none."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.text import Text

from optitune.common.commands import typed
from optitune.common.tables import Column
from optitune.common.text import Unit, duration, over_runs, plural, roughly, setting, short
from optitune.report.standings import standings_table
from optitune.searching.events import StudySized, TrialFailed, TrialFinished, TrialLeft, TrialProgress, TrialStarted
from optitune.space.configuration import configuration_text
from optitune.study.records import FINISHED, TrialRecord, best, counts, repeats, standings
from optitune.study.settings import StudySettings
from optitune.terminal.drawing import BAD, NOTE, QUIET, Bar, Fitted, curves, one_above_other
from optitune.terminal.screen import Lines, Live, Silent, dim, print_next, view
from optitune.workers.events import Event, Retired

if TYPE_CHECKING:
    from optitune.searching.join import JoinOutcome
    from optitune.searching.run import SearchOutcome


def fitted_standings(records: Sequence[TrialRecord], optimizers: Sequence[str], unit: Unit) -> Fitted:
    """Standings of a search, each optimizer with the learning curve of its best trial.

    Args:
        records: the study's trials, finished and running.
        optimizers: names, in the order in which rows are to come.
        unit: how the metric is written.
    """
    leaders = [row.best for row in standings(records, optimizers)]
    # a score is a value, or the value with its sign changed
    scored = [row for row in leaders if row is not None and row.value]
    less = any(row.score != row.value for row in scored)
    tiny = curves([[value for _, value in leader.curve] if leader else [] for leader in leaders], less)
    name, *columns = standings_table(records, optimizers, unit).columns
    return Fitted([replace(name, left=True), Column("learning\ncurve", tiny, keep=6, left=True), *columns])


def print_result(
    result: "SearchOutcome",
    studies_dir: Path,
    storage: str | None,
    data_dir: Path | None,
    next_steps: bool = True,
    ranks: int = 1,
) -> None:
    """Print the end of a search: standings, the best configuration, and the next commands.

    Args:
        result: of the search.
        studies_dir: the folder of all studies, as it was typed.
        storage: the URL of the storage, as it was typed; None for the study's own file.
        data_dir: where torchvision's files lie, as it was typed; None for the cache folder.
        next_steps: whether to print the next commands.
        ranks: how many processes trained each trial together.
    """
    console = Console(highlight=False, soft_wrap=True)
    number = counts(result.records)
    if not result.begun:
        own = result.trials - (len(result.origin.trials) if result.origin else 0)
        console.print(f"study '{result.name}' is made; {plural(own, 'trial')} to be trained. On every machine:")
        console.print("  " + typed("worker", studies_dir, storage, data_dir, result.name, ranks), markup=False)
        console.print("to look on:")
        console.print("  " + typed(f"watch {result.name}", studies_dir, storage), markup=False)
        return
    if result.trained == 0:
        console.print(
            f"study '{result.name}' has {plural(number['finished'], 'finished trial')} already; nothing was trained"
        )
    unit = result.metric.unit
    console.print(fitted_standings(result.records, result.settings.optimizers, unit))
    left = f", {number['failed']} failed" if number["failed"] else ""
    console.print(
        f"\n{plural(number['finished'], 'trial')} finished: {number['complete']} complete, {number['pruned']} pruned, "
        f"{number['diverged']} diverged{left}; this run took {duration(result.seconds)}"
    )
    if again := repeats(result.records):
        console.print(again)
    if result.origin is not None:
        console.print(f"of them, taken: {result.origin.sentence()}", markup=False)
    for failing in result.failing():
        console.print(failing.sentence(), style=BAD, markup=False)
    winner = result.best
    if winner is None or winner.configuration is None or winner.value is None:
        console.print(
            "no trial is complete yet, so there is no best configuration: run the same command with more --trials"
        )
        return
    console.print(
        f"best: trial {winner.number}, validation {unit.metric} {unit.value(winner.value)} ({over_runs(winner.runs)})"
    )
    console.print(f"  {configuration_text(winner.configuration)}", markup=False)
    for edge in result.edges():
        console.print(
            f"  {edge.key} {setting(edge.value)} lies at the edge of its range, {edge.value_range}. To look "
            f"beyond, search as another study with:  --set '{edge.line}'",
            markup=False,
        )
    console.print(f"  saved in {result.best_file}")
    for sentence in result.conclusions().sentences(unit):
        console.print(sentence, markup=False)
    for remark in result.remarks:
        console.print(f"  note: {remark}", markup=False)
    if result.set_aside is not None:
        console.print(f"  the file that stood there was not this search's own; it is kept as {result.set_aside}")
    if not next_steps:
        return
    compare = typed(f"compare {result.name}", studies_dir, storage, data_dir, ranks=ranks)
    retrain = typed("retrain best", studies_dir, storage, data_dir, result.name, ranks)
    print_next(console, [compare, retrain, typed("dashboard", studies_dir, storage, None, result.name)])


def print_joined(result: "JoinOutcome") -> None:
    """The end of a machine's help."""
    console = Console(highlight=False, soft_wrap=True)
    best = f", best {result.unit.value(result.best)}" if result.best is not None else ""
    console.print(
        f"study '{result.study}' has {result.trials['finished']} of {result.target} trials finished{best}; "
        f"this machine helped for {duration(result.seconds)}",
        markup=False,
    )


def time_left(records: Sequence[TrialRecord], target: int, workers: int) -> float | None:
    """Seconds until a search has its trials: the median of a finished trial times what is left, over the workers.

    Args:
        records: the study's trials so far.
        target: how many finished trials the study is to have.
        workers: how many trials are trained at a time; 0 counts as 1.

    Returns:
        None before a trial was trained to its end.
    """
    finished = [row.seconds for row in records if row.outcome in FINISHED]
    # a repeated configuration is given its result and takes no time
    trained = [seconds for seconds in finished if seconds]
    left = max(0, target - len(finished))
    return median(trained) * left / max(1, workers) if trained else None


@dataclass
class Doing:
    """What a worker does: its trial, since when, its last report, and when that came, as `time.monotonic` counts."""

    number: int
    optimizer: str
    lr: float
    began: float
    reported: float | None
    epoch: float = 0.0
    value: float | None = None


class LiveSearch(Live):
    """A table of standings, what each worker does, and a bar with the time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._doing: dict[int, Doing] = {}

    def begin(
        self, name: str, settings: StudySettings, unit: Unit, target: int, records: list[TrialRecord], workers: int
    ) -> None:
        self._settings, self._unit, self._target, self._workers = settings, unit, target, workers
        self._console.print(Text.assemble((name, "bold"), f": {_about(settings, target, workers)}"))
        self._bar = Bar("trials", target)
        self._update(records)
        self._start()

    def show(self, event: Event, records: list[TrialRecord]) -> None:
        if isinstance(event, StudySized):
            self._target, self._workers = event.target, event.workers
        elif isinstance(event, TrialStarted | TrialProgress):
            self._handle(event)
        elif isinstance(event, TrialFailed):
            text = f"trial {event.number} failed: {event.reason}"
            self._console.print(text, style=BAD, highlight=False, markup=False)
        if isinstance(event, TrialFinished | TrialFailed | TrialLeft | Retired):
            self._doing.pop(event.worker, None)
        if isinstance(event, StudySized | TrialFinished | TrialFailed):
            self._update(records)

    def _update(self, records: list[TrialRecord]) -> None:
        """Make what follows from the trials: not at each draw, which would count thousands four times a second."""
        self._standings = fitted_standings(records, self._settings.optimizers, self._unit)
        left = time_left(records, self._target, self._workers)
        text = f"about {roughly(left)} left" if left else ""
        self._bar.update(counts(records)["finished"], text, self._target)

    def _handle(self, event: TrialStarted | TrialProgress) -> None:
        now, doing = time.monotonic(), self._doing.get(event.worker)
        if doing is None or doing.number != event.number:
            began = now - event.since if isinstance(event, TrialStarted) else now
            doing = self._doing[event.worker] = Doing(event.number, event.optimizer, event.lr, began, began)
        if isinstance(event, TrialProgress):
            doing.epoch, doing.value = event.epoch, event.value
            doing.reported = now if event.fresh else None

    def note(self, text: str) -> None:
        self._console.print(text, style=NOTE, highlight=False, markup=False)

    def _drawn_last(self) -> RenderableType:
        return Group(self._standings, "", self._bar)

    def _draw(self) -> RenderableType:
        doing = doing_table(self._doing, self._settings.epochs, self._unit)
        # headings, what is left out, empty lines and the bar
        above, below = one_above_other(self._standings, doing, self._console.height - 10)
        return Group(above, "", below if len(doing) else dim("no trial is under way"), "", self._bar)


def doing_table(doing: Mapping[int, Doing], epochs: int, unit: Unit) -> Fitted:
    """What each worker trains at present, a row each.

    Args:
        doing: the trial of each worker, by its number.
        epochs: length of a trial.
        unit: how the metric is written.
    """
    now, rows = time.monotonic(), sorted(doing.items())
    ages = [f"{duration(int(now - row.reported))} ago" if row.reported else "-" for _, row in rows]
    return Fitted(
        [
            Column("worker", [str(worker + 1) for worker, _ in rows], keep=3),
            Column("trial", [str(row.number) for _, row in rows]),
            Column("optimizer", [row.optimizer for _, row in rows], left=True),
            Column("lr", [short(row.lr) for _, row in rows]),
            Column("epoch", [f"{row.epoch:.2f} of {epochs}" for _, row in rows], keep=5),
            Column(unit.metric, ["-" if row.value is None else unit.value(row.value) for _, row in rows], keep=4),
            Column("running for", [duration(int(now - row.began)) for _, row in rows], keep=2),
            Column("last report", ages, keep=1),
        ],
        style=QUIET,
    )


class LinesSearch(Lines):
    """A line a trial, for logs."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._seen: set[int] = set()

    def begin(
        self, name: str, settings: StudySettings, unit: Unit, target: int, records: list[TrialRecord], workers: int
    ) -> None:
        self._target, self._unit = target, unit
        self._seen = {row.number for row in records if row.outcome in ("complete", "pruned", "diverged")}
        competing = ", ".join(settings.optimizers)
        self.note(f"{name}: {_about(settings, target, workers)}; competing: {competing}")
        if self._seen:
            self.note(f"going on after {plural(len(self._seen), 'finished trial')}")

    def show(self, event: Event, records: list[TrialRecord]) -> None:
        if isinstance(event, StudySized):
            self._target = event.target
        if isinstance(event, TrialFailed):
            self.note(f"trial {event.number} failed: {event.reason}")
        if not isinstance(event, TrialFinished):
            return
        leader = best(records)
        for row in records:
            if row.outcome in ("complete", "pruned", "diverged") and row.number not in self._seen:
                self._seen.add(row.number)
                lr = short(row.configuration.lr) if row.configuration else "?"
                value = f"{self._unit.metric} {self._unit.value(row.value)}" if row.value is not None else ""
                ending = ", ".join(text for text in (row.which_run, value, row.reason) if text)
                lead = (
                    f"; best {self._unit.value(leader.value)} ({leader.optimizer}, trial {leader.number})"
                    if leader and leader.value is not None
                    else ""
                )
                self.note(
                    f"[{len(self._seen)}/{self._target}] trial {row.number}: {row.optimizer} lr {lr}: {ending}{lead}"
                )


def _about(settings: StudySettings, target: int, workers: int) -> str:
    """What a search is about to do, in a line."""
    length = f"{plural(target, 'trial')} of {plural(settings.epochs, 'epoch')}"
    how = f"{settings.precision}, {plural(workers, 'worker')}"
    return f"{length} on {settings.task}, {how}"


def search_view(quiet: bool) -> Silent | LiveSearch | LinesSearch:
    """The view of a search that fits where stderr goes."""
    return view(quiet, LiveSearch, LinesSearch)
