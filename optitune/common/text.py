"""Numbers and lists in words: a metric in its unit, settings, durations, plurals, enumerations."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Any


@dataclass(frozen=True)
class Unit:
    """The format of a metric's values.

    Attributes:
        metric: its name.
        percent: whether values are shares, written in percent, and differences in percentage points.
    """

    metric: str
    percent: bool = False

    def value(self, value: float) -> str:
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4g}"

    def difference(self, value: float) -> str:
        """A difference of two values, without its sign."""
        return f"{100 * abs(value):.2f} pp" if self.percent else f"{abs(value):.2g}"

    def signed(self, value: float) -> str:
        """A difference of two values with its sign."""
        return f"{100 * value:+.2f} pp" if self.percent else f"{value:+.2g}"

    def size(self, value: float) -> str:
        """The size of a difference, as a column has it whose heading has the unit."""
        return self.difference(value).removesuffix(" pp")

    def sizes(self, low: float, high: float) -> str:
        """Between what the size of a difference lies, with its unit once."""
        return f"{self.size(low)} to {self.difference(high)}"

    def change(self, better: float) -> str:
        """By how much a value is better or worse, in words, as a column has it whose heading has the unit."""
        size = self.size(better)
        return size if float(size) == 0 else f"{size} {'better' if better > 0 else 'worse'}"

    def between(self, low: float, high: float) -> str:
        """Between what `change` lies."""
        first, last = self.change(low), self.change(high)
        word = first.partition(" ")[2]
        return f"{first.partition(' ')[0] if word == last.partition(' ')[2] else first} to {last}"

    @property
    def heading(self) -> str:
        """The metric with its unit."""
        return f"{self.metric}, %" if self.percent else self.metric

    @property
    def points(self) -> str:
        """The unit of differences after a heading."""
        return ", pp" if self.percent else ""

    def span(self, low: float, high: float, signed: bool = False) -> str:
        """An interval, with its unit once.

        Args:
            low: its lower end.
            high: its upper end.
            signed: whether it is of a difference, whose ends have a sign.
        """
        sign, unit = ("+", "pp") if signed else ("", "%")
        if self.percent:
            return f"{100 * low:{sign}.2f} to {100 * high:{sign}.2f} {unit}"
        return f"{low:{sign}.4g} to {high:{sign}.4g}"


def setting(value: Any) -> str:
    """A setting as a person reads it, in as many digits as it needs.

    All of them where they are few. Of others four significant digits, or, just below 1, as many more as leave 1 - value
    three of its own: betas differ by that, and none is rounded to 1.
    """
    if isinstance(value, list | tuple):
        return f"({', '.join(setting(each) for each in value)})"
    if not isinstance(value, float) or (value.is_integer() and abs(value) < 1e15):
        return f"{value:.0f}" if isinstance(value, float) else str(value)
    short = f"{value:.6g}"
    if float(short) == value:
        return short
    nines = -log10(1 - value) if 0.5 < value < 1 else 0.0
    return f"{value:.{max(4, int(nines) + 3)}g}"


def short(value: float) -> str:
    """A number in three significant digits, for a column."""
    return f"{value:.3g}"


def plural(number: float, thing: str) -> str:
    """1 epoch, 2 epochs, 0.5 epochs; the ending belongs to the last word of `thing`."""
    ending = "" if number == 1 else "es" if thing.endswith(("s", "tch", "x")) else "s"
    return f"{number if isinstance(number, int) else format(number, 'g')} {thing}{ending}"


def over_runs(number: int) -> str:
    """What a value is: one run's, or a mean."""
    return "one run" if number == 1 else f"mean of {number} runs"


def digest(checksum: str) -> str:
    """A checksum as a message shows it: `sha256:` and 12 digits, enough to distinguish any two."""
    return f"{checksum[:19]}..." if len(checksum) > 19 else checksum


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def few(names: Sequence[str], most: int = 4) -> str:
    """a, b, c, d and 3 others."""
    return listed(names) if len(names) <= most + 1 else f"{', '.join(names[:most])} and {len(names) - most} others"


def duration(seconds: float) -> str:
    """A measured time in its two largest units; tenths below ten seconds, unless the number is whole."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


STEPS = ((90, 5, 1, "s"), (600, 30, 60, "min"), (5400, 60, 60, "min"), (86_400, 1800, 3600, "h"))
"""Estimates below so many seconds are given in steps of so many, divided by the seconds of the unit, and the unit."""


def roughly(seconds: float) -> str:
    """An estimated time, with no more digits than an estimate has."""
    for below, step, unit, name in STEPS:
        if seconds < below:
            return f"{max(1, round(seconds / step)) * step / unit:g} {name}"
    return f"{seconds / 86_400:.2g} d"
