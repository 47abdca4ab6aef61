"""Judged runs on the terminal: the table, the sentence, what to train next."""

from pathlib import Path

from rich.console import Console

from optitune.judging.results import Judged, Judgement
from optitune.report.judged import judged_table, tasks_table
from optitune.terminal.compare import fitted


def print_judged(found: Judged, page: Path | None, quiet: bool) -> None:
    """Print the verdict on runs that were trained elsewhere.

    Args:
        found: what was judged.
        page: of the report; None where none was written.
        quiet: whether only the sentences are to be printed, without tables and notes.
    """
    console = Console(highlight=False, soft_wrap=True)
    several = len(found.tasks) > 1
    if not quiet:
        for note in found.notes:
            console.print(note, markup=False)
    for each in found.tasks:
        if several:
            console.print(f"\n[bold]Task[/bold] {_plain(each.task)}" if not quiet else "", end="" if quiet else "\n")
        _print(console, each, quiet, lead=f"{each.task}: " if several and quiet else "")
    if several and not quiet:
        console.print("\n[bold]All tasks[/bold]")
        console.print(fitted(tasks_table(found)))
    if found.overall is not None:
        _print(console, found.overall, quiet, lead="")
    if page is not None:
        console.print(f"\n{page}", markup=False)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _print(console: Console, found: Judgement, quiet: bool, lead: str) -> None:
    if not quiet:
        table = judged_table(found)
        console.print()
        console.print(fitted(table))
        console.print(f"\n{table.caption}", markup=False)
        for note in found.notes:
            console.print(note, markup=False)
        console.print()
    console.print(f"[bold]{_plain(lead + found.sentence)}[/bold]")
    console.print(found.advice, markup=False)
