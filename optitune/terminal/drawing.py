"""Tables that fit where they are shown, tiny curves, and a bar: what the terminal's views are made of."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, log
from statistics import median

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from optitune.common.tables import Column, Tone
from optitune.common.text import duration

GOOD, BAD, CURVE, QUIET, NOTE = "green", "red", "cyan", "dim", "magenta"
"""Colours that can be read on a dark background and on a light one."""

TONES: Mapping[Tone, str] = {"": "", "good": GOOD, "bad": BAD}

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-~=+*#"
"""Eight heights of a tiny curve; the second for consoles whose encoding lacks the first."""

CURVE_WIDTH = 8

GAP = 2

ANY_WIDTH = 400
"""What counts as the width of a file or a pipe, which has none."""

LONGEST_BAR = 40


def width_of(console: Console, options: ConsoleOptions) -> int:
    return options.max_width if console.is_terminal else ANY_WIDTH


@dataclass(frozen=True)
class Curve:
    """A tiny curve through heights between 0 and 1."""

    heights: tuple[float, ...]

    def text(self, ascii_only: bool) -> Text:
        marks = ASCII if ascii_only else BLOCKS
        # the last one is what it came to, and is never left out
        count = min(len(self.heights), CURVE_WIDTH)
        chosen = [self.heights[(place + 1) * len(self.heights) // count - 1] for place in range(count)]
        return Text("".join(marks[min(int(height * len(marks)), len(marks) - 1)] for height in chosen), CURVE)


def curves(drawn: Sequence[Sequence[float]], less: bool = False) -> list[Curve]:
    """Tiny curves on one scale; what rises is drawn as rising, and what falls as falling, whichever is better.

    Most learning curves change at once and then hardly, and what is decided happens at their better end. So heights
    are powers of how far a value is behind the best one, down to what lies between where they end.

    Args:
        drawn: values of each.
        less: whether less is better.
    """
    sign = -1 if less else 1
    finite = [[sign * value for value in each if isfinite(value)] for each in drawn]
    values = [value for each in finite for value in each]
    if not values:
        return [Curve(()) for _ in drawn]
    top = max(values)
    behind = [top - value for value in values]
    least = max(median(top - each[-1] for each in finite if each), 0.02 * median(behind), 0.002 * max(behind), 1e-12)
    lowest = log(1 + max(top - each[0] for each in finite if each) / least) or 1.0

    def height(value: float) -> float:
        good = min(1.0, max(0.0, 1 - log(1 + (top - value) / least) / lowest))
        return 1 - good if less else good

    return [Curve(tuple(height(value) for value in each)) for each in finite]


def width_needed(column: Column) -> int:
    """How many characters the widest line of a column has."""
    return max(len(text) for text in (*column.heading.split("\n"), *map(_plain, column.cells)))


def _plain(cell: str | Curve) -> str:
    return cell.text(True).plain if isinstance(cell, Curve) else cell


@dataclass(frozen=True)
class Fitted:
    """A table that leaves out its least useful columns rather than break its lines.

    Attributes:
        most: how many rows there is room for; None for all.
        style: of the whole.
    """

    columns: Sequence[Column]
    most: int | None = None
    style: str = ""

    def __len__(self) -> int:
        return len(self.columns[0].cells) if self.columns else 0

    def kept(self, width: int) -> list[Column]:
        """The columns that there is room for."""
        kept = list(self.columns)
        while sum(width_needed(column) + GAP for column in kept) - GAP > width:
            spare = [column for column in kept if column.keep is not None]
            if not spare:
                break
            kept.remove(min(spare, key=lambda column: column.keep or 0))
        return kept

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept = self.kept(width_of(console, options))
        headings = [column.heading.split("\n") for column in kept]
        lines = max(map(len, headings), default=1)
        table = Table(box=None, pad_edge=False, header_style="bold", style=self.style, row_styles=[self.style])
        for column, heading in zip(kept, headings, strict=True):
            text = "\n".join([""] * (lines - len(heading)) + heading)
            justify: JustifyMethod = "left" if column.left else "right"
            table.add_column(text, justify=justify, min_width=width_needed(column), no_wrap=True)
        count = len(self) if self.most is None else min(self.most, len(self))
        for row in range(count):
            table.add_row(*(_drawn(column, row, options.ascii_only) for column in kept))
        # where lines have no end, the table must not be squeezed into the width that rich supposes
        yield from console.render(table, options.update(width=width_of(console, options)))
        if count < len(self):
            yield Text(f"... and {len(self) - count} more", QUIET)


def _drawn(column: Column, row: int, ascii_only: bool) -> Text:
    cell = column.cells[row]
    if isinstance(cell, Curve):
        return cell.text(ascii_only)
    return Text(cell, TONES[column.tones[row]] if column.tones else "")


class Bar:
    """How much is done: a bar, the numbers, the time it took, and what is left."""

    def __init__(self, what: str, total: float, completed: float = 0) -> None:
        self.what, self.total, self.completed, self.left = what, total, completed, ""
        self._began = time.monotonic()

    def update(self, completed: float | None = None, left: str | None = None, total: float | None = None) -> None:
        """Move on; what is None stays.

        Args:
            completed: how much is done.
            left: how long it will still take, in words.
            total: how much there is.
        """
        self.completed = self.completed if completed is None else completed
        self.left = self.left if left is None else left
        self.total = self.total if total is None else total

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left = self.left if self.completed < self.total else ""
        parts = [f"{self.completed:g}/{self.total:g}", duration(int(time.monotonic() - self._began)), left]
        numbers = "  ".join(part for part in parts if part)
        room = min(LONGEST_BAR, options.max_width - len(self.what) - len(numbers) - 2 * GAP)
        grid = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
        cells: list[RenderableType] = [Text(self.what), Text(numbers)]
        if room >= CURVE_WIDTH:
            total = max(self.total, 1)
            bar = ProgressBar(
                total, self.completed, room, style="bright_black", complete_style=GOOD, finished_style=GOOD
            )
            cells.insert(1, bar)
        for _ in cells:
            grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_row(*cells)
        yield grid


def one_above_other(upper: Fitted, lower: Fitted, room: int) -> tuple[Fitted, Fitted]:
    """Cut two tables so that together they fit; the lower one gets half of the room at most.

    Args:
        upper: the table above.
        lower: the table below.
        room: rows that there are for both.
    """
    below = min(len(lower), max(1, room // 2, room - len(upper)))
    return replace(upper, most=max(1, room - below)), replace(lower, most=below)
