"""The report's main figures as optuna-dashboard draws them: rows of `report.data` in plotly's JSON schema.

Plotly itself is in the page of the dashboard; nothing here needs it.
"""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

from optitune.common.summary import Summary
from optitune.common.text import plural
from optitune.report.data import basins, better_half, climbs, search_curves, window
from optitune.report.style import GREY, Palette, over
from optitune.statistics.differences import Difference
from optitune.statistics.verdict import Verdict
from optitune.study.records import TrialRecord

Figure = dict[str, Any]

MOST_CURVES = 60
"""How many curves a figure has at most, the last ones, so that a study stays quick to open."""


def of_search(trials: Sequence[TrialRecord], palette: Palette, sign: int) -> dict[str, Figure]:
    """Figures of a search by name; those left out that have nothing to show.

    Args:
        trials: the study's trials, finished and running.
        palette: colours of the optimizers and units of the values.
        sign: 1 where more is better, -1 where less is.
    """
    drawn = {
        "optitune-learning-curves": _curves(trials, palette, sign),
        "optitune-best-so-far": _climbs(trials, palette, sign),
        "optitune-learning-rates": _basins(trials, palette, sign),
    }
    return {name: figure for name, figure in drawn.items() if figure["data"]}


def of_comparison(verdict: Verdict, palette: Palette) -> dict[str, Figure]:
    """Figures of a comparison by name; what difference does not matter is shaded."""
    unit, leader = palette.unit, verdict.leader
    values = [(place.optimizer, place.value) for place in verdict.places if place.value is not None]
    runs = over([len(each.each) for _, each in values], "run")
    drawn = {
        "optitune-compared": _bars(
            values,
            palette,
            f"Compared on fresh seeds: mean and 95 % interval over {runs}",
            palette.label("validation"),
        ),
        "optitune-differences": _bars(
            [(each.one, each) for each in verdict.to_leader],
            palette,
            f"Difference to {leader}, and its bounds",
            f"better than {leader} by{', pp' if unit.percent else ''}; shaded where it does not matter",
        ),
    }
    x0, x1 = _scaled([-verdict.epsilon, verdict.epsilon], palette)
    band = {"type": "rect", "xref": "x", "yref": "paper", "x0": x0, "x1": x1, "y0": 0, "y1": 1, "layer": "below"}
    drawn["optitune-differences"]["layout"]["shapes"] = [
        {**band, "fillcolor": GREY, "opacity": 0.3, "line": {"width": 0}}
    ]
    return {name: figure for name, figure in drawn.items() if figure["data"]}


def _curves(trials: Sequence[TrialRecord], palette: Palette, sign: int) -> Figure:
    rows = search_curves(trials)[-MOST_CURVES:]
    named: set[str] = set()
    data: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: row.outcome == "complete"):
        complete = row.outcome == "complete"
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": _rounded(epoch for epoch, _ in row.points),
                "y": _scaled((value for _, value in row.points), palette),
                "name": row.optimizer if complete else "pruned",
                "legendgroup": row.optimizer if complete else "pruned",
                "showlegend": (row.optimizer if complete else "pruned") not in named,
                "line": {
                    "color": palette.colour(row.optimizer) if complete else GREY,
                    "width": 2 if complete else 1,
                },
            }
        )
        named.add(data[-1]["name"])
    ends = [row.points[-1][1] for row in rows if row.outcome == "complete"] or [row.points[-1][1] for row in rows]
    leading = set(better_half(ends, sign)) if ends else set()
    late = [value for row in rows if row.points[-1][1] in leading for _, value in row.points[len(row.points) // 3 :]]
    title = f"Learning curves of {plural(len(rows), 'trial')}, one run each"
    return _figure(data, title, "epoch", palette.label("validation"), palette.scaled(late), palette.scaled(ends))


def _climbs(trials: Sequence[TrialRecord], palette: Palette, sign: int) -> Figure:
    rows = climbs(trials, palette.optimizers, sign)
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": list(row.trials),
            "y": _scaled(row.best, palette),
            "name": row.optimizer,
            "line": {"color": palette.colour(row.optimizer), "shape": "hv", "width": 2},
            "marker": {"size": 5},
        }
        for row in rows
    ]
    ends = [row.best[-1] for row in rows]
    leading = better_half(ends, sign) if ends else []
    every = [value for row in rows for value in row.best]
    title = "The best so far of each optimizer, single runs"
    x, y = "trials of the optimizer", palette.label("best")
    return _figure(data, title, x, y, palette.scaled(leading), palette.scaled(every))


def _basins(trials: Sequence[TrialRecord], palette: Palette, sign: int) -> Figure:
    rows = basins(trials, palette.optimizers, sign)
    data, complete = [], []
    for row in rows:
        for outcome, symbol in (("complete", "circle"), ("pruned", "circle-open")):
            points = [point for point in row.points if point.outcome == outcome and point.value is not None]
            if points:
                values = [point.value for point in points if point.value is not None]
                complete += values if outcome == "complete" else []
                data.append(
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "x": [point.lr for point in points],
                        "y": _scaled(values, palette),
                        "name": row.optimizer if outcome == "complete" else f"{row.optimizer}, pruned",
                        "marker": {"color": palette.colour(row.optimizer), "symbol": symbol, "size": 8},
                    }
                )
    title = "Value by learning rate; open where pruned, by the last value seen"
    figure = _figure(
        data,
        title,
        "learning rate",
        palette.label("validation"),
        palette.scaled(better_half(complete, sign) if complete else []),
        palette.scaled(complete),
    )
    figure["layout"]["xaxis"] |= {"type": "log", "exponentformat": "power"}
    return figure


def _bars(rows: Sequence[tuple[str, Summary | Difference]], palette: Palette, title: str, label: str) -> Figure:
    data = []
    for name, found in rows:
        low, high = (found.mean if end is None or not isfinite(end) else end for end in (found.low, found.high))
        above, below = (_scaled([each], palette) for each in (high - found.mean, found.mean - low))
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": _scaled([found.mean], palette),
                "y": [name],
                "name": name,
                "showlegend": False,
                "error_x": {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 2},
                "marker": {"color": palette.colour(name), "size": 10},
            }
        )
    figure = _figure(data, title, label, "", (), ())
    figure["layout"]["yaxis"] |= {"autorange": "reversed", "type": "category"}
    return figure


def _figure(
    data: list[dict[str, Any]], title: str, x: str, y: str, inner: Sequence[float], others: Sequence[float]
) -> Figure:
    """A figure whose values are seen from the worst of `inner` to the best."""
    layout: dict[str, Any] = {
        "title": {"text": title},
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}, "automargin": True},
        "margin": {"t": 60},
    }
    if inner:
        layout["yaxis"]["range"] = list(window(list(inner), list(others)))
    return {"data": data, "layout": layout}


def _scaled(values: Iterable[float], palette: Palette) -> list[float | None]:
    return _rounded(palette.scaled(values))


def _rounded(values: Iterable[float]) -> list[float | None]:
    """Five digits, as more would only make the study larger; JSON has no word for what is not finite."""
    return [float(f"{value:.5g}") if isfinite(value) else None for value in values]
