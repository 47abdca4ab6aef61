"""Guard of running trials: fails those that kill their worker again and again, or take too long."""

import time
from collections.abc import Callable

import optuna

from optitune.errors import OptituneError
from optitune.searching.events import TrialFailed, TrialFinished, TrialLeft, TrialProgress, TrialStarted
from optitune.searching.trial_queue import fail
from optitune.workers.events import Event, Retired
from optitune.workers.progress import ProgressTracker

DEATHS_OF_A_TRIAL = 3
"""How often workers may die at a trial without its getting any further."""

FAILED_IN_A_ROW = 3
"""How many trials in a row may be given up so: the fault is then not the configuration's."""


class TrialGuard:
    """Watches the trials of one machine's workers from the parent process.

    Args:
        study: where failed trials are written.
        timeout: seconds that a worker may be at one trial; None for as long as it takes.
        note: called with what the user should know, a line each.
        clock: in seconds.
    """

    def __init__(
        self,
        study: optuna.Study,
        timeout: float | None,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study = study
        self._timeout = timeout
        self._note = note
        self._clock = clock
        self._further = ProgressTracker()
        self._at: dict[int, tuple[int, float]] = {}
        self._deaths: dict[int, int] = {}
        self._late: dict[int, int] = {}
        self._failed_in_a_row = 0

    def handle(self, event: Event) -> None:
        """Take note of an event of a worker."""
        if isinstance(event, TrialStarted | TrialFinished | TrialFailed | TrialLeft | Retired):
            # it has noticed by itself that its trial was ended, or had ended it before
            self._late.pop(event.worker, None)
            self._at.pop(event.worker, None)
        if isinstance(event, TrialStarted):
            self._at[event.worker] = event.number, self._clock()
        elif isinstance(event, TrialFinished):
            self._failed_in_a_row = 0
        if isinstance(event, TrialProgress | TrialFinished) and self._further(event):
            self._deaths.pop(event.number, None)

    def late(self) -> list[tuple[int, int]]:
        """The workers whose trial has just been failed since it took too long, each with that trial.

        Each is to be killed if `is_late` says so when all that it has sent has been heard: it may have noticed.

        Raises:
            OptituneError: that happens trial after trial.
        """
        if self._timeout is None:
            return []
        found = []
        for worker, (number, since) in list(self._at.items()):
            if worker in self._late or self._clock() - since <= self._timeout:
                continue
            # before the worker is dead, or another one would take the trial up
            if not fail(self._study, number, self._too_long()):
                # it has just ended: its worker says so soon, and is perhaps at another by now
                continue
            self._late[worker] = number
            found.append((worker, number))
            self._note(f"trial {number} {self._too_long()} and was given up")
            self._given_up(number, self._too_long())
        return found

    def is_late(self, worker: int, number: int) -> bool:
        """Whether a worker is still at a trial that `late` has named."""
        return self._late.get(worker) == number

    def died(self, worker: int, cause: str) -> bool:
        """A worker died by itself, or was killed for being late; whether it was at a trial.

        Raises:
            OptituneError: that happens trial after trial.
        """
        number, _ = self._at.pop(worker, (None, 0.0))
        if number is None:
            self._note(f"worker {worker + 1} died ({cause}); another takes its place")
            return False
        if self._late.pop(worker, None) is not None:
            return True
        deaths = self._deaths[number] = self._deaths.get(number, 0) + 1
        if deaths < DEATHS_OF_A_TRIAL:
            self._note(f"worker {worker + 1} died ({cause}); its trial {number} goes on in another")
            return True
        reason = f"{deaths} workers died at the same place of it, the last of {cause}"
        fail(self._study, number, reason)
        self._note(f"trial {number} was given up: {reason}")
        self._given_up(number, reason)
        return True

    def _too_long(self) -> str:
        return f"took longer than trial_timeout = {self._timeout:g} s"

    def _given_up(self, number: int, reason: str) -> None:
        self._failed_in_a_row += 1
        if self._failed_in_a_row == FAILED_IN_A_ROW:
            raise OptituneError(
                f"{FAILED_IN_A_ROW} trials in a row were given up, the last, trial {number}, since: {reason}; "
                "what was finished is kept"
            )
