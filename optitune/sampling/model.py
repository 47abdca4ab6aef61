"""Model of what configurations come to: one Gaussian process over the trials of all optimizers of a study.

Optimizers share what is learned of the hyperparameters that they have in common; each adds what is its own (an
intrinsic model of coregionalisation: Bonilla et al. 2008, NIPS 20:153).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.linalg import cho_solve, solve_triangular
from scipy.special import log_ndtr, ndtr, ndtri

Array = NDArray[np.float64]

Space = Mapping[str, BaseDistribution]
"""Distributions by parameter."""

SHARE_OF_RANGE, DECADES = 0.25, 0.7
"""Prior standard deviation of a hyperparameter about its known-good value: a share of its range; of a learning rate at
most so many powers of ten."""

LENGTH, LENGTH_OF_LR = 4.0, 1.0
"""Expected length, in prior standard deviations, over which a hyperparameter changes the score; of learning rates."""

LENGTHS, LENGTH_SPREAD = (0.4, 1.0, 2.5, 6.0), 1.0
"""Multiples of the expected length that are tried, and the prior standard deviation of their logarithm."""

SHARED, NOISE = (0.8, 0.95, 0.5, 0.2), (0.1, 0.01, 0.4)
"""Shares of the variance that all optimizers have in common, and variances of single scores, that are tried; the first
is the start."""

LEVEL = 0.5
"""Prior variance of an optimizer's level."""

MOST = 96
"""Number of trials that the process is fitted to: the best half of it, then the latest."""


class Axis:
    """The scale of one hyperparameter of one optimizer: 0 at its known-good value, 1 a prior standard deviation higher.

    A categorical one has its options' indices as coordinates.

    Args:
        distribution: of the parameter.
        centre: its known-good value; None where there is none, then the middle of its range.
        is_lr: whether it is a learning rate, whose range may be many powers of ten.
    """

    def __init__(self, distribution: BaseDistribution, centre: Any = None, is_lr: bool = False) -> None:
        self.distribution = distribution
        self.options: tuple[Any, ...] = ()
        if isinstance(distribution, CategoricalDistribution):
            self.options = tuple(distribution.choices)
            self.centre = self.options.index(centre) if centre in self.options else 0
            return
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        self._log = distribution.log
        low, high = float(self._raw(distribution.low)), float(self._raw(distribution.high))
        self.unit = SHARE_OF_RANGE * (high - low) or 1.0
        if self._log and is_lr:
            self.unit = min(self.unit, DECADES * log(10))
        self.zero = (low + high) / 2 if centre is None else float(np.clip(self._raw(centre), low, high))
        self.low, self.high = (low - self.zero) / self.unit, (high - self.zero) / self.unit
        # or the first and the last number would be drawn half as often as those between
        half = (distribution.step or 0) / 2
        beyond = self.place(distribution.low - half), self.place(distribution.high + half)
        self._from, self._length = beyond[0], beyond[1] - beyond[0]
        self.flat = centre is None or not is_lr

    def _raw(self, value: Any) -> Any:
        return np.log(value) if self._log else value

    def place(self, value: Any) -> float:
        """The coordinate of a value."""
        if self.options:
            return float(self.options.index(value)) if value in self.options else -1.0
        return float((self._raw(value) - self.zero) / self.unit)

    def _numbers(self, places: Array) -> Array:
        one = self.distribution
        assert isinstance(one, FloatDistribution | IntDistribution)
        raw = self.zero + np.clip(places, self.low, self.high) * self.unit
        found = np.exp(raw) if self._log else raw
        if one.step is not None:
            found = one.low + np.round((found - one.low) / one.step) * one.step
        return np.asarray(np.clip(found, one.low, one.high))

    def value(self, place: float) -> Any:
        """The value at a coordinate, moved into the range, whole where the parameter is."""
        if self.options:
            return self.options[int(place)]
        number = float(self._numbers(np.array(place)))
        return int(number) if isinstance(self.distribution, IntDistribution) else number

    def valid(self, places: Array) -> Array:
        """The coordinates of the values at these coordinates, (n,)."""
        if self.options:
            return places
        return np.asarray((self._raw(self._numbers(places)) - self.zero) / self.unit, dtype=np.float64)

    def through(self, uniform: Array, widened: float = 1.0) -> Array:
        """Coordinates of the prior's quantiles: of a normal distribution cut off at the range's ends, or an even one.

        Args:
            uniform: (n,) between 0 and 1.
            widened: factor of its standard deviation.
        """
        if self.options:
            return np.asarray(np.minimum(np.floor(uniform * len(self.options)), len(self.options) - 1))
        if self.flat:
            return np.asarray(np.clip(self._from + uniform * self._length, self.low, self.high))
        below, above = ndtr(self.low / widened), ndtr(self.high / widened)
        return np.asarray(np.clip(widened * ndtri(below + uniform * (above - below)), self.low, self.high))

    def drawn(self, uniform: float, widened: float = 1.0) -> Any:
        """The value at a quantile of the prior, see `through`."""
        return self.value(float(self.through(np.array([uniform]), widened)[0]))

    def log_density(self, places: Array) -> Array:
        """The logarithm of the prior's density at coordinates, 0 at its centre, (n,)."""
        return np.zeros(len(places)) if self.options or self.flat else -(places**2) / 2


