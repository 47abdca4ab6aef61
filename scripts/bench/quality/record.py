"""The record of real trainings that searches are replayed on: what a line of it holds, and where it lies.

`make_record.py` makes it, `replay.py` reads it. A record is one gzipped file of JSON lines: the first
says where the others come from, each other one is a training.
"""

import gzip
import json
from collections.abc import Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from optitune.common.files import replacing
from optitune.tasks import metrics
from optitune.tasks.metrics import Metric

FOLDER = Path(__file__).resolve().parents[3] / "studies"

Origin = Literal["known-good", "sobol", "outer", "promising", "again"]


class Row(BaseModel):
    """What every line is: frozen, and nothing but what it says."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Provenance(Row):
    """Where a record comes from.

    Attributes:
        settings: of the study whose space was sampled and whose trials these are, as a study's file has them.
        ranges: that space in words, by owner.
        evaluations: of an epoch.
        train_examples: that every training saw in an epoch.
        validation_examples: that the last evaluation judged on; those before it on `quick_examples` of them.
        checksum: of the data.
        versions: of everything that decides a result.
        machine: processor and the matrix instructions that torch finds.
        about: data and network in a line.
        metric: as studies keep it.
        chance: the value of a constant prediction, or another below which a training did not learn.
        lr_prior: standard deviation and reach of the learning rates that were sampled, in powers of ten about the
            known-good one; None where they were sampled evenly within a factor of 10.
    """

    task: str
    settings: dict[str, Any]
    ranges: dict[str, dict[str, str]]
    evaluations: int
    train_examples: int
    validation_examples: int
    quick_examples: int
    checksum: str
    versions: dict[str, str]
    machine: str
    made: str
    about: str = ""
    metric: dict[str, Any] = {"name": "accuracy"}
    chance: float = 0.5
    lr_prior: tuple[float, float] | None = None

    @property
    def judge(self) -> Metric:
        """The metric, without its function where it is a task's own."""
        return metrics.restored(self.metric)

    @property
    def worst(self) -> float:
        """What a training that diverged comes to: the metric's worst value, or a constant's where there is none."""
        metric = self.judge
        end = metric.lowest if metric.direction == "maximize" else metric.highest
        return end if isfinite(end) else self.chance


class Curve(Row):
    """One training.

    Attributes:
        number: of the configuration within its optimizer, in the order in which they were chosen.
        origin: `known-good` settings; `sobol`, within the ranges that optitune searches; `outer`, with a learning rate
            beyond them, as wide ranges of others reach it; `promising`, what a fit to those expects most of; `again`,
            an earlier configuration under another seed.
        parameters: as Optuna calls them, by which `optitune.sampling.parameters.suggest` makes a configuration.
        seed: of weights, batches and dropout.
        values: validation metric at every evaluation, the last on all validation examples.
        losses: mean training loss since the evaluation before.
        seconds: since the start, at every evaluation; of processor time but for MNIST.
        diverged: the step at which the loss became nan or infinite; no evaluation follows it.
    """

    optimizer: str
    number: int
    origin: Origin
    parameters: dict[str, Any]
    seed: int
    values: tuple[float, ...]
    losses: tuple[float, ...]
    seconds: tuple[float, ...]
    diverged: int | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        return self.optimizer, self.number, self.seed

    @property
    def final(self) -> float:
        """The value of the whole training; nan where it diverged."""
        return nan if self.diverged is not None or not self.values else self.values[-1]


def path(task: str) -> Path:
    """Where the record of `task` lies."""
    return FOLDER / f"curves-{task}.jsonl.gz"


def recorded() -> list[str]:
    """The tasks of which there is a record."""
    return sorted(file.name.removeprefix("curves-").removesuffix(".jsonl.gz") for file in FOLDER.glob("curves-*.gz"))


def write(to: Path, provenance: Provenance, curves: Sequence[Curve]) -> None:
    """Write a record, the same bytes for the same content."""
    lines = [provenance.model_dump_json(), *(curve.model_dump_json() for curve in curves)]
    with replacing(to) as fresh:
        fresh.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


def read(at: Path) -> tuple[Provenance, list[Curve]]:
    """A record as it was written."""
    first, *others = gzip.decompress(at.read_bytes()).decode().splitlines()
    return Provenance.model_validate_json(first), [Curve.model_validate(json.loads(line)) for line in others]
