"""`best.toml`: made from a study's best trial, and kept true while trials finish."""

from dataclasses import replace
from pathlib import Path

import optuna

from optitune.common.files import move_aside
from optitune.errors import OptituneError
from optitune.storage import trials
from optitune.storage.studies import StudyLocation
from optitune.storage.trials import best_config
from optitune.study import best_config as best
from optitune.study.records import TrialRecord
from optitune.study.records import best as best_record


class BestFile:
    """Keeps `best.toml` true while trials finish.

    A `best.toml` that was edited, or that another study left, is set aside, never overwritten.
    """

    def __init__(self, opened: optuna.Study, home: StudyLocation) -> None:
        self._study = opened
        self._ledger = trials.RecordCache(opened)
        self._home = home
        self._saved: tuple[int, int] | None = None
        self.path = home.folder / "best.toml"
        self.set_aside: Path | None = None
        self.records: list[TrialRecord] = []
        self.refresh()

    def refresh(self) -> list[TrialRecord]:
        """Read the study again and write its best configuration if that has changed; the trials."""
        self.records = self._ledger.read()
        winner = best_record(self.records)
        if winner is not None and ((winner.number, winner.runs) != self._saved or not self.path.exists()):
            if self.path.exists() and not self._is_ours():
                self._set_aside()
            best.save(best_config(self._study, winner), self.path)
            self._saved = winner.number, winner.runs
        return self.records

    def _set_aside(self) -> None:
        try:
            self.set_aside = move_aside(self.path)
        except OptituneError:
            # another search of this study may have done so just now
            if self.path.exists():
                raise

    def _is_ours(self) -> bool:
        """Whether the file is just what a search of this study wrote for one of its trials."""
        try:
            written = best.load(self.path, "")
            # read after the file: another search may have written it for a trial that ended just now
            trial = trials.record(self._study, written.trial)
            # the mean over its runs by then
            then = replace(trial, value=written.value, runs=written.runs) if written.runs > 1 else trial
            return written.model_copy(update={"study": self._home.name}) == best_config(self._study, then)
        except OptituneError:
            return False
