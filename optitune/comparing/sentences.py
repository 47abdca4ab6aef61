"""The verdict in words that a statistician would sign: a decision first, then what it can cost and what else is known.

They also serve runs that were trained elsewhere: all they need is a verdict, a unit, and costs where those are known.
"""

from collections.abc import Sequence
from math import isfinite, sqrt
from typing import NamedTuple

from optitune.common.text import Unit, listed, plural, roughly
from optitune.statistics.choice import Kind, Recommendation
from optitune.statistics.costs import Untuned
from optitune.statistics.differences import Difference
from optitune.statistics.verdict import Place, Verdict

MOST_NAMED = 3
"""How many optimizers are named in a sentence; the others are counted, and stand in the table."""

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

HARDLY = 0.9
"""Share of the possible loss above which what is expected of all further rounds is hardly lower."""

FAR = 2.0
"""A cheaper one that can lose more than so many times what matters is no alternative."""

OLD_RULE = "any number of rounds, Cauchy prior"
"""The rule of version 0.1, by which its comparisons on disk are judged."""

OTHERS = {"random": "{} others", "groups": "about {} others of other groups", "time": "the {} that follow in time"}
"""What a round of a comparison is judged on, by how the examples are split."""

VARIES = {
    "random": "",
    "groups": " Rounds differ in their seeds and in the groups that they judge: the intervals hold for new groups of "
    "this kind, as far as these groups show it.",
    "time": " Rounds differ in their seeds and in the block of time that they judge, before which all that they train "
    "on lies. They share examples that they train on and have seen few blocks: a later time may give another result.",
}
"""What varies between rounds, by how the examples are split; nothing where that is plain."""


class Said(NamedTuple):
    """What is said of a comparison.

    Attributes:
        sentence: which optimizer to take, and what that can cost.
        advice: whether to go on, and how.
    """

    sentence: str
    advice: str


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


def chance(probability: float) -> str:
    """A probability, never as if it were certain."""
    return ">0.99" if probability >= 0.995 else "<0.01" if probability < 0.005 else f"{probability:.2f}"


def at_most(loss: float, unit: Unit) -> str | None:
    """A loss as a column has it; None while nothing is known of it."""
    return unit.size(loss) if isfinite(loss) else None


def said(
    verdict: Verdict,
    unit: Unit,
    choice: Recommendation | None = None,
    seconds: float | None = None,
    untuned: Sequence[Untuned] = (),
) -> Said:
    """Say which optimizer to take, what that can cost, and whether to go on.

    Args:
        verdict: on the runs.
        unit: of the metric.
        choice: the optimizer to take, and what others would save; None to take the leader, where no costs are known.
        seconds: that one more round takes; None where it is not known.
        untuned: optimizers that are better with other settings.
    """
    choice = choice or Recommendation(verdict.leader, verdict.leader)
    advice = [_advice(verdict, unit, choice, seconds), *(_untuned(each, unit) for each in untuned[:1])]
    return Said(_sentence(verdict, unit, choice), " ".join(advice))


def worth_more(verdict: Verdict) -> bool:
    """Whether there are more rounds to train that are expected to lower the possible loss by more than hardly."""
    if verdict.status != "undecided" or not verdict.next_runs or not isfinite(verdict.loss):
        # of one that is decided more was asked for
        return bool(verdict.next_runs)
    lowest = _after(verdict, verdict.rounds) if verdict.rounds else verdict.next_loss
    # without a planned number there is always another round
    return lowest <= HARDLY * verdict.loss if verdict.rounds else verdict.next_loss < verdict.loss


def _after(verdict: Verdict, rounds: int) -> float:
    """What the loss is expected to be after so many rounds, from what one more is expected to bring.

    What is left of it in the end is a difference of means; the rest falls with the root of the number of rounds.
    """
    now = _rounds(verdict)
    if now >= rounds or not now:
        return verdict.loss
    fall = 1 / sqrt(now) - 1 / sqrt(now + 1)
    width = (verdict.loss - verdict.next_loss) / fall
    return max(0.0, verdict.loss - width * (1 / sqrt(now) - 1 / sqrt(rounds)))


