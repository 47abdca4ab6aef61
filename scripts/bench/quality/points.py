"""Points of the space of a recorded study: how learning rates are drawn, and parameters from the unit cube."""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from scipy.special import ndtri

from optitune.sampling.forecast import OPTIMIZER
from optitune.sampling.parameters import suggest
from optitune.space.search_space import LR_FACTOR
from optitune.study.settings import StudySettings

LR_BOX = 0.1, 10.0
"""Multiples of the known-good learning rate within which the trainings on MNIST were sampled."""

RECORDED = 0.003, 300.0
"""Multiples that the records of MNIST reach."""

Lr = Callable[[float], float]
"""From a coordinate, 0 to 1, to a multiple of the known-good learning rate."""


def within(low: float, high: float) -> Lr:
    """Evenly on a logarithmic scale."""
    return lambda at: float(low ** (1 - at) * high**at)


def either(low: tuple[float, float], high: tuple[float, float]) -> Lr:
    """Within one range in the lower half, within another in the upper."""
    return lambda at: within(*(high if at >= 0.5 else low))(2 * at % 1)


def normal(deviation: float, reach: float) -> Lr:
    """Normally distributed on a logarithmic scale about the known-good one, in powers of ten, up to `reach`."""
    return lambda at: float(10.0 ** np.clip(deviation * ndtri(at), -reach, reach))


BOX = within(*LR_BOX)


def lr_of(prior: tuple[float, float] | None) -> Lr:
    """How a record's learning rates were sampled; see `Provenance`."""
    return BOX if prior is None else normal(*prior)


class Point:
    """A trial whose parameters come from a point of the unit cube, coordinate by coordinate.

    Attributes:
        params: drawn so far.
    """

    def __init__(self, optimizer: str, point: Iterable[float], lr: Lr) -> None:
        self.params: dict[str, Any] = {OPTIMIZER: optimizer}
        self._point = iter(point)
        self._lr = lr

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name not in self.params:
            self.params[name] = choices[int(next(self._point) * len(choices))]
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        at = next(self._point)
        usual = low ** (1 - at) * high**at if log else low + at * (high - low)
        self.params[name] = self._lr(at) if name == LR_FACTOR else float(usual)
        return float(self.params[name])

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.params[name] = low + int(next(self._point) * (high - low + 1))
        return int(self.params[name])


def drawn(
    settings: StudySettings, optimizer: str, points: Iterable[Iterable[float]], lr: Lr = BOX
) -> list[dict[str, Any]]:
    """Optuna's parameters at points of the unit cube."""
    space, found = settings.space(), []
    for point in points:
        trial = Point(optimizer, point, lr)
        suggest(trial, settings, space)  # type: ignore[arg-type]
        found.append(trial.params)
    return found


def dimensions(settings: StudySettings, optimizer: str) -> int:
    """How many hyperparameters there are to draw, the optimizer itself not counted."""
    return len(drawn(settings, optimizer, [repeat(0.5)])[0]) - 1
