"""Fits to a record of trainings: from any configuration to the curve that it would have shown."""

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import log10
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.stats import qmc
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from optitune.space.ranges import Choice, Float, Int, Range
from optitune.space.search_space import LR_FACTOR
from optitune.study.settings import StudySettings
from scripts.bench.quality.points import BOX, Lr, dimensions, drawn
from scripts.bench.quality.record import Curve
from scripts.bench.quality.scale import Scale

Array = NDArray[np.float64]

COMPONENTS = 4
FOLDS = 8

RUN_NOISE = 0.04
"""By how much runs of one configuration differ, on the scale of `Scale`: a standard deviation, from the record."""

NEIGHBOURS = 3

FEW = 8
"""With fewer configurations that learned, nothing is fitted: each does what the nearest one did."""

START = np.array([np.log(0.3), 0.0, 0.0, 0.0, np.log(1.5), 0.0, np.log(0.03)])
"""Prior means of a pooled fit's parameters, whose prior deviations are 1: logarithms of the variances of optimizers'
levels and of the signal, of the lengths of the learning rate (powers of ten), the schedule and all else (ranges), the
logit of the signal's shared part, and the logarithm of the noise's variance."""

APART = 0.15
"""By how much of a range promising configurations differ in at least one hyperparameter."""


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
        self.names = (*self.ranges, "mean of the schedule", "end of the schedule")

    def __call__(self, parameters: Mapping[str, Any]) -> Array:
        """The learning rate's height, the others' places in their ranges, and what the schedule makes of the lr:
        its mean and its end, which say more than the step size and gamma that make them."""
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


class Fit(Protocol):
    """What was fitted to one optimizer's curves; places are its own, (n, dimensions).

    Attributes:
        scales: of its dimensions.
    """

    scales: Array

    def final(self, x: Array) -> Array:
        """Expected final scores, (n,)."""

    def curve(self, x: Array) -> Array:
        """The expected curve at one place, (evaluations,)."""

    def held_out(self) -> tuple[Array, Array]:
        """Expected and recorded final scores of configurations that learned, each expected without itself."""


class Model:
    """What a record says of one optimizer.

    Attributes:
        x: places of all configurations, (n, dimensions).
        y: curves of all configurations, means over their seeds, on the scale of `Scale`, (n, evaluations).
        failed: whether they failed, (n,); their row of `y` is then nan.
        repeats: over how many seeds, (n,).
        residuals: what single runs differ from the mean of their configuration by, (runs, evaluations).
        fit: None where too few learned.
    """

    fit: Fit | None = None

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
        # the fit is not believed where it expects more than was ever measured over several seeds
        self.ceiling = float(self.y[self.repeats > 2, -1].max(initial=-np.inf))
        if not np.isfinite(self.ceiling):
            self.ceiling = float(self.y[~self.failed, -1].max(initial=-np.inf))

    def distances(self, x: Array) -> Array:
        """Squared distances of places to the recorded ones, (n, recorded)."""
        scales = np.ones(x.shape[1]) if self.fit is None else np.minimum(self.fit.scales, 10.0)
        return np.asarray((((x[:, None, :] - self.x) / scales) ** 2).sum(axis=2))

    def fails(self, x: Array) -> NDArray[np.bool_]:
        """Whether most of the nearest recorded configurations failed, or the very one where it was recorded, (n,)."""
        distances = self.distances(x)
        near = np.argsort(distances, axis=1)[:, :NEIGHBOURS]
        alone = np.full(len(x), self.fit is None) | (distances.min(axis=1) < 1e-12)
        return np.where(alone, self.failed[near[:, 0]], self.failed[near].sum(axis=1) * 2 > NEIGHBOURS)

    def nearest(self, x: Array, failed: bool | None = None) -> int:
        """The nearest recorded configuration to one place, of those that failed or not."""
        distances = self.distances(x[None])[0]
        return int(np.argmin(distances if failed is None else np.where(self.failed == failed, distances, np.inf)))

    def final(self, x: Array) -> Array:
        """The expected final score of configurations that learn, (n,)."""
        if self.fit is None:
            return np.array([self.y[self.nearest(each, failed=False), -1] for each in x])
        return np.minimum(self.fit.final(x), self.ceiling)

    def expected(self, x: Array) -> Array:
        """The expected curve at one place; its last point from a fit of its own, (evaluations,)."""
        if self.fit is None:
            return np.asarray(self.y[self.nearest(x, failed=False)])
        curve = self.fit.curve(x)
        curve[-1] = float(self.final(x[None])[0])
        return curve

    def held_out(self) -> tuple[Array, Array]:
        """Expected and recorded final scores, each expected without itself; none where nothing was fitted."""
        return (np.empty(0), np.empty(0)) if self.fit is None else self.fit.held_out()


class Own:
    """Gaussian processes of one optimizer alone: of the final score, and of principal components of the curves."""

    def __init__(self, model: Model) -> None:
        learned = ~model.failed
        self._x, self._y, self._repeats = model.x[learned], model.y[learned], model.repeats[learned]
        self._mean = self._y.mean(axis=0)
        self._basis = np.linalg.svd(self._y - self._mean, full_matrices=False)[2][:COMPONENTS]
        self.final = Process(self._x, self._y[:, -1], self._repeats)
        self.scales = self.final.scales

    @cached_property
    def _processes(self) -> list[Process]:
        scores = (self._y - self._mean) @ self._basis.T
        return [Process(self._x, column, self._repeats) for column in scores.T]

    def curve(self, x: Array) -> Array:
        return np.asarray(self._mean + np.array([float(each(x[None])[0]) for each in self._processes]) @ self._basis)

    def held_out(self) -> tuple[Array, Array]:
        """Each is expected by a fit without its fold."""
        predicted = np.empty(len(self._y))
        for fold in range(FOLDS):
            out = np.arange(len(predicted)) % FOLDS == fold
            predicted[out] = Process(self._x[~out], self._y[~out, -1], self._repeats[~out])(self._x[out])
        return predicted, self._y[:, -1]


