"""Replay of a record of real trainings: what any configuration would have done, without training it.

Two worlds are made from one record. In `fitted`, a Gaussian process within each optimizer is fitted to the recorded
curves (their principal components, on the scale of `Scale`), and whether a configuration fails is told
by its nearest neighbours. In `nearest`, a configuration does what the nearest recorded one did. In both, what differs
from run to run is drawn from what differed between seeds in the record. `World.errors` says how far off the fit is.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import repeat
from math import isnan, log10
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from scipy.special import ndtri
from scipy.stats import qmc, spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from optitune.sampling.forecast import OPTIMIZER
from optitune.sampling.parameters import first_parameters, spaces, suggest
from optitune.space.ranges import Choice, Float, Int, Range
from optitune.space.search_space import LR_FACTOR
from optitune.study.settings import StudySettings
from scripts.bench.quality.own_space import lr_ahead, own_space
from scripts.bench.quality.record import Curve, read
from scripts.bench.quality.scale import Scale
from scripts.bench.quality.worlds import Parameters, Replayed, Way

Kind = Literal["fitted", "nearest"]
Array = NDArray[np.float64]

COMPONENTS = 4
FOLDS = 8

RUN_NOISE = 0.04
"""By how much runs of one configuration differ, on the scale of `Scale`: a standard deviation, from the record."""
NEIGHBOURS = 3

APART = 0.15
"""By how much of a range promising configurations differ in at least one hyperparameter."""


FEW = 8
"""With fewer configurations of an optimizer that learned, nothing is fitted: each does what the nearest one did."""

LR_BOX = 0.1, 10.0
"""Multiples of the known-good learning rate within which the trainings on MNIST were sampled."""

RECORDED = 0.003, 300.0
"""Multiples that the records of MNIST reach."""

Lr = Callable[[float], float]
"""From a coordinate, 0 to 1, to a multiple of the known-good learning rate."""


def within(low: float, high: float) -> Lr:
    """Evenly on a logarithmic scale."""
    return lambda at: float(low ** (1 - at) * high**at)


def either(low: tuple[float, float], high: tuple[float, float]) -> Lr:
    """Within one range in the lower half, within another in the upper."""
    return lambda at: within(*(high if at >= 0.5 else low))(2 * at % 1)


def normal(deviation: float, reach: float) -> Lr:
    """Normally distributed on a logarithmic scale about the known-good one, in powers of ten, up to `reach`."""
    return lambda at: float(10.0 ** np.clip(deviation * ndtri(at), -reach, reach))


BOX = within(*LR_BOX)


def lr_of(prior: tuple[float, float] | None) -> Lr:
    """How a record's learning rates were sampled; see `Provenance`."""
    return BOX if prior is None else normal(*prior)


class Point:
    """A trial whose parameters come from a point of the unit cube, coordinate by coordinate.

    Attributes:
        params: drawn so far.
    """

    def __init__(self, optimizer: str, point: Iterable[float], lr: Lr) -> None:
        self.params: dict[str, Any] = {OPTIMIZER: optimizer}
        self._point = iter(point)
        self._lr = lr

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name not in self.params:
            self.params[name] = choices[int(next(self._point) * len(choices))]
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        at = next(self._point)
        usual = low ** (1 - at) * high**at if log else low + at * (high - low)
        self.params[name] = self._lr(at) if name == LR_FACTOR else float(usual)
        return float(self.params[name])

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.params[name] = low + int(next(self._point) * (high - low + 1))
        return int(self.params[name])


def drawn(
    settings: StudySettings, optimizer: str, points: Iterable[Iterable[float]], lr: Lr = BOX
) -> list[dict[str, Any]]:
    """Optuna's parameters at points of the unit cube."""
    space, found = settings.space(), []
    for point in points:
        trial = Point(optimizer, point, lr)
        suggest(trial, settings, space)  # type: ignore[arg-type]
        found.append(trial.params)
    return found


