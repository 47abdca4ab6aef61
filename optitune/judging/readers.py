"""Sources of runs: files, folders, Optuna storages and DataFrames, each read as one `RawTable`."""

from pathlib import Path
from typing import Any

from optitune.common.files import expanded
from optitune.errors import OptituneError, UsageError
from optitune.judging import folders, mlflow_files, optuna_studies, tables, tensorboard_files
from optitune.judging.table import RawTable

TABLES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".parquet", ".pq")

FORMATS = (
    "a CSV or Parquet file, a folder of metrics.json, an mlruns folder, a folder of TensorBoard's CSV or event files, "
    "or the URL or file of an Optuna storage"
)


def read(source: Any, study: str | None = None) -> RawTable:
    """Read a source of runs.

    Args:
        source: a path, a URL of an Optuna storage, or a DataFrame.
        study: name of the study in an Optuna storage; None for the only one.

    Raises:
        UsageError: it is nothing that can be read as runs.
        OptituneError: it is not there, damaged, or needs a package that is not installed.
    """
    if not isinstance(source, str | Path):
        return tables.of_frame(source)
    text = str(source)
    if "://" in text or text.startswith("journal:"):
        return optuna_studies.read(text, study)
    path = expanded(Path(text))
    if not path.exists():
        raise OptituneError(f"there is no {path}: name {FORMATS}")
    if path.is_dir():
        return _folder(path)
    if study is not None or path.suffix in (".db", ".sqlite", ".sqlite3") or _is_database(path):
        return optuna_studies.read(f"sqlite:///{path.resolve()}", study)
    if path.suffix == ".log" and path.read_bytes()[:9] == b'{"op_code':
        return optuna_studies.read(f"journal:///{path.resolve()}", study)
    if path.name == folders.METRICS:
        return folders.read(path.parent, [path])
    if tensorboard_files.is_event_file(path):
        return tensorboard_files.read_events(path.parent, [path])
    if not path.name.endswith(TABLES):
        raise UsageError(f"{path.name}: '{path.suffix or path.name}' is no format that is read here: name {FORMATS}")
    return tensorboard_files.or_table(tables.of_file(path), path)


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\x00"


def _folder(path: Path) -> RawTable:
    if runs := mlflow_files.runs_in(path):
        return mlflow_files.read(path, runs)
    if found := sorted(path.rglob(folders.METRICS)):
        return folders.read(path, found)
    if found := sorted(each for each in path.rglob("*") if tensorboard_files.is_event_file(each)):
        return tensorboard_files.read_events(path, found)
    if found := sorted(path.rglob("*.csv")):
        return tensorboard_files.read_csv(path, found)
    raise OptituneError(f"{path} holds no runs: no metrics.json, no MLflow run, no event file, no CSV; name {FORMATS}")
