"""The report's main figures as optuna-dashboard draws them: rows of `report.data` in plotly's JSON schema.

Plotly itself is in the page of the dashboard; nothing here needs it.
"""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

from optitune.common.colours import colour
from optitune.common.text import Unit, plural
from optitune.report.data import Gap, Interval, basins, better_half, climbs, search_curves, window
from optitune.study.records import TrialRecord

Figure = dict[str, Any]

GREY = "#a9afb4"

MOST_CURVES = 60
"""How many curves a figure has at most, the last ones, so that a study stays quick to open."""


def of_search(trials: Sequence[TrialRecord], optimizers: Sequence[str], sign: int, unit: Unit) -> dict[str, Figure]:
    """Figures of a search by name; those left out that have nothing to show.

    Args:
        sign: 1 where more is better, -1 where less is.
    """
    drawn = {
        "optitune-learning-curves": _curves(trials, optimizers, sign, unit),
        "optitune-best-so-far": _climbs(trials, optimizers, sign, unit),
        "optitune-learning-rates": _basins(trials, optimizers, sign, unit),
    }
    return {name: figure for name, figure in drawn.items() if figure["data"]}


def of_comparison(
    values: Sequence[Interval],
    gaps: Sequence[Gap],
    leader: str,
    epsilon: float,
    optimizers: Sequence[str],
    unit: Unit,
) -> dict[str, Figure]:
    """Figures of a comparison by name.

    Args:
        epsilon: what difference does not matter; it is shaded.
    """
    drawn = {
        "optitune-compared": _bars(
            values,
            optimizers,
            unit,
            f"Compared on fresh seeds: mean and 95 % interval over {_over([len(row.each) for row in values])}",
            f"validation {unit.heading}",
        ),
        "optitune-differences": _bars(
            gaps,
            optimizers,
            unit,
            f"Difference to {leader}, and its bounds",
            f"better than {leader} by{', pp' if unit.percent else ''}; shaded where it does not matter",
        ),
    }
    x0, x1 = _scaled([-epsilon, epsilon], unit)
    band = {"type": "rect", "xref": "x", "yref": "paper", "x0": x0, "x1": x1, "y0": 0, "y1": 1, "layer": "below"}
    drawn["optitune-differences"]["layout"]["shapes"] = [
        {**band, "fillcolor": GREY, "opacity": 0.3, "line": {"width": 0}}
    ]
    return {name: figure for name, figure in drawn.items() if figure["data"]}


def _curves(trials: Sequence[TrialRecord], optimizers: Sequence[str], sign: int, unit: Unit) -> Figure:
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
                "y": _scaled((value for _, value in row.points), unit),
                "name": row.optimizer if complete else "pruned",
                "legendgroup": row.optimizer if complete else "pruned",
                "showlegend": (row.optimizer if complete else "pruned") not in named,
                "line": {
                    "color": colour(row.optimizer, optimizers) if complete else GREY,
                    "width": 2 if complete else 1,
                },
            }
        )
        named.add(data[-1]["name"])
    complete_ends = [row.points[-1][1] for row in rows if row.outcome == "complete"] or [
        row.points[-1][1] for row in rows
    ]
    leading = set(better_half(complete_ends, sign)) if complete_ends else set()
    late = [value for row in rows if row.points[-1][1] in leading for _, value in row.points[len(row.points) // 3 :]]
    title = f"Learning curves of {plural(len(rows), 'trial')}, one run each"
    return _figure(data, title, "epoch", f"validation {unit.heading}", _times(late, unit), _times(complete_ends, unit))


def _climbs(trials: Sequence[TrialRecord], optimizers: Sequence[str], sign: int, unit: Unit) -> Figure:
    rows = climbs(trials, optimizers, sign)
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": list(row.trials),
            "y": _scaled(row.best, unit),
            "name": row.optimizer,
            "line": {"color": colour(row.optimizer, optimizers), "shape": "hv", "width": 2},
            "marker": {"size": 5},
        }
        for row in rows
    ]
    ends = [row.best[-1] for row in rows]
    leading = better_half(ends, sign) if ends else []
    every = [value for row in rows for value in row.best]
    title = "The best so far of each optimizer, single runs"
    x, y = "trials of the optimizer", f"best {unit.heading}"
    return _figure(data, title, x, y, _times(leading, unit), _times(every, unit))


def _basins(trials: Sequence[TrialRecord], optimizers: Sequence[str], sign: int, unit: Unit) -> Figure:
    rows = basins(trials, optimizers, sign)
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
                        "y": _scaled(values, unit),
                        "name": row.optimizer if outcome == "complete" else f"{row.optimizer}, pruned",
                        "marker": {"color": colour(row.optimizer, optimizers), "symbol": symbol, "size": 8},
                    }
                )
    title = "Value by learning rate; open where pruned, by the last value seen"
    figure = _figure(
        data,
        title,
        "learning rate",
        f"validation {unit.heading}",
        _times(better_half(complete, sign) if complete else [], unit),
        _times(complete, unit),
    )
    figure["layout"]["xaxis"] |= {"type": "log", "exponentformat": "power"}
    return figure


def _bars(
    rows: Sequence[Interval] | Sequence[Gap], optimizers: Sequence[str], unit: Unit, title: str, label: str
) -> Figure:
    data = []
    for row in rows:
        reach = (0.0, 0.0) if row.low is None or row.high is None else (row.high - row.mean, row.mean - row.low)
        above, below = (_scaled([each], unit) for each in reach)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": _scaled([row.mean], unit),
                "y": [row.optimizer],
                "name": row.optimizer,
                "showlegend": False,
                "error_x": {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 2},
                "marker": {"color": colour(row.optimizer, optimizers), "size": 10},
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


def _times(values: Iterable[float], unit: Unit) -> list[float]:
    return [100 * value if unit.percent else value for value in values]


def _scaled(values: Iterable[float], unit: Unit) -> list[float | None]:
    return _rounded(_times(values, unit))


def _rounded(values: Iterable[float]) -> list[float | None]:
    """Five digits, as more would only make the study larger; JSON has no word for what is not finite."""
    return [float(f"{value:.5g}") if isfinite(value) else None for value in values]


def _over(counts: Sequence[int]) -> str:
    few, many = min(counts, default=0), max(counts, default=0)
    return plural(many, "run") if few == many else f"{few} to {plural(many, 'run')}"
