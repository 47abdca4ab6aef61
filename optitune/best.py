"""`best.toml`: what a search hands on to a full training, readable and editable by a person."""

from pathlib import Path
from typing import Annotated

import tomli_w
from pydantic import Field, field_validator

from optitune.configuration import Configuration
from optitune.errors import UsageError
from optitune.files import write_text
from optitune.settings import Precision, study_name
from optitune.validation import Strict, existing, read_toml, validated


class BestConfig(Strict):
    """The best configuration of a study, with what is needed to train it again."""

    study: str
    task: str
    trial: Annotated[int, Field(ge=0)]
    value: Annotated[float, Field(ge=0, le=1)]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    train_images: Annotated[int, Field(ge=1)]
    validation_images: Annotated[int, Field(ge=1)]
    precision: Precision
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)]
    data_checksum: Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
    configuration: Configuration
    versions: dict[str, str]

    @field_validator("study")
    @classmethod
    def _name(cls, name: str) -> str:
        return study_name(name)

    @field_validator("task")
    @classmethod
    def _one_line(cls, task: str) -> str:
        # it goes into a comment of exported Python
        if not task.isprintable() or not task:
            raise ValueError("must be one line of printable characters")
        return task


def dumps(best: BestConfig) -> str:
    """`best` as TOML, with a line on what it is."""
    head = (
        f"# The best of study '{best.study}': trial {best.trial}, validation accuracy {best.value:.4f} (one run, "
        f"{best.validation_images} images).\n"
        f"# Train it in full and test it:  optitune retrain best --study {best.study}\n\n"
    )
    return head + tomli_w.dumps(best.model_dump())


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
    """Hold a configuration against the study it is used in.

    Raises:
        UsageError: it was made for another task.
    """
    if best.task != task:
        raise UsageError(
            f"{path}: task = '{best.task}', but study '{study}' trains '{task}'; "
            "name the study it belongs to with --study"
        )
