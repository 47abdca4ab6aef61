"""Strict pydantic models, their errors as one sentence, and TOML."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from optitune.common.files import explained
from optitune.errors import OptituneError, UsageError, unknown

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A frozen model that refuses unknown keys, wrong types, nan and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


CAUSES: Mapping[str, str] = {
    "missing": "is missing",
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a table, such as {{ NAME = VALUE }}",
    "model_type": "must be a table, such as {{ NAME = VALUE }}",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "too_short": "must have at least {min_length}",
}
"""What is wrong with a value, by pydantic's kinds of errors, whose own words are for programmers."""

MOST_SHOWN = 200
"""Characters of a value that a message shows."""


def sentence(error: ValidationError, model: type[BaseModel] = BaseModel) -> str:
    """A validation error in one line: `key = value: what is wrong` for each fault.

    Args:
        error: of the validation.
        model: class that was to be built; only a strict one has unknown keys.
    """
    faults = []
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"])
        context = fault.get("ctx", {})
        if fault["type"] == "extra_forbidden":
            context = {"error": unknown("key", str(fault["loc"][-1]), _keys(model, fault["loc"][:-1]))}
        cause = context.get("error") or CAUSES.get(fault["type"], "is not allowed here").format(**context)
        if fault["type"] == "missing":
            faults.append(f"{key} {cause}")
        elif isinstance(fault["input"], dict) and fault["type"] == "value_error":
            # a whole table was refused: the message itself names the key within it
            faults.append(f"{key}.{cause}" if key else str(cause))
        else:
            faults.append(f"{key} = {_shown(fault['input'])}: {cause}")
    return "; ".join(faults)


def _keys(model: type[BaseModel], place: Sequence[str | int]) -> Iterable[str]:
    """The keys that a model takes at a place within it."""
    for part in place:
        if part in model.model_fields:
            pending: list[Any] = [model.model_fields[str(part)].annotation]
            while pending:
                each = pending.pop()
                pending += get_args(each)
                if isinstance(each, type) and issubclass(each, BaseModel):
                    model = each
    return model.model_fields


def _shown(value: Any) -> str:
    """A value as a message shows it: on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


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
        raise UsageError(f"{where}: {sentence(error, model)}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read the TOML file at `path`.

    Raises:
        OptituneError: the file cannot be read.
        UsageError: it is not TOML.
    """
    try:
        with explained(path, "read"):
            return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise UsageError(
            f"{path} is not UTF-8 (UTF-16, as some editors on Windows write it?): save it as UTF-8, or remove it"
        ) from None
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
