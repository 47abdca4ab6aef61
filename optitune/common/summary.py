"""Mean, standard deviation and confidence interval of several values."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import fmean, stdev


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation and 95 % confidence interval of several runs.

    Attributes:
        mean: of `each`.
        sd: sample standard deviation; None for a single run.
        low: lower end of the interval for the mean; None for a single run.
        high: its upper end; None for a single run.
        each: values of the runs.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    each: tuple[float, ...]


def summarise(values: Sequence[float], lowest: float = -inf, highest: float = inf) -> Summary:
    """Mean, sample standard deviation and Student's t interval (Student 1908) of values.

    Args:
        values: at least one.
        lowest: smallest possible value, such as 0 of an accuracy, where the interval is cut.
        highest: largest possible value, such as 1 of an accuracy.
    """
    mean = fmean(values)
    if len(values) == 1:
        return Summary(mean, None, None, None, tuple(values))
    from scipy.stats import t

    sd = stdev(values)
    margin = float(t.ppf(0.975, len(values) - 1)) * sd / sqrt(len(values))
    return Summary(mean, sd, max(lowest, mean - margin), min(highest, mean + margin), tuple(values))
