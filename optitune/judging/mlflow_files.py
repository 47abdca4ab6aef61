"""Runs of MLflow: the folder of a file store, read without MLflow, and the tables that MLflow exports as CSV."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from optitune.common.files import explained
from optitune.common.text import plural
from optitune.errors import OptituneError
from optitune.judging.table import SECONDS, STEP, RawTable, empty

STATUSES = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}
"""As a run's meta.yaml has them."""

OWN = {"run_id", "experiment_id", "artifact_uri", "start_time", "end_time", "Run ID", "Start Time", "Source Type",
       "Source Name", "User", "Status", "status", "Duration"}  # fmt: skip
"""Columns of an exported table that say nothing of settings or results."""


def runs_in(folder: Path) -> list[Path]:
    """The folders of the runs of a file store at or below a folder, those left out that were deleted."""
    found = [path.parent for path in folder.rglob("meta.yaml") if (path.parent / "metrics").is_dir()]
    return sorted(path for path in found if ".trash" not in path.parts)


def read(folder: Path, runs: Sequence[Path]) -> RawTable:
    """The finished runs of a file store, a row for each logged step of each metric.

    Args:
        folder: that was named.
        runs: folders of its runs.

    Raises:
        OptituneError: none is finished, or a file is damaged.
    """
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    params: dict[str, None] = {}
    unfinished = 0
    for run in runs:
        with explained(run, "read"):
            meta = _meta(run / "meta.yaml")
            if meta.get("lifecycle_stage") == "deleted":
                continue
            if STATUSES.get(meta.get("status", ""), meta.get("status")) != "FINISHED":
                unfinished += 1
                continue
            settings = {path.name: _text(path).strip() for path in _files(run / "params")}
            params |= dict.fromkeys(settings)
            steps: dict[int, dict[str, Any]] = {}
            for path in _files(run / "metrics"):
                for time, value, step in _logged(path, run):
                    start = meta.get("start_time", "")
                    began = float(start) if start.isdigit() else time
                    row = steps.setdefault(step, {STEP: step, SECONDS: max(0.0, (time - began) / 1000)})
                    row[str(path.relative_to(run / "metrics"))] = value
        for _, row in sorted(steps.items()):
            rows.append({"mlflow run": run.name, **settings, **row})
            places.append(f"{folder.name}, run {run.name[:8]}")
    if not rows:
        raise OptituneError(f"{folder}: no run of MLflow in it is finished and has a metric")
    notes = (f"{plural(unfinished, 'run')} of MLflow did not finish and {_are(unfinished)} left out.",) * bool(
        unfinished
    )
    columns = dict.fromkeys(each for row in rows for each in row)
    columns.pop("mlflow run")
    return RawTable(str(folder), tuple(columns), tuple(rows), tuple(places), notes=notes, settings=tuple(params))


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _meta(path: Path) -> dict[str, str]:
    """The lines of a run's meta.yaml, which has one level."""
    lines = _text(path).splitlines()
    parted = (line.partition(":") for line in lines if not line.startswith((" ", "#", "-")))
    return {key.strip(): value.strip().strip("'\"") for key, _, value in parted}


def _logged(path: Path, run: Path) -> list[tuple[float, float, int]]:
    """What was logged of a metric: milliseconds, value, step."""
    found = []
    for place, line in enumerate(_text(path).splitlines(), 1):
        try:
            time, value, *step = line.split()
            found.append((float(time), float(value), int(step[0]) if step else 0))
        except ValueError:
            raise OptituneError(
                f"{run.name}/metrics/{path.name}, row {place}: is not 'time value step': remove that run's folder"
            ) from None
    return found


def from_export(table: RawTable) -> RawTable:
    """A table that MLflow exported, by its page or by `search_runs().to_csv()`, as others are; any other unchanged."""
    ours = {"run_id", "experiment_id"} <= set(table.columns) or {"Run ID", "Start Time"} <= set(table.columns)
    if not ours:
        return table
    names = {
        each: each.removeprefix("params.").removeprefix("metrics.")
        for each in table.columns
        if each not in OWN and not each.startswith("tags.")
    }
    rows, places, unfinished = [], [], 0
    for row, place in zip(table.rows, table.places, strict=True):
        status = row.get("status", row.get("Status"))
        if not empty(status) and str(status).upper() != "FINISHED":
            unfinished += 1
            continue
        cells = {new: row[old] for old, new in names.items()}
        if SECONDS not in cells and (seconds := _seconds(row.get("start_time"), row.get("end_time"))) is not None:
            cells[SECONDS] = seconds
        rows.append(cells)
        places.append(place)
    if not rows:
        raise OptituneError(f"{table.source}: none of its {plural(unfinished, 'run')} of MLflow is finished")
    notes = (f"{plural(unfinished, 'run')} of MLflow did not finish and {_are(unfinished)} left out.",) * bool(
        unfinished
    )
    columns = tuple(dict.fromkeys(each for row in rows for each in row))
    return replace(
        table,
        columns=columns,
        rows=tuple(rows),
        places=tuple(places),
        notes=(*table.notes, *notes),
        settings=tuple(new for old, new in names.items() if old.startswith("params.")),
    )


def _seconds(begin: Any, end: Any) -> float | None:
    """Between two times, as they were exported; None where one is not known."""
    try:
        first, last = (datetime.fromisoformat(str(each)) for each in (begin, end))
        return (last - first).total_seconds()
    except (ValueError, TypeError):
        return None
