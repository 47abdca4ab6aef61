"""A pruner that may become ours: what unfinished trials will come to, as far as finished ones tell."""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite, log10
from typing import Any, NamedTuple

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optitune.pruner import OPTIMIZER

Array = NDArray[np.float64]

CLOSEST = 1e-6
"""How near to its ideal a value counts at most."""

WORST = -2.0
"""The height of what is nan or infinite where there is an ideal."""

SLOPE = 0.8, 0.3
"""How much of a lead at an evaluation is left at the end, and how sure that is, before any trial has told."""

LEVEL_SPREAD = 0.15
"""By how much an optimizer's trials come to more or less than others that stood where they stand."""

AHEAD_SPREAD = 0.15
"""What a tenfold drop of the learning rate that is still ahead may add."""

SPREAD, SPREAD_TRIALS = 0.1, 4
"""How far off a forecast is, before any trial has told, and how many trials that counts for."""

ROUNDS = 3
"""How often weights and variance are fitted in turn."""

WORST_SHARE = 0.2
"""What share of the finished trials a forecast does not learn from."""

ENOUGH = 3
"""How many finished trials an evaluation must have been met by."""

UNKNOWN_GAIN, UNKNOWN_SPREAD = 0.1, 0.3
"""What is still to come, and how sure that is, where too few trials have told."""


Ahead = Callable[[Mapping[str, Any], int], float]
"""From parameters and a step to the powers of ten by which the learning rate changes after it."""


class Expected(NamedTuple):
    """A final height to be expected, and the variance of that expectation; 0 for one that was reached."""

    height: float
    variance: float


def height(value: float, maximize: bool, ideal: float | None) -> float:
    """A value as something of which more is better, on the scale on which its noise is about even.

    With an ideal (1 of an accuracy, 0 of a loss), that is how many powers of ten it is away from it.
    """
    if ideal is None:
        return value if maximize else -value
    return -log10(max(abs(ideal - value), CLOSEST)) if isfinite(value) else WORST


class Forecast:
    """Final heights of a study's trials: as reached, or as a regression on finished trials' curves tells.

    At each evaluation, the final height is a linear function of the height there, of the optimizer, and of how far the
    learning rate is still to fall, fitted to the trials that finished; all coefficients have normal priors. So a curve
    is compared with others where those stood in their own schedules.

    Args:
        study: for its direction.
        trials: of that study.
        ideal: see `height`.
        by: the parameter that names the optimizer.
        ahead: from parameters and a step to the powers of ten by which the learning rate falls after it.
    """

    def __init__(
        self,
        study: optuna.Study,
        trials: Iterable[FrozenTrial],
        ideal: float | None,
        by: str = OPTIMIZER,
        ahead: Ahead | None = None,
    ) -> None:
        self._maximize = study.direction == StudyDirection.MAXIMIZE
        self._ideal = ideal
        self._by = by
        self._ahead = ahead
        self._complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        self.finals = {trial.number: self.height(trial.values[0]) for trial in self._complete}
        self._lines: dict[int, _Line | None] = {}

    def height(self, value: float) -> float:
        return height(value, self._maximize, self._ideal)

    def at(self, trial: FrozenTrial, step: int) -> Expected | None:
        """What a trial comes to that stands where this one stood at this step; None where too few trials tell."""
        if step not in self._lines:
            known = [each for each in self._complete if step in each.intermediate_values]
            self._lines[step] = self._line(known, step) if len(known) >= ENOUGH else None
        line = self._lines[step]
        return None if line is None else line(self._features(trial, step), self._of(trial))

    def _of(self, trial: FrozenTrial) -> Any:
        return trial.params.get(self._by)

    def _features(self, trial: FrozenTrial, step: int) -> list[float]:
        ahead = self._ahead(trial.params, step) if self._ahead else 0.0
        return [self.height(trial.intermediate_values[step]), ahead]

    def _line(self, known: list[FrozenTrial], step: int) -> "_Line":
        finals = np.array([self.finals[each.number] for each in known])
        # the worst tell little of how the good ones go on
        kept = [each for each, final in zip(known, finals, strict=True) if final >= np.quantile(finals, WORST_SHARE)]
        return _Line.fitted(
            np.array([self._features(each, step) for each in kept]),
            [self._of(each) for each in kept],
            np.array([self.finals[each.number] for each in kept]),
        )

    def __call__(self, trial: FrozenTrial) -> Expected:
        """What an ended trial came to, or would have come to."""
        if trial.number in self.finals:
            return Expected(self.finals[trial.number], 0.0)
        step = trial.last_step
        if step is None:
            return Expected(min(self.finals.values(), default=WORST), UNKNOWN_SPREAD**2)
        value = trial.intermediate_values[step]
        return self.at(trial, step) or Expected(self.height(value) + UNKNOWN_GAIN, UNKNOWN_SPREAD**2)


