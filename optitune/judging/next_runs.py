"""Which further runs would help most: how many of which arm, and what they are expected to bring."""

from dataclasses import dataclass
from math import inf, isfinite, sqrt

from optitune.common.text import Unit, few, listed, plural
from optitune.statistics.sequential_test import FIRST_LOOK
from optitune.statistics.verdict import Verdict

FIRST = FIRST_LOOK
"""Rounds before which nothing can be decided."""

HELPS = 0.9
"""Runs that leave more than this share of the possible loss are not advised."""


@dataclass(frozen=True)
class NextRuns:
    """What to train next.

    Attributes:
        runs: how many more of each arm; none of those that it leaves out.
        loss: what the loss of choosing the leader is expected to be then; inf where that is not known.
    """

    runs: dict[str, int]
    loss: float


def next_runs(verdict: Verdict, counts: dict[str, int], rounds: int | None) -> NextRuns | None:
    """The runs to train next, were means and spreads to stay; None where it is decided, or where no more are planned.

    Args:
        verdict: of the runs so far.
        counts: runs of each arm that ended.
        rounds: how many were planned for each; None for any number.
    """
    wanted = verdict.wanted
    if not wanted:
        return None
    if unknown := {name: FIRST - counts[name] for name in wanted if counts[name] < FIRST}:
        return NextRuns(unknown, inf)
    most = max(counts[name] for name in wanted)
    # one that has far fewer than others is known badly; twice as many as now say whether it needs them all
    behind = {name: min(most, 2 * counts[name]) - counts[name] for name in wanted if counts[name] < most}
    if behind:
        return NextRuns(behind, inf)
    left = most if rounds is None else min(most, rounds - most)
    if left <= 0:
        return None
    to_leader = [each for each in verdict.to_leader if each.one in wanted]
    # by how much each may be better than the leader: what is luck of it shrinks with the rounds
    parts = [(each.mean, each.high - each.mean) for each in to_leader if each.high > each.mean]
    if not parts or not all(isfinite(width) for _, width in parts) or not isfinite(verdict.loss):
        return NextRuns(dict.fromkeys(wanted, 1), inf)
    # the loss has bounds of its own, which are narrower where rounds are planned
    narrower = min((verdict.loss - mean) / width for mean, width in parts)

    def loss(more: int) -> float:
        return max(0.0, max(mean + narrower * width * sqrt(most / (most + more)) for mean, width in parts))

    more = next((each for each in range(1, left + 1) if loss(each) <= verdict.epsilon), left)
    return NextRuns(dict.fromkeys(wanted, more), loss(more))


def advice(verdict: Verdict, found: NextRuns | None, rounds: int | None, seeds: str, unit: Unit) -> str:
    """What to do next, in words.

    Args:
        verdict: of the runs so far.
        found: what to train next.
        rounds: how many were planned; None for any number.
        seeds: from which seeds, in words.
        unit: how the metric is written.
    """
    if found is None:
        if verdict.status != "undecided":
            return "No further runs are needed."
        return f"All {plural(rounds or 0, 'round')} that were planned are used: it stays undecided."
    numbers = sorted(set(found.runs.values()))
    if len(numbers) == 1:
        each = "" if len(found.runs) == 1 else "each "
        what = f"{plural(numbers[0], 'more run')} {each}of {few(list(found.runs))}"
    else:
        what = few([f"{plural(count, 'more run')} of {name}" for name, count in found.runs.items()])
    none = [place.optimizer for place in verdict.places if place.optimizer not in verdict.wanted]
    rest = listed(none) if 0 < len(none) <= 4 else f"the {len(none)} others"
    text = f"To go on: {what}{seeds}" + (f", none of {rest}." if none else ".")
    if not isfinite(found.loss) or not isfinite(verdict.loss):
        return text
    if found.loss > max(verdict.epsilon, HELPS * verdict.loss):
        return (
            f"More runs will hardly help: even {what} would leave a possible loss of about "
            f"{unit.difference(found.loss)}. Take {verdict.leader}, or say with --epsilon that larger differences do "
            "not matter."
        )
    enough = ", which is good enough" if found.loss <= verdict.epsilon else ""
    return f"{text} That is expected to bring the possible loss to about {unit.difference(found.loss)}{enough}."
