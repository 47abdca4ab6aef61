"""Repeats: trials that train a configuration again from another seed, so that a study's winner is not merely lucky.

Every so many trials one is a repeat. It trains whichever has the fewest runs of the leader, those that are as good as
it within the noise of one run, and the best known-good configuration. All follows from the earlier trials.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optitune.sampling.parameters import is_first
from optitune.study.repeated import REPEATS, RUN, expected, noise

FIRST = 16
"""Number of the first trial that may be a repeat."""

EVERY = 8
"""From then on, of so many trials one is."""

ENOUGH = 6
"""Runs of one configuration, after which it is not repeated any more."""


@dataclass(frozen=True)
class Repeat:
    """What a trial repeats.

    Attributes:
        number: of the trial that trained the configuration first.
        run: k where it trains from the study's seed + k.
    """

    number: int
    run: int


@dataclass(frozen=True)
class _Configuration:
    """A configuration of a study.

    Attributes:
        first: the trial that trained it first.
        scores: of its complete runs.
        begun: how many runs were begun.
        diverged: whether one of them did.
    """

    first: FrozenTrial
    scores: tuple[float, ...]
    begun: int
    diverged: bool


def is_due(number: int) -> bool:
    """Whether the trial of that number is a repeat, where there is something to repeat."""
    return number >= FIRST and (number - FIRST) % EVERY == 0


def next_repeat(
    before: Sequence[FrozenTrial], known_good: Sequence[Mapping[str, Any]], maximize: bool
) -> FrozenTrial | None:
    """The trial whose configuration is to be trained again; None where all that matter have runs enough.

    Args:
        before: the earlier trials of the study.
        known_good: parameters of known-good settings; they may have more than a trial has.
        maximize: whether higher values are better.
    """
    found = _configurations(before, maximize)
    if not found:
        return None
    spread = noise([each.scores for each in found])
    ranked = sorted(found, key=lambda each: (each.diverged, -expected(each.scores, spread), each.first.number))
    leader = ranked[0]
    chosen = [each for each in ranked if each is leader or fmean(each.scores) >= fmean(leader.scores) - spread]
    chosen += [each for each in ranked if any(is_first(given, each.first.params) for given in known_good)][:1]
    least = min(chosen, key=lambda each: each.begun)
    return least.first if least.begun < ENOUGH else None


def repeat_of(trial: optuna.Trial) -> Repeat | None:
    """What a trial repeats whose parameters are drawn; None where it repeats nothing.

    Only trials of a sampler that draws repeats do. What an interrupted trial repeats is kept in its attributes.
    """
    attrs = trial.user_attrs
    if RUN in attrs:
        return Repeat(attrs[REPEATS], attrs[RUN])
    if not getattr(trial.study.sampler, "repeats", False) or not is_due(trial.number):
        return None
    others = [each for each in trial.study.get_trials(deepcopy=False) if each.number != trial.number]
    maximize = trial.study.direction == StudyDirection.MAXIMIZE
    first = next((each.first for each in _configurations(others, maximize) if each.first.params == trial.params), None)
    if first is None:
        return None
    runs = [each.user_attrs[RUN] for each in others if each.user_attrs.get(REPEATS) == first.number]
    return Repeat(first.number, max(runs, default=0) + 1)


def _configurations(trials: Sequence[FrozenTrial], maximize: bool) -> list[_Configuration]:
    """The configurations that were trained to their end, in the order of their first trials; no copies of results."""
    sign = 1 if maximize else -1
    firsts: dict[tuple[tuple[str, Any], ...], FrozenTrial] = {}
    for trial in trials:
        if trial.state == TrialState.COMPLETE and RUN not in trial.user_attrs:
            firsts.setdefault(tuple(sorted(trial.params.items())), trial)
    found = []
    for first in firsts.values():
        further = [trial for trial in trials if trial.user_attrs.get(REPEATS) == first.number]
        complete = [first, *(trial for trial in further if trial.state == TrialState.COMPLETE)]
        scores = tuple(sign * trial.values[0] for trial in complete)
        diverged = any(trial.state == TrialState.PRUNED for trial in further)
        found.append(_Configuration(first, scores, 1 + len(further), diverged))
    return found
