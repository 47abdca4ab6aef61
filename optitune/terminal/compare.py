"""A comparison on the terminal: while it runs, and what came of it."""

import time
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table

from optitune.common.commands import typed
from optitune.common.text import Unit, duration, plural
from optitune.comparing.events import RunFinished, RunProgress
from optitune.comparing.results import Comparison
from optitune.comparing.run import Result
from optitune.comparing.sentences import NOT_BY_RUNS
from optitune.statistics.costs import Change, Cost
from optitune.statistics.runs import TUNED, Plan, RunId
from optitune.statistics.verdict import Difference, Place
from optitune.terminal.drawing import Bar
from optitune.terminal.screen import Screen, Silent, dim, print_next
from optitune.workers.events import Event


def _value(place: Place, unit: Unit) -> str:
    value = place.value
    if value is None:
        return "-"
    if value.low is None or value.high is None:
        return unit.bare(value.mean)
    return f"{unit.bare(value.mean)} ({unit.bare(value.low)} to {unit.bare(value.high)})"


def _between(apart: Difference, unit: Unit) -> str:
    return f"{unit.signed(apart.low, bare=True)} to {unit.signed(apart.high, bare=True)}"


def _relation(place: Place, leader: str) -> str:
    if place.optimizer == leader:
        return "leads"
    if place.diverged:
        return f"diverged in {place.diverged}"
    if place.to_leader is None:
        return "-"
    return "worse" if place.out else place.to_leader.relation


def verdict_table(found: Comparison) -> Table:
    """One row per finalist, the leader first."""
    unit, verdict = found.unit, found.verdict
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("optimizer")
    for name in ("runs", unit.heading, "P(best)", f"than {verdict.leader}, {unit.points}", ""):
        table.add_column(name, justify="right" if name else "left", no_wrap=name == unit.heading)
    for place in verdict.places:
        runs = len(place.value.each) if place.value else 0
        apart = place.to_leader
        table.add_row(
            place.optimizer,
            str(runs + place.diverged),
            _value(place, unit),
            f"{place.best:.2f}",
            _between(apart, unit) if apart is not None and apart.rounds > 3 else "",
            _relation(place, verdict.leader),
        )
    return table


def costs_table(found: Comparison) -> Table:
    """What those that are not out cost."""
    unit = found.unit
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("optimizer", no_wrap=True)
    to_target = f"to {unit.value(found.target)}" if found.target is not None else "to target"
    half, twice, tuning = (f"{name}{', pp' * unit.percent}" for name in ("lr / 2", "lr x 2", "tuning"))
    for name in (to_target, "epochs", "s/epoch", "state", half, twice, tuning, "diverged"):
        table.add_column(name, justify="right", min_width=6)
    for name in found.verdict.contenders:
        table.add_row(name, *_cost(found.costs[name], unit))
    return table


def _cost(cost: Cost, unit: Unit) -> list[str]:
    target = cost.target
    return [
        f"{target.seconds:.3g} s" if target.seconds is not None else f"in {target.reached} of {target.rounds}",
        f"{target.epochs:.3g}" if target.epochs is not None else "-",
        f"{cost.epoch_seconds:.3g}" if cost.epoch_seconds is not None else "-",
        f"{cost.state:.2g} x" if cost.state is not None else "-",
        _change(cost.half, unit),
        _change(cost.twice, unit),
        _change(cost.tuning, unit, -1),
        f"{100 * cost.diverged:.0f} %" if cost.diverged is not None else "-",
    ]


def _change(change: Change | None, unit: Unit, sign: int = 1) -> str:
    if change is None:
        return "-"
    return "failed" if change.change is None else unit.signed(sign * change.change + 0.0, bare=True)