@dataclass(frozen=True)
class Observed:
    """A trial as the model sees it.

    Attributes:
        optimizer: its name.
        parameters: by name.
        score: what it came to, or is forecast to; higher is better.
        variance: of a forecast score.
    """

    optimizer: Any
    parameters: Mapping[str, Any]
    score: float
    variance: float = 0.0


def warped(scores: Array) -> tuple[Array, Array]:
    """Scores by rank on the scale of a standard normal distribution, and the slope of that at each.

    Bad trials are bad by any amount; what counts is the order of good ones.
    """
    order = np.sort(scores)
    ranks = (np.searchsorted(order, scores, "left") + np.searchsorted(order, scores, "right")) / 2
    return np.asarray(ndtri((ranks + 0.25) / (len(scores) + 0.5))), order


class Surrogate:
    """A Gaussian process of scores over the configurations of several optimizers.

    Its kernel is Matern's with nu = 5/2, one length for each hyperparameter, times a share that all optimizers have in
    common, and a level for each (Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, 4.2, 5.4).
    Lengths, share and noise have priors, and are fitted by trying a few values of each in turn.

    Args:
        axes: by optimizer and parameter.
        observed: ended trials, at least one.
        pending: running ones, which are taken to come to what is expected of them.
    """

    def __init__(
        self, axes: Mapping[Any, Mapping[str, Axis]], observed: Sequence[Observed], pending: Sequence[Observed] = ()
    ) -> None:
        self._axes = axes
        self._names = sorted({name for own in axes.values() for name in own})
        self._categorical = np.array(
            [any(own[name].options for own in axes.values() if name in own) for name in self._names], dtype=bool
        )
        self._groups = {name: number for number, name in enumerate(axes)}
        observed = self._kept(observed)
        self.x = np.array([self.places(each.optimizer, each.parameters) for each in observed])
        self.group = np.array([self._groups[each.optimizer] for each in observed])
        scores = np.array([each.score for each in observed])
        spread = np.sqrt([each.variance for each in observed])
        y, order = warped(scores)
        sorted_y = np.sort(y)
        above, below = (np.interp(scores + sign * spread, order, sorted_y) for sign in (1, -1))
        self._own_noise = ((above - below) / 2) ** 2
        self._mean = float(y.mean())
        self._y = y - self._mean
        self._fit()
        if pending:
            self._believe(pending)

    @staticmethod
    def _kept(observed: Sequence[Observed]) -> Sequence[Observed]:
        if len(observed) <= MOST:
            return observed
        best = set(sorted(range(len(observed)), key=lambda at: -observed[at].score)[: MOST // 2])
        latest = [at for at in range(len(observed)) if at not in best][-(MOST - len(best)) :]
        return [observed[at] for at in sorted([*best, *latest])]

    def places(self, optimizer: Any, parameters: Mapping[str, Any]) -> Array:
        """The coordinates of a configuration; a hyperparameter that it lacks is at its centre."""
        own = self._axes[optimizer]
        return np.array(
            [own[name].place(parameters[name]) if name in own and name in parameters else 0.0 for name in self._names]
        )

    def columns(self, optimizer: Any, places: Mapping[str, Array], number: int) -> Array:
        """Coordinates of many configurations of one optimizer, (number, dimensions).

        Args:
            optimizer: its name.
            places: coordinates by parameter, (number,) each.
            number: of configurations.
        """
        own = self._axes[optimizer]
        return np.stack([places[name] if name in own else np.zeros(number) for name in self._names], axis=1)

    def _apart(self, one: Array, other: Array) -> Array:
        """Squared distances in every dimension, (dimensions, n, m)."""
        difference = one.T[:, :, None] - other.T[:, None, :]
        return np.where(self._categorical[:, None, None], (difference != 0).astype(float), difference**2)

    @staticmethod
    def _matern(squared: Array) -> Array:
        distance = np.sqrt(5 * np.maximum(squared, 0.0))
        return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance))

    def _fit(self) -> None:
        apart = self._apart(self.x, self.x)
        same = (self.group[:, None] == self.group[None, :]).astype(float)
        expected = np.array([LENGTH_OF_LR if is_lr(name) else LENGTH for name in self._names])
        factors = np.ones(len(self._names))
        shared, noise = SHARED[0], NOISE[0]
        squared = np.tensordot((expected * factors) ** -2.0, apart, axes=1)

        def loss(squared: Array, shared: float, noise: float) -> float:
            kernel = self._matern(squared) * (shared + (1 - shared) * same) + LEVEL * same
            kernel[np.diag_indices_from(kernel)] += noise + self._own_noise
            try:
                lower = np.linalg.cholesky(kernel)
            except np.linalg.LinAlgError:
                return np.inf
            half = solve_triangular(lower, self._y, lower=True, check_finite=False)
            return float(half @ half / 2 + np.log(np.diag(lower)).sum())

        def penalty(factor: float) -> float:
            return (log(factor) / LENGTH_SPREAD) ** 2 / 2

        varied = [at for at in range(len(self._names)) if apart[at].any()]
        varied.sort(key=lambda at: not is_lr(self._names[at]))
        for _ in range(2):
            noise = min(NOISE, key=lambda each: loss(squared, shared, each))
            shared = min(SHARED, key=lambda each: loss(squared, each, noise))
            for at in varied:
                without = squared - apart[at] * (expected[at] * factors[at]) ** -2.0
                factors[at] = min(
                    LENGTHS,
                    key=lambda each: (
                        penalty(each) + loss(without + apart[at] * (expected[at] * each) ** -2.0, shared, noise)
                    ),
                )
                squared = without + apart[at] * (expected[at] * factors[at]) ** -2.0
        self.lengths = dict(zip(self._names, expected * factors, strict=True))
        self.shared, self.noise = shared, noise
        self._weights = (expected * factors) ** -2.0
        self._factor()

    def _factor(self) -> None:
        kernel = self._kernel(self.x, self.group, self.x, self.group)
        kernel[np.diag_indices_from(kernel)] += self.noise + self._own_noise
        self._lower = np.linalg.cholesky(kernel)
        self._alpha = cho_solve((self._lower, True), self._y, check_finite=False)

    def _scaled(self, x: Array) -> Array:
        """Coordinates whose Euclidean distances are those of the kernel: options as unit vectors at distance 1."""
        numbers = x[:, ~self._categorical] * np.sqrt(self._weights[~self._categorical])
        options = [
            (x[:, at, None] == np.arange(-1, self.x[:, at].max() + 2)) * (self._weights[at] / 2) ** 0.5
            for at in np.flatnonzero(self._categorical)
        ]
        return np.concatenate([numbers, *options], axis=1)

    def _kernel(self, x: Array, group: Array, other: Array, other_group: Array) -> Array:
        same = (group[:, None] == other_group[None, :]).astype(float)
        one, two = self._scaled(x), self._scaled(other)
        squared = (one**2).sum(axis=1)[:, None] + (two**2).sum(axis=1)[None, :] - 2 * one @ two.T
        return np.asarray(self._matern(squared) * (self.shared + (1 - self.shared) * same) + LEVEL * same)

    def _believe(self, pending: Sequence[Observed]) -> None:
        x = np.array([self.places(each.optimizer, each.parameters) for each in pending])
        group = np.array([self._groups[each.optimizer] for each in pending])
        mean, _ = self._predict(x, group)
        self.x, self.group = np.concatenate([self.x, x]), np.concatenate([self.group, group])
        self._y = np.concatenate([self._y, mean - self._mean])
        self._own_noise = np.concatenate([self._own_noise, np.zeros(len(x))])
        self._factor()

    def _predict(self, x: Array, group: Array) -> tuple[Array, Array]:
        kernel = self._kernel(x, group, self.x, self.group)
        half = solve_triangular(self._lower, kernel.T, lower=True, check_finite=False)
        return self._mean + kernel @ self._alpha, np.maximum(1 + LEVEL - (half**2).sum(axis=0), 1e-9)

    def __call__(self, optimizer: Any, x: Array) -> tuple[Array, Array]:
        """Mean and variance of the score of configurations, (n,) each.

        Args:
            optimizer: of all of them.
            x: their coordinates, (n, dimensions).
        """
        return self._predict(x, np.full(len(x), self._groups[optimizer]))

    @property
    def best(self) -> float:
        """The highest mean at any trial."""
        return float(self._predict(self.x, self.group)[0].max())

    def best_of(self, optimizer: Any) -> float | None:
        """The highest mean at this optimizer's trials; None where it has none."""
        own = self.group == self._groups[optimizer]
        return float(self._predict(self.x[own], self.group[own])[0].max()) if own.any() else None


def log_expected_improvement(mean: Array, variance: Array, best: float) -> Array:
    """The logarithm of the expected improvement on `best`, (n,), also where it is tiny.

    Jones et al. 1998, J. Global Optimization 13:455; on a logarithmic scale: Ament et al. 2023, NeurIPS 36.

    Args:
        mean: of the scores, (n,).
        variance: of the scores, (n,).
        best: score to improve on.
    """
    spread = np.sqrt(variance)
    z = (mean - best) / spread
    # phi(z) + z Phi(z); where z is negative by the ratio of both, or the difference would be lost
    low = np.minimum(z, 0.0)
    density = -(low**2) / 2 - log(2 * np.pi) / 2
    below = density + np.log(np.maximum(1 + low * np.exp(log_ndtr(low) - density), 1e-12))
    high = np.maximum(z, 0.0)
    above = np.log(np.exp(-(high**2) / 2) / (2 * np.pi) ** 0.5 + high * ndtr(high))
    return np.asarray(np.where(z < 0, below, above) + np.log(spread))


def is_lr(name: str) -> bool:
    return name == "lr" or name.startswith("lr_")
