"""What a stage would train, how long that would take, and what it would take on the disk: a dry run's result."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

FASTER, SLOWER = 0.8, 1.5
"""By which factors a time may be off: a second is short, and processes that train at once slow each other down."""


@dataclass(frozen=True)
class DryRun:
    """What a stage would do; nothing was trained, and nothing was written.

    Attributes:
        stage: `search`, `compare` or `retrain`.
        study: its name.
        new: whether the study is not there yet.
        task: its name.
        done: trials, runs or full trainings that there are already.
        trainings: how many are left, at least and at most.
        epochs: length of a training.
        optimizers: of a search, ranges by optimizer and setting; else the configuration of each, as words by setting.
        schedules: of a search, ranges by schedule and setting.
        training: ranges or values of batch size, warm-up and the like that are not off.
        examples: how many there are to `train` on, for `validation` and for the `test`; None where not known.
        workers: how many processes would train at once.
        device: as torch names it.
        precision: `fp32` or `bf16`.
        each: estimated seconds of one training on one worker that is not ended early, by optimizer.
        seconds: estimated seconds until all is done, at least and at most; an estimate from a second of real steps.
        disk: bytes that it would keep, about.
        scratch: bytes that it would need besides while it runs, about.
        free: bytes that are free there.
        notes: what a user should know besides.
        budget_in: of a search, what the shares of optimizers are counted in: `seconds` or `epochs`.
        costs: of a search, the relative cost of an epoch by optimizer; empty where each counts the same.
    """

    stage: Literal["search", "compare", "retrain"]
    study: str
    new: bool
    task: str
    done: int
    trainings: tuple[int, int]
    epochs: int
    optimizers: Mapping[str, Mapping[str, str]]
    schedules: Mapping[str, Mapping[str, str]]
    training: Mapping[str, str]
    examples: Mapping[str, int | None]
    workers: int
    device: str
    precision: str
    each: Mapping[str, float]
    seconds: tuple[float, float]
    disk: int
    scratch: int
    free: int
    notes: tuple[str, ...] = ()
    budget_in: str | None = None
    costs: Mapping[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"dry_run": True, **asdict(self)}


def until(least: float, most: float, before: float) -> tuple[float, float]:
    """Seconds until all is done, with a margin.

    Args:
        least: seconds of training if as much is spared as may be.
        most: seconds if nothing is.
        before: seconds before the first training begins.
    """
    # workers load again what was loaded to get here
    return round(before + FASTER * least, 1), round(2 * before + SLOWER * most, 1)


def free(folder: Path) -> int:
    """Bytes that are free where a folder is, or is to be."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def mean(values: Sequence[float]) -> float:
    """The mean of some values; 0 of none."""
    return sum(values) / len(values) if values else 0.0
