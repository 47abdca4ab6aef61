"""The verdict in words that a statistician would sign."""

from collections.abc import Mapping, Sequence

from optitune.common.text import Unit, listed, plural
from optitune.statistics.costs import Cost, Recommendation
from optitune.statistics.differences import Difference
from optitune.statistics.verdict import Place, Verdict

NOT_BY_RUNS = (
    "More runs alone will hardly tell: compare fewer optimizers, take more data, or set a larger epsilon, so that "
    "larger differences do not matter."
)
"""Where there are data for fewer runs than it would take."""

MOST_NAMED = 4
"""How many optimizers are named in a sentence; the others stand in the table."""


def no_interval(values: Sequence[float]) -> str:
    """Why the values of these seeds give no interval: equal ones would give one of no width, as if all were known."""
    return "one seed: no interval" if len(values) == 1 else f"the same with all {len(values)} seeds: no interval"


def interval(place: Place, unit: Unit) -> str:
    """A value with its interval and the number of its runs."""
    value = place.value
    if value is None:
        return "no run came to its end"
    if value.low is None or value.high is None:
        return f"{unit.value(value.mean)} (1 run)"
    runs = plural(len(value.each), "run")
    return f"{unit.value(value.mean)} (95 % interval {unit.span(value.low, value.high)}, {runs})"


def bound(difference: Difference, unit: Unit) -> str:
    """Between what a difference lies, the better one's side positive."""
    return unit.span(difference.low, difference.high, signed=True)


def headline(verdict: Verdict, unit: Unit, left: int) -> str:
    """Which optimizer is best, in a sentence.

    Args:
        left: how many more runs there can be of those of whom more would decide something.
    """
    leader = verdict.place(verdict.leader)
    sure = f"{100 * (1 - verdict.error):.0f} %"
    if len(verdict.places) == 1:
        return f"{leader.optimizer} was compared with nothing: {interval(leader, unit)}."
    if verdict.status == "clear":
        others = [place for place in verdict.places if place.to_leader is not None and place.value is not None]
        fell = [place.optimizer for place in verdict.places if place.diverged]
        if not others:
            return f"{leader.optimizer} alone did not diverge: {interval(leader, unit)}."
        beaten = [place for place in others if not place.diverged]
        text = f"{leader.optimizer} is the best: {interval(leader, unit)}."
        if beaten:
            apart = min((place.to_leader.reversed() for place in beaten if place.to_leader), key=lambda each: each.mean)
            text += (
                f" {apart.other}, the nearest, is worse by {unit.difference(apart.mean)} (from {bound(apart, unit)}); "
                f"with {sure} confidence none is better than {leader.optimizer}."
            )
        return text + (f" {listed(fell)} diverged." if fell else "")
    if verdict.status == "tied":
        tied = (leader.optimizer, *verdict.related("equal"))
        widest = max(
            max(abs(place.to_leader.low), abs(place.to_leader.high))
            for place in verdict.places
            if place.optimizer in tied and place.to_leader is not None
        )
        at = f", at {unit.value(leader.value.mean)}" if leader.value else ""
        return (
            f"{listed(tied)} are equal for practical purposes{at}: with {sure} confidence they differ by at most "
            f"{unit.difference(widest)}, and {unit.difference(verdict.epsilon)} is said not to matter."
        )
    several = verdict.wanted or verdict.contenders
    likeliest = sorted(several, key=lambda name: -verdict.place(name).best)[:MOST_NAMED]
    chances = listed([f"{name} {verdict.place(name).best:.2f}" for name in likeliest])
    if len(several) > MOST_NAMED:
        those = f"{len(several)} optimizers apart (the likeliest to be best: {chances})"
    else:
        those = f"{listed(several)} apart (probability of being best: {chances})"
    more = "more runs are needed"
    if not left:
        more = "every example has been held out once, so that it takes more data, not more runs"
    return f"Not enough evidence to tell {those}: {more}. {leader.optimizer} leads with {interval(leader, unit)}."


def advice(
    verdict: Verdict, recommendation: Recommendation, costs: Mapping[str, Cost], target: float | None, unit: Unit
) -> str:
    """Say which optimizer to take, and why.

    Args:
        verdict: which optimizers are better, equal or undecided.
        recommendation: the optimizer to take, and what speaks for it beside the metric.
        costs: time, memory and epochs of each optimizer, by name.
        target: value of the metric whose time was measured; None where none was.
        unit: how the metric is written.
    """
    taken, leader = recommendation.optimizer, verdict.leader
    if verdict.status == "undecided":
        return f"Until that is known, take {taken}, which is the likeliest to be best."
    if taken == leader:
        if verdict.status == "clear":
            return f"Take {taken}."
        return f"None of them is much quicker or lighter; take {taken}, which is the likeliest to be best."
    reasons = []
    if recommendation.seconds is not None and target is not None:
        reasons.append(f"reaches {unit.value(target)} in {100 * recommendation.seconds:.0f} % of the time of {leader}")
    if recommendation.state is not None:
        reasons.append(f"keeps {100 * recommendation.state:.0f} % of its memory" if reasons else
                       f"keeps {100 * recommendation.state:.0f} % of the memory of {leader}")  # fmt: skip
    return f"{taken} {' and '.join(reasons)}: take {taken}."
