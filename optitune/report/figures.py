"""The figures of a report: rows of `data`, drawn."""

from collections.abc import Sequence
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

from optitune.common.summary import Summary
from optitune.common.text import plural
from optitune.report.data import (
    Band,
    Basin,
    Climb,
    Curve,
    Share,
    better_half,
    common_depth,
    window,
)
from optitune.report.importance import Influence
from optitune.report.style import (
    FAINT,
    GREY,
    INK,
    SMALL,
    TINT,
    WIDE,
    Palette,
    Panel,
    Picture,
    for_rows,
    log_lr,
    over,
    rows_of,
)
from optitune.statistics.differences import Difference
from optitune.statistics.verdict import Place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase


def values(places: Sequence[Place], palette: Palette, measured: str = "validation") -> Picture:
    """Dot and interval of every optimizer that has a value, with its runs.

    Args:
        places: of a verdict.
        palette: colours of the optimizers and units of the values.
        measured: on what the metric was measured, which stands before its name; empty where that is not known.
    """
    rows = [(place.optimizer, place.value) for place in places if place.value is not None]
    inside = [place.value for place in places if place.value is not None and not place.out]

    def draw(place: "FigureBase") -> None:
        axes = place.subplots()
        seen = [value for found in inside for value in (found.low, found.high, *found.each) if value is not None]
        rest = [value for _, found in rows for value in (found.low, found.mean, found.high) if value is not None]
        axes.set_xlim(window(palette.scaled(seen or rest), palette.scaled(rest)))
        for number, (name, found) in enumerate(rows):
            if not _beyond(axes, number, palette.scaled([found.mean])[0], palette.unit.value(found.mean)):
                bar(axes, number, name, found, palette)
        rows_of(axes, [name for name, _ in rows])
        axes.set_xlabel(palette.label(measured).strip())

    alt = "; ".join(f"{name} {palette.unit.value(found.mean)}" for name, found in rows)
    runs = over([len(found.each) for _, found in rows], "run")
    caption = (
        f"Mean and 95 % interval of each optimizer's best configuration over {runs} on fresh seeds, the small strokes. "
        "The intervals hold for whoever leads; a round is as easy or hard for all, so that differences are surer than "
        "these intervals look."
    )
    return Picture("values", caption, (Panel(draw, alt, for_rows(len(rows))),))


def differences(rows: Sequence[Difference], leader: str, epsilon: float, palette: Palette) -> Picture:
    """Draw how far every optimizer is from the leader, and how sure that is.

    Args:
        rows: the differences, one for each optimizer that is not the leader.
        leader: its name.
        epsilon: difference of the metric that does not matter.
        palette: colours of the optimizers and units of the values.
    """

    def draw(place: "FigureBase") -> None:
        axes = place.subplots()
        nearest = min(rows, key=lambda row: abs(row.mean))
        near = [row for row in rows if row.relation in ("equal", "undecided")] or [nearest]
        inner = [value for row in near for value in (row.low, row.high, row.mean)]
        rest = [value for row in rows for value in (row.low, row.high, row.mean)]
        axes.set_xlim(window(palette.scaled([*inner, 0.0, epsilon, -epsilon]), palette.scaled(rest)))
        axes.axvspan(*palette.scaled([-epsilon, epsilon]), color=TINT, zorder=0)
        axes.axvline(0, color=FAINT, linewidth=1)
        for number, row in enumerate(rows):
            if not _beyond(axes, number, palette.scaled([row.mean])[0], palette.unit.signed(row.mean)):
                bar(axes, number, row.one, row, palette)
        rows_of(axes, [row.one for row in rows])
        axes.set_xlabel(f"better than {leader} by{', pp' if palette.unit.percent else ''}")

    alt = "; ".join(f"{row.one} {palette.unit.signed(row.mean)} ({row.relation})" for row in rows)
    caption = (
        f"Difference to {leader} over {over([row.rounds for row in rows], 'common round')}, with bounds that hold "
        "however often one looks; in the shaded band it does not matter "
        f"({palette.unit.difference(epsilon)})."
    )
    return Picture("differences", caption, (Panel(draw, alt, for_rows(len(rows))),))


def bar(axes: "Axes", number: int, optimizer: str, found: Summary | Difference, palette: Palette) -> None:
    """Draw a value or a difference in a row: a dot, its interval where that is known, and a stroke for each run.

    Args:
        axes: of the figure.
        number: of the row.
        optimizer: whose colour it has.
        found: what is drawn.
        palette: colours of the optimizers and units of the values.
    """
    colour = palette.colour(optimizer)
    if isinstance(found, Summary):
        each = palette.scaled(found.each)
        axes.plot(each, [number + 0.24] * len(each), "|", color=colour, alpha=0.6, markersize=5)
    if found.low is not None and found.high is not None and isfinite(found.low) and isfinite(found.high):
        axes.plot(palette.scaled([found.low, found.high]), [number] * 2, color=colour, linewidth=2)
    axes.plot(palette.scaled([found.mean]), [number], color=colour, marker="o", markersize=6)


