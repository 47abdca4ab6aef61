"""Mean, spread and number of several values."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import fmean, stdev


@dataclass(frozen=True)
class Summary:
    """Runs of one thing: their mean, their standard deviation, and a 95 % interval for the mean.

    `sd`, `low` and `high` are None for a single run, which says nothing of its own spread.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    each: tuple[float, ...]


def summarise(values: Sequence[float], lowest: float = -inf, highest: float = inf) -> Summary:
    """Mean, sample standard deviation and Student's t interval (Student 1908), cut at the possible.

    Args:
        values: at least one.
        lowest: what no value can fall below, such as 0 for an accuracy.
        highest: what none can pass, such as 1 for an accuracy.
    """
    mean = fmean(values)
    if len(values) == 1:
        return Summary(mean, None, None, None, tuple(values))
    from scipy.stats import t

    sd = stdev(values)
    margin = float(t.ppf(0.975, len(values) - 1)) * sd / sqrt(len(values))
    return Summary(mean, sd, max(lowest, mean - margin), min(highest, mean + margin), tuple(values))
