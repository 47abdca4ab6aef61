"""The space of the studies that were recorded for this bench, as three kinds of users write it (`worlds.Way`)."""

from collections.abc import Mapping
from math import isclose
from typing import Any

from optitune.sampling.forecast import OPTIMIZER
from optitune.sampling.parameters import suggest
from optitune.searching.objective import changes_ahead
from optitune.space import optimizers
from optitune.space.configuration import ScheduleSettings
from optitune.space.search_space import LR_FACTOR
from optitune.study.settings import StudySettings
from scripts.bench.quality.worlds import Parameters, Way

WIDE_LR = 1e-5, 1e-1
"""The learning rates that a plain user looks at, whatever the optimizer."""


class Narrow:
    """A trial whose learning rate is at most `apart` times the known-good one, or that part of it."""

    def __init__(self, trial: Any, apart: float) -> None:
        self._trial = trial
        self._low, self._high = 1 / apart, apart
        self.suggest_categorical = trial.suggest_categorical
        self.suggest_int = trial.suggest_int

    @property
    def params(self) -> Parameters:
        return dict(self._trial.params)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if name == LR_FACTOR:
            # a range that is this one but for rounding stays as it is
            low = low if isclose(low, self._low) else max(low, self._low)
            high = high if isclose(high, self._high) else min(high, self._high)
        return float(self._trial.suggest_float(name, low, high, log=log))


def own_space(trial: Any, settings: StudySettings, way: Way, apart: float = 10.0) -> Parameters:
    """Draw a configuration of a recorded study.

    Args:
        way: whose space it is.
        apart: how many times the known-good learning rate a careful user goes up and down.
    """
    if way == "wide":
        return wide_space(trial, settings)
    suggest(trial if way == "ours" else Narrow(trial, apart), settings, settings.space())  # type: ignore[arg-type]
    return dict(trial.params)


def wide_space(trial: Any, settings: StudySettings) -> Parameters:
    """One range of learning rates, and momenta on a linear scale."""
    name = trial.suggest_categorical(OPTIMIZER, settings.optimizers)
    row = optimizers.find(name)
    factor = trial.suggest_float("lr", *WIDE_LR, log=True) / row.lr
    values = dict(row.known_good[0])
    if "momentum" in row.ranges:
        values["momentum"] = trial.suggest_float("momentum", 0.0, 0.99)
    if "beta1" in row.ranges and "beta2" in row.ranges and name != "muon":
        values["beta1"] = trial.suggest_float("beta1", 0.8, 0.99)
        values["beta2"] = trial.suggest_float("beta2", 0.9, 0.9999)
    found: Parameters = {
        OPTIMIZER: name,
        LR_FACTOR: factor,
        "step_size": trial.suggest_int("step_size", 1, settings.epochs),
        "gamma": trial.suggest_float("gamma", 0.1, 1.0),
    }
    space = settings.space()
    for (owner, key), parameter in space.parameters.items():
        if owner == name and key != "lr":
            found[parameter] = 1 - values[key] if parameter.startswith("one_minus") else values[key]
    return found


def schedule(parameters: Mapping[str, Any]) -> ScheduleSettings:
    return ScheduleSettings(name="step", settings={name: parameters[name] for name in ("step_size", "gamma")})


def lr_ahead(parameters: Mapping[str, Any], epochs: int, evaluations: int) -> dict[str, float]:
    return changes_ahead(schedule(parameters), epochs, evaluations, evaluations)
