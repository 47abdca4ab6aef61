"""Strict pydantic models, their errors as one sentence, and TOML."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from optitune.common.files import explained
from optitune.errors import OptituneError, UsageError

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A frozen model that refuses unknown keys, wrong types, nan and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


def sentence(error: ValidationError) -> str:
    """A validation error in one line: `key = value: what is wrong` for each fault."""
    faults = []
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "missing":
            faults.append(f"{key} is missing")
        elif fault["type"] == "extra_forbidden":
            faults.append(f"{key} is not a known key")
        else:
            cause = fault.get("ctx", {}).get("error") or fault["msg"][0].lower() + fault["msg"][1:]
            value = fault["input"]
            if isinstance(value, dict) and fault["type"] == "value_error":
                # a whole table was refused: the message itself names the key within it
                faults.append(f"{key}.{cause}" if key else str(cause))
            else:
                faults.append(f"{key} = {value!r}: {cause}")
    return "; ".join(faults)


def validated(model: type[Model], data: dict[str, Any], where: str) -> Model:
    """Validate data.

    Args:
        model: class to build.
        data: values by key.
        where: the data come from, for messages.

    Raises:
        UsageError: some key is unknown, missing or has a value that is not allowed.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{where}: {sentence(error)}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read the TOML file at `path`.

    Raises:
        OptituneError: the file cannot be read.
        UsageError: it is not TOML.
    """
    try:
        with explained(path, "read"):
            return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        # not only TOMLDecodeError: a number of thousands of digits is a plain ValueError
        raise UsageError(f"{path} is not a TOML file: {error}; mend or remove it") from None


def existing(path: Path, advice: str) -> Path:
    """`path`, after a check that the file exists.

    Raises:
        OptituneError: it does not; the message ends in `advice`.
    """
    if not path.is_file():
        raise OptituneError(f"there is no {path}: {advice}")
    return path


def inline(value: Any) -> str:
    """A value as TOML on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_key(key)} = {inline(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(inline(each) for each in value) + "]"
    return tomli_w.dumps({"key": value}).partition("=")[2].strip()


def differences_table(differences: Mapping[str, tuple[Any, Any]]) -> str:
    """What has changed, a line `key: was -> now` for each key, values as TOML has them.

    Args:
        differences: the values (now, was) by key; None where it is not set.
    """
    words = [
        [key, *("not set" if value is None else inline(value) for value in (was, now))]
        for key, (now, was) in differences.items()
    ]
    return "\n".join(f"  {key}: {was} -> {now}" for key, was, now in words)


def toml_key(key: str) -> str:
    """A key in TOML, quoted where necessary."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
