"""What a world is in which searches are replayed: the protocol that every record's worlds follow.

A world is one task with one or more optimizers. It suggests parameters, replays a training of them, and knows what each
configuration truly comes to. `replay.py` makes worlds of our own records, `published.py` of those that others made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Parameters = dict[str, Any]

Way = Literal["ours", "theirs", "wide"]
"""Whose space: that which `FairSampler` draws from; what a careful user of another search writes, with learning rates
about the known-good one; and what a hurried user writes, one wide range of learning rates for every optimizer."""


@dataclass(frozen=True)
class Replayed:
    """What a training would have shown: a value at every evaluation, the last one final; fewer where it diverged."""

    values: tuple[float, ...]
    diverged: bool


class World(Protocol):
    """Where searches are replayed.

    Attributes:
        optimizers: that compete.
        epochs: of a whole training.
        evaluations: of an epoch.
        maximize: whether higher values are better.
        ideal: best possible value; None where there is none.
        worst: value that others are given for a training that diverged.
        useless: final value that is no better than what is had without a search.
        known_good: parameters of known-good settings, the first of each optimizer first.
        first_tries: parameters that our search tries first, in their order.
        spaces: distributions by optimizer and parameter, as `FairSampler` takes them.
        best: the best true value of each optimizer.
        median: of the true values of all recorded configurations, or `worst` where that is not finite.
        seconds: cost of an epoch by optimizer, 1 where it is not known.
        spread: standard deviation of a final value from run to run.
    """

    @property
    def optimizers(self) -> tuple[str, ...]: ...
    @property
    def epochs(self) -> int: ...
    @property
    def evaluations(self) -> int: ...
    @property
    def maximize(self) -> bool: ...
    @property
    def ideal(self) -> float | None: ...
    @property
    def worst(self) -> float: ...
    @property
    def useless(self) -> float: ...
    @property
    def known_good(self) -> Sequence[Parameters]: ...
    @property
    def first_tries(self) -> Sequence[Parameters]: ...
    @property
    def spaces(self) -> Mapping[str, Mapping[str, BaseDistribution]]: ...
    @property
    def best(self) -> Mapping[str, float]: ...
    @property
    def median(self) -> float: ...
    @property
    def seconds(self) -> Mapping[str, float]: ...
    @property
    def spread(self) -> float: ...

    def suggest(self, trial: Any, way: Way = "ours") -> Parameters:
        """Draw a configuration by an Optuna trial; as `ours` calls its parameters, whatever the way."""

    def train(self, parameters: Mapping[str, Any], generator: np.random.Generator) -> Replayed:
        """One run of a configuration, with what differs from run to run drawn."""

    def truth(self, parameters: Mapping[str, Any]) -> float:
        """The mean final value over runs."""

    def unsearched(self, optimizer: str) -> float:
        """The true value of an optimizer of which a search found nothing: it is used with known-good settings."""

    def lr_ahead(self, parameters: Mapping[str, Any]) -> Mapping[str, float]:
        """The changes of the learning rate still to come, as `ForecastPruner` reads them; by last evaluation."""


def rungs(world: World) -> int:
    """Evaluations of a whole training."""
    return world.epochs * world.evaluations


def behind(world: World, value: float, other: float) -> float:
    """How much worse a value is than another."""
    return other - value if world.maximize else value - other


def regret(world: World, value: float) -> float:
    """How much worse a value is than the best of all."""
    return behind(world, value, (max if world.maximize else min)(world.best.values()))


def unit(world: World) -> float:
    """The regret of the median recorded configuration: what regrets are divided by, so that worlds can be averaged."""
    return regret(world, world.median)


def better(world: World, one: float, other: float) -> bool:
    return one > other if world.maximize else one < other


def error(world: World, value: float | None) -> float:
    """A value as others minimise it; that of a training that diverged where it is None."""
    found = world.worst if value is None else value
    return (world.ideal or 0.0) - found if world.maximize else found


def drawn(trial: Any, space: Mapping[str, BaseDistribution]) -> Parameters:
    """Draw every parameter of a space by an Optuna trial."""
    found: Parameters = {}
    for name, each in space.items():
        if isinstance(each, CategoricalDistribution):
            found[name] = trial.suggest_categorical(name, each.choices)
        elif isinstance(each, FloatDistribution):
            found[name] = trial.suggest_float(name, each.low, each.high, log=each.log)
        else:
            assert isinstance(each, IntDistribution)
            found[name] = trial.suggest_int(name, each.low, each.high)
    return found
