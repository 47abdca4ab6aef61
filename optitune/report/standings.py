"""How the optimizers stand in a search, as a table: a column is added here, its value in `study.records.Standing`."""

from collections.abc import Iterable, Sequence
from functools import partial

from optitune.common.tables import Table, Tone, column
from optitune.common.text import Unit, short
from optitune.study.records import Standing, TrialRecord, repeats, standings


def standings_table(trials: Sequence[TrialRecord], optimizers: Iterable[str], unit: Unit) -> Table:
    """The standings of a search.

    Args:
        trials: of the study.
        optimizers: that compete.
        unit: of the metric.

    Returns:
        A row per optimizer, the best first; `failed` is left out where no trial did, `runs` where no value is a mean.
    """
    rows = standings(trials, optimizers)
    top = rows[0].value if rows else None
    add = partial(column, rows)

    def bad(count: int) -> Tone:
        return "bad" if count else ""

    def best(row: Standing) -> Tone:
        return "good" if row.value is not None and row.value == top else ""

    columns = [
        add("optimizer", lambda row: row.optimizer),
        add(f"best\n{unit.metric}", lambda row: None if row.value is None else unit.value(row.value), tone=best),
        add("runs", lambda row: str(row.runs) if row.runs else None, keep=6),
        add("lr", lambda row: None if row.lr is None else short(row.lr)),
        add("trial", lambda row: None if row.trial is None else str(row.trial), keep=4),
        add("trials", lambda row: str(row.finished), keep=5),
        add("pruned", lambda row: str(row.pruned), keep=3),
        add("diverged", lambda row: str(row.diverged), keep=2, tone=lambda row: bad(row.diverged)),
        add("failed", lambda row: str(row.failed), keep=2, tone=lambda row: bad(row.failed)),
        add("epochs", lambda row: f"{row.epochs:.1f}", keep=1),
    ]
    empty = {"failed"} if not any(row.failed for row in rows) else set()
    empty |= {"runs"} if not any(row.runs > 1 for row in rows) else set()
    columns = [each for each in columns if each.heading not in empty]
    caption = "The search's trials by optimizer: the best of each is the luckiest of its runs, and so no estimate."
    if again := repeats(trials):
        caption += f" A value of several runs is their mean; of all trials, {again.replace('of them ', '')}."
    return Table(caption, tuple(columns))
