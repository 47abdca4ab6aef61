"""Allocation of trials to the optimizers of a study: which optimizer the next trial is given to."""

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
"""Smallest cost of a trial, in whole trainings: otherwise an optimizer whose trials end at once would get them all."""

FAILURES = 3
"""Failed trials, with none that ended otherwise, after which an optimizer gets no more."""

ERROR = 0.05
"""Probability, over all optimizers that racing drops, that one of them would have won."""

TAIL_SHARE, TAIL_LEAST = 0.3, 4
"""Share of an optimizer's trials that the tail of its scores is fitted to, and the least number of them."""


@dataclass
class Competitor:
    """An optimizer of a study, with its trials.

    Attributes:
        name: of the optimizer.
        forecast: of the study.
        spent: cost of its trials in whole trainings; a running or failed trial counts as one, none as less than
            `LEAST`.
        ended: its complete and pruned trials.
        failed: number of its failed trials.
    """

    name: Any
    forecast: Callable[[FrozenTrial], Expected | None]
    spent: float = 0.0
    ended: list[FrozenTrial] = field(default_factory=list)
    failed: int = 0

    @cached_property
    def scores(self) -> list[float]:
        """Final scores of its ended trials, reached or forecast; those without a forecast are left out."""
        return [expected.score for trial in self.ended if (expected := self.forecast(trial))]


def competitors(
    trials: Sequence[FrozenTrial], names: Iterable[Any], maximize: bool, ideal: float | None, by: str = OPTIMIZER
) -> list[Competitor]:
    """Count the cost and the results of each optimizer's trials.

    Args:
        trials: of a study; those of other optimizers are left out.
        names: of the optimizers.
        maximize: whether higher values are better.
        ideal: see `optitune.sampling.forecast.Forecast`.
        by: name of the parameter that holds the optimizer.

    Returns:
        One competitor per name, in that order.
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
        # otherwise one whose trials always fail would get them all
        found[each.params.get(by)].spent += each.state == TrialState.FAIL
        found[each.params.get(by)].failed += each.state == TrialState.FAIL
    return list(found.values())


def chance(own: Sequence[float], best: float, draws: int) -> float:
    """The probability that one of `draws` further scores surpasses `best`.

    Scores above a high threshold are modelled as exponential (peaks over threshold: Pickands 1975, Annals of Statistics
    3:119). A search space is bounded, so that the tail falls faster: this errs on the high side.

    Args:
        own: scores so far.
        best: score to surpass.
        draws: number of further scores.

    Returns:
        A probability; 1 while there are too few scores to fit the tail.
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
    """The names of all competitors."""
    return [each.name for each in competitors]


def racing(competitors: Sequence[Competitor]) -> list[Any]:
    """The names of those that may still win.

    The dropped ones together would win with a probability of at most `ERROR` if each were given as many trials again.
    """
    best = max((max(each.scores, default=-np.inf) for each in competitors), default=-np.inf)
    error = ERROR / max(1, len(competitors) - 1)
    return [each.name for each in competitors if chance(each.scores, best, len(each.scores)) >= error]


ALLOCATIONS: Mapping[str, Callable[[Sequence[Competitor]], list[Any]]] = MappingProxyType(
    {"equal": equal, "racing": racing}
)
"""Allocation rules by name: from all optimizers to the names of those that still get trials."""


def able(competitors: Sequence[Competitor]) -> list[Competitor]:
    """Competitors without those of which every trial failed; all of them where none is left."""
    return [each for each in competitors if each.ended or each.failed < FAILURES] or list(competitors)


def turn(allocation: str, competitors: Sequence[Competitor]) -> Any:
    """The optimizer for the next trial: the one that has cost the least, of those the allocation rule keeps."""
    left = able(competitors)
    competing = ALLOCATIONS[allocation](left)
    return min((each for each in left if each.name in competing), key=lambda each: each.spent).name
