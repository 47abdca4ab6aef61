"""How probable it is for each optimizer to be the best, and within which bounds its value lies.

A run's value is its optimizer's true value, plus the difficulty of its round, which all optimizers share, plus noise.
A hierarchical model (Gelman et al. 2013, Bayesian Data Analysis, chapter 5), so that the luckiest of several is not
believed in full:

- True values are Student's t about a common centre, with `TAILS` degrees of freedom: one that is hopeless does not make
  the others look as if they differed much, and is itself believed to be so. Their spread is half-Cauchy of scale
  `SPREAD` x epsilon.
- Every optimizer has a variance of its own, drawn towards a common one, which is unknown itself, with the weight of
  `PRIOR_RUNS` runs (Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3:3). One in ten may be much
  noisier than the rest and is then no measure of theirs (Phipson et al. 2016, Annals of Applied Statistics 10:946).
  The common one is of the order of epsilon squared if few runs say otherwise.
- Rounds' difficulties are normal, with a spread that is half-Cauchy of the size that is seen.

It is drawn from by Gibbs sampling in many short chains at once. Scale parameters are expanded (Gelman 2006, Bayesian
Analysis 1:515), and shifts that the data say little of are drawn jointly, so that few steps are enough.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from optitune.common.summary import summarise

DRAWS, SPREADS = 6_000, 200
"""Number of draws behind probabilities and bounds, and of chains that they come from."""

FEWEST, LARGE = 40, 100_000
"""Fewest chains, and most values in all chains together: thousands of runs need fewer chains."""

WARM_UP = 20
"""Steps of each chain that are not used."""

TAILS = 1
PRIOR_RUNS = 4
SPREAD = 2

NOISIER = np.array([1.0, 30.0])
"""How many times larger than the common one the variance of an optimizer may be expected to be."""

NOISIER_ODDS = np.array([0.9, 0.1])
"""How probable each of these is before anything is known."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """What is known of one optimizer, whoever of them leads.

    Attributes:
        mean: estimate of its value on fresh rounds, as if all had finished the same ones, drawn towards the others'.
        low: lower end of its 95 % interval; None where no optimizer has two runs, or all runs are the same.
        high: its upper end.
        best: probability that it is truly the best.
    """

    mean: float
    low: float | None
    high: float | None
    best: float


def estimates(
    values: Array, scale: float, paired: bool = True, limits: tuple[float, float] = (-inf, inf)
) -> list[Estimate]:
    """Every optimizer's value, and how probable it is to be the best.

    The same runs give the same numbers, in whichever order the optimizers stand.

    Args:
        values: of shape (optimizers, rounds), more is better; nan where there is no run. At least one run of each.
        scale: epsilon, the largest difference that does not matter.
        paired: whether runs of the same round share its difficulty.
        limits: smallest and largest possible value.
    """
    k = len(values)
    order = sorted(range(k), key=lambda row: (-float(np.nanmean(values[row])), values[row].tobytes()))
    known = np.isfinite(values)
    if k == 1:
        only = summarise(values[known].tolist(), *limits)
        return [Estimate(only.mean, only.low, only.high, 1.0)]
    if known.sum(1).max() < 2 or np.ptp(values[known]) == 0:
        return [Estimate(float(np.nanmean(each)), None, None, 1 / k) for each in values]
    drawn = np.concatenate(list(_draws(values[order], scale, paired)))
    best = np.bincount(drawn.argmax(1), minlength=k) / len(drawn)
    low, high = np.clip(np.quantile(drawn, [0.025, 0.975], axis=0), *limits)
    found = [Estimate(*map(float, each)) for each in zip(np.clip(drawn.mean(0), *limits), low, high, best, strict=True)]
    return [found[order.index(row)] for row in range(k)]


def _grain(values: Array) -> float:
    """The least step between values where some are the same, as those of continuous metrics never are."""
    largest = float(np.abs(values).max())
    distinct = np.unique(np.round(values / largest, 9))
    return largest * float(np.diff(distinct).min()) if 1 < len(distinct) < len(values) else 0.0


def _draws(values: Array, scale: float, paired: bool) -> Iterator[Array]:
    """True values of all optimizers, (chains, optimizers) a step."""
    k, rounds = values.shape
    generator = np.random.default_rng(0)
    normal, gamma = generator.standard_normal, generator.standard_gamma
    chains = min(SPREADS, max(FEWEST, LARGE // values.size))
    known = np.isfinite(values)
    runs, present = known.sum(1), known.astype(np.float64)
    # every optimizer's values about its own mean: sums of squares are then as exact as the values are
    own = np.nansum(values, 1) / runs
    y = np.where(known, values - own[:, None], 0.0)
    squares = (y**2).sum(1)

    # where the chains begin
    rounds_y = np.array([np.median(y[known[:, each], each]) if known[:, each].any() else 0.0 for each in range(rounds)])
    rounds_y = (rounds_y - rounds_y.mean()) * paired
    least = max(_grain(values[known]) ** 2, float(np.finfo(float).tiny) ** 0.5)
    spread = (np.where(known, y - rounds_y, 0.0) ** 2).sum(1) + least
    usual = float(np.exp(np.log(spread / np.maximum(runs - 1, 1)).mean()))
    epsilon = scale or sqrt(usual)
    wide, round_wide = SPREAD * epsilon, sqrt(max(float((rounds_y**2).sum()) / max(rounds - 1, 1), usual / k))
    variance = (PRIOR_RUNS * usual + spread) / (PRIOR_RUNS + runs) * np.exp(0.5 * normal((chains, k)))
    common = np.full((chains, 1), usual)
    expanded, between = wide * np.exp(normal((chains, 1))), np.ones((chains, 1))
    weight = 1 + ((own - np.median(own)) / expanded) ** 2
    difficulty = np.broadcast_to(rounds_y, (chains, rounds))
    round_expanded, round_between = np.full((chains, 1), round_wide), np.ones((chains, 1))

    for step in range(WARM_UP + max(1, DRAWS // SPREADS)):
        # the centre, with the true values integrated out, and the true values about it
        precision = runs / variance
        mean = own - difficulty @ present.T / runs
        kept = 1 / (1 / precision + expanded**2 * between * weight)
        total = kept.sum(1, keepdims=True)
        centre = (kept * mean).sum(1, keepdims=True) / total + normal((chains, 1)) / np.sqrt(total)
        total = expanded**2 * precision + 1 / (between * weight)
        about = expanded * precision * (mean - centre) / total + normal((chains, k)) / np.sqrt(total)
        expanded = _regressed(about, precision, precision * (mean - centre), wide, normal((chains, 1)))
        weight = (TAILS + about**2 / between) / 2 / gamma((TAILS + 1) / 2, (chains, k))
        between = (1 + (about**2 / weight).sum(1, keepdims=True)) / 2 / gamma((k + 1) / 2, (chains, 1))
        true = centre + expanded * about

        if paired:
            precision = (1 / variance) @ present
            residual = (1 / variance) @ y - ((true - own) / variance) @ present
            total = round_expanded**2 * precision + 1 / round_between
            each = round_expanded * residual / total + normal((chains, rounds)) / np.sqrt(total)
            round_expanded = _regressed(each, precision, residual, round_wide, normal((chains, 1)))
            round_between = (1 + (each**2).sum(1, keepdims=True)) / 2 / gamma((rounds + 1) / 2, (chains, 1))
            # all values up and all rounds down: the data say nothing of it, the rounds' mean of 0 does
            shift = each.mean(1, keepdims=True) + np.sqrt(round_between / rounds) * normal((chains, 1))
            true, difficulty = true + round_expanded * shift, round_expanded * (each - shift)

        off = true - own
        summed = difficulty @ present.T
        error = squares - 2 * difficulty @ y.T + difficulty**2 @ present.T + 2 * off * summed + runs * off**2
        noisier = _noisier(PRIOR_RUNS * common / 2 / variance, generator)
        variance = (
            (PRIOR_RUNS * common * noisier + np.maximum(error, 0)) / 2 / gamma((PRIOR_RUNS + runs) / 2, (chains, k))
        )
        variance = np.maximum(variance, least)
        rate = gamma(2.0, (chains, 1)) / (common + epsilon**2) + PRIOR_RUNS / 2 * (noisier / variance).sum(
            1, keepdims=True
        )
        common = gamma(k * PRIOR_RUNS / 2 + 1, (chains, 1)) / rate
        if step >= WARM_UP:
            yield true


def _regressed(each: Array, precision: Array, residual: Array, scale: float, noise: Array) -> Array:
    """A draw of what all of `each` are multiplied by, normal with this scale before anything is known."""
    total = (each**2 * precision).sum(1, keepdims=True) + 1 / scale**2
    drawn: Array = (each * residual).sum(1, keepdims=True) / total + noise / np.sqrt(total)
    return drawn


def _noisier(ratio: Array, generator: np.random.Generator) -> Array:
    """A draw of how many times the common variance each optimizer's own was expected to be, given half of
    `PRIOR_RUNS` times common over own."""
    odds = NOISIER_ODDS * NOISIER ** (PRIOR_RUNS / 2) * np.exp(-ratio[:, :, None] * NOISIER)
    cumulated = np.cumsum(odds, 2)
    level = generator.random(ratio.shape) * cumulated[:, :, -1]
    drawn: Array = NOISIER[np.minimum((cumulated <= level[:, :, None]).sum(2), len(NOISIER) - 1)]
    return drawn
