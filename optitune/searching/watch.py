"""`optitune watch`: follow a study that is trained elsewhere, by reading its storage again and again."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from optitune.common.commands import line
from optitune.searching.events import StudySized, TrialFailed, TrialFinished, TrialLeft, TrialProgress, TrialStarted
from optitune.searching.supervisor import View
from optitune.space.configuration import Configuration
from optitune.storage import studies, trials
from optitune.storage.retry import RetryPolicy
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import explained_storage
from optitune.study.records import FINISHED, TrialRecord, best, counts
from optitune.study.settings import StudySettings
from optitune.study.steps import usual_steps
from optitune.tasks.metrics import Metric
from optitune.workers.events import Event

POLL_S = 1.0

IDLE_POLLS = 5
"""After how many looks at a study on which nobody works this is said."""


@dataclass(frozen=True)
class WatchOutcome:
    """What the study had when it was complete."""

    study: str
    storage: str
    settings: StudySettings
    metric: Metric
    records: list[TrialRecord]
    target: int

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        leader = best(self.records)
        found = (
            {"number": leader.number, "value": leader.value, "runs": leader.runs, "optimizer": leader.optimizer}
            if leader
            else None
        )
        return {
            "study": self.study,
            "storage": self.storage,
            "trials": counts(self.records),
            "target": self.target,
            "metric": self.metric.name,
            "best": found,
        }


def watch(
    home: StudyLocation, view: View, wait: Callable[[float], None] = time.sleep, where: Sequence[str] = ()
) -> WatchOutcome:
    """Show a study until it has all its trials; nothing is written to it.

    Args:
        wait: for so many seconds, between two looks.
        where: the options that lead a command to the same study.

    Raises:
        UsageError: there is no such study, or it is not optitune's.
        OptituneError: the storage fails, or the study does not say how many trials it is to have.
    """
    with explained_storage(home.url):
        opened = home.open(RetryPolicy(view.note))
        settings = studies.settings_of(opened)
        watcher = _Watcher(opened, settings, view, line(["search", "--study", home.name, *where]))
        try:
            while not watcher.look():
                wait(POLL_S)
        finally:
            view.end()
    return WatchOutcome(home.name, home.url.shown, settings, watcher.metric, watcher.records, watcher.target)


class _Watcher:
    """What was seen of a study so far; shows a view what has changed, as workers of its own would."""

    def __init__(self, opened: optuna.Study, settings: StudySettings, view: View, going_on: str) -> None:
        self._study = opened
        self._settings = settings
        self._view = view
        self._going_on = going_on
        self._ledger = trials.RecordCache(opened)
        data = opened.user_attrs.get(studies.DATA, {})
        self._steps = usual_steps(settings, data.get("train_examples", 1))
        self._ended: set[int] = set()
        self._running: dict[int, tuple[int, int]] = {}
        self._workers: dict[str, int] = {}
        self._begun = False
        self._idle = 0
        self.metric = studies.metric(opened)
        self.records: list[TrialRecord] = []
        self.target = 0

    def look(self) -> bool:
        """Read the study and show what is new; whether it has all its trials."""
        self.target = studies.target(self._study)
        self.records = self._ledger.read()
        running = [
            trial
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if trials.CONFIGURATION in trial.user_attrs
        ]
        complete = counts(self.records)["finished"] >= self.target
        if not self._begun:
            if complete:
                return True
            self._begun = True
            self._ended = {row.number for row in self.records if row.outcome in (*FINISHED, "failed")}
            name = self._study.study_name
            self._view.begin(name, self._settings, self.metric.unit, self.target, self.records, len(running))
        self._show(StudySized(0, self.target, len(running)))
        self._show_ended({trial.number for trial in running})
        for trial in running:
            self._show_running(trial)
        self._notice(bool(running))
        self._view.tick()
        return complete

    def _show(self, event: Event) -> None:
        self._view.show(event, self.records)

    def _show_ended(self, running: set[int]) -> None:
        for row in self.records:
            if row.number in self._ended or row.outcome not in (*FINISHED, "failed"):
                continue
            self._ended.add(row.number)
            # one that began and ended between two looks was at no worker that is shown
            worker, _ = self._running.pop(row.number, (-1, 0))
            if row.outcome == "failed":
                self._show(TrialFailed(worker, row.number, row.reason))
            else:
                self._show(TrialFinished(worker, row.number))
        for number in [number for number in self._running if number not in running]:
            worker, _ = self._running.pop(number)
            self._show(TrialLeft(worker, number))

    def _show_running(self, trial: FrozenTrial) -> None:
        configuration = Configuration.model_validate(trial.user_attrs[trials.CONFIGURATION])
        worker, step = self._running.get(trial.number, (self._worker(trial), 0))
        about = (worker, trial.number, configuration.optimizer.name, configuration.lr)
        new = trial.number not in self._running
        if new:
            began = trial.datetime_start or datetime.now()
            # the clock of the machine that began it may be ahead of this one's
            self._show(TrialStarted(*about, since=max(0.0, (datetime.now() - began).total_seconds())))
        last = trial.last_step or 0
        if last > step:
            epoch = min(last / self._steps, self._settings.epochs)
            # what was there at the first look may have been reported long ago
            self._show(TrialProgress(*about, epoch, trial.intermediate_values[last], fresh=not new))
        self._running[trial.number] = worker, last

    def _worker(self, trial: FrozenTrial) -> int:
        """A number for whoever trains a trial, the same for all its trials."""
        owner = trial.user_attrs.get(trials.OWNER) or {"trial": trial.number}
        return self._workers.setdefault(str(sorted(owner.items())), len(self._workers))

    def _notice(self, working: bool) -> None:
        self._idle = 0 if working else self._idle + 1
        if self._idle == IDLE_POLLS:
            self._view.note(f"nobody works on it now; to go on with it: {self._going_on}")
