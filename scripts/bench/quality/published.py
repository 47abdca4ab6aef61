"""Worlds made of trainings that others recorded and published: TaskSet, DeepOBS and AlgoPerf.

The records lie in a folder that is given, with a README that says where they come from; they are no part of the
project. Where the learning rate is searched, it is the multiple `lr_factor` of a known-good one, as in `optitune
search`: within a factor of 1,000 for our search, of 100 for others, and over all that was recorded for the hurried. An
epoch is a twentieth of a training everywhere, with one evaluation at its end.
"""

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from math import isfinite, log10
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from scipy.stats import qmc, spearmanr
from sklearn.ensemble import ExtraTreesRegressor

from optitune.sampling.forecast import OPTIMIZER
from optitune.space.search_space import LR_FACTOR
from scripts.bench.quality.worlds import Parameters, Replayed, Way, World, drawn

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
        rows = json.loads(gzip.decompress(file.read_bytes()))
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


TARGETS: Mapping[str, tuple[float, bool]] = {
    "criteo1tb": (0.123735, False),
    "imagenet_resnet": (0.77431, True),
    "librispeech_conformer": (0.085884, False),
    "ogbg": (0.28098, True),
}
"""Validation targets of AlgoPerf v0.5 (Dahl et al. 2023, arXiv:2306.07179), at which its trainings ended, and whether
higher values are better."""


class AlgoPerf(Published):
    """A table of algorithms and their five settings, five seeds each: it tests which algorithm gets the budget.

    A training is the time that it was given; one that reached the target keeps its last value.
    One that ended early without it failed. Only trainings with external tuning are here: self-tuning ones had three
    times the time. An algorithm that was not tried with all settings does not compete. The settings have no order, so
    `known_good` is the first one of each algorithm.

    Args:
        workload: of the benchmark.
        rows: of that workload, as the file has them.
    """

    SETTINGS = 5

    def __init__(self, workload: str, rows: list[dict[str, str]]) -> None:
        target, self.maximize = TARGETS[workload]
        self.ideal = 1.0 if self.maximize else 0.0
        found: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for row in rows:
            if row["ruleset"] == "external_tuning":
                runs = found[row["algorithm"]][row["trial"]]
                runs[row["study"]].append((float(row["seconds"]), float(row["value"])))
        last = [run[-1] for settings in found.values() for runs in settings.values() for run in runs.values()]
        given = max(seconds for seconds, _ in last)
        self.worst = 0.0 if self.maximize else max(value for _, value in last)
        sign = 1 if self.maximize else -1
        self._runs: dict[tuple[str, str], list[Replayed]] = {}
        for algorithm, settings in found.items():
            if len(settings) == self.SETTINGS:
                for setting, runs in settings.items():
                    self._runs[algorithm, setting] = [
                        self._replayed(np.array(run), given, sign * (run[-1][1] - target) >= 0) for run in runs.values()
                    ]
        names = list(dict.fromkeys(algorithm for algorithm, _ in self._runs))
        settings_of: Spaces = {
            name: {"setting": CategoricalDistribution(sorted({setting for _, setting in self._runs}))} for name in names
        }
        self.by_way = dict.fromkeys(("ours", "theirs", "wide"), settings_of)
        self._truths = {key: float(np.mean([self._final(run) for run in runs])) for key, runs in self._runs.items()}
        self.best = {
            name: (max if self.maximize else min)(value for (of, _), value in self._truths.items() if of == name)
            for name in names
        }
        self.median = float(np.median(list(self._truths.values())))
        self.known_good = [{OPTIMIZER: name, "setting": min(key[1] for key in self._runs)} for name in names]
        self.seconds = dict.fromkeys(names, given / self.epochs)
        finals = [[self._final(run) for run in runs] for runs in self._runs.values()]
        self.spread = float(np.median([np.std(each, ddof=1) for each in finals]))

    def _replayed(self, run: Array, given: float, reached: bool) -> Replayed:
        times, values = run.T
        share = times[-1] / given
        failed = not reached and share < 0.9
        until = int(share * self.epochs) if failed else self.epochs
        at = np.searchsorted(times, np.arange(1, until + 1) * given / self.epochs, side="right") - 1
        return Replayed(tuple(values[np.maximum(at, 0)].tolist()), failed)

    def _final(self, run: Replayed) -> float:
        return self.worst if run.diverged else run.values[-1]

    def truth(self, parameters: Mapping[str, Any]) -> float:
        return self._truths[parameters[OPTIMIZER], parameters["setting"]]

    def train(self, parameters: Mapping[str, Any], generator: np.random.Generator) -> Replayed:
        runs = self._runs[parameters[OPTIMIZER], parameters["setting"]]
        return runs[generator.integers(len(runs))]


def table(file: Path, column: str) -> dict[str, list[dict[str, str]]]:
    """Rows of a gzipped table by the value of a column."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    with gzip.open(file, "rt", newline="") as lines:
        for row in csv.DictReader(lines):
            found[row[column]].append(row)
    return found


def worlds(folder: Path) -> dict[str, Callable[[], World]]:
    """The worlds of a folder of published records, by name: `taskset-...`, `deepobs-...` and `algoperf-...`.

    Raises:
        FileNotFoundError: there are no such records.
    """
    found: dict[str, Callable[[], World]] = {
        f"taskset-{file.name.removesuffix('.json.gz')}": partial(TaskSet, file)
        for file in sorted((folder / "taskset").glob("*.json.gz"))
    }
    if (file := folder / "deepobs.csv.gz").exists():
        found |= {f"deepobs-{name}": partial(DeepObs, rows) for name, rows in sorted(table(file, "problem").items())}
    if (file := folder / "algoperf.csv.gz").exists():
        found |= {f"algoperf-{name}": partial(AlgoPerf, name, rows) for name, rows in table(file, "workload").items()}
    if not found:
        raise FileNotFoundError(f"{folder} has no taskset/*.json.gz, deepobs.csv.gz or algoperf.csv.gz")
    return found