class Pooled:
    """One Gaussian process over all optimizers of a record with few points of each.

    Its covariance is a level of each optimizer, plus a Matern kernel of all hyperparameters of which one part is shared
    by the optimizers and one is each one's own. Lengths are those of the learning rate, the schedule, and all else.

    Args:
        models: by optimizer; at least one configuration learned.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._names = list(dict.fromkeys(name for model in models.values() for name in model.places.names))
        self._columns = [[self._names.index(name) for name in each.places.names] for each in models.values()]
        learned = [~model.failed for model in models.values()]
        self._of = np.repeat(np.arange(len(models)), [int(each.sum()) for each in learned])
        self._x = np.concatenate(
            [
                self._spread(of, model.x[rows])
                for of, (model, rows) in enumerate(zip(models.values(), learned, strict=True))
            ]
        )
        y = np.concatenate([model.y[rows] for model, rows in zip(models.values(), learned, strict=True)])
        self._repeats = np.concatenate([m.repeats[rows] for m, rows in zip(models.values(), learned, strict=True)])
        self._mean = y.mean(axis=0)
        self._basis = np.linalg.svd(y - self._mean, full_matrices=False)[2][:COMPONENTS]
        # the final score first, then the components
        self._targets = np.column_stack([y[:, -1] - self._mean[-1], (y - self._mean) @ self._basis.T])
        self._unit = float(self._targets[:, 0].std()) or 1.0
        self._theta = minimize(self._misfit, START, method="L-BFGS-B").x
        self._weights = cho_solve(cho_factor(self._covariance(self._theta)), self._targets)

    def _spread(self, of: int, x: Array) -> Array:
        """Places of one optimizer among the hyperparameters of all; one that it does not have lies in the middle."""
        found = np.full((len(x), len(self._names)), 0.5)
        found[:, self._columns[of]] = x
        return found

    def lengths(self, theta: Array) -> Array:
        kinds = [0 if name == LR_FACTOR else 1 if "schedule" in name else 2 for name in self._names]
        return np.exp(theta[2:5])[kinds]

    def _kernel(self, theta: Array, x: Array, of: Any) -> Array:
        """Covariances of places with the recorded ones, (n, recorded)."""
        level, signal = np.exp(theta[:2])
        shared = 1 / (1 + np.exp(-theta[5]))
        lengths = self.lengths(theta)
        apart = np.sqrt(5) * cdist(x / lengths, self._x / lengths)
        same = np.reshape(of, (-1, 1)) == self._of
        matern = (1 + apart + apart**2 / 3) * np.exp(-apart)
        return np.asarray(same * level + signal * matern * np.where(same, 1.0, shared))

    def _covariance(self, theta: Array) -> Array:
        return self._kernel(theta, self._x, self._of) + np.diag(np.exp(theta[6]) / self._repeats)

    def _misfit(self, theta: Array) -> float:
        """Minus the logarithm of the posterior density of the kernel's parameters."""
        factor = cho_factor(self._covariance(theta), lower=True)
        target = self._targets[:, 0] / self._unit
        likelihood = target @ cho_solve(factor, target) / 2 + np.log(np.diag(factor[0])).sum()
        return float(likelihood + ((theta - START) ** 2).sum() / 2)

    def final(self, of: int, x: Array) -> Array:
        return np.asarray(self._mean[-1] + self._kernel(self._theta, self._spread(of, x), of) @ self._weights[:, 0])

    def curve(self, of: int, x: Array) -> Array:
        found = self._kernel(self._theta, self._spread(of, x[None]), of) @ self._weights[:, 1:]
        return np.asarray(self._mean + found[0] @ self._basis)

    def scales(self, of: int) -> Array:
        return self.lengths(self._theta)[self._columns[of]]

    def held_out(self, of: int) -> tuple[Array, Array]:
        """Each is expected without itself, with the kernel of all (Rasmussen & Williams 2006, equation 5.12)."""
        inverse = np.linalg.inv(self._covariance(self._theta))
        was = self._targets[:, 0]
        predicted = was - inverse @ was / np.diag(inverse)
        rows = self._of == of
        return predicted[rows] + self._mean[-1], was[rows] + self._mean[-1]


class Share:
    """What a pooled fit says of one optimizer."""

    def __init__(self, pooled: Pooled, of: int) -> None:
        self._pooled, self._of = pooled, of
        self.scales = pooled.scales(of)

    def final(self, x: Array) -> Array:
        return self._pooled.final(self._of, x)

    def curve(self, x: Array) -> Array:
        return self._pooled.curve(self._of, x)

    def held_out(self) -> tuple[Array, Array]:
        return self._pooled.held_out(self._of)


def models(
    settings: StudySettings, curves: Sequence[Curve], scale: Scale, evaluations: int, pooled: bool
) -> dict[str, Model]:
    """A model of each optimizer, fitted.

    Args:
        pooled: whether one fit has all optimizers, where there are few points of each; else each has its own.
    """
    found = {
        name: Model(
            Places(settings, name),
            [curve for curve in curves if curve.optimizer == name],
            scale,
            evaluations * settings.epochs,
        )
        for name in settings.optimizers
    }
    if not pooled:
        for model in found.values():
            model.fit = Own(model) if (~model.failed).sum() >= FEW else None
    elif sum(int((~model.failed).sum()) for model in found.values()) >= FEW:
        whole = Pooled(found)
        for of, model in enumerate(found.values()):
            model.fit = Share(whole, of)
    return found


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
