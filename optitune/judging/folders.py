"""Folders of `metrics.json`: what `optitune retrain` writes, or one flat object of names and values for each run."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optitune.common.files import explained
from optitune.errors import OptituneError
from optitune.judging.columns import with_names
from optitune.judging.table import ARM, SECONDS, SEED, RawTable
from optitune.retraining import results

METRICS = "metrics.json"


def read(folder: Path, paths: Sequence[Path]) -> RawTable:
    """All results in a folder as one table.

    Args:
        folder: that was named.
        paths: of the files called `metrics.json`.

    Raises:
        OptituneError: a file is damaged, or some are of `optitune retrain` and some are not.
    """
    trained = {path: found for path in paths if (found := results.load(path.parent)) is not None}
    if not trained:
        return _flat(folder, paths)
    for path in paths:
        if path not in trained:
            raise OptituneError(f"{path}: is not what 'optitune retrain' writes, as others are: move it away")
    return _retrained(folder, trained)


def _retrained(folder: Path, trained: dict[Path, results.Tested]) -> RawTable:
    metrics = {found.metric: found.judge for found in trained.values()}
    if len(metrics) > 1:
        raise OptituneError(
            f"{folder}: its trainings were tested by {' and '.join(sorted(metrics))}: name those of one"
        )
    ((metric, judge),) = metrics.items()
    named = [(path, found, found.plan.configuration.optimizer.name) for path, found in trained.items()]
    often = Counter((found.plan.task, name) for _, found, name in named)
    rows, places = [], []
    for path, found, name in named:
        # several configurations of one optimizer are distinguished by their folders
        arm = name if often[found.plan.task, name] == 1 else f"{name} ({path.parent.name})"
        for run in found.runs:
            rows.append(
                {ARM: arm, "task": found.plan.task, SEED: run.seed, metric: run.test_value, SECONDS: run.seconds}
            )
            places.append(f"{path}, seed {run.seed}")
    return RawTable(
        str(folder), tuple(rows[0]), tuple(rows), tuple(places), sign=judge.sign, percent=judge.unit.percent
    )


def _flat(folder: Path, paths: Sequence[Path]) -> RawTable:
    rows: list[dict[str, Any]] = []
    for path in paths:
        with explained(path, "read"):
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                raise OptituneError(f"{path}: is damaged or no JSON: write it again, or move it away") from None
        if not isinstance(found, dict):
            raise OptituneError(f'{path}: holds no object of names and values: write it as {{"accuracy": 0.93}}')
        cells = {key: value for key, value in found.items() if isinstance(value, str | int | float)}
        name = path.parent.relative_to(folder).as_posix() if path.parent != folder else folder.name
        rows.append(with_names(cells, name))
    columns = dict.fromkeys(each for row in rows for each in row)
    return RawTable(str(folder), tuple(columns), tuple(rows), tuple(map(str, paths)))
