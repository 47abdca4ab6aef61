"""What a trial that is still going on, or was pruned, will come to, as far as finished trials tell."""

from collections.abc import Iterable, Sequence
from math import inf, isfinite, log10
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

OPTIMIZER = "optimizer"
"""The parameter that names a trial's optimizer."""

LR_AHEAD = "lr_ahead"
"""The user attribute that says by how many powers of ten the learning rate is still to change, up to which step."""

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
"""What share of the finished trials a forecast does not learn from: the worst tell little of how good ones go on."""

ENOUGH = 5
"""How many finished trials an evaluation must have been met by."""

MOST = 300
"""How many of the latest finished trials a forecast learns from."""

Array = NDArray[np.float64]


class Expected(NamedTuple):
    """A final height to be expected, and the variance of that expectation; 0 for one that was reached."""

    score: float
    variance: float


class Score:
    """From values to heights, of which more is better, on a scale on which their noise is about even.

    With an ideal (1 of an accuracy, 0 of a loss), a height is how many powers of ten a value is away from it; one that
    has reached it counts as half as far as the nearest other. Without one, values are heights in units of how far
    the better half is spread.

    Args:
        values: that were reached at the end, any number.
        maximize: whether more is better.
        ideal: the value that cannot be passed.
    """

    def __init__(self, values: Sequence[float], maximize: bool, ideal: float | None) -> None:
        self._ideal = ideal
        self._unit = 1.0 if maximize else -1.0
        self._closest = 1e-300
        finite = np.array([value for value in values if isfinite(value)])
        if ideal is not None:
            apart = np.abs(ideal - finite)
            self._closest = max(float(apart[apart > 0].min(initial=2.0)) / 2, self._closest)
        elif len(finite):
            better = np.sort(self._unit * finite)[len(finite) // 2 :]
            spread = float(better.std())
            # of equal numbers, rounding leaves a little
            self._unit /= 10 * spread if spread > 1e-9 * float(np.abs(better).max()) else 1.0
        worst = min((self(float(value)) for value in finite), default=0.0)
        self._worst = worst - max(1.0, 1e-3 * abs(worst))

    def __call__(self, value: float) -> float:
        if not isfinite(value):
            return self._worst
        if self._ideal is None:
            return self._unit * value
        return -log10(max(abs(self._ideal - value), self._closest))

    def value(self, score: float) -> float:
        """The value of that height."""
        if self._ideal is None:
            return score / self._unit
        return float(self._ideal - self._unit * 10.0 ** min(-score, 300.0))


def lr_ahead(trial: FrozenTrial, step: int) -> float:
    """By how many powers of ten a trial's learning rate is still to change after a step, as far as it says."""
    later = [(int(last), change) for last, change in trial.user_attrs.get(LR_AHEAD, {}).items() if int(last) >= step]
    return float(min(later)[1]) if later else 0.0


class Forecast:
    """Final heights of a study's trials: as reached, or as a regression on finished trials' curves tells.

    At each evaluation, the final height is a linear function of the greatest height so far, of the optimizer, and of
    how far the learning rate is still to fall, fitted to the trials that finished; all coefficients have normal priors
    (Bayesian linear regression: Bishop 2006, Pattern Recognition and Machine Learning, 3.3). So a curve is compared
    with others where those stood in their own schedules, and optimizers learn from each other.

    Args:
        trials: of a study; those that did not finish are left out.
        maximize: whether more is better in that study.
        ideal: see `Score`.
        by: the parameter that names the optimizer.
    """

    def __init__(
        self, trials: Iterable[FrozenTrial], maximize: bool, ideal: float | None = None, by: str = OPTIMIZER
    ) -> None:
        self._by = by
        self._complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        self.score = Score([trial.values[0] for trial in self._complete], maximize, ideal)
        self.finals = {trial.number: self.score(trial.values[0]) for trial in self._complete}
        self._lines: dict[int, _Line | None] = {}

    def at(self, trial: FrozenTrial, step: int) -> Expected | None:
        """What a trial comes to that stands where this one stood at this step; None where too few trials tell."""
        if step not in self._lines:
            known = [each for each in self._complete if step in each.intermediate_values][-MOST:]
            self._lines[step] = self._line(known, step) if len(known) >= ENOUGH else None
        line = self._lines[step]
        return None if line is None else line(self._features(trial, step), self._of(trial))

    def best_of(self, optimizer: Any) -> float | None:
        """The greatest final height that was reached with this optimizer."""
        return max((self.finals[each.number] for each in self._complete if self._of(each) == optimizer), default=None)

    def leads(self, trial: FrozenTrial, step: int) -> bool:
        """Whether a trial stands above all finished ones of its optimizer at this step."""
        own = [each for each in self._complete if self._of(each) == self._of(trial)]
        return all(self._so_far(trial, step) > self._so_far(each, step) for each in own)

    def __call__(self, trial: FrozenTrial) -> Expected | None:
        """What an ended trial came to, or would have come to; None where that cannot be told."""
        if trial.number in self.finals:
            return Expected(self.finals[trial.number], 0.0)
        return None if trial.last_step is None else self.at(trial, trial.last_step)

    def _of(self, trial: FrozenTrial) -> Any:
        return trial.params.get(self._by)

    def _features(self, trial: FrozenTrial, step: int) -> list[float]:
        return [self._so_far(trial, step), lr_ahead(trial, step)]

    def _so_far(self, trial: FrozenTrial, step: int) -> float:
        """The greatest height up to a step: single evaluations, on some of the data, have a noise of their own."""
        reached = (self.score(value) for at, value in trial.intermediate_values.items() if at <= step)
        return max(reached, default=-inf)

    def _line(self, known: list[FrozenTrial], step: int) -> "_Line":
        finals = np.array([self.finals[each.number] for each in known])
        enough = np.quantile(finals, WORST_SHARE)
        kept = [each for each, final in zip(known, finals, strict=True) if final >= enough]
        return _Line.fitted(
            np.array([self._features(each, step) for each in kept]),
            [self._of(each) for each in kept],
            np.array([self.finals[each.number] for each in kept]),
        )


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