def dimensions(settings: StudySettings, optimizer: str) -> int:
    """How many hyperparameters there are to draw, the optimizer itself not counted."""
    return len(drawn(settings, optimizer, [repeat(0.5)])[0]) - 1


class Places:
    """From one optimizer's parameters to numbers of about the same weight."""

    def __init__(self, settings: StudySettings, optimizer: str) -> None:
        space = settings.space()
        self.ranges: dict[str, Range] = {
            space.parameters[owner, name]: value_range
            for owner, name, value_range in space.owned()
            if owner == optimizer and (owner, name) in space.parameters
        }
        self.epochs = settings.epochs

    def __call__(self, parameters: Mapping[str, Any]) -> Array:
        """The learning rate's height, the others' places in their ranges, and what the schedule makes of the lr:
        its mean and its end, which tell more than the step size and gamma that make them."""
        lrs = [parameters["gamma"] ** (epoch // parameters["step_size"]) for epoch in range(self.epochs)]
        own = [place(value_range, name, parameters.get(name)) for name, value_range in self.ranges.items()]
        return np.array([*own, float(np.mean(np.log10(lrs))), log10(lrs[-1]) / 2])


def place(value_range: Range, name: str, value: Any) -> float:
    if value is None:
        # what depends on another hyperparameter, and is off with it
        return 0.0
    if name == LR_FACTOR:
        return log10(value)
    if isinstance(value_range, Choice):
        return float(value_range.options.index(value))
    if isinstance(value_range, Float):
        plain = 1 - value if value_range.scale == "complement" else value
        return value_range.place(min(max(plain, value_range.low), value_range.high))
    assert isinstance(value_range, Int)
    return (value - value_range.low) / max(1, value_range.high - value_range.low)


class Process:
    """A Gaussian process fitted by scikit-learn; its mean at one place without what the library checks each time."""

    def __init__(self, x: Array, y: Array, repeats: Array) -> None:
        length = Matern(np.ones(x.shape[1]), [(0.1, 30.0)] * x.shape[1], nu=2.5)
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * length + WhiteKernel(0.01, (1e-4, 2.0))
        # a mean of several runs is known better than one run
        noise = RUN_NOISE**2 / repeats / max(float(np.var(y)), 1e-8)
        with warnings.catch_warnings():
            # a hyperparameter that does not matter goes to its bound
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = GaussianProcessRegressor(
                kernel, alpha=noise, normalize_y=True, n_restarts_optimizer=1, random_state=0
            ).fit(x, y)
        signal = fitted.kernel_.k1
        self.scales = np.asarray(signal.k2.length_scale)
        self._x = x / self.scales
        self._weights = fitted.alpha_.ravel() * signal.k1.constant_value * fitted._y_train_std
        self._mean = float(fitted._y_train_mean)

    def __call__(self, x: Array) -> Array:
        """The mean at places of shape (n, dimensions), (n,)."""
        apart = (x / self.scales)[:, None, :] - self._x
        distance = np.sqrt(5 * (apart**2).sum(axis=2))
        return np.asarray(self._mean + ((1 + distance + distance**2 / 3) * np.exp(-distance)) @ self._weights)


class Model:
    """What a record tells of one optimizer.

    Attributes:
        x: places of all configurations, (n, dimensions).
        y: curves of all configurations, means over their seeds, on the scale of `Scale`, (n, evaluations).
        failed: whether they failed, (n,); their row of `y` is then nan.
        repeats: over how many seeds, (n,).
        residuals: what single runs differ from the mean of their configuration by, (runs, evaluations).
    """

    def __init__(self, places: Places, curves: Sequence[Curve], scale: Scale, rungs: int) -> None:
        self.places = places
        self.first = [curve for curve in curves if curve.origin != "again"]
        self.x = np.array([places(curve.parameters) for curve in self.first])
        self.failed = np.array([scale.failed(curve) for curve in self.first])
        self.y = np.full((len(self.first), rungs), np.nan)
        self.repeats = np.ones(len(self.first))
        residuals = []
        for row, first in enumerate(self.first):
            if not self.failed[row]:
                same = [c for c in curves if c.number == first.number and not scale.failed(c)]
                runs = np.array([scale.scores(curve.values) for curve in same])
                self.y[row], self.repeats[row] = runs.mean(axis=0), len(runs)
                if len(runs) > 2:
                    residuals.extend((runs - self.y[row]) * np.sqrt(len(runs) / (len(runs) - 1)))
        self.residuals = np.array(residuals).reshape(-1, rungs)
        learned = ~self.failed
        x, y = self.x[learned], self.y[learned]
        self._final: Process | None = None
        self._scales = np.ones(self.x.shape[1])
        if len(y) >= FEW:
            self._mean = y.mean(axis=0)
            self._basis = np.linalg.svd(y - self._mean, full_matrices=False)[2][:COMPONENTS]
            self._final = Process(x, y[:, -1], self.repeats[learned])
            self._scales = np.minimum(self._final.scales, 10.0)
        # the fit is not believed where it expects more than was ever measured over several seeds
        self.ceiling = float(self.y[self.repeats > 2, -1].max(initial=-np.inf))
        if not np.isfinite(self.ceiling):
            self.ceiling = float(y[:, -1].max(initial=-np.inf))

    @cached_property
    def _processes(self) -> list[Process]:
        learned = ~self.failed
        scores = (self.y[learned] - self._mean) @ self._basis.T
        return [Process(self.x[learned], column, self.repeats[learned]) for column in scores.T]

    def _distances(self, x: Array) -> Array:
        return np.asarray((((x[:, None, :] - self.x) / self._scales) ** 2).sum(axis=2))

    def fails(self, x: Array) -> NDArray[np.bool_]:
        """Whether most of the nearest recorded configurations failed, or the very one where it was recorded, (n,)."""
        distances = self._distances(x)
        near = np.argsort(distances, axis=1)[:, :NEIGHBOURS]
        alone = np.full(len(x), self._final is None) | (distances.min(axis=1) < 1e-12)
        return np.where(alone, self.failed[near[:, 0]], self.failed[near].sum(axis=1) * 2 > NEIGHBOURS)

    def nearest(self, x: Array, failed: bool | None = None) -> int:
        """The nearest recorded configuration to one place, of those that failed or not."""
        distances = self._distances(x[None])[0]
        return int(np.argmin(distances if failed is None else np.where(self.failed == failed, distances, np.inf)))

    def final(self, x: Array) -> Array:
        """The expected final value of configurations that learn, (n,)."""
        if self._final is None:
            return np.array([self.y[self.nearest(each, failed=False), -1] for each in x])
        return np.minimum(self._final(x), self.ceiling)

    def expected(self, x: Array) -> Array:
        """The expected curve at one place; its last point from a fit of its own, (evaluations,)."""
        if self._final is None:
            return np.asarray(self.y[self.nearest(x, failed=False)])
        curve = self._mean + np.array([float(each(x[None])[0]) for each in self._processes]) @ self._basis
        curve[-1] = float(self.final(x[None])[0])
        return np.asarray(curve)

    def held_out(self) -> tuple[Array, Array]:
        """Expected and recorded final values, each fitted without its fold."""
        learned = np.flatnonzero(~self.failed if self._final else np.zeros_like(self.failed))
        told = np.empty(len(learned))
        for fold in range(FOLDS):
            out = np.arange(len(learned)) % FOLDS == fold
            kept = learned[~out]
            told[out] = Process(self.x[kept], self.y[kept, -1], self.repeats[kept])(self.x[learned[out]])
        return told, self.y[learned, -1]


def promising(settings: StudySettings, optimizer: str, model: Model, number: int, lr: Lr = BOX) -> list[dict[str, Any]]:
    """The configurations that a model expects most of where its record was sampled, a little apart from each other."""

    def finals(points: Array) -> Array:
        x = np.array([model.places(each) for each in drawn(settings, optimizer, points.tolist(), lr)])
        return np.where(model.fails(x), -np.inf, model.final(x))

    generator = np.random.default_rng(0)
    points = qmc.Sobol(dimensions(settings, optimizer), rng=0).random(4096)
    for scale in (0.1, 0.05, 0.02):
        leaders = points[np.argsort(-finals(points))[:64]]
        around = np.repeat(leaders, 24, axis=0)
        points = np.concatenate([leaders, np.clip(around + generator.normal(0, scale, around.shape), 0, 1 - 1e-9)])
    chosen: list[Array] = []
    for point in points[np.argsort(-finals(points))]:
        if len(chosen) < number and all(np.abs(point - other).max() > APART for other in chosen):
            chosen.append(point)
    return drawn(settings, optimizer, [point.tolist() for point in chosen], lr)


class World:
    """A world (`worlds.World`) made of a record of our own.

    Args:
        record: the file that `make_record.py` wrote.
        kind: how configurations that were not recorded are told.
        without: optimizers that do not compete.

    Attributes:
        settings: of the recorded study.
        optimizers, epochs, evaluations, maximize, ideal, worst, useless: see `worlds.World`.
    """

    def __init__(self, record: Path, kind: Kind, without: Sequence[str] = ()) -> None:
        self.about, curves = read(record)
        self.kind = kind
        settings = StudySettings.model_validate(self.about.settings)
        competing = tuple(name for name in settings.optimizers if name not in without)
        self.settings = settings.model_copy(update={"optimizers": competing})
        self.optimizers, self.epochs = competing, self.settings.epochs
        self.evaluations = self.about.evaluations
        metric = self.about.judge
        self.maximize, self.ideal = metric.direction == "maximize", metric.ideal
        self.worst, self.useless = self.about.worst, self.about.chance
        self._curves = curves
        self._scale = Scale(metric, self.about.chance, curves)
        self._models = {
            name: Model(
                Places(self.settings, name),
                [curve for curve in curves if curve.optimizer == name],
                self._scale,
                self.epochs * self.evaluations,
            )
            for name in self.settings.optimizers
        }
        self._residuals = np.concatenate([model.residuals for model in self._models.values()])
        for model in self._models.values():
            # before worker processes are forked
            if not model.failed.all():
                model.expected(model.x[0])

    def _value(self, score: float) -> float:
        return float(self._scale.values(score))

    def _recorded(self, curve: Curve) -> float:
        return self.worst if isnan(curve.final) else curve.final

    def _within(self, parameters: Mapping[str, Any]) -> Parameters:
        """With the nearest learning rate that was recorded: further away, all is as it is there."""
        low, high = (
            RECORDED if self.about.lr_prior is None else (10 ** (sign * self.about.lr_prior[1]) for sign in (-1, 1))
        )
        return {**parameters, LR_FACTOR: min(max(parameters[LR_FACTOR], low), high)}

    @cached_property
    def known_good(self) -> list[Parameters]:
        return first_parameters(self.settings)

    @cached_property
    def spaces(self) -> dict[str, dict[str, BaseDistribution]]:
        return spaces(self.settings)

    def suggest(self, trial: Any, way: Way = "ours") -> Parameters:
        # where learning rates were sampled widely, a careful user looks further about as well
        apart = LR_BOX[1] if self.about.lr_prior is None else 100.0
        return self._within(own_space(trial, self.settings, way, apart))

    def lr_ahead(self, parameters: Mapping[str, Any]) -> dict[str, float]:
        return lr_ahead(parameters, self.epochs, self.evaluations)

    def truth(self, parameters: Mapping[str, Any]) -> float:
        """The mean final value over seeds."""
        model, parameters = self._models[parameters[OPTIMIZER]], self._within(parameters)
        x = model.places(parameters)
        if self.kind == "nearest":
            row = model.nearest(x)
            return self._recorded(model.first[row]) if model.failed[row] else self._value(model.y[row, -1])
        if model.fails(x[None])[0]:
            return self._recorded(model.first[model.nearest(x, failed=True)])
        return self._value(model.final(x[None])[0])

    def train(self, parameters: Mapping[str, Any], generator: np.random.Generator) -> Replayed:
        """One run of a configuration, with what differs from run to run drawn."""
        model, parameters = self._models[parameters[OPTIMIZER]], self._within(parameters)
        x = model.places(parameters)
        if self.kind == "nearest":
            row = model.nearest(x)
            failed, curve = bool(model.failed[row]), model.y[row]
        else:
            failed = bool(model.fails(x[None])[0])
            row = model.nearest(x, failed) if failed else 0
            curve = model.y[row] if failed else model.expected(x)
        if failed:
            was = model.first[row]
            return Replayed(was.values, was.diverged is not None)
        values = self._scale.values(curve + self._residuals[generator.integers(len(self._residuals))])
        return Replayed(tuple(float(value) for value in values), False)

    def unsearched(self, optimizer: str) -> float:
        """The mean final value of an optimizer's known-good settings, as they were recorded."""
        first = self._models[optimizer].first[0]
        assert first.origin == "known-good"
        return self.truth(first.parameters)

    @cached_property
    def median(self) -> float:
        return float(np.median([self._recorded(each) for model in self._models.values() for each in model.first]))

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Processor time of an epoch by optimizer, the median over whole trainings."""
        taken: dict[str, list[float]] = {name: [] for name in self.optimizers}
        for curve in self._curves:
            if curve.optimizer in taken and len(curve.values) == self.epochs * self.evaluations:
                taken[curve.optimizer].append(curve.seconds[-1] / self.epochs)
        return {name: float(np.median(times)) for name, times in taken.items()}

    @cached_property
    def spread(self) -> float:
        """The standard deviation of a final value from run to run, at the median configuration of those repeated."""
        repeated: dict[tuple[str, int], list[Curve]] = {}
        for curve in self._curves:
            repeated.setdefault((curve.optimizer, curve.number), []).append(curve)
        spreads = [
            np.std([curve.final for curve in runs], ddof=1)
            for runs in repeated.values()
            if len(runs) > 2 and not any(self._scale.failed(curve) for curve in runs)
        ]
        return float(np.median(spreads))

    @cached_property
    def best(self) -> dict[str, float]:
        """The best mean final value that each optimizer has within our ranges."""
        return {name: self._best(name) for name in self.settings.optimizers}

    def _best(self, name: str) -> float:
        model = self._models[name]
        if self.kind == "nearest":
            inside = [row for row, curve in enumerate(model.first) if curve.origin != "outer" and not model.failed[row]]
            return self._value(model.y[inside, -1].max()) if inside else self.unsearched(name)
        every = self.about.lr_prior is not None
        known = [curve.parameters for curve in model.first if every or curve.origin == "known-good"]
        known += promising(self.settings, name, model, 1, lr_of(self.about.lr_prior))
        return (max if self.maximize else min)(self.truth(parameters) for parameters in known)

    def errors(self) -> dict[str, float]:
        """How far off the fitted world is at configurations it was not shown, over all optimizers.

        Returns:
            root mean square and median absolute error of the final value, rank correlation, the share of variance
            explained on the scale of `Scale`, and how often failing was told rightly.
        """
        pairs = [model.held_out() for model in self._models.values()]
        told, was = (np.concatenate(each) for each in zip(*pairs, strict=True))
        off = self._scale.values(told) - self._scale.values(was)
        right = [self._told_failing(model) for model in self._models.values()]
        return {
            "rms": float(np.sqrt(np.mean(off**2))),
            "median": float(np.median(np.abs(off))),
            "rank": float(np.mean([spearmanr(*pair).statistic for pair in pairs if len(pair[0])])),
            "explained": float(1 - np.mean((told - was) ** 2) / np.var(was)),
            "failing": float(np.mean(np.concatenate(right))),
        }

    def _told_failing(self, model: Model) -> NDArray[np.bool_]:
        distances = model._distances(model.x)
        np.fill_diagonal(distances, np.inf)
        near = np.argsort(distances, axis=1)[:, :NEIGHBOURS]
        return np.asarray((model.failed[near].sum(axis=1) * 2 > NEIGHBOURS) == model.failed)
