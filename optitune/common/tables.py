"""Tables that people read: each is made once, and terminal, notes, page and notebook only lay it out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

UNKNOWN = "-"

Tone = Literal["", "good", "bad"]

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: may have two lines.
        cells: a text for each row; the terminal has others as well.
        keep: where there is no room for all columns, the lowest is left out first; None is never left out.
        left: whether its cells stand at the left.
        tones: what is to be seen at once, for each row; empty for nothing.
    """

    heading: str
    cells: Sequence[Any]
    keep: int | None = None
    left: bool = False
    tones: Sequence[Tone] = ()


def column(
    rows: Iterable[Row],
    heading: str,
    text: Callable[[Row], str | None],
    keep: int | None = None,
    tone: Callable[[Row], Tone] | None = None,
) -> Column:
    """A column of some rows of data.

    Args:
        rows: of the table.
        heading: of the column.
        text: the cell of a row; None where it is not known.
        keep: as `Column` has it.
        tone: of a cell; None for a column without.
    """
    cells = [text(row) for row in rows]
    tones = [tone(row) for row in rows] if tone else ()
    return Column(heading, [UNKNOWN if cell is None else cell for cell in cells], keep, tones=tones)


@dataclass(frozen=True)
class Table:
    """Columns with a caption; the first cell of each row is its name, an optimizer's where `optimizers`."""

    caption: str
    columns: tuple[Column, ...]
    optimizers: bool = True

    @classmethod
    def of(
        cls, caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]], optimizers: bool = True
    ) -> "Table":
        """Make a table of rows of cells.

        Args:
            caption: of the table.
            headings: of its columns.
            rows: cells of each row, one per column.
            optimizers: whether the first cell of a row names an optimizer; True by default.
        """
        columns = [Column(heading, [row[place] for row in rows]) for place, heading in enumerate(headings)]
        return cls(caption, tuple(columns), optimizers)

    @property
    def headings(self) -> tuple[str, ...]:
        """The columns' headings, a line each."""
        return tuple(column.heading.replace("\n", " ") for column in self.columns)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells, row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))
