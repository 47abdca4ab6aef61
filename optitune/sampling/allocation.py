"""Allocation of trials to the optimizers of a study: which optimizer the next trial is given to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from statistics import median
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from optitune.sampling.forecast import OPTIMIZER

UNDECIDED = (TrialState.RUNNING, TrialState.WAITING)

LEAST = 0.1
"""Smallest cost of a trial, in whole trainings: otherwise an optimizer whose trials end at once would get them all."""

FAILURES = 3
"""Failed trials, with none that ended otherwise, after which an optimizer gets no more."""


@dataclass
class Competitor:
    """An optimizer of a study, with the cost of its trials.

    Attributes:
        name: of the optimizer.
        spent: cost of its trials in whole trainings of an optimizer of cost 1; a running or failed trial counts as a
            whole training, none as less than a share of `LEAST`.
        ended: number of its complete and pruned trials.
        failed: number of its failed trials.
    """

    name: Any
    spent: float = 0.0
    ended: int = 0
    failed: int = 0


def relative_costs(seconds: Mapping[str, float]) -> dict[str, float]:
    """The cost of an epoch of each optimizer, in that of the median one.

    Rounded to powers of the square root of two: finer differences are those between two measurements.

    Args:
        seconds: of an epoch, by optimizer; more than 0.
    """
    middle = median(seconds.values()) if seconds else 1.0
    return {name: round(2.0 ** (round(2 * log2(each / middle)) / 2), 2) for name, each in seconds.items()}


def competitors(
    trials: Sequence[FrozenTrial], names: Iterable[Any], by: str = OPTIMIZER, costs: Mapping[Any, float] | None = None
) -> list[Competitor]:
    """Count the cost and the ends of each optimizer's trials.

    Args:
        trials: of a study; those of other optimizers are left out.
        names: of the optimizers.
        by: name of the parameter that holds the optimizer.
        costs: of an epoch of each optimizer, in any unit; 1 where it is not there.

    Returns:
        One competitor per name, in that order.
    """
    found = {name: Competitor(name) for name in names}
    of_these = [each for each in trials if each.params.get(by) in found]
    last = {each.number: each.last_step or 0 for each in of_these if each.state != TrialState.FAIL}
    longest = max(last.values(), default=0)
    for each in of_these:
        one = found[each.params.get(by)]
        failed = each.state == TrialState.FAIL
        # one whose trials always fail would otherwise get them all
        whole = failed or each.state in UNDECIDED or not longest
        one.spent += (costs or {}).get(one.name, 1.0) * (1.0 if whole else max(LEAST, last[each.number] / longest))
        one.failed += failed
        one.ended += not failed and each.state not in UNDECIDED
    return list(found.values())


def able(competitors: Sequence[Competitor]) -> list[Competitor]:
    """Competitors without those of which every trial failed; all of them where none is left."""
    return [each for each in competitors if each.ended or each.failed < FAILURES] or list(competitors)


def turn(competitors: Sequence[Competitor]) -> Any:
    """The optimizer for the next trial: the one that has cost the least."""
    return min(able(competitors), key=lambda each: each.spent).name
