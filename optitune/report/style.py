"""How the figures of a report look: one style, each optimizer in one colour throughout, on light and on dark paper.

A figure is a few panels, so that a page can lay them out as wide as its window is. They are drawn once, for light
paper; in a page, each colour that `DARK` has is a CSS variable, so that the same panel is right on dark paper too.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optitune.common import colours
from optitune.common.colours import COLOURS
from optitune.common.files import replacing
from optitune.common.text import Unit, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

INK, FAINT, GRID, GREY, TINT = "#1d1f21", "#63696e", "#dfe2e5", "#a9afb4", "#e6eaed"

DARK = {
    INK: "#e6e8ea",
    FAINT: "#a0a7ad",
    GRID: "#33383d",
    GREY: "#656c73",
    TINT: "#2b3136",
    "#0072b2": "#3b94dc",
    "#d55e00": "#ef7a2f",
    "#009e73": "#1fb88d",
    "#cc79a7": "#da8fba",
    "#e69f00": "#eda61a",
    "#56b4e9": "#a6d8f7",
    "#882255": "#c2447a",
    "#000000": "#ffffff",
}
"""What stands for a colour on dark paper: as far from it as on light, and as far from each other."""

DASHES = ("-", "--", ":", "-.")

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")

WIDE, SMALL = (4.6, 3.1), (3.2, 2.5)
"""Inches; so small that their letters can be read on a phone."""

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "optitune",
    # names are a user's: a dollar in one begins no formula
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.useoffset": False,
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": GREY,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.7,
}


@dataclass(frozen=True)
class Panel:
    """A part of a figure: what draws it, how large it is in inches, and what it shows, for who cannot see it."""

    draw: Callable[["FigureBase"], None]
    alt: str
    size: tuple[float, float] = WIDE


@dataclass(frozen=True)
class Picture:
    """A figure: the name of its file, a sentence on what it shows and over how many runs, and its panels."""

    name: str
    caption: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Palette:
    """What all figures of a study share.

    Attributes:
        optimizers: of the study; an optimizer's colour follows from its place among them.
    """

    optimizers: tuple[str, ...]
    unit: Unit

    def look(self, name: str) -> dict[str, Any]:
        """Colour, dashes and marker; those that share a colour have other dashes."""
        place = colours.place(name, self.optimizers)
        dashes = DASHES[place // len(COLOURS) % len(DASHES)]
        return {"color": self.colour(name), "linestyle": dashes, "marker": MARKERS[place % len(MARKERS)]}

    def colour(self, name: str) -> str:
        return colours.colour(name, self.optimizers)

    def scaled(self, values: Iterable[float]) -> list[float]:
        """Values as an axis shows them."""
        return [100 * value if self.unit.percent else value for value in values]

    def label(self, part: str) -> str:
        """What stands at an axis of values."""
        return f"{part} {self.unit.metric}{', %' if self.unit.percent else ''}"

    def legend(self, place: "FigureBase", names: Iterable[str]) -> None:
        """Draw a legend of the optimizers below the panels."""
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], label=name, markersize=4, **self.look(name)) for name in names]
        place.legend(handles=handles, loc="outside lower center", ncols=4)


def variable(colour: str) -> str:
    """The page's CSS variable for one of the colours of `DARK`."""
    return f"--figure-{colour.lower().removeprefix('#')}"


def svg(panel: Panel) -> str:
    """A panel as an element of a page, whose CSS variables say what each colour is on its paper.

    Two panels of a page may define the same clip path or marker: its id is a hash of what it draws.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=panel.size, layout="constrained")
        panel.draw(figure)
        text = StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    drawn = text.getvalue()
    # neither the head of a file of its own nor names of groups, which every panel has
    drawn = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", drawn[drawn.index("<svg") :])
    drawn = drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(panel.alt)}" ', 1)
    return re.sub(r"(?<=: )#[0-9a-f]{6}\b", lambda found: _by_variable(found[0]), drawn)


def _by_variable(colour: str) -> str:
    return f"var({variable(colour)})" if colour in DARK else colour


def whole(picture: Picture) -> "Figure":
    """All panels of a figure as one, on light paper."""
    from matplotlib import figure, rc_context

    class Figure(figure.Figure):
        """One that a notebook shows by itself, which knows figures only after pyplot was imported."""

        def _repr_png_(self) -> bytes:
            written = BytesIO()
            self.savefig(written, dpi=110)
            return written.getvalue()

    panels = picture.panels
    columns = min(len(panels), 4 if panels[0].size == SMALL else 2)
    rows = -(-len(panels) // columns)
    width, height = (max(sizes) for sizes in zip(*(panel.size for panel in panels), strict=True))
    with rc_context(STYLE):
        drawn = Figure(figsize=(columns * width, rows * height), layout="constrained", facecolor="white")
        for panel, place in zip(panels, drawn.subfigures(rows, columns, squeeze=False).flatten(), strict=False):
            panel.draw(place)
    return drawn


def save_png(picture: Picture, path: Path) -> None:
    """Write a whole figure, on light paper.

    Raises:
        OptituneError: the file cannot be written.
    """
    from matplotlib import rc_context

    with rc_context(STYLE), replacing(path) as scratch:
        whole(picture).savefig(scratch, dpi=150)


def rows_of(axes: "Axes", names: Sequence[str]) -> None:
    """A row for each name, the first on top."""
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def for_rows(count: int) -> tuple[float, float]:
    """The size of a panel with so many rows."""
    return WIDE[0], 0.9 + 0.3 * count


def log_lr(axes: "Axes", lrs: Sequence[float]) -> None:
    """An axis for these learning rates, its numbers without a formula."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    wide = max(lrs) / min(lrs)
    axes.set_xscale("log")
    axes.set_xlim(min(lrs) / wide**0.07 / 1.1, max(lrs) * wide**0.07 * 1.1)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide < 12 else (1, 3) if wide < 50 else (1,), numticks=9))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("learning rate")


def over(counts: Sequence[int], what: str) -> str:
    """3 to 8 runs."""
    least, most = min(counts), max(counts)
    return f"{least} to {most} {what}s" if least < most else plural(most, what)
