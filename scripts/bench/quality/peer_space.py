"""The space that a careful user writes, as other packages are given it: `peers.py` asks them in it.

A peer is given one hyperparameter per name, or of one per name and range where it knows conditions. Every real
number is given as its place in its range, 0 to 1 along the range's own scale: no peer has to know our scales, nor that
a name's range can depend on the optimizer.
"""

import logging
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from optitune.sampling.forecast import OPTIMIZER
from scripts.bench.quality.worlds import Parameters, World


@dataclass(frozen=True)
class Axis:
    """What a hyperparameter is drawn from: options, or the numbers between two ends."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    options: tuple[Any, ...] = ()

    @property
    def real(self) -> bool:
        return not (self.whole or self.options)


class Recorder:
    """A trial that keeps what it was asked for.

    Attributes:
        params: drawn so far, from the middle of each range.
        axes: what they were drawn from.
    """

    def __init__(self, optimizer: str) -> None:
        self.params: Parameters = {}
        self.axes: dict[str, Axis] = {}
        self._optimizer = optimizer

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name == OPTIMIZER:
            return self._optimizer
        self.axes[name] = Axis(options=tuple(choices))
        return choices[0]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        # rounded, so that ranges that are one but for a rounding error are equal
        self.axes[name] = Axis(float(f"{low:.9g}"), float(f"{high:.9g}"), log)
        return at_place(0.5, low, high, log)

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.axes[name] = Axis(low, high, whole=True)
        return low


class Told:
    """A trial whose parameters a peer chose: places of real numbers, whole numbers, options as words."""

    def __init__(self, optimizer: str, values: Mapping[str, Any]) -> None:
        self.params: Parameters = {}
        self._optimizer = optimizer
        self._values = values

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        told = self._optimizer if name == OPTIMIZER else self._values[name]
        self.params[name] = next(choice for choice in choices if str(choice) == told)
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.params[name] = at_place(float(self._values[name]), low, high, log)
        return float(self.params[name])

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.params[name] = min(max(int(self._values[name]), low), high)
        return int(self.params[name])


def at_place(place: float, low: float, high: float, log: bool) -> float:
    value = low ** (1 - place) * high**place if log else low + place * (high - low)
    return min(max(value, low), high)


class Space:
    """Our space, as a peer is given it.

    Args:
        by_range: whether a name whose range depends on the optimizer is several hyperparameters; else it is one place.

    Attributes:
        optimizers: that compete.
        axes: by key, the peer's name of a hyperparameter.
        owners: the optimizers that have it, by key.
    """

    def __init__(self, world: World, by_range: bool = False) -> None:
        self._world = world
        self.optimizers: tuple[str, ...] = world.optimizers
        found: dict[str, dict[Axis, list[str]]] = {}
        for optimizer in self.optimizers:
            trial = Recorder(optimizer)
            world.suggest(trial, "theirs")
            for name, axis in trial.axes.items():
                group = Axis() if axis.real and not by_range else axis
                found.setdefault(name, {}).setdefault(group, []).append(optimizer)
        self.axes: dict[str, Axis] = {}
        self.owners: dict[str, list[str]] = {}
        self._names: dict[str, str] = {}
        for name, groups in found.items():
            for axis, owners in groups.items():
                key = name if len(groups) == 1 else f"{name}.{owners[0]}"
                self.axes[key], self.owners[key], self._names[key] = axis, owners, name

    def parameters(self, told: Mapping[str, Any]) -> Parameters:
        """Optuna's parameters from a peer's, which may have more than the optimizer that it chose."""
        optimizer = str(told[OPTIMIZER]) if len(self.optimizers) > 1 else self.optimizers[0]
        values = {self._names[key]: told[key] for key in self.axes if optimizer in self.owners[key] and key in told}
        return self._world.suggest(Told(optimizer, values), "theirs")

    def described(
        self, real: Callable[[str], Any], whole: Callable[[str, int, int], Any], choice: Callable[[str, list[str]], Any]
    ) -> list[Any]:
        """Every hyperparameter in a peer's own words, the optimizer first where several compete."""
        found = [choice(OPTIMIZER, list(self.optimizers))] if len(self.optimizers) > 1 else []
        for key, axis in self.axes.items():
            if axis.options:
                found.append(choice(key, [str(option) for option in axis.options]))
            elif axis.whole:
                found.append(whole(key, int(axis.low), int(axis.high)))
            else:
                found.append(real(key))
        return found


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings, and with nothing logged below an error."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def seed_all(seed: int, number: int) -> None:
    """Seed the global generators that some peers draw from, anew for each trial: other searches draw there too."""
    import torch

    mixed = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)
