"""Checked runs of a table: one for each arm, seed and task, with every mistake of the table named by its row."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from statistics import median

from optitune.common.text import plural
from optitune.errors import OptituneError, UsageError
from optitune.judging.columns import SHARES, Columns, words
from optitune.judging.table import RawTable, empty, missing, name, number
from optitune.statistics.runs import Point

BEYOND = 1e100
"""What no result reaches; squares of larger numbers are no numbers."""


@dataclass(frozen=True)
class TrainedRun:
    """One training that ended elsewhere.

    Attributes:
        seed: as the table has it; its number within the arm where the table has none.
        value: of the metric; None where the run diverged.
        seconds: of training; None where it is not known.
        curve: its evaluations, in the order of their steps; empty where only the last is known.
        place: where it stands, for messages.
    """

    task: str
    arm: str
    seed: str
    value: float | None
    seconds: float | None
    curve: tuple[Point, ...]
    place: str


def checked(table: RawTable, columns: Columns, diverged: bool = False) -> list[TrainedRun]:
    """The runs of a table.

    Args:
        table: that was read.
        columns: which of its columns is what.
        diverged: whether a run without a finite number diverged, which is a mistake otherwise.

    Raises:
        OptituneError: a row is wrong; the message names it and what to do.
    """
    if columns.seed is None and columns.step is not None and _repeats(table, columns):
        columns = replace(columns, step=None)
    found: dict[tuple[str, str, str], list[tuple[float, float | None, float | None, str]]] = {}
    numbered: Counter[tuple[str, str]] = Counter()
    for row, place in zip(table.rows, table.places, strict=True):
        cells = [row.get(each) for each in columns.arm]
        if all(map(missing, cells)):
            raise OptituneError(f"{place}: names no {' and '.join(columns.arm)}: fill it in, or remove the row")
        arm = _arm(columns.arm, cells)
        task = name(row.get(columns.task)) if columns.task and not missing(row.get(columns.task)) else ""
        if columns.task and not task:
            raise OptituneError(f"{place}: names no {columns.task}: fill it in, or remove the row")
        cell = row.get(columns.metric)
        if columns.step is not None and empty(cell):
            # of a curve, another metric's step
            continue
        value = _value(cell, columns.metric, place)
        seconds = _seconds(row.get(columns.seconds), columns.seconds, place) if columns.seconds else None
        step = _number(row.get(columns.step), columns.step, place) if columns.step else 0.0
        if columns.seed is not None and not missing(row.get(columns.seed)):
            seed = name(row[columns.seed])
        elif columns.seed is not None:
            raise OptituneError(f"{place}: has no {columns.seed}: fill it in, or remove the row")
        else:
            # without a seed, the steps of a curve are one run
            numbered[task, arm] += columns.step is None
            seed = str(numbered[task, arm])
        found.setdefault((task, arm, seed), []).append((step, value, seconds, place))
    if not found:
        raise OptituneError(f"{table.source}: '{columns.metric}' is empty in every row: name another with --metric")
    runs = [_run(key, sorted(rows, key=lambda each: each[0]), table, columns) for key, rows in found.items()]
    lost = next((run for run in runs if run.value is None), None)
    if lost is not None and not diverged:
        raise OptituneError(
            f"{lost.place}: {columns.metric} has no finite value: remove the row if the run never ended, or "
            "say --diverged, so that it counts against its arm"
        )
    _check_units(runs, columns.metric)
    _check_arms(runs, table.source, columns)
    return runs


def _repeats(table: RawTable, columns: Columns) -> bool:
    """Whether a step stands twice in an arm, so that it is no axis of a curve."""
    keys = (columns.step, columns.task, *columns.arm)
    each = Counter(tuple(str(row.get(key)) for key in keys if key) for row in table.rows)
    return max(each.values()) > 1


def _arm(columns: Sequence[str], cells: Sequence[object]) -> str:
    if len(columns) == 1:
        return name(cells[0])
    first, *others = zip(columns, cells, strict=True)
    return " ".join([name(first[1]), *(f"{key}={name(cell)}" for key, cell in others if not missing(cell))])


def _value(cell: object, metric: str, place: str) -> float | None:
    """The value of a run or a step; None where it has no finite one."""
    value = float("nan") if empty(cell) else _number(cell, metric, place)
    return value if abs(value) < BEYOND else None


def _number(cell: object, column: str | None, place: str) -> float:
    try:
        if empty(cell):
            raise ValueError("it is empty")
        return number(cell)
    except ValueError as error:
        text = str(cell).strip()
        remedy = "write a number"
        if text.endswith("%"):
            remedy = f"write {text.rstrip('% ')}"
        elif text.count(",") == 1 and text.replace(",", "").replace("-", "").isdigit():
            remedy = f"write {text.replace(',', '.')}"
        raise OptituneError(f"{place}: {column}: {error}: {remedy}, or remove the row") from None


def _seconds(cell: object, column: str, place: str) -> float | None:
    if missing(cell):
        return None
    value = _number(cell, column, place)
    if not 0 <= value < BEYOND:
        raise OptituneError(f"{place}: {column} is {value:g}, which is no time: correct it, or leave it empty")
    return value


def _run(
    key: tuple[str, str, str],
    rows: Sequence[tuple[float, float | None, float | None, str]],
    table: RawTable,
    columns: Columns,
) -> TrainedRun:
    """One run of its rows, which are several only where they are the steps of a curve."""
    task, arm, seed = key
    for (step, _, _, place), (other, _, _, again) in pairwise(rows):
        if step == other:
            where = f" on {task}" if task else ""
            at = f", {columns.step} {step:g}" if columns.step else ""
            raise OptituneError(
                f"{place} and {_short(again, table.source)} are both {arm}{where}, {columns.seed} {seed}{at}: remove "
                f"one, give it another {columns.seed}, or, if another column distinguishes them, name it too: "
                f"--arm {','.join(columns.arm)},COLUMN"
            )
    _, value, seconds, place = rows[-1]
    curve: tuple[Point, ...] = ()
    if columns.step is not None:
        times = [late or 0.0 for _, _, late, _ in rows]
        if any(late < early for early, late in pairwise(times)):
            # of each step, not so far
            times = list(accumulate(times))
        points = zip(rows, times, strict=True)
        curve = tuple(Point(row[0], late, row[1], row[1]) for row, late in points if row[1] is not None)
        seconds = None if seconds is None else times[-1]
    return TrainedRun(task, arm, seed, value, seconds, curve, place)


def _short(place: str, source: str) -> str:
    return place.removeprefix(f"{source}, ")


def _check_units(runs: Sequence[TrainedRun], metric: str) -> None:
    """Shares must not stand beside percent.

    Raises:
        OptituneError: they do.
    """
    if not words(metric) & SHARES:
        return
    for task in dict.fromkeys(run.task for run in runs):
        known = [(run.value, run.place) for run in runs if run.task == task and run.value is not None]
        percent = [each for each in known if 1 < each[0] <= 100]
        usual = median([value for value, _ in percent]) if percent else 0.0
        shares = [each for each in known if each[0] <= 1 and 100 * each[0] > usual / 2]
        if shares and percent:
            few, many = sorted((shares, percent), key=len)
            raise OptituneError(
                f"{few[0][1]}: {metric} is {few[0][0]:g}, where others are like {many[0][0]:g} ({many[0][1]}): "
                "write all of them as shares, or all of them in percent"
            )


def _check_arms(runs: Sequence[TrainedRun], source: str, columns: Columns) -> None:
    """There must be something to compare.

    Raises:
        UsageError: there is a single arm.
        OptituneError: no arm has two runs, or all values are the same.
    """
    arms = list(dict.fromkeys(run.arm for run in runs))
    column = " and ".join(columns.arm)
    if len(arms) == 1:
        raise UsageError(
            f"{source}: column '{column}' has one arm only, {arms[0]}: a verdict needs two; name another with --arm"
        )
    each = Counter((run.task, run.arm) for run in runs)
    if max(each.values()) == 1:
        run = runs[0]
        where = f" on {run.task}" if run.task else ""
        raise OptituneError(
            f"{run.place}: {run.arm} has one run{where}, and no arm has more, so that nothing is known of luck: train "
            f"each at least 3 times from other seeds{_many_arms(arms, runs, column)}"
        )
    if len({run.value for run in runs}) == 1:
        raise OptituneError(
            f"{source}: {columns.metric} is {runs[0].value:g} in all {plural(len(runs), 'run')}: nothing "
            "distinguishes the arms; name another column with --metric"
            if runs[0].value is not None
            else f"{source}: all {plural(len(runs), 'run')} diverged: there is nothing to compare"
        )


def _many_arms(arms: Sequence[str], runs: Sequence[TrainedRun], column: str) -> str:
    return f" (column '{column}' has {len(arms)} arms in {len(runs)} runs: is it the one?)" if len(arms) > 8 else ""


def by_task(runs: Iterable[TrainedRun]) -> dict[str, list[TrainedRun]]:
    """The runs of each task, in the order of the table."""
    found: dict[str, list[TrainedRun]] = defaultdict(list)
    for run in runs:
        found[run.task].append(run)
    return dict(found)
