"""The registries of optimizers, schedules and tasks as tables."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from optitune.common.text import setting
from optitune.space.optimizers import DEFAULT_OPTIMIZERS, Optimizer
from optitune.space.ranges import Range
from optitune.space.schedules import DEFAULT_SCHEDULES, Schedule
from optitune.tasks.builtin import BuiltIn

EPOCHS = 10
"""The length of training for which schedules are shown."""


def _table(*headings: str) -> Table:
    """A table whose first column is names, which are never broken."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        table.add_column(heading, no_wrap=place == 0)
    return table


def print_optimizers(rows: Sequence[Optimizer]) -> None:
    """A line per optimizer; a star where it competes by default."""
    table = _table("optimizer", "known-good lr", "about")
    table.columns[1].justify = "right"
    for row in rows:
        star = " *" if row.name in DEFAULT_OPTIMIZERS else ""
        table.add_row(row.name + star, f"{row.lr:g}", row.note)
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "\n* competes by default; choose with --optimizers a,b,c or --optimizers all. "
        "One with its ranges: optitune optimizers NAME"
    )


def print_optimizer(row: Optimizer) -> None:
    """One optimizer with its known-good settings, ranges and sources."""
    console = Console(highlight=False)
    console.print(
        f"[bold]{row.name}[/bold]  {row.path.replace(':', '.')}\n{row.note}\nsource: {row.source}\n", soft_wrap=True
    )
    console.print("known-good settings, tried first:")
    for values in row.known_good:
        console.print(
            "  " + ", ".join(f"{key} {setting(value)}" for key, value in row.arguments(values).items()),
            soft_wrap=True,
        )
    _print_ranges(console, row.ranges)
    if row.also:
        also = ", ".join(f"{key} = {value}" for key, value in row.also.items())
        console.print(f"\nnot searched, but can be set or searched in a study's file: {also}", soft_wrap=True)
    if row.extra:
        console.print(f"\nneeds: pip install 'optitune\\[{row.extra}]'", soft_wrap=True)


def _print_ranges(console: Console, ranges: Mapping[str, Range]) -> None:
    table = _table("setting", "range", "source")
    for key, value in ranges.items():
        table.add_row(key, str(value), value.source)
    console.print()
    console.print(table)


def print_schedules(rows: Sequence[Schedule]) -> None:
    """A line per schedule; a star where it competes by default."""
    table = _table("schedule", "stepped", "about")
    for row in rows:
        star = " *" if row.name in DEFAULT_SCHEDULES else ""
        table.add_row(row.name + star, f"per {row.per}" if row.path else "-", row.note)
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "\n* competes by default; choose with --schedules a,b,c or --schedules all. Any of them with a linear "
        "warm-up: --set warmup=0.1 (a tenth of the steps). One with its ranges: optitune schedules NAME"
    )


def print_schedule(row: Schedule) -> None:
    """One schedule with its known-good settings, ranges and sources."""
    console = Console(highlight=False)
    place = row.path.replace(":", ".") or "no scheduler"
    console.print(f"[bold]{row.name}[/bold]  {place}\n{row.note}\nsource: {row.source}", soft_wrap=True)
    settings = row.arguments(row.known_good(EPOCHS))
    if settings:
        shown = ", ".join(f"{key} {setting(value)}" for key, value in settings.items())
        console.print(f"\nknown-good settings for {EPOCHS} epochs, tried first:\n  {shown}", soft_wrap=True)
        _print_ranges(console, row.ranges(EPOCHS))


def print_tasks(rows: Sequence[BuiltIn]) -> None:
    """A line per task."""
    table = _table("task", "data and network")
    for row in rows:
        table.add_row(row.name, row.described())
    Console(highlight=False).print(table)
