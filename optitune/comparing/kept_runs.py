"""The runs of a comparison on disk: a checkpoint each, all of it or nothing."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
from pydantic import ConfigDict, Field, ValidationError, field_validator

from optitune.common import checkpoint
from optitune.common.schema import Strict, sentence
from optitune.errors import OptituneError
from optitune.statistics.runs import TUNED, Point, Run, RunId


def run_path(folder: Path, key: RunId) -> Path:
    """Where a run's result lies."""
    variant = "" if key.variant == TUNED else "-" + key.variant.replace(" ", "-")
    return folder / "runs" / f"{key.round:02d}-{key.optimizer}{variant}.safetensors"


def save_run(folder: Path, run: Run) -> None:
    """Write a run, all of it or nothing.

    Raises:
        OptituneError: the file cannot be written.
    """
    each = None if run.each is None else torch.from_numpy(run.each)
    known = {key: value for key, value in vars(run).items() if key not in ("key", "each", "curve")}
    state = {
        "key": asdict(run.key),
        **known,
        "curve": [list(vars(point).values()) for point in run.curve],
        "each": each,
    }
    checkpoint.save(state, run_path(folder, run.key))


class KeptKey(Strict):
    """A `RunId` as a file has it."""

    round: Annotated[int, Field(ge=0)]
    optimizer: str
    variant: str


class KeptRun(Strict):
    """A `Run` as its file holds it: validation refuses files of other programs and other versions."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    key: KeptKey
    diverged: str
    value: float
    loss: Annotated[float, Field(allow_inf_nan=True)]
    seconds: Annotated[float, Field(ge=0)]
    state_bytes: Annotated[int, Field(ge=0)]
    weight_bytes: Annotated[int, Field(ge=0)]
    curve: list[Annotated[list[Annotated[float, Field(allow_inf_nan=True)]], Field(min_length=4, max_length=4)]]
    each: torch.Tensor | None

    @field_validator("each")
    @classmethod
    def _numbers(cls, each: torch.Tensor | None) -> torch.Tensor | None:
        if each is not None and (each.ndim != 1 or each.dtype != torch.float32 or not len(each)):
            raise ValueError("must be some numbers")
        return each


def load_run(path: Path) -> Run:
    """What `save_run` wrote.

    Raises:
        OptituneError: the file is damaged.
    """
    try:
        kept = KeptRun.model_validate(checkpoint.load(path))
    except ValidationError as error:
        fault = sentence(error, KeptRun)
        raise OptituneError(
            f"{path} is no run of a comparison ({fault}): move it away and run the same command again"
        ) from error
    known = dict(kept)
    key, curve, each = RunId(**known.pop("key").model_dump()), known.pop("curve"), known.pop("each")
    if run_path(path.parent.parent, key) != path:
        raise OptituneError(
            f"{path} is another run ({key.optimizer}, {key.variant}, round {key.round}): rename it, or move it away"
        )
    points = tuple(Point(*point) for point in curve)
    return Run(key=key, curve=points, each=None if each is None else each.numpy(), **known)


def run_paths(folder: Path) -> list[Path]:
    """Where the results of runs lie; what a kill left half-written has another name."""
    return sorted((folder / "runs").glob("[0-9]*.safetensors"))


def load_runs(folder: Path) -> list[Run]:
    """All runs there are, in order.

    Raises:
        OptituneError: a file is damaged.
    """
    return sorted((load_run(path) for path in run_paths(folder)), key=lambda run: run.key)
