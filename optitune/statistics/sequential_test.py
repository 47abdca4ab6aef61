"""How far a difference must lie from 0 to be believed, however often one looks on the way.

There are boundaries for a planned number of rounds. They are normal quantiles, computed for t statistics that are
mapped to them by their tails (Pocock 1977, Biometrika 64:191), since the spread is estimated from the same rounds. The
constants in `boundaries.json` are made by `scripts/bench/verdict/boundaries.py` from sequences without a difference:

- `constant`: the same at every look (Pocock), so that large differences are seen early;
- `falling`: c (N / n)^power at round n of N (Wang and Tsiatis 1987, Biometrics 43:193), for claims that a difference is
  not larger than something, which only the later rounds can make. A power of 0.5 is that of O'Brien and Fleming (1979,
  Biometrics 35:549); one of 3 saves nearly all of the error for the last rounds.

Where no number of rounds was planned, the boundary is that of a test martingale: the density of the t statistic under
a normal prior over effect sizes, divided by that under no effect, ever passes 1 / alpha with a probability of alpha at
most (Ville 1939; Lai 1976, Annals of Statistics 4:265; Wang and Ramdas 2025, arXiv:2310.03722).

A boundary is given as the tail that Student's or a normal distribution has beyond it.
"""

import json
from functools import cache
from importlib.resources import files
from math import exp, expm1, inf, log, log1p, sqrt
from typing import Any

import numpy as np

FIRST_LOOK = 3
"""Rounds before the first look: two have a spread that hangs on a single number."""

LOSS, EQUALITY = 0.5, 3.0
"""Powers of the falling boundaries: of what a choice can cost, which is looked at all along, and of equality."""

POWERS = {"loss": LOSS, "equality": EQUALITY}
"""By their names in the table of constants."""

MOST_PLANNED = 100
"""Rounds that can be planned: so far reaches the table of constants."""


@cache
def _table() -> dict[str, Any]:
    return dict(json.loads(files("optitune.statistics").joinpath("boundaries.json").read_text(encoding="utf-8")))


def first_look(rounds: int | None) -> int:
    """The round after which one looks first.

    Args:
        rounds: planned; None where none are.
    """
    return FIRST_LOOK if rounds is None else min(FIRST_LOOK, rounds)


@cache
def _quantile(boundary: str, rounds: int, level: float) -> float:
    """The constant of a boundary, interpolated between those of the table."""
    from scipy.special import ndtri

    if rounds <= FIRST_LOOK:
        return float(-ndtri(level))
    table = _table()
    levels = -ndtri(np.array(table["levels"]))
    # what looking often adds to a single look's quantile changes slowly
    added = np.array(table[boundary]) - levels
    by_rounds = [np.interp(log(rounds), np.log(table["rounds"]), column) for column in added.T]
    order = np.argsort(levels)
    return float(-ndtri(level) + np.interp(-ndtri(level), levels[order], np.array(by_rounds)[order]))


def constant(rounds: int, level: float) -> float:
    """The tail beyond the boundary that is the same at every look.

    Args:
        rounds: planned, at most `MOST_PLANNED`.
        level: probability that either side is ever passed where there is no difference.
    """
    from scipy.special import ndtr

    return float(ndtr(-_quantile("constant", rounds, level)))


def falling(n: int, rounds: int, level: float, claim: str) -> float:
    """The tail beyond a boundary that falls from look to look.

    Args:
        n: rounds so far.
        rounds: planned, at most `MOST_PLANNED`.
        level: probability that its one side is ever passed.
        claim: of `POWERS`.
    """
    from scipy.special import ndtr

    return float(ndtr(-_quantile(claim, rounds, level) * (rounds / n) ** POWERS[claim]))


def open_ended(n: int, df: float, level: float) -> float:
    """The tail beyond the test martingale's boundary after n rounds, of any number; 0 where no t is enough.

    The prior of effect sizes is normal with a variance of 1: effects are about as large as the spread of a difference.

    Args:
        n: rounds so far.
        df: degrees of freedom of the estimated spread.
        level: probability that either side is ever passed where there is no difference.
    """
    from scipy.special import stdtr

    # the ratio of densities with s = 1 + n: s^-1/2 ((1 + t^2 / df) / (1 + t^2 / (df s)))^((df + 1) / 2) = 1 / alpha
    s = 1.0 + n
    wanted = (log(s) / 2 - log(2 * level)) * 2 / (df + 1)
    if wanted >= log(s):
        return 0.0
    t = sqrt(df * expm1(wanted) / (1 - exp(wanted) / s))
    return float(stdtr(df, -t))


def log_evidence(t: float, n: int) -> float:
    """The logarithm of the test martingale.

    Args:
        t: mean / (standard deviation / sqrt(n)), of n - 1 degrees of freedom.
        n: rounds, at least 2.
    """
    df, s = n - 1, 1.0 + n
    return -log(s) / 2 + (df + 1) / 2 * (log1p(t**2 / df) - log1p(t**2 / (df * s)))


LEAST_TAIL = 1e-12
"""Smaller ones are never met: of so few rounds nothing is decided."""


def student(tail: float, df: Any) -> Any:
    """The t of so many degrees of freedom beyond which there is this tail; infinite below `LEAST_TAIL`."""
    from scipy.special import stdtrit

    return -stdtrit(df, tail) if tail >= LEAST_TAIL else np.full(np.shape(df), inf)[()]
