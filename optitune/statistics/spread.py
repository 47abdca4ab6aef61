"""How wide an interval for a mean difference has to be, by what is known of its spread.

Few rounds say little of a spread, and Student's t pays for that. Two things are known beside them:

- **the other pairs**: their spreads are alike but not the same, so a pair's variance is moderated by their mean, which
  counts for `PRIOR_ROUNDS` rounds (as Smyth 2004, Statistical Applications in Genetics 3:3, does for genes);
- **the examples**: a round's difference is a mean over examples, whose own spread is known well. Seeds add to it, so it
  is a floor. How much they add is unknown: the prior of the ratio r of their standard deviation to the examples' has
  the density 1 / (r + `SEEDS_SHARE`), nearly even up to that share and, beyond, one that says nothing of the scale
  (Jeffreys), so that spreads which seeds dominate are learned from the rounds alone.

The half width is the quantile of the mean's posterior, a mixture of normal distributions over the spread.
"""

from math import inf, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optitune.statistics.sequential_test import LEAST_TAIL, student

PRIOR_ROUNDS = 4
"""How many rounds the other pairs' spread counts for. The log variances of optimizers differ by 0 to 1.6 (standard
deviation) in published records, by about 1 in most."""

SEEDS_SHARE = 0.5
"""Of the examples' standard deviation, up to which what seeds add is taken to be anything."""

FAR = 1_000
"""Times the examples' variance, from which on that says nothing of the whole one."""

STEPS = 8
"""Of Newton's method; the tail is met to six digits."""

_RATIOS = np.concatenate([[0.0], np.geomspace(0.03, 3_000.0, 79)])
_EDGES = np.concatenate([[0.0], np.sqrt(_RATIOS[1:-1] * _RATIOS[2:]), [1.2 * _RATIOS[-1]]])
_EDGES = np.insert(_EDGES, 1, _RATIOS[1] / 2)
_LOG_WEIGHTS = np.log(np.diff(np.log1p(_EDGES / SEEDS_SHARE)))


def degrees(rounds: int, among: int) -> float:
    """Degrees of freedom of the moderated variance of a pair's differences.

    The variances that moderate it are of the same rounds, and those of pairs that share an optimizer hang together: of
    equal and independent optimizers their correlation is 1/4. So a weighted sum of them has the degrees of freedom that
    Satterthwaite (1946, Biometrics Bulletin 2:110) gives it, and never more than if the others' spread were known from
    `PRIOR_ROUNDS` rounds of their own.

    Args:
        rounds: that each pair has.
        among: how many optimizers are still in; two moderate nothing.
    """
    if among <= 2:
        return rounds - 1
    pairs, known = among * (among - 1) / 2, PRIOR_ROUNDS + rounds - 1
    own, each = (rounds - 1) / known, PRIOR_ROUNDS / (pairs * known)
    # of all squared correlations in a row, 1 is a pair's own, and 2 (among - 2) are 1/4
    row = among / 2
    return min(known, (rounds - 1) / (own**2 + 2 * own * each * row + each**2 * pairs * row))


def moderate(variance: Any, rounds: int, typical: float) -> Any:
    """A variance, moderated by what is typical.

    Args:
        variance: of rounds.
        rounds: their number.
        typical: mean variance of the pairs.
    """
    return (PRIOR_ROUNDS * typical + (rounds - 1) * variance) / (PRIOR_ROUNDS + rounds - 1)


def half_widths(
    tail: float,
    variance: NDArray[np.float64],
    rounds: int,
    floor: NDArray[np.float64],
    typical: float = 0.0,
    among: int = 2,
) -> NDArray[np.float64]:
    """Half the widths of intervals for mean differences.

    Args:
        tail: probability that the mean lies beyond either end.
        variance: of each pair's differences, (pairs,).
        rounds: that each is the mean of.
        floor: variance that examples alone make, (pairs,); nan where nothing is known of examples.
        typical: mean variance of the pairs.
        among: how many optimizers are still in; of two no other pair moderates.
    """
    if tail < LEAST_TAIL:
        return np.full(np.shape(variance), inf)
    df = degrees(rounds, among)
    pooled = np.asarray(variance if among <= 2 else moderate(variance, rounds, typical), dtype=np.float64)
    widths: NDArray[np.float64] = student(tail, df) * np.sqrt(pooled)
    # far above the floor both are the same
    known = np.isfinite(floor) & (floor > 0) & (variance < FAR * np.nan_to_num(floor))
    if known.any():
        widths[known] = _with_floor(tail, pooled[known], df, floor[known])
    return widths / sqrt(rounds)


def _with_floor(
    tail: float, variance: NDArray[np.float64], df: float, floor: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The same in standard deviations of a round's difference, where the examples' share is known."""
    from scipy.special import log_ndtr, ndtri

    possible = floor[:, None] * (1 + _RATIOS**2)
    log_weight = _LOG_WEIGHTS - df / 2 * (np.log(possible) + variance[:, None] / possible)
    log_weight -= _log_sum(log_weight)[:, None]
    sd = np.sqrt(possible)
    # from below: a normal quantile of the mean variance
    width = -ndtri(tail) * np.sqrt((np.exp(log_weight) * possible).sum(1))
    for _ in range(STEPS):
        # Newton's method for the logarithm of the tail by the logarithm of the width
        scaled = width[:, None] / sd
        log_tail = _log_sum(log_weight + log_ndtr(-scaled))
        slope = -np.exp(_log_sum(log_weight - scaled**2 / 2 + np.log(scaled)) - log_tail) / sqrt(2 * np.pi)
        width = width * np.exp(np.clip((log_tail - np.log(tail)) / -slope, -1, 1))
    return np.asarray(width)


def _log_sum(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of the sum of a row of numbers that are given by their logarithms."""
    largest = logarithms.max(1, keepdims=True)
    return np.asarray((largest + np.log(np.exp(logarithms - largest).sum(1, keepdims=True)))[:, 0])
