"""Where a search describes itself for those who look on, such as optuna-dashboard: the caller brings it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import optuna

from optitune.study.records import Outcome, TrialRecord

TrialEnds = Callable[[optuna.Trial, Outcome, float | None, str, int, int, Path], str]
"""Describes a trial that is about to end: trial, outcome, value, reason, epochs of a trial, reported steps an epoch,
folder of the study. Returns what could not be done, or nothing. A function of a module, since workers get its name."""


class StudyNotes(Protocol):
    """Describes one study while it is searched."""

    def refreshed(self) -> list[TrialRecord]:
        """Read the trials again, and describe how they stand unless that was done a moment ago."""

    def end(self) -> str:
        """Describe how the trials stand in the end; what could not be written, or nothing."""


@dataclass(frozen=True)
class Notes:
    """How a search is described.

    Attributes:
        trial_ends: called in a worker's process.
        of_study: study, its folder, a function that reads its trials again -> what describes the study.
    """

    trial_ends: TrialEnds
    of_study: Callable[[optuna.Study, Path, Callable[[], list[TrialRecord]]], StudyNotes]
