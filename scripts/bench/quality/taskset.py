"""Worlds made of TaskSet's trainings (Metz et al. 2020, arXiv:2002.11887)."""

import gzip
import json
import zlib
from collections.abc import Mapping
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from scipy.stats import qmc, spearmanr
from sklearn.ensemble import ExtraTreesRegressor

from optitune.sampling.forecast import OPTIMIZER
from optitune.space.search_space import LR_FACTOR
from scripts.bench.quality.published_world import APART, Array, Published, logarithmic, thinned
from scripts.bench.quality.worlds import Replayed


def recorded(file: Path) -> list[dict[str, Any]]:
    """The trainings of a task.

    Raises:
        ValueError: the file has none.
    """
    try:
        rows: list[dict[str, Any]] = json.loads(gzip.decompress(file.read_bytes()))
        assert rows
        assert all(len(row["valid"]["loss"]) > 2 and row["hp"].keys() for row in rows)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, AssertionError, zlib.error) as error:
        raise ValueError(f"{file} is no gzipped JSON list of trainings with 'hp' and 'valid'") from error
    return rows


class TaskSet(Published):
    """1,000 configurations of Adam on one task; those between them come from a forest.

    Every tree of it (extremely randomized: Geurts et al. 2006, Machine Learning 63:3) leaves one recorded configuration
    in a leaf, so a recorded configuration does what was recorded and none is better than the best recorded. The curve
    that is replayed is the mean over trees of the logarithm of the loss, with noise from evaluation to evaluation as
    the curves there have it; there was one seed.

    Args:
        file: of the task.
        trees: of the forest.
    """

    PARAMETERS: Mapping[str, str] = {
        LR_FACTOR: "learning_rate",
        "one_minus_beta1": "beta1",
        "one_minus_beta2": "beta2",
        "eps": "epsilon",
        "l1": "l1",
        "l2": "l2",
        "linear_decay": "linear_decay",
        "exponential_decay": "exponential_decay",
    }
    LR = 1e-3
    STEPS = 10_000
    """Of a whole training: what the decays are a rate of."""

    def __init__(self, file: Path, trees: int = 100) -> None:
        rows = recorded(file)
        # the first evaluation is that of the start
        loss = np.array([row["valid"]["loss"] for row in rows], dtype=float)
        self._start = float(np.nanmedian(loss[:, 0]))
        self.worst = 1.5 * self._start
        self.x = np.log10([self._numbers(row["hp"]) for row in rows])
        failed = ~np.isfinite(loss).all(axis=1)
        every = np.log10(np.clip(np.nan_to_num(loss, nan=np.inf), 1e-12, self.worst))[:, 1:]
        self.y = thinned(every)
        self.y[failed, -1] = log10(self.worst)
        rough = every[:, 1:-1] - (every[:, 2:] + every[:, :-2]) / 2
        self._columns = np.column_stack([self.y, failed, rough.std(axis=1) * (2 / 3) ** 0.5])
        self._forest = self._grown(np.arange(len(rows)), trees)
        self.median = float(10 ** np.median(self.y[:, -1]))
        others = {
            "one_minus_beta1": logarithmic(1e-3, 0.5),
            "one_minus_beta2": logarithmic(1e-4, 0.5),
            "eps": logarithmic(1e-10, 1.0),
            "l1": logarithmic(1e-8, 0.1),
            "l2": logarithmic(1e-8, 0.1),
            "linear_decay": logarithmic(1e-7, 1e-4),
            "exponential_decay": logarithmic(1e-6, 1e-3),
        }
        ends = 10 ** np.array([self.x.min(axis=0), self.x.max(axis=0)])
        wide = {name: logarithmic(*column) for name, column in zip(self.PARAMETERS, ends.T.tolist(), strict=True)}
        self.by_way = {
            **{way: {"adam": {LR_FACTOR: logarithmic(1 / apart, apart), **others}} for way, apart in APART.items()},
            "wide": {"adam": wide},
        }
        off = {"eps": 1e-8, "l1": 1e-8, "l2": 1e-8, "linear_decay": 1e-7, "exponential_decay": 1e-6}
        adam = {LR_FACTOR: 1.0, "one_minus_beta1": 0.1, "one_minus_beta2": 1e-3, **off}
        self.known_good = [{OPTIMIZER: "adam", **adam}]
        self.best = {"adam": self._best()}
        self.spread = float(np.median(self._columns[self.y[:, -1] < log10(self.median), -1]) * np.log(10) * self.median)

    def _numbers(self, hp: Mapping[str, float]) -> list[float]:
        found = {name: hp[recorded] for name, recorded in self.PARAMETERS.items()}
        found[LR_FACTOR] /= self.LR
        return [1 - value if name.startswith("one_minus") else value for name, value in found.items()]

    def _grown(self, rows: NDArray[np.int_], trees: int) -> list[tuple[Any, Array]]:
        """Trees with what is in their leaves: the curve, whether it failed, and its noise."""
        forest = ExtraTreesRegressor(trees, random_state=0, max_features=1.0).fit(self.x[rows], self.y[rows])
        found = []
        for tree in (each.tree_ for each in forest.estimators_):
            leaves = tree.apply(self.x[rows].astype(np.float32))
            sums = np.zeros((tree.node_count, self._columns.shape[1]))
            np.add.at(sums, leaves, self._columns[rows])
            found.append((tree, sums / np.maximum(1, np.bincount(leaves, minlength=tree.node_count))[:, None]))
        return found

    @staticmethod
    def _predicted(forest: list[tuple[Any, Array]], x: Array) -> Array:
        """Curves, shares of failures and noise at places of shape (n, dimensions), (n, evaluations + 2)."""
        places = np.atleast_2d(x).astype(np.float32)
        return np.asarray(np.mean([leaves[tree.apply(places)] for tree, leaves in forest], axis=0))

    def _place(self, parameters: Mapping[str, Any]) -> Array:
        return np.log10([parameters[name] for name in self.PARAMETERS])

    def _finals(self, predicted: Array) -> Array:
        return np.where(predicted[:, -2] > 0.5, self.worst, 10 ** predicted[:, -3])

    def _best(self) -> float:
        """Of recorded configurations within our ranges, and of many points there."""
        space = self.spaces["adam"]
        ends = np.log10([(each.low, each.high) for each in space.values() if isinstance(each, FloatDistribution)])
        inside = ((self.x >= ends[:, 0]) & (self.x <= ends[:, 1])).all(axis=1)
        points = qmc.scale(qmc.Sobol(len(space), rng=0).random(2**13), ends[:, 0], ends[:, 1])
        known = np.array([self._place(each) for each in self.known_good])
        return float(self._finals(self._predicted(self._forest, np.concatenate([known, self.x[inside], points]))).min())

    def truth(self, parameters: Mapping[str, Any]) -> float:
        return float(self._finals(self._predicted(self._forest, self._place(parameters)))[0])

    def train(self, parameters: Mapping[str, Any], generator: np.random.Generator) -> Replayed:
        (*curve, failed, noise) = self._predicted(self._forest, self._place(parameters))[0]
        values = 10 ** (np.array(curve) + noise * generator.standard_normal(self.epochs))
        if failed <= 0.5:
            return Replayed(tuple(values.tolist()), False)
        # it is as bad as it gets before it is not a number any more
        alive = int(np.argmax(values >= 0.9 * self.worst)) if values.max() >= 0.9 * self.worst else self.epochs - 1
        return Replayed(tuple(values[:alive].tolist()), True)

    def lr_ahead(self, parameters: Mapping[str, Any]) -> Mapping[str, float]:
        steps = np.arange(1, self.epochs + 1) * self.STEPS / self.epochs
        linear = np.maximum(1e-3, 1 - parameters["linear_decay"] * steps)
        lrs = np.log10(linear) - parameters["exponential_decay"] * steps / np.log(10)
        return {str(epoch): round(float(lrs[-1] - lr), 2) for epoch, lr in enumerate(lrs, start=1)}

    def errors(self, folds: int = 8, trees: int = 100) -> dict[str, float]:
        """How far off the forest is at configurations that it was not shown.

        Returns:
            of the logarithm of the final loss the share of variance explained, its rank correlation, and that of the
            best fifth; and the median error of the loss of that fifth, in the regret of the median configuration.
        """
        out = np.arange(len(self.x)) % folds
        predicted = np.empty(len(self.x))
        for fold in range(folds):
            forest = self._grown(np.flatnonzero(out != fold), trees)
            predicted[out == fold] = np.log10(self._finals(self._predicted(forest, self.x[out == fold])))
        was = self.y[:, -1]
        good = was < np.quantile(was, 0.2)
        return {
            "explained": float(1 - np.mean((predicted - was) ** 2) / np.var(was)),
            "rank": float(spearmanr(predicted, was).statistic),
            "rank of the best fifth": float(spearmanr(predicted[good], was[good]).statistic),
            "error": float(np.median(np.abs(10**predicted - 10**was)[good]) / (self.median - self.best["adam"])),
        }