def _rounds(verdict: Verdict) -> int:
    """How many rounds the leader has."""
    value = verdict.place(verdict.leader).value
    return len(value.each) if value else 0


def _count(number: int) -> str:
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


def _some(names: Sequence[str], one: str, several: str) -> list[str]:
    """What is true of these, who are named where they are few; nothing where there are none."""
    if not names:
        return []
    if len(names) <= MOST_NAMED:
        return [f"{listed(names)} {one if len(names) == 1 else several}"]
    return [f"{_count(len(names))} others {several}"]


def _sentence(verdict: Verdict, unit: Unit, choice: Recommendation) -> str:
    taken = choice.optimizer
    place = verdict.place(taken)
    if len(verdict.places) == 1:
        return f"{taken} was compared with nothing: {interval(place, unit)}."
    words = _cost(verdict, unit, place, choice)
    beside = _beside(verdict, unit, choice) if isfinite(place.regret) else []
    brackets = f" ({'; '.join(beside)})" if beside else ""
    return f"Take {taken}. {words}{brackets}."


def _cost(verdict: Verdict, unit: Unit, place: Place, choice: Recommendation) -> str:
    """What it can cost to take this one, without the full stop."""
    sure = f"ith {100 * (1 - verdict.error):.0f} % confidence"
    taken, count = place.optimizer, _count(len(verdict.places))
    others = [each for each in verdict.places if each.optimizer != taken]
    none = f"{others[0].optimizer} is not" if len(others) == 1 else f"none of the {count} is"
    loss = f"{none} better by more than {unit.difference(place.regret)}"
    saves = choice.shares.get(choice.kind, {}).get(taken)
    if taken != choice.leader and saves is not None:
        return f"It needs {_share(choice.kind, saves.mean)} of {choice.leader}, the leader; w{sure} {loss}"
    if verdict.status == "clear":
        beaten = [each.to_leader.reversed() for each in others if each.to_leader is not None and not each.diverged]
        if not beaten:
            return f"It alone did not diverge: {interval(place, unit)}"
        nearest = min(beaten, key=lambda each: each.mean)
        span = unit.sizes(nearest.low, nearest.high) if nearest.low > 0 else unit.difference(nearest.mean)
        best = f"it is better than {nearest.other}" if len(others) == 1 else f"it is the best of the {count}"
        behind = "" if len(others) == 1 else f"; {nearest.other}, the nearest, is worse"
        return f"W{sure} {best}{behind} by {span}"
    if not isfinite(place.regret):
        return f"Undecided: it leads with {interval(place, unit)}, and so few runs do not say what that can cost"
    if verdict.status == "undecided":
        matters = f", and {unit.difference(verdict.epsilon)} would not matter" if verdict.epsilon else ""
        return f"Undecided: w{sure} {loss}{matters}"
    if verdict.status == "tied":
        equal_ones = (verdict.leader, *verdict.related("equal"))
        tied = [name for name in equal_ones if name != taken]
        widest = max((each.within for each in _among(verdict, equal_ones)), default=place.regret)
        most = f"differ by at most {unit.difference(widest)}"
        if len(tied) <= MOST_NAMED:
            return f"{listed([taken, *tied])} are equal for practical purposes: w{sure} they {most}"
        equal = f"{_count(len(tied) + 1)} of the {count}" if len(tied) < len(others) else f"All {count}"
        return f"{equal[0].upper()}{equal[1:]} are equal for practical purposes: w{sure} they {most}"
    return f"W{sure} {loss}"


def _among(verdict: Verdict, names: Sequence[str]) -> list[Difference]:
    return [each for each in verdict.differences if each.one in names and each.other in names]


def _share(kind: Kind, share: float) -> str:
    percent = f"{100 * share:.0f} %"
    return f"{percent} of the memory for optimizer state" if kind == "memory" else f"{percent} of the time"


