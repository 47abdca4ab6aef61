"""What worlds of published records have in common: their ranges of learning rates, and epochs."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution

from optitune.sampling.forecast import OPTIMIZER
from scripts.bench.quality.worlds import Parameters, Way, drawn

Array = NDArray[np.float64]
Spaces = dict[str, dict[str, BaseDistribution]]

APART: Mapping[Way, float] = {"ours": 1e3, "theirs": 1e2}
"""How many times the known-good learning rate the ends of the range are, or a part of it."""

EPOCHS = 20


def thinned(curves: Array) -> Array:
    """Of recorded curves, (..., evaluations), the last evaluation of every epoch, (..., EPOCHS)."""
    return np.asarray(curves[..., np.round(np.linspace(0, curves.shape[-1], EPOCHS + 1)[1:]).astype(int) - 1])


def logarithmic(low: float, high: float) -> BaseDistribution:
    return FloatDistribution(low, high, log=True)


class Published:
    """What the worlds of published records have in common; see `worlds.World`.

    Attributes:
        by_way: distributions by whose space it is, optimizer and parameter.
    """

    epochs, evaluations = EPOCHS, 1
    maximize = False
    ideal: float | None = 0.0
    worst: float
    by_way: Mapping[Way, Spaces]
    known_good: list[Parameters]

    @property
    def optimizers(self) -> tuple[str, ...]:
        return tuple(self.by_way["ours"])

    @property
    def spaces(self) -> Spaces:
        return self.by_way["ours"]

    @property
    def first_tries(self) -> list[Parameters]:
        return self.known_good

    @property
    def useless(self) -> float:
        return -np.inf if self.maximize else np.inf

    @cached_property
    def seconds(self) -> Mapping[str, float]:
        return dict.fromkeys(self.optimizers, 1.0)

    def suggest(self, trial: Any, way: Way = "ours") -> Parameters:
        name = trial.suggest_categorical(OPTIMIZER, self.optimizers)
        return {OPTIMIZER: name, **drawn(trial, self.by_way[way][name])}

    def lr_ahead(self, parameters: Mapping[str, Any]) -> Mapping[str, float]:
        return {}

    def truth(self, parameters: Mapping[str, Any]) -> float:
        raise NotImplementedError

    def unsearched(self, optimizer: str) -> float:
        return next(self.truth(each) for each in self.known_good if each[OPTIMIZER] == optimizer)
