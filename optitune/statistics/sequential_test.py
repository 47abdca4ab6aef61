"""Evidence that may be looked at after every round: a test of a mean, and an interval for it, valid at any time.

The rounds' differences are taken to be normal, of unknown mean and spread. The t statistic of n of them does not hang
on the spread, so that the ratio of its density under a prior over effect sizes to that under no effect is a test
martingale: by Ville's inequality it ever passes 1 / alpha with a probability of alpha at most if there is no effect
(Lai 1976, Annals of Statistics 4:265; Wang and Ramdas 2025, arXiv:2310.03722; Perez-Ortiz et al. 2024, Annals of
Statistics 52:1410). The prior is Cauchy's, as a mixture of normal ones (Rouder et al. 2009, Psychonomic Bulletin
& Review 16:225), so that large effects are seen early and small ones are not missed for long.
"""

from functools import cache
from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray

SCALE = 1.0
"""Of Cauchy's prior: half of all effects are taken to be larger than so many standard deviations of a difference."""

_G = np.geomspace(1e-3, 1e7, 201)
"""The prior's variance."""


@cache
def _log_weight() -> NDArray[np.float64]:
    """The logarithm of the probability that lies about each variance; a mixture over any weights is as valid."""
    from scipy.special import logsumexp
    from scipy.stats import invgamma

    weight: NDArray[np.float64] = np.log(np.gradient(invgamma.cdf(_G, 0.5, scale=SCALE**2 / 2)))
    weight -= logsumexp(weight)
    return weight


def log_evidence(t: float, n: int) -> float:
    """The logarithm of the test martingale.

    Args:
        t: mean / (standard deviation / sqrt(n)).
        n: rounds, at least 2.
    """
    from scipy.special import logsumexp

    spread = 1 + n * _G
    likelihood = -np.log(spread) / 2 + n / 2 * (np.log1p(t**2 / (n - 1)) - np.log1p(t**2 / (n - 1) / spread))
    return float(logsumexp(_log_weight() + likelihood))


@cache
def critical(n: int, alpha: float) -> float:
    """The t that the evidence of n rounds has to pass; infinite where no t is enough.

    The interval mean +- critical * standard deviation / sqrt(n) of every n at once holds the true mean with a
    probability of at least 1 - alpha.
    """
    if n < 2:
        return float("inf")
    from scipy.optimize import brentq

    wanted = log(1 / alpha)

    def lacks(log_t: float) -> float:
        return log_evidence(exp(log_t), n) - wanted

    high = log(1e6)
    return exp(float(brentq(lacks, -10, high))) if lacks(high) > 0 else float("inf")


def half_width(sd: float, n: int, alpha: float) -> float:
    """Half the width of the interval for the mean difference.

    Args:
        sd: standard deviation of a round's difference.
        n: number of rounds, at least 2.
        alpha: probability, over all n together, that the interval misses the mean.
    """
    return critical(n, alpha) * sd / sqrt(n) if sd else 0.0
