"""A Gaussian process over several optimizers at once: what one teaches of the hyperparameters serves the others.

The value of a configuration is the sum of a level of its optimizer, of a function of the hyperparameters that all
optimizers share, and of one that is its optimizer's own (Bonilla et al. 2008, NIPS 20, with a coregionalisation of
this simple form). Both functions have a Matern-5/2 kernel with one length for each hyperparameter.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

ROOT5 = np.sqrt(5.0)

SPREAD = 0.7
"""How far hyperparameters may be from where they are expected: of their logarithm, one standard deviation."""

SIGNALS = 0.3, 0.35, 0.55
"""Variances to be expected: of the optimizer's level, of what is shared, of what is its own."""

NOISE = 0.03
"""The variance from run to run that is to be expected."""

FIT_STEPS = 30
JITTER = 1e-8


@dataclass(frozen=True)
class Posterior:
    """What is known after some trials.

    Attributes:
        x: places, (n, dimensions), each coordinate about 0 to 1.
        of: the optimizer of each, as a number, (n,).
        y: values, higher is better, (n,).
        unsure: variances by which each is known less well than a whole run, (n,).
        theta: logarithms of lengths, of the three variances, and of the noise.
        factor: of the covariance of `y`, lower triangular, (n, n).
        weights: inverse covariance times `y`, (n,).
    """

    x: Array
    of: Numbers
    y: Array
    unsure: Array
    theta: Array
    factor: Array
    weights: Array

    def _predicted(self, x: Array, of: Numbers) -> tuple[Array, Array]:
        cross = _covariance(self.theta, x, of, self.x, self.of)
        return cross @ self.weights, solve_triangular(self.factor, cross.T, lower=True, check_finite=False)

    def __call__(self, x: Array, of: Numbers) -> tuple[Array, Array]:
        """Mean and standard deviation of the expected value at places, without the noise of a run, (m,) each."""
        mean, half = self._predicted(x, of)
        variance = np.exp(self.theta[-4:-1]).sum() - (half**2).sum(axis=0)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def joint(self, x: Array, of: Numbers) -> tuple[Array, Array]:
        """Mean, (m,), and covariance, (m, m), of the expected values at places."""
        mean, half = self._predicted(x, of)
        return mean, _covariance(self.theta, x, of, x, of) - half.T @ half

    def with_more(self, x: Array, of: Numbers) -> "Posterior":
        """The same as if places had been tried and had come out as expected."""
        mean, _ = self._predicted(x, of)
        return posterior(
            np.vstack([self.x, x]),
            np.concatenate([self.of, of]),
            np.concatenate([self.y, mean]),
            np.concatenate([self.unsure, np.zeros(len(mean))]),
            self.theta,
        )


def fit(x: Array, of: Numbers, y: Array, unsure: Array, lengths: Array) -> Posterior:
    """The process that explains `y` best: hyperparameters of the greatest posterior density.

    Args:
        x: places, (n, dimensions), each coordinate 0 to 1.
        of: the optimizer of each place, as a number, (n,).
        y: values, (n,), about 0 and of spread 1.
        unsure: variances by which each is known less well than a whole run, (n,).
        lengths: to be expected of each coordinate, (dimensions,).
    """
    centre = np.log(np.concatenate([lengths, SIGNALS, [NOISE]]))
    differences = (x[:, None, :] - x[None, :, :]) ** 2
    same = of[:, None] == of[None, :]

    def loss(theta: Array) -> tuple[float, Array]:
        value, gradient = _minus_log_likelihood(theta, differences, same, y, unsure)
        off = (theta - centre) / SPREAD
        return value + 0.5 * float(off @ off), gradient + off / SPREAD

    bounds = [(each - 3 * SPREAD, each + 3 * SPREAD) for each in centre]
    found = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": FIT_STEPS})
    return posterior(x, of, y, unsure, found.x)


def posterior(x: Array, of: Numbers, y: Array, unsure: Array, theta: Array) -> Posterior:
    """What is known after trials, with known hyperparameters; arguments as the attributes of `Posterior`."""
    covariance = _covariance(theta, x, of, x, of)
    covariance[np.diag_indices_from(covariance)] += np.exp(theta[-1]) + unsure + JITTER
    factor = np.linalg.cholesky(covariance)
    return Posterior(x, of, y, unsure, theta, factor, cho_solve((factor, True), y, check_finite=False))


def _matern(theta: Array, x: Array, other: Array) -> Array:
    lengths = np.exp(theta[:-4])
    a, b = x / lengths, other / lengths
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    distance = ROOT5 * np.sqrt(np.maximum(squared, 0.0))
    return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance))


def _covariance(theta: Array, x: Array, of: Numbers, other: Array, other_of: Numbers) -> Array:
    level, shared, own = np.exp(theta[-4:-1])
    same = of[:, None] == other_of
    return np.asarray(level * same + (shared + own * same) * _matern(theta, x, other))


def _minus_log_likelihood(
    theta: Array, differences: Array, same: NDArray[np.bool_], y: Array, unsure: Array
) -> tuple[float, Array]:
    """And its gradient by `theta`."""
    inverse_squares = np.exp(-2 * theta[:-4])
    level, shared, own, noise = np.exp(theta[-4:])
    distance = ROOT5 * np.sqrt(differences @ inverse_squares)
    decay = np.exp(-distance)
    matern = (1 + distance + distance**2 / 3) * decay
    amplitude = shared + own * same
    covariance = level * same + amplitude * matern
    covariance[np.diag_indices_from(covariance)] += noise + unsure + JITTER
    factor, lower = cho_factor(covariance, lower=True, check_finite=False)
    weights = cho_solve((factor, lower), y, check_finite=False)
    value = 0.5 * float(y @ weights) + float(np.log(np.diag(factor)).sum())
    inner = cho_solve((factor, lower), np.eye(len(y)), check_finite=False) - np.outer(weights, weights)
    # d matern / d log length = 5/3 (1 + distance) exp(-distance) * difference / length^2
    slope = inner * amplitude * (5 / 3) * (1 + distance) * decay
    lengths = 0.5 * np.einsum("ij,ijk->k", slope, differences) * inverse_squares
    variances = 0.5 * np.array(
        [
            level * inner[same].sum(),
            shared * (inner * matern).sum(),
            own * (inner * matern)[same].sum(),
            noise * np.trace(inner),
        ]
    )
    return value, np.concatenate([lengths, variances])
