"""A table of runs as it was read: cells by column, and where in its source each row stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

ARM, SEED, STEP, SECONDS = "arm", "seed", "step", "seconds"
"""The names of columns that readers make themselves."""


@dataclass(frozen=True)
class RawTable:
    """Rows of a source of runs.

    Attributes:
        source: as messages name it.
        columns: names, in their order.
        rows: cells by column; a column that a row lacks is empty there.
        places: where each row stands, such as `runs.csv, row 7`.
        sign: 1 where the source says that more is better, -1 where less is; None where it does not say.
        notes: what a reader left out or decided, a sentence each.
        percent: whether the source says that values are shares, to be written in percent.
        settings: columns that are settings of the runs, not results.
        drawn: those of them that a sampler drew, of which every run may have others.
    """

    source: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    places: tuple[str, ...]
    sign: int | None = None
    notes: tuple[str, ...] = ()
    percent: bool = False
    settings: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()


def empty(cell: Any) -> bool:
    """Whether nothing stands in a cell; a number that is nan is something."""
    return cell is None or (isinstance(cell, str) and not cell.strip()) or type(cell).__name__ in ("NAType", "NaTType")


def missing(cell: Any) -> bool:
    """Whether nothing is known of a cell that is not the metric: a DataFrame has nan for that."""
    return empty(cell) or (isinstance(cell, float) and isnan(cell))


def number(cell: Any) -> float:
    """A cell as a number.

    Raises:
        ValueError: it is none.
    """
    if isinstance(cell, bool):
        raise ValueError(f"{cell} is not a number")
    text = cell.strip() if isinstance(cell, str) else cell
    if isinstance(text, str) and "_" in text:
        raise ValueError(f"'{text}' is not a number")
    try:
        return float(text)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"'{text}' is not a number") from None


def name(cell: Any) -> str:
    """A cell as a name; 1, 1.0 and '1' are the same one."""
    if isinstance(cell, float | int) and not isinstance(cell, bool):
        value = float(cell)
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.12g}"
    text = " ".join(str(cell).split())
    whole = text.removesuffix(".0")
    return whole if whole.lstrip("-").isdigit() else text


def is_number(cell: Any) -> bool:
    """Whether a cell holds a number, nan included."""
    try:
        number(cell)
    except ValueError:
        return False
    return True