class _Line(NamedTuple):
    """A linear function of features and optimizer with normal priors on its weights, and what is known of them.

    Attributes:
        start, end: means of the features and of the final heights that it was fitted to.
        names: the optimizers that have a level of their own.
        weights: of features and levels, after the trials, with their `covariance`.
        variance: of single trials about it.
    """

    start: Array
    end: float
    names: list[Any]
    weights: Array
    covariance: Array
    variance: float

    @staticmethod
    def fitted(features: Array, of: list[Any], finals: Array) -> "_Line":
        names = sorted(set(of), key=str)
        own = np.array([[each == name for name in names] for each in of], dtype=float)
        start, end = features.mean(axis=0), float(finals.mean())
        design = np.hstack([features - start, own])
        expected = np.array([SLOPE[0], 0.0] + [0.0] * len(names))
        trust = np.array([SLOPE[1], AHEAD_SPREAD] + [LEVEL_SPREAD] * len(names)) ** -2.0
        variance = SPREAD**2
        for _ in range(ROUNDS):
            covariance = np.linalg.inv(design.T @ design / variance + np.diag(trust))
            weights = covariance @ (design.T @ (finals - end) / variance + expected * trust)
            off = finals - end - design @ weights
            free = max(1.0, len(finals) - float(np.trace(covariance @ design.T @ design)) / variance)
            variance = (float(off @ off) + SPREAD_TRIALS * SPREAD**2) / (free + SPREAD_TRIALS)
        return _Line(start, end, names, weights, covariance, variance)

    def __call__(self, features: list[float], of: Any) -> Expected:
        own = [float(of == name) for name in self.names]
        row = np.concatenate([np.array(features) - self.start, own])
        stranger = 0.0 if any(own) else LEVEL_SPREAD**2
        return Expected(
            float(self.end + row @ self.weights), float(self.variance + row @ self.covariance @ row + stranger)
        )


class ForecastPruner(BasePruner):
    """Prune a trial that will hardly come to as much as the best of its own optimizer, as far as finished ones tell.

    Args:
        ideal: the value that cannot be passed, where there is one; see `height`.
        sure: by how many standard deviations the forecast must stay behind.
        warmup: steps of a trial that are never judged.
        by: the parameter that names the optimizer.
        ahead: see `Forecast`.
    """

    def __init__(
        self,
        ideal: float | None = None,
        sure: float = 1.0,
        warmup: int = 0,
        by: str = OPTIMIZER,
        ahead: Ahead | None = None,
    ) -> None:
        self._ideal = ideal
        self._sure = sure
        self._warmup = warmup
        self._by = by
        self._ahead = ahead

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step <= self._warmup:
            return False
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        own = [other.number for other in complete if other.params.get(self._by) == trial.params.get(self._by)]
        forecast = Forecast(study, complete, self._ideal, self._by, self._ahead)
        if not own or (expected := forecast.at(trial, step)) is None:
            return False
        best = max(forecast.finals[number] for number in own)
        return bool(expected.height + self._sure * expected.variance**0.5 < best)
