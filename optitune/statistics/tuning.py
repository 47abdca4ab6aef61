"""What a search's tuning brought over known-good settings, and whether more trials would help."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, sqrt
from statistics import fmean

from optitune.common.text import Unit, plural
from optitune.space.configuration import Configuration
from optitune.statistics.sequential_test import student
from optitune.study.records import FINISHED, TrialRecord, Tried, ranked
from optitune.study.repeated import noise

TAIL = 0.025
"""Probability that the gain lies beyond either end of its interval."""

FURTHER = 20
"""How many trials have to have improved nothing, and of how many more the gain is foreseen."""

TAIL_SHARE, TAIL_LEAST = 0.3, 4
"""Share of the scores that the tail of all is fitted to, and the least number of them."""


@dataclass(frozen=True)
class Tuning:
    """By how much the best configuration of a search is better than the best known-good one.

    Attributes:
        optimizer: of the best known-good configuration.
        known_good: the trial that trained it first.
        best: the trial that trained the best configuration first; the same one where nothing better was found.
        runs: of the best, and of the known-good one.
        gain: difference of their means in the metric's unit, above 0 where tuning made it better.
        low: lower end of a 95 % interval for it.
        high: its upper end.
    """

    optimizer: str
    known_good: int
    best: int
    runs: tuple[int, int]
    gain: float
    low: float
    high: float

    def sentence(self, unit: Unit) -> str:
        """The gain in words."""
        best, known = self.runs
        over = f"the best known-good settings (of {self.optimizer}, trial {self.known_good}"
        if self.best == self.known_good:
            return f"Tuning brought nothing here: {over}; mean of {plural(best, 'run')}) are still the best."
        interval = f"95 % {unit.span(self.low, self.high, signed=True)}"
        runs = f"{best} runs each" if best == known else f"{best} and {known} runs"
        if self.low > 0:
            return f"Tuning brought {unit.difference(self.gain)} over {over}; {interval}, {runs})."
        return (
            f"Tuning brought nothing over {over}) that {best if best == known else f'{best} and {known}'} runs can "
            f"show: {unit.signed(self.gain)}, {interval}."
        )


def tuning(records: Sequence[TrialRecord], known_good: Mapping[str, Configuration]) -> Tuning | None:
    """Measure what tuning brought, by Student's t with the spread that all repeated configurations have shown.

    The best was picked for its value among many, so the gain errs on the high side, in simulated searches by half of a
    run's noise; the interval is wide enough for that. It is one of seeds: all runs are judged on the same examples.

    Args:
        records: the study's trials.
        known_good: configurations by optimizer.

    Returns:
        None where one of the two has no two runs.
    """
    found = ranked(records)
    usual = [each for each in found if _is_known_good(each, known_good)]
    if not usual:
        return None
    best, known = found[0], usual[0]
    runs = len(best.runs), len(known.runs)
    if min(runs) < 2:
        return None
    gain = half = 0.0
    if best is not known:
        gain = fmean(best.scores) - fmean(known.scores)
        squares = sum((score - fmean(each.scores)) ** 2 for each in found for score in each.scores)
        freedom = sum(len(each.runs) - 1 for each in found)
        half = float(student(TAIL, freedom)) * sqrt(squares / freedom * (1 / runs[0] + 1 / runs[1]))
    return Tuning(
        known.runs[0].optimizer or "",
        known.runs[0].number,
        best.runs[0].number,
        runs,
        gain,
        gain - half,
        gain + half,
    )


def _is_known_good(each: Tried, known_good: Mapping[str, Configuration]) -> bool:
    first = each.runs[0]
    return first.configuration is not None and first.configuration == known_good.get(first.optimizer or "")


@dataclass(frozen=True)
class Outlook:
    """More trials would hardly help.

    Attributes:
        idle: how many trials have improved nothing.
        further: of how many more the gain is foreseen.
        gain: what those are expected to bring at most, in the metric's unit.
        noise: by how much runs of one configuration differ, a standard deviation.
    """

    idle: int
    further: int
    gain: float
    noise: float

    def sentence(self, unit: Unit) -> str:
        """The outlook in words."""
        return (
            f"The last {self.idle} trials improved nothing, and more will hardly help: {self.further} more would bring "
            f"{unit.difference(self.gain)}, less than runs of the same settings differ ({unit.difference(self.noise)})."
        )


def outlook(records: Sequence[TrialRecord]) -> Outlook | None:
    """Foresee what further trials would bring; None unless that is hardly anything.

    Two things have to hold: the best configuration has not changed for `FURTHER` trials, and as many more are expected
    to improve on it by less than the noise of one run. That is foreseen from the later half of the trials, since a
    search gets better: their scores above a high threshold are taken to fall exponentially (peaks over threshold:
    Pickands 1975, Annals of Statistics 3:119), so that n further trials bring at most n times the expected excess of
    one. Trials that ended early count as below the threshold, repeats do not count.

    Args:
        records: the study's trials.
    """
    tries = sorted((row for row in records if row.repeats is None and row.outcome in FINISHED), key=_number)
    found = ranked(records)
    if len(tries) < 2 * FURTHER or not any(len(each.runs) > 1 for each in found):
        return None
    best = found[0]
    idle = sum(row.number > best.runs[0].number for row in tries)
    later = tries[len(tries) // 2 :]
    scores = sorted((row.score for row in later if row.score is not None), reverse=True)
    above = max(TAIL_LEAST, round(TAIL_SHARE * len(scores)))
    if idle < FURTHER or len(scores) <= above:
        return None
    threshold = scores[above]
    scale = fmean(scores[:above]) - threshold
    beyond = fmean(best.scores) - threshold
    exceeds = 0.0 if scale <= 0 else above / len(later) * exp(-beyond / scale)
    gain, spread = FURTHER * exceeds * scale, noise([each.scores for each in found])
    return Outlook(idle, FURTHER, gain, spread) if gain < spread else None


def _number(row: TrialRecord) -> int:
    return row.number
