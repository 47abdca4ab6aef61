"""Configurations that were trained from several seeds: how runs of one differ, and what one is expected to come to."""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, median

RUN = "run"
"""User attribute of a trial that repeats another one's configuration: k where it trained from the study's seed + k."""

REPEATS = "repeats"
"""User attribute of such a trial: the number of the one that trained the configuration first."""

PRIOR_SHARE = 0.1
"""The spread of runs that is expected before any was repeated: a share of how far the median configuration is behind
the best one. On both recorded studies of MNIST it comes to what was measured."""

PRIOR_RUNS = 2
"""For how many repeated runs that expectation counts."""


def noise(found: Sequence[Sequence[float]]) -> float:
    """By how much runs of one configuration differ, as a standard deviation: pooled over those that were repeated.

    Args:
        found: scores of each configuration's runs, at least one each; higher is better.
    """
    if not found:
        return 0.0
    means = [fmean(runs) for runs in found]
    expected = PRIOR_SHARE * (max(means) - median(means))
    squares = sum((score - mean) ** 2 for runs, mean in zip(found, means, strict=True) for score in runs)
    repeated = sum(len(runs) - 1 for runs in found)
    return sqrt((PRIOR_RUNS * expected**2 + squares) / (PRIOR_RUNS + repeated))


def expected(runs: Sequence[float], spread: float) -> float:
    """What a configuration is expected to score from other seeds, given that it was picked for its score.

    Good configurations are the rarer the better they are. Where their number falls by a factor e over every `spread`,
    the mean of what n runs leave possible lies by `spread` / n below their own mean (a normal likelihood with a prior
    that falls exponentially). So of single runs the highest stays first, and a single lucky run does not beat one that
    has shown nearly as much in several.

    Args:
        runs: its scores.
        spread: of single runs, see `noise`.
    """
    return fmean(runs) - spread / len(runs)
