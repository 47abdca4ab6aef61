"""Records drawn with matplotlib, in one style, safe for the colour-blind."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optitune.common.colours import COLOURS
from optitune.common.files import replacing
from optitune.retraining.records import EpochRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

TRAINING = (12.0, 3.8)
"""Inches."""


def draw_training(
    curves: Sequence[Sequence[EpochRecord]], loss: str, metric: str, title: str, place: "FigureBase"
) -> None:
    """Training loss, training metric and learning rate by epoch, a line per seed.

    Args:
        curves: the epochs of each seed.
        loss: its name.
        metric: its name; it has no panel where an epoch has no value of it.
        title: what was trained.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    measured = all(row.train_value is not None for curve in curves for row in curve)
    lost = all(row.train_loss is not None for curve in curves for row in curve)
    names = [*[f"training loss ({loss})"] * lost, *[f"training {metric}"] * measured, "learning rate"]
    panels: list[Axes] = list(place.subplots(1, len(names), squeeze=False)[0])
    for number, curve in enumerate(curves):
        epochs = [row.epoch for row in curve]
        style: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": "o",
            "markersize": 3.5,
            "linewidth": 1.6,
        }
        if lost:
            panels[0].plot(epochs, [row.train_loss or 0.0 for row in curve], label=f"seed {number + 1}", **style)
        if measured:
            panels[lost].plot(epochs, [row.train_value or 0.0 for row in curve], **style)
    # the learning rate follows from the schedule: one line stands for every seed
    epochs, lrs = [row.epoch for row in curves[0]], [row.lr for row in curves[0]]
    panels[-1].step(epochs, lrs, where="mid", color="#333333", linewidth=1.6, marker="o", markersize=3.5)
    losses = [row.train_loss for curve in curves for row in curve if row.train_loss is not None]
    for panel, values in (*[(panels[0], losses)] * lost, (panels[-1], lrs)):
        if max(values) <= 0 or min(values) < 0:
            # a loss of zero throughout, or one below it: a log scale has no place for them
            continue
        panel.set_yscale("log")
        low, high = panel.get_ylim()
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(NullFormatter())
    for panel, name in zip(panels, names, strict=True):
        panel.set_title(name, loc="left", fontsize=11)
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1 and lost:
        panels[0].legend(frameon=False, fontsize=9)
    place.suptitle(title, x=0.01, ha="left", fontsize=12)


def training_curves(curves: Sequence[Sequence[EpochRecord]], loss: str, metric: str, title: str, path: Path) -> None:
    """Draw training loss, metric and learning rate of each seed by epoch, as a PNG.

    Args:
        curves: the epochs of each seed.
        loss: name of the loss.
        metric: name of the metric.
        title: of the picture.
        path: of the PNG.

    Raises:
        OptituneError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=TRAINING, layout="constrained")
    draw_training(curves, loss, metric, title, figure)
    with replacing(path) as scratch:
        figure.savefig(scratch, dpi=150)
