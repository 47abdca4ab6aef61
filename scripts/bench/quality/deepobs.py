"""Worlds made of the trainings of DeepOBS (Schneider et al. 2019, arXiv:1903.05499)."""

from collections import defaultdict
from collections.abc import Mapping
from math import isfinite, log10
from typing import Any

import numpy as np

from optitune.sampling.forecast import OPTIMIZER
from optitune.space.search_space import LR_FACTOR
from scripts.bench.quality.published_world import APART, Array, Published, logarithmic, thinned
from scripts.bench.quality.worlds import Parameters, Replayed, Way


class DeepObs(Published):
    """Three optimizers at 36 learning rates; between two of them, curves are interpolated on a logarithmic scale.

    Noise is that of the ten seeds at each optimizer's best learning rate, without those that came to something else
    altogether. A learning rate beyond the recorded ones does as the last one.

    Args:
        rows: of one problem, as the file has them.
    """

    LR: Mapping[str, float] = {"GradientDescent": 0.05, "Momentum": 0.01, "Adam": 1e-3}

    def __init__(self, rows: list[dict[str, str]]) -> None:
        metric = "test_accuracy" if rows[0]["test_accuracy"] else "test_loss"
        self.maximize = metric == "test_accuracy"
        self.ideal = 1.0 if self.maximize else 0.0
        epochs = max(int(row["epoch"]) for row in rows)
        runs: dict[tuple[str, float, str], Array] = defaultdict(lambda: np.full(epochs, np.nan))
        for row in rows:
            run = runs[row["optimizer"], float(row["lr"]), row["seed"]]
            # a training ends with the first loss that is not finite, whatever its accuracy
            if row["epoch"] != "0" and isfinite(float(row["test_loss"])):
                run[int(row["epoch"]) - 1] = float(row[metric])
        finals = np.array([run[-1] for run in runs.values()])
        self.worst = 0.0 if self.maximize else float(np.nanmax(finals))
        self._lrs, self._curves, self._noise = {}, {}, {}
        for name in self.LR:
            by_lr: dict[float, list[Array]] = defaultdict(list)
            for (optimizer, lr, _), run in runs.items():
                if optimizer == name:
                    by_lr[lr].append(thinned(self._score(run)))
            self._lrs[name] = np.array(sorted(by_lr))
            self._curves[name] = np.array([np.median(by_lr[lr], axis=0) for lr in self._lrs[name]])
            again = np.array(max(by_lr.values(), key=len))
            apart = again - np.median(again, axis=0)
            last = np.abs(apart[:, -1])
            self._noise[name] = apart[last <= 6 * np.median(last)]
        narrowest, widest = min(map(min, self._lrs.values())), max(map(max, self._lrs.values()))
        self.by_way = {
            **{
                way: {name: {LR_FACTOR: logarithmic(1 / apart, apart)} for name in self.LR}
                for way, apart in APART.items()
            },
            "wide": {name: {"lr": logarithmic(narrowest, widest)} for name in self.LR},
        }
        self.known_good = [{OPTIMIZER: name, LR_FACTOR: 1.0} for name in self.LR]
        recorded = {
            name: [self.truth({OPTIMIZER: name, LR_FACTOR: lr / self.LR[name]}) for lr in lrs]
            for name, lrs in self._lrs.items()
        }
        factors = {name: lrs / self.LR[name] for name, lrs in self._lrs.items()}
        self.best = {
            name: (max if self.maximize else min)(
                value for value, factor in zip(values, factors[name], strict=True) if 1e-3 <= factor <= 1e3
            )
            for name, values in recorded.items()
        }
        self.median = float(np.median([value for values in recorded.values() for value in values]))
        top = (max if self.maximize else min)(self.best, key=self.best.__getitem__)
        ends = self._score(np.array(self.best[top])) + self._noise[top][:, -1]
        self.spread = float(np.std(self._value(ends), ddof=1))

    def _score(self, values: Array) -> Array:
        """The logarithm of what is missing to the ideal, so that equal steps matter equally at any level."""
        return np.asarray(np.log10(np.clip(np.abs(float(self.maximize) - values), 1e-4, 1e30)))

    def _value(self, scores: Array) -> Array:
        return np.asarray(1 - 10**scores if self.maximize else 10**scores)

    def suggest(self, trial: Any, way: Way = "ours") -> Parameters:
        found = super().suggest(trial, way)
        lr = found.pop("lr", None)
        return found if lr is None else {**found, LR_FACTOR: lr / self.LR[found[OPTIMIZER]]}

    def _curve(self, parameters: Mapping[str, Any]) -> Array:
        """The curve of a learning rate, not a number from where it failed; there, of the nearest recorded one."""
        name = parameters[OPTIMIZER]
        lrs, curves = np.log10(self._lrs[name]), self._curves[name]
        at = float(np.interp(log10(parameters[LR_FACTOR] * self.LR[name]), lrs, np.arange(len(lrs))))
        below = min(int(at), len(lrs) - 2)
        share = at - below
        if np.isnan(curves[below : below + 2]).any():
            return np.asarray(curves[round(at)])
        return np.asarray((1 - share) * curves[below] + share * curves[below + 1])

    def truth(self, parameters: Mapping[str, Any]) -> float:
        curve = self._curve(parameters)
        return self.worst if np.isnan(curve).any() else float(self._value(curve[-1]))

    def train(self, parameters: Mapping[str, Any], generator: np.random.Generator) -> Replayed:
        noise = self._noise[parameters[OPTIMIZER]]
        curve = self._curve(parameters) + noise[generator.integers(len(noise))]
        failed = np.isnan(curve)
        alive = int(np.argmax(failed)) if failed.any() else self.epochs
        return Replayed(tuple(self._value(curve[:alive]).tolist()), bool(failed.any()))
