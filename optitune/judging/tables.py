"""CSV and Parquet files and DataFrames as tables of runs."""

import csv
import gzip
import io
import re
from pathlib import Path
from typing import Any

from optitune.common.files import explained
from optitune.errors import OptituneError, UsageError
from optitune.judging.mlflow_files import from_export
from optitune.judging.table import RawTable, empty

SEPARATORS = ",;\t|"

DECIMAL_COMMA = re.compile(r"^(\s*-?\d+),(\d+\s*)$")
"""As spreadsheets of many languages write numbers, whose files have semicolons."""


def of_file(path: Path) -> RawTable:
    """A CSV or Parquet file.

    Raises:
        OptituneError: it is empty, damaged, binary, or has rows of another length than its heading.
    """
    if path.suffix in (".parquet", ".pq"):
        return _of_parquet(path)
    with explained(path, "read"):
        data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise OptituneError(f"{path.name}: is damaged or not gzip ({error}): write it again") from None
    return of_text(_decoded(data, path.name), path.name)


def _decoded(data: bytes, source: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    if b"\x00" in data:
        raise OptituneError(f"{source}: is a binary file, not text: export the runs as CSV or Parquet")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise OptituneError(f"{source}, row {row}: is not UTF-8 text: save it as CSV in UTF-8") from None


def of_text(text: str, source: str) -> RawTable:
    """CSV text, its separator a comma, semicolon, tab or bar.

    Args:
        text: of the file.
        source: its name, for messages.
    """
    lines = text.splitlines()
    heading = next((line for line in lines if line.strip()), "")
    if not heading:
        raise OptituneError(f"{source}: is empty: it needs a heading and a row for each run")
    separator = max(SEPARATORS, key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    columns: list[str] = []
    rows, places = [], []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = _columns([cell.strip() for cell in cells], source)
                continue
            place = f"{source}, row {reader.line_num}"
            while len(cells) > len(columns) and not cells[-1].strip():
                cells.pop()
            if len(cells) != len(columns):
                raise OptituneError(
                    f"{place}: has {len(cells)} cells, but the heading has {len(columns)}: put a text that holds a "
                    f"'{separator}' into quotes, or fill in the missing cells"
                )
            if separator == ";":
                cells = [DECIMAL_COMMA.sub(r"\1.\2", cell) for cell in cells]
            rows.append(dict(zip(columns, cells, strict=True)))
            places.append(place)
    except csv.Error as error:
        raise OptituneError(f"{source}, row {reader.line_num}: is no CSV ({error}): write it again") from None
    return _table(source, columns, rows, places)


def _columns(names: list[str], source: str) -> list[str]:
    names = [each or f"column {place}" for place, each in enumerate(names, 1)]
    twice = next((each for each in names if names.count(each) > 1), None)
    if twice is not None:
        raise OptituneError(f"{source}, row 1: two columns are called '{twice}': rename one")
    return names


def _of_parquet(path: Path) -> RawTable:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise OptituneError("pyarrow is not installed: run pip install 'optitune[parquet]'") from None
    with explained(path, "read"):
        if not path.stat().st_size:
            raise OptituneError(f"{path.name}: is empty: it needs a row for each run")
        try:
            rows = parquet.read_table(path).to_pylist()
            columns = list(parquet.read_schema(path).names)
        except pyarrow.ArrowException:
            raise OptituneError(f"{path.name}: is damaged or not a Parquet file: write it again") from None
    places = [f"{path.name}, row {place}" for place in range(1, len(rows) + 1)]
    return _table(path.name, columns, rows, places)


def of_frame(frame: Any, source: str = "the DataFrame") -> RawTable:
    """A pandas DataFrame, or whatever has columns and `to_dict("records")` as one.

    Args:
        frame: the table.
        source: as messages name it.

    Raises:
        UsageError: it is none.
    """
    if hasattr(frame, "to_pandas"):
        # of polars, pyarrow and others
        frame = frame.to_pandas()
    if not hasattr(frame, "columns") or not hasattr(frame, "to_dict"):
        kind = type(frame).__name__
        raise UsageError(f"runs: is {kind}, but must be a pandas DataFrame, a path, or the URL of an Optuna storage")
    if any(each is not None for each in getattr(frame.index, "names", ())):
        frame = frame.reset_index()
    columns = _columns([str(each) for each in frame.columns], source)
    frame = frame.copy(deep=False)
    frame.columns = columns
    labels = [str(each) for each in frame.index]
    return _table(source, columns, frame.to_dict("records"), [f"{source}, row {each}" for each in labels])


def _table(source: str, columns: list[str], rows: list[dict[str, Any]], places: list[str]) -> RawTable:
    if not rows:
        raise OptituneError(f"{source}: has no rows: it needs one for each run")
    filled = tuple(each for each in columns if not all(empty(row[each]) for row in rows))
    return from_export(RawTable(source, filled, tuple(rows), tuple(places)))
