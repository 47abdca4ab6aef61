"""The registries of optimizers and tasks as tables."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from optitune.cli.standings import setting_text
from optitune.optimizers import DEFAULT_OPTIMIZERS, Optimizer
from optitune.tasks import Task, described


def print_optimizers(rows: Sequence[Optimizer]) -> None:
    """A line per optimizer; a star where it competes by default."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("optimizer", no_wrap=True)
    table.add_column("known-good lr", justify="right")
    table.add_column("about")
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
            "  " + ", ".join(f"{key} {setting_text(value)}" for key, value in row.arguments(values).items()),
            soft_wrap=True,
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("setting", "range", "source"):
        table.add_column(heading)
    for key, value in row.ranges.items():
        table.add_row(key, str(value), value.source)
    console.print()
    console.print(table)


def print_tasks(rows: Sequence[Task]) -> None:
    """A line per task."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("task", no_wrap=True)
    table.add_column("data and network")
    for row in rows:
        table.add_row(row.name, described(row))
    Console(highlight=False).print(table)