def _beyond(axes: "Axes", number: int, value: float, text: str) -> bool:
    """Write a value that the axis does not reach at its end; whether it is one."""
    low, high = axes.get_xlim()
    if low <= value <= high:
        return False
    written = f"◂ {text}" if value < low else f"{text} ▸"
    side = "left" if value < low else "right"
    axes.text(low if value < low else high, number, written, ha=side, va="center", color=FAINT, fontsize=8.5)
    return True


def curves(rows: Sequence[Band], contenders: Sequence[str], behind: Sequence[Curve], palette: Palette) -> Picture:
    """Learning curves of a comparison, the search's pruned trials behind them.

    Args:
        contenders: whose curves are to be seen well.
    """

    def draw(place: "FigureBase") -> None:
        axes = place.subplots()
        for curve in behind:
            _line(axes, curve, palette, color=GREY, linewidth=0.6, alpha=0.6)
        for row in rows:
            low, high = palette.scaled(row.low), palette.scaled(row.high)
            axes.fill_between(row.epochs, low, high, color=palette.colour(row.optimizer), alpha=0.15, linewidth=0)
            axes.plot(
                row.epochs, palette.scaled(row.middle), linewidth=1.5, markersize=3, **palette.look(row.optimizer)
            )
        leading = [row for row in rows if row.optimizer in contenders] or rows
        late = [value for row in leading for part in (row.low, row.high) for value in part[len(part) // 3 :]]
        axes.set_ylim(window(palette.scaled(late), palette.scaled(row.middle[-1] for row in rows)))
        _off(axes, [(row.optimizer, palette.scaled(row.middle)) for row in rows])
        _by_epoch(place, axes, palette, [row.optimizer for row in rows])

    alt = "; ".join(f"{row.optimizer} ends at {palette.unit.value(row.middle[-1])}" for row in rows)
    pruned = over([len(behind)], "pruned trial")
    grey = f", and in grey {pruned} of the search where they come into sight" if behind else ""
    caption = (
        "Median learning curve of each optimizer's best configuration, the middle half of its "
        f"{over([row.runs for row in rows], 'run')} within the band{grey}; the beginning may lie beyond the edge."
    )
    return Picture("curves", caption, (Panel(draw, alt, (WIDE[0], 3.6)),))


def search_curves(rows: Sequence[Curve], palette: Palette, sign: int) -> Picture:
    """Draw the learning curves of a search's trials.

    Args:
        rows: a curve for each trial.
        palette: colours of the optimizers and units of the values.
        sign: 1 where more of the metric is better, -1 where less is.
    """
    complete = [row for row in rows if row.outcome == "complete"]

    def draw(place: "FigureBase") -> None:
        axes = place.subplots()
        for row in rows:
            if row.outcome == "complete":
                style = palette.look(row.optimizer) | {"marker": ""}
                _line(axes, row, palette, linewidth=1.1, alpha=0.85, zorder=3, **style)
            else:
                _line(axes, row, palette, color=GREY, linewidth=0.6, alpha=0.6)
        ends = [row.points[-1][1] for row in complete or rows]
        leading = set(better_half(ends, sign))
        late = [value for row in complete or rows for _, value in row.points[len(row.points) // 3 :]
                if row.points[-1][1] in leading]  # fmt: skip
        axes.set_ylim(window(palette.scaled(late), palette.scaled(ends)))
        _by_epoch(place, axes, palette, list(dict.fromkeys(row.optimizer for row in complete)))

    alt = f"{len(complete)} curves of complete trials and {len(rows) - len(complete)} of pruned ones"
    caption = (
        f"Learning curves of the search's {over([len(complete)], 'complete trial')} in the optimizers' colours, and "
        f"of {over([len(rows) - len(complete)], 'pruned trial')} in grey, one run each."
    )
    return Picture("curves", caption, (Panel(draw, alt, (WIDE[0], 3.6)),))


def _off(axes: "Axes", rows: Sequence[tuple[str, Sequence[float]]]) -> None:
    """Name above those whose curve never comes into sight."""
    low, high = axes.get_ylim()
    below = [name for name, heights in rows if max(heights) < low]
    above = [name for name, heights in rows if min(heights) > high]
    marks = [f"{mark} {', '.join(names)}" for mark, names in (("▾", below), ("▴", above)) if names]
    axes.set_title("   ".join(marks), loc="right", fontsize=8.5, color=FAINT)


def _line(axes: "Axes", row: Curve, palette: Palette, **style: Any) -> None:
    axes.plot([epoch for epoch, _ in row.points], palette.scaled(value for _, value in row.points), **style)


def _by_epoch(place: "FigureBase", axes: "Axes", palette: Palette, names: Sequence[str]) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(palette.label("validation"))
    palette.legend(place, names)


def basins(rows: Sequence[Basin], palette: Palette, sign: int) -> Picture:
    """Draw values by learning rate, a panel for each optimizer, each as deep as the others below its own best.

    Args:
        rows: a basin for each optimizer.
        palette: colours of the optimizers and units of the values.
        sign: 1 where more of the metric is better, -1 where less is.
    """
    depth = common_depth(rows, sign)

    def draw(row: Basin, place: "FigureBase") -> None:
        axes = place.subplots()
        log_lr(axes, [point.lr for point in row.points])
        near, far = palette.scaled([row.best + 0.08 * sign * depth, row.best - sign * depth])
        low, high = min(near, far), max(near, far)
        axes.set_ylim(low, high)
        if row.good is not None:
            axes.axvspan(*row.good, color=TINT, zorder=0)
        colour = palette.colour(row.optimizer)
        filled: dict[str, Any] = {"marker": "o", "color": colour, "edgecolors": "none", "s": 22, "zorder": 3}
        open_: dict[str, Any] = {"marker": "o", "facecolors": "none", "edgecolors": colour, "linewidths": 0.9, "s": 18}
        for outcome, style in (("complete", filled), ("pruned", open_)):
            points = [p for p in row.points if p.outcome == outcome and p.value is not None]
            heights = [min(max(value, low), high) for value in palette.scaled(p.value or 0.0 for p in points)]
            axes.scatter([p.lr for p in points], heights, clip_on=False, **style)
        lost = [point.lr for point in row.points if point.outcome == "diverged"]
        axes.scatter(lost, [far] * len(lost), marker="x", color=INK, s=20, linewidths=1.1, clip_on=False, zorder=4)
        # where less is better, what lies beyond is drawn at the upper edge
        axes.set_title(row.optimizer, pad=8)
        axes.set_ylabel(palette.label("").strip())

    def alt(row: Basin) -> str:
        best = f", good from {row.good[0]:.2g} to {row.good[1]:.2g}" if row.good else ""
        return f"{row.optimizer}: {plural(len(row.points), 'trial')} by learning rate{best}"

    count = sum(len(row.points) for row in rows)
    shaded = "; shaded, from where to where complete trials came as near to the best as does not matter"
    caption = (
        f"Value by learning rate of {over([count], 'trial')} of the search, one run each: filled where complete, open "
        "where pruned (the last value seen, at the edge if it lies beyond), a cross where diverged; each panel reaches "
        f"as far from its own best{shaded if any(row.good for row in rows) else ''}."
    )
    return Picture("learning-rates", caption, tuple(Panel(partial(draw, row), alt(row), SMALL) for row in rows))


def climbs(rows: Sequence[Climb], palette: Palette, sign: int) -> Picture:
    """Draw the best value so far, by trials and by seconds.

    Args:
        rows: one for each optimizer.
        palette: colours of the optimizers and units of the values.
        sign: 1 where more of the metric is better, -1 where less is.
    """
    every = [value for row in rows for value in row.best]
    leading = better_half((row.best[-1] for row in rows), sign)

    def draw(by: str, place: "FigureBase") -> None:
        axes = place.subplots()
        for row in rows:
            spent = row.trials if by == "trials" else row.seconds
            style = palette.look(row.optimizer) | {"marker": ""}
            axes.step(spent, palette.scaled(row.best), where="post", linewidth=1.5, **style)
            axes.plot(spent[-1:], palette.scaled(row.best[-1:]), markersize=4, **palette.look(row.optimizer))
        axes.set_ylim(window(palette.scaled(leading), palette.scaled(every)))
        _off(axes, [(row.optimizer, palette.scaled(row.best)) for row in rows])
        axes.set_xlabel("trials of the optimizer" if by == "trials" else "seconds that they trained")
        axes.set_ylabel(palette.label("best"))
        palette.legend(place, [row.optimizer for row in rows])

    ends = ((row.optimizer, palette.unit.value(row.best[-1]), plural(row.trials[-1], "trial")) for row in rows)
    alt = "; ".join(f"{optimizer} {value} after {trials}" for optimizer, value, trials in ends)
    caption = (
        "The best value of each optimizer so far, by its trials and by the seconds that they trained, over "
        f"{over([row.trials[-1] for row in rows], 'trial')} each; it is the luckiest of single runs, so better the "
        "more there are."
    )
    sides = tuple(Panel(partial(draw, by), f"By {by}: {alt}", (WIDE[0], 3.4)) for by in ("trials", "seconds"))
    return Picture("best-so-far", caption, sides)


def shares(rows: Sequence[Share], palette: Palette) -> Picture:
    """How the budget was shared."""
    names = [row.optimizer for row in rows]
    colours = [palette.colour(name) for name in names]

    def trials(place: "FigureBase") -> None:
        from matplotlib.patches import Patch

        axes = place.subplots()
        begins = [0] * len(rows)
        parts: list[tuple[str, list[int], dict[str, Any]]] = [
            ("complete", [row.complete for row in rows], {"alpha": 1.0}),
            ("pruned", [row.pruned for row in rows], {"alpha": 0.4}),
            ("diverged", [row.diverged for row in rows], {"fill": False, "hatch": "/////"}),
        ]
        for _, counts, style in parts:
            axes.barh(range(len(rows)), counts, left=begins, height=0.62, color=colours, edgecolor=colours, **style)
            begins = [begin + count for begin, count in zip(begins, counts, strict=True)]
        rows_of(axes, names)
        axes.set_xlabel("trials of the search")
        patches = [Patch(label=name, facecolor=GREY, edgecolor=GREY, **style) for name, _, style in parts]
        place.legend(handles=patches, loc="outside lower center", ncols=3)

    def bars(heights: Sequence[float], label: str, place: "FigureBase") -> None:
        axes = place.subplots()
        axes.barh(range(len(rows)), heights, height=0.62, color=colours)
        rows_of(axes, names)
        axes.set_xlabel(label)

    size = for_rows(len(rows) + 1)
    counted = [f"{row.optimizer} {row.complete} complete, {row.pruned} pruned, {row.diverged} diverged" for row in rows]
    panels = [Panel(trials, "Trials: " + "; ".join(counted), size)]
    columns: dict[str, list[float]] = {
        "epochs of the search": [row.epochs for row in rows],
        "runs of the comparison": [row.runs for row in rows],
    }
    for label, heights in columns.items():
        if any(heights):
            alt = "; ".join(f"{name} {height:g}" for name, height in zip(names, heights, strict=True))
            panels.append(Panel(partial(bars, heights, label), f"{label}: {alt}", size))
    total = sum(row.complete + row.pruned + row.diverged for row in rows)
    runs = sum(row.runs for row in rows)
    ran = f" and the comparison's {over([runs], 'run')}, those with other settings included," if runs else ""
    caption = f"How the search's {over([total], 'finished trial')}{ran} were shared out among the optimizers."
    return Picture("budget", caption, tuple(panels))


def influences(rows: Sequence[Influence]) -> Picture:
    """A heat map: how much the result of every optimizer hangs on each of its settings."""
    known = [row for row in rows if row.shares]
    strength: dict[str, float] = {}
    for row in known:
        for key, share in row.shares.items():
            strength[key] = max(strength.get(key, 0.0), share)
    settings = sorted(strength, key=lambda key: -strength[key])

    def draw(place: "FigureBase") -> None:
        axes = place.subplots()
        for column, row in enumerate(known):
            for number, key in enumerate(settings):
                if key in row.shares:
                    tile(axes, column, number, row.shares[key], f"{100 * row.shares[key]:.0f}")
        rows_of(axes, settings)
        columns = [f"{row.optimizer} ({row.trials})" for row in known]
        slanted: dict[str, Any] = {"rotation": 45, "ha": "left", "rotation_mode": "anchor"} if len(known) > 4 else {}
        axes.set_xticks(range(len(known)), columns, color=INK, **slanted)
        axes.tick_params(axis="x", length=0, labeltop=True, labelbottom=False)
        axes.set_xlim(-0.5, len(known) - 0.5)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    alt = "; ".join(f"{row.optimizer}: {max(row.shares, key=lambda key: row.shares[key])} most" for row in known)
    caption = (
        "How much of the differences between an optimizer's trials each of its settings explains by itself, in percent "
        "of the variance of their ranks (a parabola of its rank, less what chance would; pruned trials by the "
        f"last value seen, diverged ones last), over {over([row.trials for row in known], 'trial')} each, in brackets."
    )
    return Picture("importance", caption, (Panel(draw, alt, (WIDE[0], 1.1 + 0.28 * len(settings))),))


def tile(axes: "Axes", column: float, row: float, strength: float, text: str, colour: str = "#0072B2") -> None:
    """Draw a cell of a heat map, with its number.

    Args:
        axes: of the heat map.
        column: centre of the cell.
        row: centre of the cell.
        strength: of the colour, from 0 to 1.
        text: in the cell.
        colour: at full strength, as #rrggbb.
    """
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, color=colour, alpha=0.06 + 0.6 * strength))
    axes.text(column, row, text, ha="center", va="center", color=INK, fontsize=8.5)
