"""Forecast of the final value of a running or pruned trial, from the learning curves of complete trials."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import inf, isfinite, log10
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from optitune.study.repeated import REPEATS

OPTIMIZER = "optimizer"
"""The parameter that names a trial's optimizer."""

LR_AHEAD = "lr_ahead"
"""The user attribute with the changes of the learning rate that are still to come, in powers of ten, by last step."""

SLOPE = 0.8, 0.3
"""Prior mean and standard deviation of the slope: the share of a lead at an evaluation that is left at the end."""

LEVEL_SPREAD = 0.15
"""Prior standard deviation of an optimizer's level, the difference of its final scores from others' of equal curve."""

AHEAD_SPREAD = 0.15
"""Prior standard deviation of the score that a tenfold drop of the learning rate still to come adds."""

SPREAD, SPREAD_TRIALS = 0.1, 4
"""Prior standard deviation of a single final score about the forecast, and the number of trials it counts for."""

ROUNDS = 3
"""Iterations in which weights and variance are fitted in turn."""

WORST_SHARE = 0.2
"""Share of the complete trials, the worst ones, that is left out of the fit: they differ from good ones."""

ENOUGH = 5
"""Complete trials with an evaluation at a step that a forecast at that step needs."""

BEST_SHARE, HARDLY = 4, 0.1
"""One in how many of an optimizer's complete trials counts as its best, and what share of the gain that is still to
come at a step is no difference there."""

MOST = 300
"""Number of complete trials, the latest, that a forecast is fitted to."""

Array = NDArray[np.float64]


class Expected(NamedTuple):
    """An expected final score and its variance, which is 0 for a score that was reached."""

    score: float
    variance: float


class Score:
    """Variance-stabilising score of metric values: higher is better.

    With an ideal (1 of an accuracy, 0 of a loss), the score is -log10 of the distance to it; a value that equals it
    counts as half as far as the nearest other. Without one, it is the value in units of ten times the standard
    deviation of the better half of `values`, its sign turned where lower values are better.

    Args:
        values: final values, any number of them, which fix the scale.
        maximize: whether higher values are better.
        ideal: best possible value; None where there is none.
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
        """The metric value of a score."""
        if self._ideal is None:
            return score / self._unit
        return float(self._ideal - self._unit * 10.0 ** min(-score, 300.0))


def lr_ahead(trial: FrozenTrial, step: int) -> float:
    """The change of a trial's learning rate still to come after a step, in powers of ten; 0 where it has no record."""
    later = [(int(last), change) for last, change in trial.user_attrs.get(LR_AHEAD, {}).items() if int(last) >= step]
    return float(min(later)[1]) if later else 0.0


class Forecast:
    """Final scores of a study's trials: reached, or forecast by a regression on the curves of complete trials.

    At each step, the final score is a linear function of the best score so far, of the optimizer, and of the change of
    the learning rate still to come, with normal priors on all coefficients (Bayesian linear regression: Bishop 2006,
    Pattern Recognition and Machine Learning, 3.3). So trials are compared at the same step of their schedules, and
    optimizers share what was learned.

    Args:
        trials: of a study; only complete ones are fitted.
        maximize: whether higher values are better in that study.
        ideal: see `Score`.
        by: name of the parameter that holds the optimizer.
    """

    def __init__(
        self, trials: Iterable[FrozenTrial], maximize: bool, ideal: float | None = None, by: str = OPTIMIZER
    ) -> None:
        self._by = by
        self._complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        self.score = Score([trial.values[0] for trial in self._complete], maximize, ideal)
        self.finals = {trial.number: self.score(trial.values[0]) for trial in self._complete}
        self._lines: dict[int, _Line | None] = {}
        self._curves: dict[int, tuple[list[int], list[float]]] = {}
        """Of complete trials by number: steps, and the best score before the first and after each."""

    def at(self, trial: FrozenTrial, step: int) -> Expected | None:
        """The forecast of a trial's final score from its curve up to `step`; None with too few complete trials."""
        if step not in self._lines:
            known = [each for each in self._complete if step in each.intermediate_values][-MOST:]
            self._lines[step] = self._line(known, step) if len(known) >= ENOUGH else None
        line = self._lines[step]
        return None if line is None else line(self._features(trial, step), self._of(trial))

    def best_of(self, optimizer: Any) -> float | None:
        """The best final score of this optimizer's configurations, the mean of its complete runs; None without any."""
        runs: dict[int, list[float]] = {}
        for each in self._complete:
            if self._of(each) == optimizer:
                runs.setdefault(each.user_attrs.get(REPEATS, each.number), []).append(self.finals[each.number])
        return max(map(fmean, runs.values()), default=None)

    def leads(self, trial: FrozenTrial, step: int) -> bool:
        """Whether a trial's best score up to `step` is above that of all complete trials of its optimizer."""
        now = self._so_far(trial, step)
        return all(now > self._so_far(each, step) for each in self._complete if self._of(each) == self._of(trial))

    def may_catch_up(self, trial: FrozenTrial, step: int) -> bool:
        """Whether any of the best quarter of its optimizer's complete trials stood no higher at that step.

        Nor hardly higher, measured by what that one was still to gain. Where networks stand still for long before they
        learn, what a trial shows early says little, and then the best ones were once where it is. One whose learning
        rate was to fall further is not compared.
        """
        own = [each for each in self._complete if self._of(each) == self._of(trial)]
        best = sorted(own, key=lambda each: -self.finals[each.number])[: -(-len(own) // BEST_SHARE)]
        now, ahead = self._so_far(trial, step), lr_ahead(trial, step)
        for each in best:
            was, final = self._so_far(each, step), self.finals[each.number]
            alike = step in each.intermediate_values and lr_ahead(each, step) >= ahead
            if alike and now >= was - HARDLY * max(0.0, final - was):
                return True
        return False

    def __call__(self, trial: FrozenTrial) -> Expected | None:
        """The final score of an ended trial, reached or forecast; None where no forecast is possible."""
        if trial.number in self.finals:
            return Expected(self.finals[trial.number], 0.0)
        return None if trial.last_step is None else self.at(trial, trial.last_step)

    def _of(self, trial: FrozenTrial) -> Any:
        return trial.params.get(self._by)

    def _features(self, trial: FrozenTrial, step: int) -> list[float]:
        return [self._so_far(trial, step), lr_ahead(trial, step)]

    def _so_far(self, trial: FrozenTrial, step: int) -> float:
        """The best score up to a step: single evaluations, on some of the data, are noisy."""
        if trial.number not in self.finals:
            return max(
                (self.score(value) for at, value in trial.intermediate_values.items() if at <= step), default=-inf
            )
        if trial.number not in self._curves:
            steps = sorted(trial.intermediate_values)
            scores = (self.score(trial.intermediate_values[at]) for at in steps)
            self._curves[trial.number] = steps, [-inf, *accumulate(scores, max)]
        steps, best = self._curves[trial.number]
        return best[bisect_right(steps, step)]

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
    """A Bayesian linear regression of final scores on features and optimizer.

    Attributes:
        start, end: means of the features, (2,), and of the final scores that it was fitted to.
        names: of the optimizers, each with a level of its own.
        weights: posterior mean of the weights of features and levels, (2 + len(names),).
        covariance: posterior covariance of the weights.
        variance: of single trials about the line.
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
