"""What a study is: from flags and `studies/<name>.toml` to one frozen, validated `StudySettings`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from optitune import optimizers, schedules
from optitune.errors import UsageError
from optitune.validation import Strict, read_toml, validated

Precision = Literal["fp32", "bf16"]
Sampler = Literal["optitune", "tpe", "random", "qmc", "gp", "nsgaii"]
Pruner = Literal["optitune", "none", "median", "percentile", "successive-halving", "hyperband"]


def study_name(name: str) -> str:
    """`name`, if it can be a folder's on every system and stays inside its parent.

    Raises:
        ValueError: it can not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            f"'{name}' cannot be a study's name: use up to 100 letters, digits, '.', '_' and '-', "
            "starting with a letter or digit"
        )
    return name


def checked_study_name(name: str) -> str:
    """`name`, if it can be a study's.

    Raises:
        UsageError: it can not.
    """
    try:
        return study_name(name)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("a name stands twice")
    return names


class StudySettings(Strict):
    """Everything that decides what a trial is: runs with equal settings can share one study."""

    task: str = "mnist-cnn"
    optimizers: Annotated[tuple[str, ...], Field(min_length=1, strict=False), AfterValidator(_distinct)] = (
        optimizers.DEFAULT_OPTIMIZERS
    )
    schedules: Annotated[tuple[str, ...], Field(min_length=1, strict=False), AfterValidator(_distinct)] = (
        schedules.DEFAULT_SCHEDULES
    )
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 5
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 64
    train_images: Annotated[int, Field(ge=1)] | None = None
    sampler: Sampler = "optitune"
    pruner: Pruner = "optitune"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0

    @field_validator("optimizers", "schedules")
    @classmethod
    def _known(cls, names: tuple[str, ...], info: Any) -> tuple[str, ...]:
        find = optimizers.find if info.field_name == "optimizers" else schedules.find
        for name in names:
            try:
                find(name)
            except UsageError as error:
                raise ValueError(str(error)) from None
        return names


def from_file(path: Path) -> dict[str, Any]:
    """What a study's file says; nothing where there is no such file.

    Raises:
        UsageError: a key is unknown or its value not allowed.
    """
    if not path.is_file():
        return {}
    said = read_toml(path)
    validated(StudySettings, said, str(path))
    return said


def flag(key: str) -> str:
    """The command-line flag that sets `key`."""
    return "--" + key.replace("_", "-")


def resolve(
    flags: Mapping[str, Any], file: Mapping[str, Any], stored: Mapping[str, Any] | None, study: str
) -> StudySettings:
    """The settings of a study: what is said by flag, else in its file, else what it was made with, else the defaults.

    Args:
        flags: what was typed, by key.
        file: what the study's file says, by key.
        stored: what an existing study was made with; None for a new one.
        study: the study's name, for messages.

    Raises:
        UsageError: a value is not allowed, or differs from what the study was made with.
    """
    said = {**file, **flags}
    if stored is None:
        return validated(StudySettings, said, f"study '{study}'")
    wanted = validated(StudySettings, {**stored, **said}, f"study '{study}'")
    made = validated(StudySettings, dict(stored), f"study '{study}' as stored")
    if wanted.precision == "auto":
        wanted = wanted.model_copy(update={"precision": made.precision})
    differences = differing(wanted.model_dump(), made.model_dump())
    if differences:
        keep = [f"{flag(key)} {_typed(value)}" for key, (_, value) in differences.items() if value is not None]
        unset = [key for key, (_, value) in differences.items() if value is None]
        nothing = [flag(key) for key in unset if key in flags] + [f"{key} in its file" for key in unset if key in file]
        ways = [" ".join(keep)] * bool(keep) + ["nothing of " + ", ".join(nothing)] * bool(nothing)
        listed = ", ".join(
            f"{key} {_typed(made_value)} (now {_typed(now)})" for key, (now, made_value) in differences.items()
        )
        raise UsageError(
            f"study '{study}' was made with other settings: {listed}. "
            f"To go on with it, say {' and '.join(ways)}; "
            f"to start another, add --study {study}-2"
        )
    return made


def differing(now: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, with both values."""
    keys = list(made) + [key for key in now if key not in made]
    return {key: (now.get(key), made.get(key)) for key in keys if now.get(key) != made.get(key)}


def _typed(value: Any) -> str:
    """A value as a user would type it."""
    if value is None:
        return "all"
    return ",".join(value) if isinstance(value, list | tuple) else str(value)