class LiveCompare:
    """The verdict so far, what each worker does, and the runs so far."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._screen = Screen(console, self._draw)
        self._doing: dict[int, str] = {}
        self._table: RenderableType = ""
        self._others = False

    def begin(self, name: str, plan: Plan, unit: Unit, workers: int, most: int) -> None:
        self._plan, self._unit = plan, unit
        self._console.print(f"[bold]{name}[/bold]: {_about(plan, workers, most)}", highlight=False)
        self._bar = Bar("runs, at most", most)
        self._screen.begin()

    def judged(self, found: Comparison | None, done: int) -> None:
        self._table = verdict_table(found) if found is not None else ""
        self._bar.update(done)

    def others(self, runs: int) -> None:
        self._others = True
        self._bar = Bar("runs of other settings", runs)

    def show(self, event: Event) -> None:
        if isinstance(event, RunProgress):
            self._doing[event.worker] = f"{_run(event.key)}, {_stand(event, self._plan, self._unit)}"
        elif isinstance(event, RunFinished):
            self._doing.pop(event.worker, None)
            if self._others or event.key.variant == TUNED:
                self._bar.update(self._bar.completed + 1)

    def tick(self) -> None:
        """The screen draws itself."""

    def end(self) -> None:
        self._screen.end()

    def _draw(self) -> RenderableType:
        return Group(self._table, "", dim([text for _, text in sorted(self._doing.items())]), self._bar)


class LinesCompare:
    """A line a run, and the verdict's sentence after every step, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = ""
        self._began = time.monotonic()

    def begin(self, name: str, plan: Plan, unit: Unit, workers: int, most: int) -> None:
        self._plan, self._unit = plan, unit
        self._line(f"{name}: {_about(plan, workers, most)}")

    def judged(self, found: Comparison | None, done: int) -> None:
        if found is not None and found.sentence != self._told and done >= len(self._plan.finalists):
            self._told = found.sentence
            self._line(f"after {done} runs, {duration(time.monotonic() - self._began)}: {found.sentence}")

    def others(self, runs: int) -> None:
        self._line(f"other settings are trained too: {plural(runs, 'run')}")

    def show(self, event: Event) -> None:
        if isinstance(event, RunFinished):
            value = f"{self._unit.metric} {self._unit.value(event.value)}"
            self._line(f"{_run(event.key)}: {event.diverged or value}")

    def tick(self) -> None:
        """Lines need no clock."""

    def end(self) -> None:
        """Lines stay as they are."""

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _run(key: RunId) -> str:
    variant = "" if key.variant == TUNED else f" with {key.variant}"
    return f"round {key.round + 1}, {key.optimizer}{variant}"


def _stand(event: RunProgress, plan: Plan, unit: Unit) -> str:
    return f"epoch {event.epoch:.2f} of {plan.epochs}, {unit.metric} {unit.value(event.value)}"


def _about(plan: Plan, workers: int, most: int) -> str:
    """What a comparison is about to do, in a line."""
    return (
        f"{', '.join(plan.optimizers)} from fresh seeds, {plan.epochs} epochs on {plan.train_examples} examples, "
        f"judged on {_judged(plan)} in each of up to {plan.rounds} rounds; "
        f"at most {most} runs, {plural(workers, 'worker')}"
    )


def _on(plan: Plan) -> str:
    fresh = f"{plan.held_out} held-out examples a round"
    return fresh if not plan.validation else f"the {plan.held_out} validation examples"


def _judged(plan: Plan) -> str:
    return f"{plan.held_out} others" if not plan.validation else f"the task's own {plan.held_out} validation examples"


def compare_view(quiet: bool) -> Silent | LiveCompare | LinesCompare:
    """The view of a comparison that fits where stderr goes."""
    console = Console(stderr=True)
    if quiet:
        return Silent()
    return LiveCompare(console) if console.is_interactive else LinesCompare(console)


def print_comparison(result: Result, studies_dir: Path, storage: str | None, data_dir: Path | None) -> None:
    """The end of a comparison: the verdict, what it rests on, what the optimizers cost, and the next commands."""
    console = Console(highlight=False, soft_wrap=True)
    found, plan = result.comparison, result.comparison.plan
    if result.trained == 0:
        console.print(f"study '{result.study}' was compared just so before; nothing was trained")
    if result.set_aside is not None:
        console.print(f"another comparison lay here; it is kept as {result.set_aside}")
    console.print(verdict_table(found))
    console.print(
        f"\n{plan.metric} on {_on(plan)}, 95 % interval of each over its own runs; "
        "then from what to what it is better than the leader. With 95 % confidence, however often one looked, the "
        "best is not among those called worse.\n"
    )
    if plan.validation:
        console.print(
            "All rounds are judged on the task's own validation examples, which the search chose by: the seeds are "
            "fresh, the examples are not, and the intervals hold for these examples alone.\n"
        )
    console.print(costs_table(found))
    console.print(
        "\ntime and epochs to the value named (medians); optimizer state against weights; what half and twice the lr "
        "change, and what tuning gained over the known-good settings, from few runs; share of its trials that diverged"
    )
    if result.left_out:
        console.print(f"\nnot compared, for want of a complete trial: {', '.join(result.left_out)}")
    console.print(f"\n[bold]{found.sentence}[/bold]")
    console.print(found.advice)
    if found.verdict.status == "undecided" and result.ending in ("runs", "timeout"):
        spent = "--max-runs" if result.ending == "runs" else "--timeout"
        hopeless = found.verdict.more_runs > found.left
        goes_on = f". {NOT_BY_RUNS}" if hopeless else ": the same command with more goes on."
        console.print(f"After {found.verdict.runs} runs {spent} is spent{goes_on}")
    console.print(f"  {result.folder}: plan.json, verdict.json, runs/", markup=False)
    retrain = typed("retrain best", studies_dir, storage, data_dir, result.study)
    print_next(console, [retrain, typed(f"report {result.study}", studies_dir, storage)])
