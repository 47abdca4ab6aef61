"""The figures of a report on a full training: its test value beside the comparison's, and what it takes for what."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from optitune.common.summary import Summary
from optitune.report.data import confusion_counts, window
from optitune.report.figures import bar, tile
from optitune.report.style import FAINT, INK, WIDE, Palette, Panel, Picture, for_rows, over, rows_of
from optitune.retraining.curves import TRAINING, draw_training
from optitune.retraining.mistakes import Mistakes
from optitune.retraining.records import SeedResult
from optitune.retraining.results import Tested

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

MOST_CLASSES = 30
"""Of more classes a table of mistakes could not be read."""


def tested(rows: Sequence[tuple[str, Summary]], optimizer: str, palette: Palette) -> Picture:
    """Draw values of one configuration under several conditions, each with its interval and its runs.

    Args:
        rows: a condition and its values.
        optimizer: whose configuration it is.
        palette: colours of the optimizers and units of the values.
    """

    def draw(place: "FigureBase") -> None:
        axes = place.subplots()
        seen = [value for _, found in rows for value in (found.low, found.high, *found.each) if value is not None]
        axes.set_xlim(window(palette.scaled(seen)))
        for number, (_, found) in enumerate(rows):
            bar(axes, number, optimizer, found, palette)
        rows_of(axes, [name for name, _ in rows])
        axes.set_xlabel(palette.label("").strip())

    alt = "; ".join(f"{name} {palette.unit.value(found.mean)}" for name, found in rows)
    counts = " and ".join(f"{over([len(found.each)], 'run')} ({name})" for name, found in rows)
    caption = f"Mean and 95 % interval (Student's t) of {optimizer}'s configuration over {counts}."
    return Picture("tested", caption, (Panel(draw, alt, for_rows(len(rows))),))


def training(result: Tested) -> Picture:
    """Loss, metric and learning rate of every seed, by epoch."""
    curves, loss = [seed.epochs for seed in result.runs], result.plan.configuration.training.loss
    draw = partial(draw_training, curves, loss, result.metric, result.plan.task)
    losses = [curve[-1].train_loss for curve in curves]
    ends = ", ".join("unknown" if each is None else f"{each:.4g}" for each in losses)
    caption = f"Training loss, {result.metric} and learning rate over {over([len(curves)], 'seed')}."
    return Picture("training", caption, (Panel(draw, f"the loss ends at {ends}", TRAINING),))


def confusion(seeds: Sequence[SeedResult]) -> Picture | None:
    """What is taken for what; None without classes, or with more than could be read."""
    counts = confusion_counts(seeds)
    classes = len(counts)
    if not 2 <= classes <= MOST_CLASSES:
        return None
    wrong = [[count if true != said else 0 for said, count in enumerate(row)] for true, row in enumerate(counts)]
    most = max(max(row) for row in wrong) or 1

    def draw(place: "FigureBase") -> None:
        axes = place.subplots()
        for true, row in enumerate(counts):
            for said, count in enumerate(row):
                if true == said:
                    axes.text(said, true, str(count), ha="center", va="center", color=FAINT, fontsize=8)
                elif count:
                    tile(axes, said, true, count / most, str(count), colour="#D55E00")
        rows_of(axes, [str(number) for number in range(classes)])
        axes.set_xticks(range(classes), [str(number) for number in range(classes)], color=INK)
        axes.set_xlim(-0.6, classes - 0.4)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("answered")
        axes.set_ylabel("true class")

    pairs = [(count, true, said) for true, row in enumerate(wrong) for said, count in enumerate(row) if count]
    top = sorted(pairs, reverse=True)[:3]
    alt = "; ".join(f"{true} taken for {said} {count} times" for count, true, said in top) or "no mistakes"
    caption = (
        f"What was taken for what on the test set, counts over {over([len(seeds)], 'seed')} together; right answers "
        "are in grey."
    )
    size = (WIDE[0], max(2.6, 0.9 + 0.34 * classes))
    return Picture("confusion", caption, (Panel(draw, alt, size),))


def mistakes(found: Mistakes) -> Picture:
    """The test images that were most confidently answered wrong."""
    images, columns = found.images.numpy(), 4
    rows = -(-len(images) // columns)

    def draw(place: "FigureBase") -> None:
        panels = place.subplots(rows, columns, squeeze=False).flatten()
        for panel in panels:
            panel.axis("off")
        for panel, image, true, said in zip(panels, images, found.truths, found.answers, strict=False):
            shown = image.transpose(1, 2, 0) / found.max_pixel
            panel.imshow(shown if shown.shape[2] == 3 else shown[:, :, 0], cmap="gray", vmin=0, vmax=1)
            panel.set_title(f"{true}, not {said}", loc="center", fontsize=9)

    pairs = [f"{true} taken for {said}" for true, said in zip(found.truths, found.answers, strict=True)]
    caption = (
        f"The {len(pairs)} test images that the first seed's network answered wrong most confidently, of one run: what "
        "each is, and not what it was taken for."
    )
    return Picture("mistakes", caption, (Panel(draw, "; ".join(pairs), (WIDE[0], 0.2 + 1.4 * rows)),))
