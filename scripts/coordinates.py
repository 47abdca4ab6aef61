"""Between Optuna's parameters and the unit cube: what is equally far apart there matters about equally."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Array = NDArray[np.float64]

Space = Mapping[str, BaseDistribution]
"""Distributions by parameter."""

Derived = Callable[[Mapping[str, Any]], Sequence[float]]
"""Further coordinates, functions of the parameters: of the same number for all, each about 0 to 1."""

OPTION = 0.7
"""How far an option is from none; two options are about 1 apart."""

LENGTHS = {"lr": 0.3, "lr_factor": 0.3, "momentum": 0.45, "one_minus_momentum": 0.45, "eps": 0.8}
LENGTH = 1.5
"""How far one has to go along a parameter, in widths of its range, until the outcome is another: in the recorded
trainings, a learning rate and a momentum matter most."""

DERIVED_LENGTHS = 0.7, 0.7
"""The same of derived coordinates."""

MIDDLE = 0.5
"""Where an optimizer stands along a parameter that it does not have."""


def cells(distribution: BaseDistribution) -> int:
    """How many values there are; 0 for a continuum."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.step is None or distribution.log:
        return 0 if isinstance(distribution, FloatDistribution) else int(distribution.high - distribution.low) + 1
    return round((distribution.high - distribution.low) / distribution.step) + 1


def value_at(distribution: BaseDistribution, place: float) -> Any:
    """The value at a place from 0 to 1."""
    number = cells(distribution)
    index = min(int(place * number), number - 1)
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[index]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if distribution.log:
        value = float(np.exp((1 - place) * np.log(low) + place * np.log(high)))
        value = round(value) if isinstance(distribution, IntDistribution) else value
    elif number:
        value = low + index * (distribution.step or 1)
    else:
        value = low + place * (high - low)
    return min(max(value, low), high)


def place_of(distribution: BaseDistribution, value: Any) -> float:
    """The place of a value: of one among some, the middle of its share."""
    number = cells(distribution)
    if isinstance(distribution, CategoricalDistribution):
        return (distribution.choices.index(value) + 0.5) / number
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if low == high:
        return MIDDLE
    if distribution.log:
        return float((np.log(value) - np.log(low)) / (np.log(high) - np.log(low)))
    if number:
        return (round((value - low) / (distribution.step or 1)) + 0.5) / number
    return float((value - low) / (high - low))


def _width(distribution: BaseDistribution) -> int:
    return len(distribution.choices) if isinstance(distribution, CategoricalDistribution) else 1


def _columns(distribution: BaseDistribution, places: Array) -> Array:
    """What a model sees of places: of options one column each, of anything else its place, (n, columns)."""
    if isinstance(distribution, CategoricalDistribution):
        index = np.minimum((places * len(distribution.choices)).astype(int), len(distribution.choices) - 1)
        return OPTION * np.eye(len(distribution.choices))[index]
    return places[:, None]


class Coordinates:
    """The spaces of several optimizers laid over each other: what they share has the same columns.

    Args:
        spaces: by optimizer.
        derived: further columns.
    """

    def __init__(self, spaces: Mapping[Any, Space], derived: Derived | None = None) -> None:
        self.spaces = spaces
        self._derived = derived
        self._start: dict[tuple[str, int], int] = {}
        self._end = 0
        for space in spaces.values():
            for name, distribution in space.items():
                key = name, _width(distribution)
                if key not in self._start:
                    self._start[key] = self._end
                    self._end += key[1]

    def lengths(self) -> Array:
        """To be expected of each column, (columns,)."""
        found = np.full(self._end, LENGTH)
        for (name, width), start in self._start.items():
            found[start : start + width] = LENGTHS.get(name, LENGTH)
        return found if self._derived is None else np.append(found, DERIVED_LENGTHS)

    def places(self, optimizer: Any, parameters: Mapping[str, Any]) -> Array:
        """Where in the cube of its optimizer a configuration lies, (parameters,)."""
        space = self.spaces[optimizer]
        return np.array(
            [place_of(each, parameters[name]) if name in parameters else MIDDLE for name, each in space.items()]
        )

    def parameters(self, optimizer: Any, places: Iterable[float]) -> dict[str, Any]:
        """The configuration at a point of the cube of its optimizer."""
        space = self.spaces[optimizer].items()
        return {name: value_at(each, place) for (name, each), place in zip(space, places, strict=True)}

    def columns(self, optimizer: Any, points: Array) -> Array:
        """What a model sees of points of the cube of one optimizer, (n, columns)."""
        laid = np.full((len(points), self._end), MIDDLE)
        for number, (name, distribution) in enumerate(self.spaces[optimizer].items()):
            start, width = self._start[name, _width(distribution)], _width(distribution)
            laid[:, start : start + width] = _columns(distribution, points[:, number])
        if self._derived is None:
            return laid
        derived = [self._derived(self.parameters(optimizer, point)) for point in points.tolist()]
        return np.hstack([laid, np.array(derived).reshape(len(points), -1)])
