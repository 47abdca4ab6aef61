"""A study's own optimizers: rows like those of the registry, in the study's file."""

import re
import sys
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from optitune.common.schema import Strict
from optitune.common.user_modules import file_of, hiding, importable_with_note
from optitune.errors import UsageError
from optitune.space import optimizers
from optitune.space.configuration import LARGEST
from optitune.space.ranges import Choice, Fixed, Float, Int, Range, Scale
from optitune.space.search_space import BY_THE_STUDY, like, narrowed


def _one_of(words: str, *kinds: type) -> BeforeValidator:
    """Check the type and the size of a value, in the `words` of a message."""

    def check(value: Any) -> Any:
        if type(value) not in kinds or (isinstance(value, float) and not isfinite(value)):
            raise ValueError(f"must be {words}")
        if not isinstance(value, str) and abs(value) > LARGEST:
            raise ValueError(f"must be at most {LARGEST:g} in size")
        return value

    return BeforeValidator(check)


Number = Annotated[int | float, _one_of("a finite number", int, float)]
Value = Annotated[bool | int | float | str, _one_of("a finite number, true or false, or a word", bool, int, float, str)]
Setting = Annotated[bool | int | float, _one_of("a finite number, or true or false", bool, int, float)]


class OwnRange(Strict):
    """A range of a study's own optimizer: two ends and a scale, or options."""

    low: Number | None = None
    high: Number | None = None
    scale: Scale = "linear"
    options: tuple[Value, ...] = Field(default=(), strict=False)

    def range(self) -> Range:
        """The range as one of the registry.

        Raises:
            ValueError: there are neither two ends nor options, or the ends make no range.
        """
        if self.options:
            several = len(self.options) > 1
            return Choice(self.options, BY_THE_STUDY) if several else Fixed(self.options[0], BY_THE_STUDY)
        if self.low is None or self.high is None:
            raise ValueError("must have low and high, or options")
        if isinstance(self.low, int) and isinstance(self.high, int) and self.scale == "linear":
            return Int(self.low, self.high, BY_THE_STUDY)
        return Float(float(self.low), float(self.high), self.scale, BY_THE_STUDY)


def _parts(name: str, given: Any, usual: Any) -> dict[str, Any]:
    """The keys of the range that a value or a list means.

    Raises:
        ValueError: it means none.
    """
    meant = narrowed(name, given, like(name, usual), optimizers.LIMITS.get(name))
    if isinstance(meant, Float):
        return {"low": meant.low, "high": meant.high, "scale": meant.scale}
    return {"low": meant.low, "high": meant.high} if isinstance(meant, Int) else {"options": list(meant.ends())}


class OwnOptimizer(Strict):
    """A study's own optimizer; its keys are those of `optimizer_rows.Optimizer`."""

    name: str
    path: str
    known_good: Annotated[tuple[dict[str, Setting], ...], Field(min_length=1, strict=False)]
    ranges: dict[str, OwnRange] = Field(default_factory=dict)
    source: str = BY_THE_STUDY
    note: str = "An optimizer of the study's own."
    fixed: dict[str, Value] = Field(default_factory=dict)
    also: dict[str, Setting] = Field(default_factory=dict)
    needs: dict[str, str] = Field(default_factory=dict)
    traits: tuple[optimizers.Trait, ...] = Field(default=(), strict=False)

    @field_validator("name", "path")
    @classmethod
    def _written_right(cls, text: str, info: ValidationInfo) -> str:
        forms = {
            "name": (r"[A-Za-z][A-Za-z0-9_-]*", "letters, digits, '-' and '_', beginning with a letter"),
            "path": (r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", "module:class, such as lion_pytorch:Lion"),
        }
        form, words = forms[info.field_name or "name"]
        if not re.fullmatch(form, text):
            raise ValueError(f"must be {words}")
        return text

    @field_validator("ranges", mode="before")
    @classmethod
    def _short_forms(cls, ranges: Any, info: ValidationInfo) -> Any:
        """A value, or a list of two ends or of options, means what it means elsewhere in a study's file."""
        first: Any = next(iter(info.data.get("known_good", ())), {})
        if not isinstance(ranges, dict):
            return ranges
        return {
            name: _parts(name, each, first.get(name, 1.0))
            if isinstance(each, bool | int | float | str | list)
            else each
            for name, each in ranges.items()
        }

    @model_validator(mode="after")
    def _is_a_row(self) -> "OwnOptimizer":
        if self.name in optimizers.OPTIMIZERS:
            raise ValueError(f"name = {self.name!r}: optitune has an optimizer of that name; choose another")
        self.row()
        return self

    def row(self) -> optimizers.Optimizer:
        """The optimizer as a row of the registry.

        Raises:
            ValueError: known-good settings and ranges do not fit each other.
        """
        ranges: dict[str, Range] = {}
        for name, value_range in self.ranges.items():
            try:
                ranges[name] = value_range.range()
            except ValueError as error:
                raise ValueError(f"ranges.{name}: {error}") from None
        if "lr" in ranges and any(not isinstance(end, int | float) or end <= 0 for end in ranges["lr"].ends()):
            raise ValueError(f"ranges.lr = {ranges['lr']}: must be above 0")
        return optimizers.Optimizer(
            self.name,
            self.path,
            self.known_good,
            ranges,
            self.source,
            self.note,
            fixed=self.fixed,
            also=self.also,
            needs=self.needs,
            traits=self.traits,
        )


def find_modules(paths: Mapping[str, str], studies: Path) -> None:
    """Make the modules of a study's own optimizers importable in this process.

    Each is searched beside the study's file, then where Python looks, then in the present folder.

    Args:
        paths: `module:class` by the optimizer's name; empty for one of the registry.
        studies: folder of the study's file.

    Raises:
        UsageError: a module is not found, or its name is in use by another one.
    """
    for name, path in paths.items():
        module = path.partition(":")[0]
        top, place = module.partition(".")[0], f"optimizer '{name}' ({path.replace(':', '.')})"
        beside, here = studies.resolve(), Path.cwd()
        if not path:
            continue
        if file_of(module, beside):
            folder = beside
        elif optimizers.is_module(top):
            continue
        elif file_of(module, here):
            folder = here
        else:
            looked = " and ".join(map(str, dict.fromkeys((beside, here))))
            raise UsageError(
                f"{place}: there is no module '{module}' in {looked}, nor among what is installed: put its file beside "
                "the study's, or install it"
            )
        if top in hiding(folder):
            raise UsageError(
                f"{place}: {hiding(folder)[top]} bears the name of a module that Python or optitune needs: rename it, "
                "and name it so in path"
            )
        file, known = file_of(top, folder), getattr(sys.modules.get(top), "__file__", None)
        if known and file and Path(known).resolve() != Path(file).resolve():
            raise UsageError(
                f"{place}: means {file}, but {known} was imported by that name before: rename one of the two"
            )
        importable_with_note(folder)
