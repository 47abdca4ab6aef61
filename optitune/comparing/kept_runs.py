"""The runs of a comparison on disk: a checkpoint each, all of it or nothing."""

from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from optitune.common import checkpoint
from optitune.common.schema import sentence
from optitune.errors import OptituneError
from optitune.statistics.runs import TUNED, Run, RunId


def run_path(folder: Path, key: RunId) -> Path:
    """Where a run's result lies."""
    variant = "" if key.variant == TUNED else "-" + key.variant.replace(" ", "-")
    return folder / "runs" / f"{key.round:02d}-{key.optimizer}{variant}.safetensors"


def save_run(folder: Path, run: Run) -> None:
    """Write a run, all of it or nothing.

    Raises:
        OptituneError: the file cannot be written.
    """
    state = {
        **vars(run),
        "key": asdict(run.key),
        "curve": [list(point) for point in run.curve],
        "each": None if run.each is None else torch.from_numpy(run.each),
    }
    checkpoint.save(state, run_path(folder, run.key))


RUN = TypeAdapter(Run)


def load_run(path: Path) -> Run:
    """What `save_run` wrote.

    Raises:
        OptituneError: the file is damaged, or of another program.
    """
    try:
        run = RUN.validate_python(checkpoint.load(path))
    except ValidationError as error:
        fault = sentence(error)
        raise OptituneError(
            f"{path} is no run of a comparison ({fault}): move it away and run the same command again"
        ) from error
    key = run.key
    if run_path(path.parent.parent, key) != path:
        raise OptituneError(
            f"{path} is another run ({key.optimizer}, {key.variant}, round {key.round}): rename it, or move it away"
        )
    return run


def run_paths(folder: Path) -> list[Path]:
    """Where the results of runs lie; what a kill left half-written has another name."""
    return sorted((folder / "runs").glob("[0-9]*.safetensors"))


def load_runs(folder: Path) -> list[Run]:
    """All runs there are, in order.

    Raises:
        OptituneError: a file is damaged.
    """
    return sorted((load_run(path) for path in run_paths(folder)), key=lambda run: run.key)
