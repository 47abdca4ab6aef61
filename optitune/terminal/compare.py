"""A comparison on the terminal: while it runs, and what came of it."""

import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console, Group, RenderableType

from optitune.common.commands import line, place, typed
from optitune.common.tables import Table
from optitune.common.text import Unit, duration, plural
from optitune.comparing.events import RunFinished, RunProgress
from optitune.comparing.results import Comparison
from optitune.comparing.run import CompareOutcome
from optitune.comparing.sentences import OTHERS
from optitune.report.comparison_tables import comparison_table, costs_table, front_table
from optitune.statistics.runs import TUNED, Plan, RunId
from optitune.study.steps import UNKNOWN_EXAMPLES, examples_text
from optitune.terminal.drawing import Bar, Fitted
from optitune.terminal.screen import Lines, Live, Silent, dim, print_next, view
from optitune.workers.events import Event


def fitted(table: Table) -> Fitted:
    """A table as the terminal lays it out."""
    name, *columns = table.columns
    return Fitted([replace(name, left=True), *columns])


class LiveCompare(Live):
    """The verdict so far, what each worker does, and the runs so far."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._doing: dict[int, str] = {}
        self._table: RenderableType = ""
        self._others = False

    def begin(self, name: str, plan: Plan, unit: Unit, workers: int, most: int) -> None:
        self._plan, self._unit = plan, unit
        self._console.print(f"[bold]{name}[/bold]: {_about(plan, workers, most)}", highlight=False)
        self._bar = Bar("runs, at most", most)
        self._start()

    def judged(self, found: Comparison | None, done: int) -> None:
        self._table = fitted(comparison_table(found)) if found is not None else ""
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

    def _drawn_last(self) -> RenderableType:
        return Group(self._table, "", self._bar)

    def _draw(self) -> RenderableType:
        return Group(self._table, "", dim([text for _, text in sorted(self._doing.items())]), self._bar)


class LinesCompare(Lines):
    """A line a run, and the verdict's sentence after every step, for logs."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._last = ""
        self._began = time.monotonic()

    def begin(self, name: str, plan: Plan, unit: Unit, workers: int, most: int) -> None:
        self._plan, self._unit = plan, unit
        self.note(f"{name}: {_about(plan, workers, most)}")

    def judged(self, found: Comparison | None, done: int) -> None:
        if found is not None and found.sentence != self._last and done >= len(self._plan.finalists):
            self._last = found.sentence
            self.note(f"after {plural(done, 'run')}, {duration(time.monotonic() - self._began)}: {found.sentence}")

    def others(self, runs: int) -> None:
        self.note(f"other settings are trained too: {plural(runs, 'run')}")

    def show(self, event: Event) -> None:
        if isinstance(event, RunFinished):
            value = f"{self._unit.metric} {self._unit.value(event.value)}"
            self.note(f"{_run(event.key)}: {event.diverged or value}")


def _run(key: RunId) -> str:
    variant = "" if key.variant == TUNED else f" with {key.variant}"
    return f"round {key.round + 1}, {key.optimizer}{variant}"


def _stand(event: RunProgress, plan: Plan, unit: Unit) -> str:
    return f"epoch {event.epoch:.2f} of {plan.epochs}, {unit.metric} {unit.value(event.value)}"


def _about(plan: Plan, workers: int, most: int) -> str:
    """What a comparison is about to do, in a line."""
    examples = examples_text(plan.train_examples)
    return (
        f"{', '.join(plan.optimizers)} from fresh seeds, {plural(plan.epochs, 'epoch')} on {examples}, "
        f"judged on {_judged(plan)} in each of up to {plural(plan.rounds, 'round')}; "
        f"at most {plural(most, 'run')}, {plural(workers, 'worker')}"
    )


def _judged(plan: Plan) -> str:
    if not plan.validation:
        return OTHERS[plan.split].format(plan.held_out)
    return (
        f"the task's own {plan.held_out} validation examples"
        if plan.held_out > UNKNOWN_EXAMPLES
        else "what the loop judges on"
    )


def compare_view(quiet: bool) -> Silent | LiveCompare | LinesCompare:
    """The view of a comparison that fits where stderr goes."""
    return view(quiet, LiveCompare, LinesCompare)


def print_comparison(
    result: CompareOutcome, studies_dir: Path, storage: str | None, data_dir: Path | None, ranks: int = 1
) -> None:
    """Print the end of a comparison: the verdict, what it rests on, the costs, and the next commands.

    Args:
        result: of the comparison.
        studies_dir: the folder of all studies, as it was typed.
        storage: the URL of the storage, as it was typed; None for the study's own file.
        data_dir: where torchvision's files lie, as it was typed; None for the cache folder.
        ranks: how many processes trained each run together.
    """
    console = Console(highlight=False, soft_wrap=True)
    found, plan = result.comparison, result.comparison.plan
    if result.trained == 0:
        console.print(f"study '{result.study}' was compared just so before; nothing was trained")
    if result.set_aside is not None:
        console.print(f"another comparison lay here; it is kept as {result.set_aside}")
    verdict, spent, front = comparison_table(found), costs_table(found), front_table(found)
    console.print(fitted(verdict))
    console.print(f"\n{verdict.caption}\n", markup=False)
    if plan.validation:
        console.print(
            "All rounds are judged on the task's own validation examples, which the search chose by: the seeds are "
            "fresh, the examples are not, and the intervals hold for these examples alone.\n"
        )
    console.print(fitted(spent))
    console.print(f"\n{spent.caption}", markup=False)
    if result.left_out:
        console.print(f"\nnot compared, for want of a complete trial: {', '.join(result.left_out)}")
    if front is not None:
        console.print()
        console.print(fitted(front))
        console.print(f"\n{front.caption}", markup=False)
    console.print(f"\n[bold]{found.sentence}[/bold]")
    console.print(found.advice, markup=False)
    if result.ending in ("runs", "timeout"):
        limit = "--max-runs" if result.ending == "runs" else "--timeout"
        more = f"--max-runs {found.goes_on_to}" if result.ending == "runs" else "more"
        goes_on = f": the same command with {more} goes on" if found.goes_on_to else ""
        console.print(f"After {plural(found.verdict.runs, 'run')} {limit} is spent{goes_on}.")
    console.print(f"  {result.folder}: plan.json, verdict.json, runs/", markup=False)
    retrain = typed("retrain best", studies_dir, storage, data_dir, result.study, ranks)
    further = [line([*result.search_on, *place(studies_dir, storage, data_dir, ranks)])] if result.search_on else []
    print_next(console, [*further, retrain, typed(f"report {result.study}", studies_dir, storage)])
