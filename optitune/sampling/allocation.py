"""Whose turn it is among the optimizers of a study."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import exp
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from optitune.sampling.forecast import OPTIMIZER, Expected, Forecast

Allocation = Literal["equal", "racing"]

UNDECIDED = (TrialState.RUNNING, TrialState.WAITING)

LEAST = 0.1
"""What a trial counts at least, in whole trainings: else an optimizer whose trials fail at once would get them all."""

FAILURES = 3
"""After how many failed trials, and none that ended otherwise, an optimizer is given no more."""

ERROR = 0.05
"""How probable it may be, for all that are dropped together, that one of them would have won."""

TAIL_SHARE, TAIL_LEAST = 0.3, 4
"""What share of an optimizer's trials shows how fast its good ones become rare, and how many that must be."""


@dataclass
class Competitor:
    """One optimizer of a study.

    Attributes:
        name: of the optimizer.
        forecast: of the study.
        spent: in whole trainings; a trial under way, or one that failed, counts as a whole one, and none as less
            than `LEAST`.
        ended: its trials that have ended.
        failed: how many others have failed.
    """

    name: Any
    forecast: Callable[[FrozenTrial], Expected | None]
    spent: float = 0.0
    ended: list[FrozenTrial] = field(default_factory=list)
    failed: int = 0

    @cached_property
    def scores(self) -> list[float]:
        """What its ended trials came to or would have come to, where that can be told."""
        return [expected.score for trial in self.ended if (expected := self.forecast(trial))]


def competitors(
    trials: Sequence[FrozenTrial], names: Iterable[Any], maximize: bool, ideal: float | None, by: str = OPTIMIZER
) -> list[Competitor]:
    """What the optimizers of these names have been given, and what came of it.

    Args:
        trials: of a study; those without one of these optimizers are left out.
        maximize, ideal, by: see `optitune.sampling.forecast.Forecast`.
    """
    forecast = Forecast(trials, maximize, ideal, by)
    found = {name: Competitor(name, forecast) for name in names}
    of_these = [each for each in trials if each.params.get(by) in found]
    known = [each for each in of_these if each.state != TrialState.FAIL]
    last = {each.number: each.last_step or 0 for each in known}
    longest = max(last.values(), default=0)
    for each in known:
        one, going_on = found[each.params.get(by)], each.state in UNDECIDED
        whole = going_on or not longest
        one.spent += 1.0 if whole else max(LEAST, last[each.number] / longest)
        if not going_on:
            one.ended.append(each)
    for each in of_these:
        # else one whose trials always fail would get them all
        found[each.params.get(by)].spent += each.state == TrialState.FAIL
        found[each.params.get(by)].failed += each.state == TrialState.FAIL
    return list(found.values())


def chance(own: Sequence[float], best: float, draws: int) -> float:
    """How probable it is that one of so many further draws surpasses `best`.

    The heights above a high threshold are taken to fall off exponentially (peaks over threshold: Pickands 1975, Annals
    of Statistics 3:119). A space has an end, so that they fall off faster, and this is too high rather than too low.

    Returns:
        1 while there are too few draws to tell.
    """
    above = max(TAIL_LEAST, round(TAIL_SHARE * len(own)))
    if len(own) <= above:
        return 1.0
    ranked = sorted(own, reverse=True)
    threshold = ranked[above]
    scale = float(np.mean(ranked[:above])) - threshold
    if best <= ranked[0] or scale <= 0:
        return 1.0 if best <= ranked[0] else 0.0
    exceeds = above / len(own) * exp(-(best - threshold) / scale)
    return float(1 - (1 - exceeds) ** draws)


def equal(competitors: Sequence[Competitor]) -> list[Any]:
    """All of them."""
    return [each.name for each in competitors]


def racing(competitors: Sequence[Competitor]) -> list[Any]:
    """Those that may still win: the others would do so with a probability of `ERROR` in all, in as many draws again."""
    best = max((max(each.scores, default=-np.inf) for each in competitors), default=-np.inf)
    error = ERROR / max(1, len(competitors) - 1)
    return [each.name for each in competitors if chance(each.scores, best, len(each.scores)) >= error]


ALLOCATIONS: Mapping[str, Callable[[Sequence[Competitor]], list[Any]]] = MappingProxyType(
    {"equal": equal, "racing": racing}
)
"""From all optimizers of a study to those that still compete, by the name of the rule."""


def able(competitors: Sequence[Competitor]) -> list[Competitor]:
    """Those that are not known to fail at every trial; all of them where none is left."""
    return [each for each in competitors if each.ended or each.failed < FAILURES] or list(competitors)


def turn(allocation: str, competitors: Sequence[Competitor]) -> Any:
    """The optimizer that has been given the least so far, of those that still compete."""
    left = able(competitors)
    competing = ALLOCATIONS[allocation](left)
    return min((each for each in left if each.name in competing), key=lambda each: each.spent).name