def _beside(verdict: Verdict, unit: Unit, choice: Recommendation) -> list[str]:
    """What stands in brackets: who is out, who is not distinguishable, and who is cheaper."""
    taken = choice.optimizer
    diverged = [place.optimizer for place in verdict.places if place.diverged]
    parts = _some(diverged, "diverged", "diverged")
    if verdict.status != "clear":
        out = [place.optimizer for place in verdict.places if place.out and not place.diverged]
        # where cost counts, worse ones stay in that may be worse by no more than epsilon
        worse = verdict.related("worse")
        parts = [*_some(out, "is out", "are out"), *_some(worse, "is worse", "are worse"), *parts]
    if verdict.status in ("good enough", "undecided") or (verdict.status == "tied" and taken != choice.leader):
        relations = {
            each.one if each.other == taken else each.other: each.relation
            for each in verdict.differences
            if taken in (each.one, each.other)
        }
        left = [name for name in verdict.contenders if name != taken]
        equal = [name for name in left if relations.get(name) == "equal"]
        parts += _some(equal, "is equal to it", "are equal to it")
        untold = [name for name in left if relations.get(name, "undecided") == "undecided"]
        parts += _some(untold, "is not distinguishable from it", "are not distinguishable from it")
    return parts + _cheaper(verdict, unit, choice)


def _cheaper(verdict: Verdict, unit: Unit, choice: Recommendation) -> list[str]:
    """What another choice would save, or why none does."""
    if choice.cheaper is not None:
        share = choice.shares[choice.saves][choice.cheaper].mean
        loss = verdict.place(choice.cheaper).regret
        saves = f"{choice.cheaper} needs {_share(choice.saves, share)}"
        if choice.cheaper in choice.good:
            return [f"of those as good, {saves}"]
        near = verdict.status != "undecided" and loss <= FAR * verdict.epsilon
        return [f"{saves}, and can cost {unit.difference(loss)}"] if near else []
    if choice.prefer == "value":
        return []
    if choice.equal:
        also, their = ("is", "its") if len(choice.equal) == 1 else ("are", "their")
        same = f"{their} {choice.prefer} is not distinguishable from that of {choice.optimizer}"
        return [f"{listed(choice.equal)} {also} as good, and {same}"]
    if choice.optimizer == choice.leader and verdict.status != "clear":
        return [f"none that is as good is known to need less {choice.prefer}"]
    return []


def _advice(verdict: Verdict, unit: Unit, choice: Recommendation, seconds: float | None) -> str:
    """Whether to go on: never what is expected to help hardly."""
    takes = plural(verdict.next_runs, "run")
    takes += f", about {roughly(seconds)}" if seconds else ""
    if choice.prefer != "value" and verdict.status != "undecided" and verdict.next_runs:
        return f"One more round ({takes}) may show whether one that needs less {choice.prefer} is as good."
    if len(verdict.places) == 1 or verdict.status == "clear":
        return "Nothing more has to be compared."
    if verdict.status == "tied":
        return "More runs would change nothing that matters."
    if verdict.status == "good enough":
        return f"More runs could gain no more than {unit.difference(verdict.loss)}."
    matters = f"an epsilon of {unit.difference(verdict.loss)} would do"
    other = "compare fewer optimizers, take more data, or ask for less"
    other = f"{other}: {matters}" if isfinite(verdict.loss) else other
    if not verdict.next_runs:
        return f"There are no more rounds: to know more, {other}."
    if not worth_more(verdict):
        return f"More runs will hardly lower that: to know more, {other}."
    if not isfinite(verdict.loss):
        return f"One more round ({takes}) will say more."
    if verdict.next_loss <= verdict.epsilon:
        return f"One more round ({takes}) is expected to be enough."
    brings = f"One more round ({takes}) is expected to bring that to {unit.difference(verdict.next_loss)}"
    left = verdict.rounds - _rounds(verdict) if verdict.rounds else 0
    if left > 1 and verdict.rounds:
        last = _after(verdict, verdict.rounds)
        brings += f", all {left} that are left "
        brings += "to be enough" if last <= verdict.epsilon else f"to {unit.difference(last)}"
    return f"{brings}."


def _untuned(each: Untuned, unit: Unit) -> str:
    return (
        f"{each.optimizer} is not tuned to the end: with {each.variant} it is better by "
        f"{unit.difference(each.better)} ({plural(each.rounds, 'round')})."
    )
