"""Whether a network that is no better than guessing will stay so, by the other trials of its study."""

from collections.abc import Sequence
from statistics import median

from optuna.trial import FrozenTrial, TrialState

from optitune.sampling.forecast import ENOUGH, Score

SHARE = 0.1
"""Share of the way from guessing to a final score up to which a trial has learned nothing, and of others' gain up to
which it does not move."""


def stays_at(
    level: float, trial: FrozenTrial, step: int, others: Sequence[FrozenTrial], maximize: bool, ideal: float | None
) -> bool:
    """Whether a trial will hardly surpass the value of guessing, by the trials of its study that did.

    It may if it still moves, or if any of those were at that level at this step and learned later. Nothing is concluded
    from fewer than five of those, nor from a single evaluation.

    Args:
        level: metric value of guessing at `step`, where the trial is at most that good.
        trial: with a curve.
        step: at which it is judged.
        others: all trials of the study; only complete ones count.
        maximize: whether higher values are better.
        ideal: best possible value; None where there is none.
    """
    known = [each for each in others if each.state == TrialState.COMPLETE and step in each.intermediate_values]
    if not known or min(trial.intermediate_values) > step / 2:
        return False
    score = Score([each.values[0] for each in known], maximize, ideal)
    guessing = score(level)
    finals = {each.number: score(each.values[0]) for each in known}
    least = guessing + SHARE * (max(finals.values()) - guessing)
    learned = [each for each in known if finals[each.number] > max(least, guessing)]
    if len(learned) < ENOUGH:
        return False
    if any(
        score(each.intermediate_values[step]) <= guessing + SHARE * (finals[each.number] - guessing) for each in learned
    ):
        return False
    return _gain(trial, step, score) <= SHARE * median(_gain(each, step, score) for each in learned)


def _gain(trial: FrozenTrial, step: int, score: Score) -> float:
    """By how much the best score rose in the second half of the steps so far."""
    curve = {at: score(value) for at, value in trial.intermediate_values.items() if at <= step}
    before = [one for at, one in curve.items() if at <= step / 2]
    return max(curve.values()) - max(before) if before else 0.0
