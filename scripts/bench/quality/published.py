"""Worlds made of trainings that others recorded and published: TaskSet, DeepOBS and AlgoPerf.

The records lie in a folder that is given, with a README that says where they come from; they are no part of the
project. Where the learning rate is searched, it is the multiple `lr_factor` of a known-good one, as in `optitune
search`: within a factor of 1,000 for our search, of 100 for others, and over all that was recorded for the hurried. An
epoch is a twentieth of a training everywhere, with one evaluation at its end.
"""

import csv
import gzip
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from scripts.bench.quality.algoperf import AlgoPerf
from scripts.bench.quality.deepobs import DeepObs
from scripts.bench.quality.taskset import TaskSet, recorded
from scripts.bench.quality.worlds import World


def table(file: Path, column: str) -> dict[str, list[dict[str, str]]]:
    """Rows of a gzipped table by the value of a column.

    Raises:
        ValueError: the file is no such table.
    """
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    try:
        with gzip.open(file, "rt", newline="") as lines:
            for row in csv.DictReader(lines):
                found[row[column]].append(row)
    except (OSError, EOFError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no gzipped table with a column '{column}'") from error
    return found


def worlds(folder: Path) -> dict[str, Callable[[], World]]:
    """The worlds of a folder of published records, by name: `taskset-...`, `deepobs-...` and `algoperf-...`.

    Raises:
        FileNotFoundError: there are no such records.
        ValueError: a table of them cannot be read.
    """
    found: dict[str, Callable[[], World]] = {}
    for file in sorted((folder / "taskset").glob("*.json.gz")):
        recorded(file)
        found[f"taskset-{file.name.removesuffix('.json.gz')}"] = partial(TaskSet, file)
    if (file := folder / "deepobs.csv.gz").exists():
        found |= {f"deepobs-{name}": partial(DeepObs, rows) for name, rows in sorted(table(file, "problem").items())}
    if (file := folder / "algoperf.csv.gz").exists():
        found |= {f"algoperf-{name}": partial(AlgoPerf, name, rows) for name, rows in table(file, "workload").items()}
    if not found:
        lacks = "has no" if folder.is_dir() else "is no folder with"
        raise FileNotFoundError(f"{folder} {lacks} taskset/*.json.gz, deepobs.csv.gz or algoperf.csv.gz")
    return found
