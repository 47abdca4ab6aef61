"""Runs of TensorBoard: CSV files as its page downloads them, a file a run, and the event files of a folder."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optitune.errors import OptituneError
from optitune.judging import tables
from optitune.judging.columns import with_names
from optitune.judging.run_names import parted
from optitune.judging.table import ARM, SECONDS, SEED, STEP, RawTable, is_number, number

HEADING = {"Wall time", "Step", "Value"}

DOWNLOADED = re.compile(r"(?:run-)?(?P<run>.+?)(?:-tag-(?P<tag>.+))?$")


def is_event_file(path: Path) -> bool:
    return ".tfevents." in path.name and path.is_file()


def or_table(table: RawTable, path: Path) -> RawTable:
    """A file that TensorBoard's page downloaded as the run that it is; any other unchanged."""
    return read_csv(path.parent, [path], {path: table}) if set(table.columns) == HEADING else table


def read_csv(folder: Path, paths: Sequence[Path], known: dict[Path, RawTable] | None = None) -> RawTable:
    """CSV files that TensorBoard's page downloaded, or tables of the same columns, as one.

    Args:
        folder: that was named.
        paths: of the files.
        known: those that were read before.
    """
    parts = {path: (known or {}).get(path) or tables.of_file(path) for path in paths}
    if not any(set(each.columns) == HEADING for each in parts.values()):
        return _together(folder, parts)
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    for path, table in parts.items():
        if set(table.columns) != HEADING:
            raise OptituneError(f"{path}: has not the columns {', '.join(sorted(HEADING))}, as others do: move it away")
        found = DOWNLOADED.match(path.stem)
        assert found is not None
        run, tag = (found["run"], found["tag"]) if path.stem.startswith("run-") or found["tag"] else (path.stem, None)
        if path.parent != folder:
            run = f"{path.parent.relative_to(folder).as_posix()}/{run}"
        times = [number(row["Wall time"]) for row in table.rows if is_number(row["Wall time"])]
        for row, place in zip(table.rows, table.places, strict=True):
            began = is_number(row["Wall time"])
            seconds = number(row["Wall time"]) - times[0] if began else None
            rows.append({**_who(run), STEP: row["Step"], SECONDS: seconds, tag or "value": row["Value"]})
            places.append(place)
    return _table(str(folder), rows, places)


def _together(folder: Path, parts: Mapping[Path, RawTable]) -> RawTable:
    """Tables of equal columns as one; without a column of arms, the names of their files are the arms."""
    first, *others = parts.values()
    for each in others:
        if set(each.columns) != set(first.columns):
            raise OptituneError(
                f"{folder}: {first.source} and {each.source} have other columns: name one file, or give all the same"
            )
    rows = [with_names(row, path.stem) for path, each in parts.items() for row in each.rows]
    places = [place for each in parts.values() for place in each.places]
    notes = tuple(note for each in parts.values() for note in each.notes)
    columns = dict.fromkeys(each for row in rows for each in row if each in (ARM, SEED) or each in first.columns)
    return RawTable(str(folder), tuple(columns), tuple(rows), tuple(places), notes=notes)


def _who(run: str) -> dict[str, str | None]:
    arm, seed = parted(run)
    return {ARM: arm, SEED: seed}


def _table(source: str, rows: list[dict[str, Any]], places: list[str]) -> RawTable:
    columns = tuple(dict.fromkeys(each for row in rows for each, cell in row.items() if cell is not None))
    return RawTable(source, columns, tuple(rows), tuple(places))


def read_events(folder: Path, paths: Sequence[Path]) -> RawTable:
    """The scalars of all event files of a folder; each folder below it is a run.

    Args:
        folder: that was named.
        paths: of the event files.

    Raises:
        OptituneError: TensorBoard is not installed, or the files have no scalar.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        raise OptituneError("tensorboard is not installed: run pip install 'optitune[tensorboard]'") from None
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    for run in dict.fromkeys(path.parent for path in paths):
        name = run.relative_to(folder).as_posix() if run != folder else folder.name
        events = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        steps: dict[int, dict[str, Any]] = {}
        logged = [(tag, each, each.value) for tag in events.Tags()["scalars"] for each in events.Scalars(tag)]
        for tag in events.Tags()["tensors"]:
            values = [(each, make_ndarray(each.tensor_proto)) for each in events.Tensors(tag)]
            logged += [
                (tag, each, float(value)) for each, value in values if value.size == 1 and value.dtype.kind in "fiu"
            ]
        began = min((each.wall_time for _, each, _ in logged), default=0.0)
        for tag, each, value in logged:
            row = steps.setdefault(each.step, {**_who(name), STEP: each.step, SECONDS: each.wall_time - began})
            row[tag] = value
        rows += [row for _, row in sorted(steps.items())]
        places += [f"{folder.name}, run {name}"] * len(steps)
    if not rows:
        raise OptituneError(f"{folder}: its event files have no scalar: name a folder whose runs logged one")
    return _table(str(folder), rows, places)
