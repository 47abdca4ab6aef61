"""What difference of a metric does not matter, where nobody says it."""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, median, variance

from optitune.common.text import Unit
from optitune.judging.columns import SHARES, words

SHARE = 0.001
"""Of an accuracy or r2 between 0 and 1, as in a comparison."""

PART = 0.1
"""Of the distance from the best arm to the median one."""

LUCK = 0.5
"""Of the standard deviation from seed to seed."""


def usual_epsilon(metric: str, values: Mapping[str, Sequence[float]], sign: int, unit: Unit) -> tuple[float, str]:
    """The largest difference that does not matter, and where it comes from, in words.

    A share of the metric's value would be wrong: 1 % of a loss can be more than all arms differ. What counts is how far
    the arms are from each other, those left out that are hopeless, and how much another seed alone would change.

    Args:
        metric: its name.
        values: of the runs that ended, by arm; at least one arm has two.
        sign: 1 where more is better, -1 where less is.
        unit: how the metric is written.
    """
    if words(metric) & {*SHARES, "r2"}:
        percent = max(abs(value) for own in values.values() for value in own) > 1 and "r2" not in words(metric)
        return (100 * SHARE if percent else SHARE), f"the usual one for {metric}"
    means = sorted((sign * fmean(own) for own in values.values() if own), reverse=True)
    apart = means[0] - median(means)
    # a few noisy arms, which are hopeless more often than not, must not decide
    spread = sqrt(median(variance(own) for own in values.values() if len(own) > 1))
    if PART * apart >= LUCK * spread:
        found = PART * apart
        source = f"a tenth of the {unit.difference(apart)} between the best arm and the median one"
    else:
        found = LUCK * spread
        source = f"half of what another seed changes (sd {unit.difference(spread)})"
    return found, source
