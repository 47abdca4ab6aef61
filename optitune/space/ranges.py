"""Ranges of hyperparameters as frozen data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isclose, isfinite, log
from typing import Any, Literal

Scale = Literal["linear", "log", "complement"]

DIGITS = 12
"""Significant digits to which the ends of ranges are compared; rounding may change the ones after."""

ROUNDED = 10.0**-DIGITS
"""Relative difference up to which two numbers are the same but for rounding."""


def shortest(value: float) -> str:
    """A number in the fewest digits that identify it, rounding errors left out."""
    texts = [f"{value:.{digits}g}" for digits in (6, DIGITS)]
    return next((text for text in texts if isclose(float(text), value, rel_tol=1e-12)), repr(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Float:
    """A range of real numbers from `low` to `high`, both included.

    Attributes:
        low: smallest value, finite; above 0 on a log scale.
        high: largest value, finite; below 1 on the complement scale.
        scale: on which values are drawn uniformly: the value itself (`linear`), its logarithm (`log`), or the
            logarithm of 1 - value (`complement`), on which momentum 0.9, 0.99 and 0.999 are equally spaced.
        source: the paper or documentation that the range comes from.
        closed: whether the ends are natural limits, so that a best value there is no reason to widen the range.
        usual: whether the range is only where good values usually lie, so that a search may go beyond its ends where
            its trials point there.

    Raises:
        ValueError: the range is empty, not finite, or impossible on its scale.
    """

    low: float
    high: float
    scale: Scale = "linear"
    source: str = ""
    closed: bool = False
    usual: bool = False

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low {self.low} must be below high {self.high}, both finite")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"low {self.low} must be above 0 on a log scale")
        if self.scale == "complement" and self.high >= 1:
            raise ValueError(f"high {self.high} must be below 1 on the scale of 1 - value")

    def contains(self, value: Any) -> bool:
        return _is_number(value) and self.low <= value <= self.high

    def widened(self, factor: float) -> "Float":
        """A range on a log scale, with its ends further out by a factor."""
        return replace(self, low=self.low / factor, high=self.high * factor, usual=False)

    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def place(self, value: float) -> float:
        """The position of `value` between the ends on the range's scale, 0 to 1."""
        low, at, high = (self._axis(each) for each in (self.low, value, self.high))
        # ends that are one number by rounding have no place between them
        return (at - low) / (high - low) if high > low else 0.5

    def _axis(self, value: float) -> float:
        if self.scale == "linear":
            return value
        return log(value) if self.scale == "log" else -log(1 - value)

    def __str__(self) -> str:
        words = {"linear": "", "log": ", log scale", "complement": ", log scale of 1 - value"}
        return f"{shortest(self.low)} to {shortest(self.high)}{words[self.scale]}"


@dataclass(frozen=True)
class Int:
    """A range of whole numbers from `low` to `high`, both included.

    Attributes:
        low: smallest value.
        high: largest value.
        source: the paper or documentation that the range comes from.
        closed: as for `Float`.

    Raises:
        ValueError: `low` is above `high`.
    """

    low: int
    high: int
    source: str = ""
    closed: bool = False

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low {self.low} must not be above high {self.high}")

    def contains(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def ends(self) -> tuple[int, int]:
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.low} to {self.high}, whole"


@dataclass(frozen=True)
class Choice:
    """An unordered set of values to choose from.

    Raises:
        ValueError: there is no option, or one is repeated.
    """

    options: tuple[bool | int | float | str, ...]
    source: str = ""

    def __post_init__(self) -> None:
        if not self.options or len(set(self.options)) != len(self.options):
            raise ValueError(f"options {self.options} must be some and all different")

    def contains(self, value: Any) -> bool:
        return any(type(value) is type(option) and value == option for option in self.options)

    def ends(self) -> tuple[bool | int | float | str, ...]:
        return self.options

    def __str__(self) -> str:
        return " or ".join(str(option) for option in self.options)


@dataclass(frozen=True)
class Fixed:
    """A fixed value: a hyperparameter that is not searched."""

    value: bool | int | float | str
    source: str = ""

    def contains(self, value: Any) -> bool:
        return isinstance(value, bool) == isinstance(self.value, bool) and bool(value == self.value)

    def ends(self) -> tuple[bool | int | float | str, ...]:
        return (self.value,)

    def __str__(self) -> str:
        return f"always {self.value}"


Range = Float | Int | Choice | Fixed


def lies_in(value_range: Range, value: Any) -> bool:
    """Whether a range contains a value, or it equals an end but for rounding."""
    ends = [end for end in value_range.ends() if isinstance(end, float)]
    near = isinstance(value, float) and any(isclose(value, end, rel_tol=ROUNDED) for end in ends)
    return near or value_range.contains(value)


Limit = tuple[str, Callable[[Any], bool]]
"""Valid values of a setting: in words, and as a test."""


def whole_number(least: int) -> Limit:
    """The limit of a whole number of at least `least`."""
    return f"a whole number of at least {least}", lambda value: isinstance(value, int) and value >= least


def numbers(value_range: Range) -> dict[str, Any]:
    """A range as JSON, as a study stores it for comparison."""
    if isinstance(value_range, Float):
        ends = {"low": _rounded(value_range.low), "high": _rounded(value_range.high)}
        return {"kind": "float", **ends, "scale": value_range.scale}
    if isinstance(value_range, Int):
        return {"kind": "int", "low": value_range.low, "high": value_range.high}
    if isinstance(value_range, Choice):
        return {"kind": "choice", "options": [_rounded(option) for option in value_range.options]}
    return {"kind": "fixed", "value": _rounded(value_range.value)}


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def as_stored_before(value_range: Range) -> str:
    """A range as studies of older versions store it, in words; it must never change, or they cannot be resumed."""
    if isinstance(value_range, Float):
        words = {"linear": "", "log": ", log scale", "complement": ", log scale of 1 - value"}
        return f"{value_range.low:g} to {value_range.high:g}{words[value_range.scale]}"
    if isinstance(value_range, Int):
        return f"{value_range.low} to {value_range.high}, whole"
    if isinstance(value_range, Choice):
        return " or ".join(str(option) for option in value_range.options)
    return f"always {value_range.value}"


def around(value: float, factor: float, source: str = "") -> Float:
    """A range on a log scale around a value.

    Args:
        value: its geometric middle, above 0.
        factor: by which the ends lie below and above, above 1.
        source: as for `Float`.
    """
    return Float(value / factor, value * factor, "log", source)
