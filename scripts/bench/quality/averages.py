"""Normalised regret of replayed searches, by kind of world and averaged over the worlds of a kind.

A regret is divided by that of the median recorded configuration, and is 1 at most: so worlds with other metrics can be
averaged, and one in which all fails does not outweigh the others.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from scripts.bench.quality.repeats import Repeat, read

BUDGETS = 10, 25, 50
"""Full trainings after which a search is judged."""

OPPONENT = "tpe-median"
"""Whom all are divided by."""

Searches = Mapping[str, Sequence[Repeat]]
"""Repeats by search."""

Figure = tuple[float, float]
"""A mean and its standard error."""


def mean_and_error(values: Iterable[float]) -> Figure:
    found = np.array(list(values), dtype=float)
    return float(found.mean()), float(found.std(ddof=1) / len(found) ** 0.5)


def kept(results: Path) -> dict[str, dict[str, list[Repeat]]]:
    """All repeats of a folder by world and search; a search with a single one is left out."""
    found: dict[str, dict[str, list[Repeat]]] = {}
    for file in sorted(results.glob("*.jsonl")):
        world, search = file.name.removesuffix(".jsonl").split(".", 1)
        if len(repeats := read(file)) > 1:
            found.setdefault(world, {})[search] = repeats
    return found


def averaged(worlds: Sequence[Searches], name: str, budget: int) -> Figure:
    """A search's normalised regret after so many full trainings, the mean over worlds.

    Its standard error is that of other repeats in the same worlds, not of other worlds.
    """
    each = [mean_and_error(run.normalised[budget - 1] for run in searches[name]) for searches in worlds]
    error = np.sqrt(np.sum([error**2 for _, error in each])) / len(each)
    return float(np.mean([mean for mean, _ in each])), float(error)


def ratio(one: Figure, other: Figure) -> Figure:
    """The ratio of two independent means, with its standard error to first order; not a number where the other is 0."""
    if not other[0]:
        return float("nan"), float("nan")
    found = one[0] / other[0]
    return found, float(np.hypot(one[1], found * other[1]) / other[0])


def table(title: str, worlds: Sequence[Searches]) -> str:
    """The searches that ran in all of these worlds, the best first; nothing where there is none."""
    names = [name for name in worlds[0] if all(name in searches for searches in worlds)]
    if not names:
        return ""
    longest = min(len(run.winner) for searches in worlds for name in names for run in searches[name])
    budgets = [budget for budget in BUDGETS if budget <= longest] or [longest]
    figures = {name: [averaged(worlds, name, budget) for budget in budgets] for name in names}
    against = figures.get(OPPONENT, [])
    heads = [
        "search",
        *(f"at {budget}" for budget in budgets),
        *(f"ratio at {budget}" for budget in budgets if against),
    ]
    heads += ["trials", "ms a trial", "n"]
    lines = [f"### {title}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, own in sorted(figures.items(), key=lambda each: each[1][-1]):
        cells = [f"{mean:.3f} ± {error:.3f}" for mean, error in own]
        ratios = [ratio(*pair) for pair in zip(own, against, strict=False)]
        cells += ["1" if name == OPPONENT else f"{mean:.2f} ± {error:.2f}" for mean, error in ratios]
        runs = [run for searches in worlds for run in searches[name]]
        cells += [
            f"{np.mean([run.trials for run in runs]):.0f}",
            f"{1e3 * np.median([run.seconds for run in runs]):.1f}",
        ]
        lines.append(f"| {' | '.join([f'`{name}`', *cells, str(min(len(each[name]) for each in worlds))])} |")
    return "\n".join([*lines, ""])


def overview(found: Mapping[str, Searches]) -> str:
    """A table for every kind of world, and one for each world.

    Args:
        found: searches by world, whose name begins with its kind.
    """
    kinds: dict[str, list[str]] = {}
    for name in found:
        kinds.setdefault(name.split("-")[0], []).append(name)
    tables = []
    for kind, names in kinds.items():
        if len(names) > 1:
            tables.append(table(f"{kind}, mean of {len(names)} worlds", [found[name] for name in names]))
    tables += [table(name, [found[name]]) for name in found]
    return "\n".join(each for each in tables if each)
