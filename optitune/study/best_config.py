"""`best.toml`: the best configuration of a search, as a file that a person can read and edit."""

from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, field_validator, model_validator

from optitune.common.files import write_text
from optitune.common.schema import Strict, existing, read_toml, validated
from optitune.common.text import Unit, over_runs
from optitune.errors import UsageError
from optitune.space import schedules
from optitune.space.configuration import Configuration, Precision
from optitune.study.settings import TaskName, study_name
from optitune.study.steps import examples_text

DIGESTS = ("sealed", "held_out", "inputs", "validation", "split")
"""The keys of digests of the data, wherever they are kept."""


class BestConfig(Strict):
    """The best configuration of a study, with what is needed to train it again.

    Attributes:
        trial: that trained it first.
        direction: of the metric that a training loop of the user's own reports; empty for any other task.
        value: of its validation metric, the mean over `runs`.
    """

    study: str
    task: TaskName
    trial: Annotated[int, Field(ge=0)]
    metric: str
    direction: Literal["", "minimize", "maximize"] = ""
    value: float
    runs: Annotated[int, Field(ge=1)] = 1
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    train_examples: Annotated[int, Field(ge=1)]
    validation_examples: Annotated[int, Field(ge=1)]
    precision: Precision
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)]
    data_checksum: Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
    data_digests: dict[str, str] = Field(default_factory=dict)
    scaling: dict[str, Any] = Field(default_factory=dict)
    configuration: Configuration
    versions: dict[str, str]

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        """Refuse a file without the settings that every training needs; all others are off by default."""
        configuration = data.get("configuration") if isinstance(data, dict) else None
        if isinstance(configuration, dict):
            if "training" not in configuration:
                raise ValueError("configuration.training is missing")
            for key in ("batch_size", "loss"):
                if isinstance(configuration["training"], dict) and key not in configuration["training"]:
                    raise ValueError(f"configuration.training.{key} is missing")
        return data

    @field_validator("study")
    @classmethod
    def _name(cls, name: str) -> str:
        return study_name(name)

    @field_validator("task", "metric")
    @classmethod
    def _one_line(cls, text: str) -> str:
        # it goes into a comment of exported Python
        if not text.isprintable() or not text:
            raise ValueError("must be one line of printable characters")
        return text

    @property
    def reported(self) -> str | None:
        """What a training loop of the user's own reports, as a study says it; None for any other task."""
        return f"{self.metric}:{self.direction}" if self.direction else None

    @property
    def unit(self) -> Unit:
        """The format of the metric's values; a share that is called accuracy is written in percent."""
        return Unit(self.metric, percent=self.metric == "accuracy" and 0 <= self.value <= 1)

    @model_validator(mode="after")
    def _lasts(self) -> "BestConfig":
        """Refuse a schedule that ends before the training does, where torch's own scheduler then raises."""
        schedule = self.configuration.schedule
        for name in schedules.find(schedule.name).covers:
            epochs = schedule.settings[name]
            if isinstance(epochs, int) and epochs < self.epochs:
                raise ValueError(
                    f"configuration.schedule.settings.{name} = {epochs}: {schedule.name} lasts the whole training, "
                    f"so it must be at least epochs = {self.epochs}"
                )
        return self


def dumps(best: BestConfig, head: str = "") -> str:
    """`best` as TOML, with a line on what it is.

    Args:
        best: the configuration.
        head: comment before it; empty for the one of a search's best.
    """
    head = head or (
        f"# The best of study '{best.study}': trial {best.trial}, validation {best.metric} "
        f"{best.unit.value(best.value)} ({over_runs(best.runs)}, {examples_text(best.validation_examples)}).\n"
        f"# Train it in full and test it:  optitune retrain best --study {best.study}\n\n"
    )
    whole = best.model_dump()
    optimizer, training = whole["configuration"]["optimizer"], whole["configuration"]["training"]
    if best.runs == 1:
        del whole["runs"]
    if not best.direction:
        del whole["direction"]
    for table, keys in (
        (whole, ("data_digests", "scaling")),
        (optimizer, ("path", "traits")),
        (training, ("groups",)),
    ):
        for key in keys:
            if not table[key]:
                del table[key]
    return head + tomli_w.dumps(whole)


def save(best: BestConfig, path: Path) -> None:
    """Write `best` to `path`, all of it or nothing.

    Raises:
        OptituneError: the file cannot be written.
    """
    write_text(path, dumps(best))


def load(path: Path, advice: str) -> BestConfig:
    """Read and validate the file at `path`.

    Raises:
        OptituneError: there is no such file (the message ends in `advice`), or it cannot be read.
        UsageError: it is not TOML, or some key is unknown, missing or out of range.
    """
    return validated(BestConfig, read_toml(existing(path, advice)), str(path))


def check_task(best: BestConfig, study: str, task: str, path: Path) -> None:
    """Check that a configuration belongs to a study's task.

    Args:
        best: the configuration.
        study: name of the study it is used in.
        task: of that study.
        path: of the configuration's file, for messages.

    Raises:
        UsageError: it was made for another task.
    """
    if best.task != task:
        raise UsageError(
            f"{path}: task = '{best.task}', but study '{study}' trains '{task}'; "
            "name the study it belongs to with --study"
        )
