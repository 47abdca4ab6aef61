"""The scale on which recorded values are fitted: of any metric, higher is better, and errors count by their ratio."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optitune.tasks.metrics import Metric
from scripts.bench.quality.record import Curve

Array = NDArray[np.float64]

BELOW_CHANCE = 1.0
"""How far below a constant prediction the scale goes on."""


class Scale:
    """A metric's values as scores and back.

    With an ideal value, a score is -log10 of the distance to it; without one, the value in units of ten times the
    standard deviation of the better half of all final values, as in `optitune.sampling.forecast.Score`.

    Args:
        metric: of the record.
        chance: the value of a constant prediction.
        curves: which fix the scale.
    """

    def __init__(self, metric: Metric, chance: float, curves: Sequence[Curve]) -> None:
        self._metric, self._chance = metric, chance
        self._closest = self._unit = 1.0
        finals = np.array([curve.final for curve in curves if not self.failed(curve)])
        if metric.ideal is not None:
            apart = np.abs(metric.ideal - finals)
            self._closest = float(apart[apart > 0].min(initial=2.0)) / 2
        elif len(finals) > 1:
            self._unit = 10 * float(np.sort(metric.sign * finals)[len(finals) // 2 :].std()) or 1.0
        self._least = float(self._raw(chance)) - BELOW_CHANCE

    def failed(self, curve: Curve) -> bool:
        """Whether a training diverged, or ended worse than a constant prediction."""
        return not self._metric.score(curve.final) >= self._metric.score(self._chance)

    def _raw(self, values: Any) -> Array:
        values = np.asarray(values, dtype=float)
        if self._metric.ideal is None:
            return np.asarray(self._metric.sign * values / self._unit)
        return np.asarray(-np.log10(np.maximum(np.abs(self._metric.ideal - values), self._closest)))

    def scores(self, values: Any) -> Array:
        """Scores of values of any shape; what is nan or far worse than a constant is at the lower end."""
        return np.asarray(np.nan_to_num(np.maximum(self._raw(values), self._least), nan=self._least))

    def values(self, scores: Any) -> Array:
        """Values of scores of any shape."""
        scores, sign = np.asarray(scores, dtype=float), self._metric.sign
        ideal = self._metric.ideal
        found = sign * scores * self._unit if ideal is None else ideal - sign * 10.0**-scores
        return np.asarray(np.clip(found, self._metric.lowest, self._metric.highest))
