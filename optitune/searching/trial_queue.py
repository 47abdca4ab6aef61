"""Trial queue: workers claim trials and report results; at most one worker holds a trial."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from optitune.common.files import explained
from optitune.storage.studies import TRIALS, VERSIONS, versions
from optitune.storage.trials import EPOCHS, OUTCOME, OWNER, REASON, SECONDS, finished
from optitune.workers.leases import BEAT, Heartbeat, Owner, Watch, is_alive, is_here

SETTLE_S = 2.0
"""Wait before a worker takes over a trial of another machine, in case others do the same; see `_take_over`."""

CROWD = 100
"""How many trials must be left for workers not to take turns: more than there are workers on a machine."""

Claimed = tuple[Trial, FrozenTrial]
"""A trial to train, and what was known of it when it was claimed."""


class TrialQueue:
    """The queue of a study's trials, as one worker uses it; whoever opened it closes it.

    Args:
        study: with sampler and pruner set.
        target: how many finished trials the study is to have; None for as many as the study itself says.
        owner: this worker's name.
        folder: of the study, for the lock that lets workers of one machine take turns.
        local: whether all workers are on this machine, and the storage a file that bears one writer at a time.
    """

    def __init__(self, study: optuna.Study, target: int | None, owner: Owner, folder: Path, local: bool) -> None:
        self.study = study
        self._target = target
        self.owner = owner
        self._turns = folder / "turn.lock"
        self._local = local
        self._watch = Watch()
        self._room = 0
        self._heart = None if local else Heartbeat(study._storage)
        self._made_with = study.user_attrs.get(VERSIONS)

    def close(self) -> None:
        """Stop reporting that this worker is alive."""
        if self._heart is not None:
            self._heart.stop()

    @property
    def target(self) -> int:
        """How many finished trials the study is to have."""
        return int(self.study.user_attrs[TRIALS]) if self._target is None else self._target

    def is_complete(self) -> bool:
        """Whether the study has as many finished trials as it is to have."""
        return finished(self.study) >= self.target

    def claim(self) -> Claimed | None:
        """Claim the next trial: one left behind by a dead worker, or a new one; None while there is none."""
        if not self._local and self._room > CROWD:
            # towards the end, lest one too many be asked for; before, nobody need wait for others' statements
            return self._next()
        with self._turn():
            return self._next()

    def _next(self) -> Claimed | None:
        target = self.target
        trials = self.study.get_trials(deepcopy=False)
        counted = sum(trial.state.is_finished() and trial.state != TrialState.FAIL for trial in trials)
        for running in (trial for trial in trials if trial.state == TrialState.RUNNING):
            if self._left_behind(running):
                # its owner may have ended it, and then itself, since the trials were read
                frozen = self.study._storage.get_trial(running._trial_id)
                if frozen.state == TrialState.RUNNING and self._take_over(frozen):
                    return self._begun(Trial(self.study, frozen._trial_id), frozen)
            counted += 1
        self._room = target - counted
        if counted >= target:
            return None
        trial = self.study.ask()
        trial.set_user_attr(OWNER, self.owner.name())
        # not all workers take turns with this one: count again
        *before, frozen = self.study.get_trials(deepcopy=False)[: trial.number + 1]
        if sum(other.state not in (TrialState.FAIL, TrialState.WAITING) for other in before) >= target:
            self.give_back(trial)
            return None
        return self._begun(trial, frozen)

    def is_ours(self, trial: Trial) -> bool:
        """Whether the trial is still this worker's: it may have been given up for dead, or its trial ended for it."""
        if self._local:
            return True
        frozen = self.study._storage.get_trial(trial._trial_id)
        return frozen.state == TrialState.RUNNING and frozen.user_attrs.get(OWNER) == self.owner.name()

    def report(
        self, trial: Trial, outcome: str, value: float | None, reason: str, seconds: float, epochs: float = 0.0
    ) -> bool:
        """Report how a trial ended and how long it trained.

        Args:
            trial: that this worker has claimed.
            outcome: complete, pruned, diverged or failed.
            value: of the metric; None where it has none.
            reason: why it ended so, in a sentence; empty where that is plain.
            seconds: of training.
            epochs: trained.
        """
        with suppress(UpdateFinishedTrialError):
            if self.is_ours(trial):
                trial.set_user_attr(OUTCOME, outcome)
                if reason or REASON in trial.user_attrs:
                    # one may be left of somebody who was killed while he gave the trial up
                    trial.set_user_attr(REASON, reason)
                if versions() != self._made_with:
                    trial.set_user_attr(VERSIONS, versions())
                trial.set_user_attr(SECONDS, round(seconds, 3))
                trial.set_user_attr(EPOCHS, round(epochs, 3))
                state = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL}.get(outcome, TrialState.PRUNED)
                values = [value] if state == TrialState.COMPLETE and value is not None else None
                self.study._storage.set_trial_state_values(trial._trial_id, state, values)
                self._over()
                return True
        self._over()
        return False

    def give_back(self, trial: Trial) -> None:
        """Let another worker, now or later, go on with this trial."""
        with suppress(UpdateFinishedTrialError):
            if self.is_ours(trial):
                # first, or whoever takes it would bear this worker's name for a moment
                self.study._storage.set_trial_user_attr(trial._trial_id, OWNER, None)
                self.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        self._over()

    def _begun(self, trial: Trial, frozen: FrozenTrial) -> Claimed:
        if self._heart is not None:
            self._heart.beat_for(frozen._trial_id)
        return trial, frozen

    def _over(self) -> None:
        if self._heart is not None:
            self._heart.beat_for(None)

    def _left_behind(self, frozen: FrozenTrial) -> bool:
        owner = frozen.user_attrs.get(OWNER)
        if self._local:
            # the file of an SQLite storage is this machine's, whatever name the machine had then; a trial
            # without a name was taken by one who was killed before it could sign
            return owner is None or not is_alive(owner)
        if owner is not None and is_here(owner):
            return not is_alive(owner)
        return self._watch.is_stale(frozen.number, (owner, frozen.system_attrs.get(BEAT)))

    def _take_over(self, frozen: FrozenTrial) -> bool:
        """Put this worker's name on a trial that was left behind; False where another one was at it, too.

        No storage writes a name only if it is still the old one. So, as in Fischer's algorithm for mutual exclusion
        (Lamport, A Fast Mutual Exclusion Algorithm, 1987), everyone who would take the trial writes their name, waits
        for longer than that takes, and the last one has it.
        """
        storage, name = self.study._storage, self.owner.name()
        storage.set_trial_user_attr(frozen._trial_id, OWNER, name)
        if self._local:
            return True
        time.sleep(SETTLE_S)
        now = storage.get_trial(frozen._trial_id)
        return now.state == TrialState.RUNNING and now.user_attrs.get(OWNER) == name

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """While others on this machine wait."""
        lock = FileLock(self._turns)
        with explained(self._turns):
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def fail(study: optuna.Study, number: int, reason: str) -> bool:
    """Mark a trial as failed that this process does not train.

    Args:
        study: of the trial.
        number: of the trial.
        reason: in a sentence.

    Returns:
        whether it was under way until then; one that has ended, or was given back, stays as it is.
    """
    storage = study._storage
    trial = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    with suppress(UpdateFinishedTrialError):
        # read anew: the study's own trials may be from before it ended
        if storage.get_trial(trial).state != TrialState.RUNNING:
            return False
        for key, value in ((OUTCOME, "failed"), (REASON, reason)):
            storage.set_trial_user_attr(trial, key, value)
        storage.set_trial_state_values(trial, TrialState.FAIL)
        return True
    return False
