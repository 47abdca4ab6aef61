"""A study in its storage: create or resume it, take its trials one by one, read it back as plain records."""

import os
import platform
import socket
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from optitune.configuration import Configuration
from optitune.errors import UsageError, unknown
from optitune.files import explained, make_folder
from optitune.metrics import Metric
from optitune.records import Outcome, TrialRecord
from optitune.settings import StudySettings, differing, flat
from optitune.storage import sqlite_url

OWNER = "owner"
OUTCOME = "outcome"
REASON = "reason"
SECONDS = "seconds"
EPOCHS = "epochs"
CONFIGURATION = "configuration"
DEVICE = "device"
SAME_AS = "same_as"
SETTINGS = "settings"
DATA = "data"
RANGES = "ranges"
VERSIONS = "versions"

NO_MORE_TRAINING = (TrialState.COMPLETE, TrialState.PRUNED)

OWNERLESS_GRACE = timedelta(minutes=1)
"""How long a running trial of a shared database may lack its owner's name before it counts as left behind."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Home:
    """A study's name, its folder, and the URL of its storage."""

    name: str
    folder: Path
    url: str


@cache
def versions() -> dict[str, str]:
    """Versions of everything that decides a result."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("optitune", "torch", "optuna", "numpy")},
    }


def load(storage: RDBStorage, name: str) -> optuna.Study | None:
    """The study called `name`, or None."""
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None


def find(storage: RDBStorage, name: str) -> optuna.Study:
    """The study called `name`.

    Raises:
        UsageError: there is none; the message has the nearest names.
    """
    study = load(storage, name)
    if study is None:
        raise unknown(
            "study", name, optuna.get_all_study_names(storage), f"(make it with 'optitune search --study {name}')"
        )
    return study


def stored_settings(study: optuna.Study) -> dict[str, Any]:
    """What the study was made with, by key.

    Raises:
        UsageError: it was not made by optitune.
    """
    settings = study.user_attrs.get(SETTINGS)
    if not isinstance(settings, dict):
        raise UsageError(f"study '{study.study_name}' was not made by optitune: choose another name with --study")
    return settings


def is_blank(study: optuna.Study) -> bool:
    """Whether nothing was written into the study: its making may have been interrupted."""
    return not study.user_attrs and not study.get_trials(deepcopy=False)


def create_or_resume(
    storage: RDBStorage, name: str, settings: StudySettings, data: Mapping[str, Any], metric: Metric
) -> optuna.Study:
    """The study called `name`, made if it is not there.

    Args:
        storage: opened with `create`.
        name: of the study.
        settings: with every `auto` resolved.
        data: what the trials are trained and judged on: checksum and sizes.
        metric: what they are judged by.

    Raises:
        UsageError: it is there and was made from other settings, data or ranges.
    """
    judged = {"metric": metric.name, "direction": metric.direction}
    made_from = {SETTINGS: settings.document(), DATA: {**data, **judged}, RANGES: settings.space().words()}
    study = load(storage, name)
    if study is None:
        try:
            study = optuna.create_study(storage=storage, study_name=name, direction=metric.direction)
        except DuplicatedStudyError:  # another process was faster
            study = find(storage, name)
    if not is_blank(study) or study.direction.name.lower() != metric.direction:
        stored_settings(study)
    for key, value in {**made_from, VERSIONS: versions()}.items():
        # one by one, so that a study whose making was interrupted is completed
        if key not in study.user_attrs:
            study.set_user_attr(key, value)
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([f"validation {metric.name}"])
    for key, wanted in made_from.items():
        found = study.user_attrs[key]
        if found != wanted:
            changes = differing(flat(wanted), flat(found))
            changed = ", ".join(f"{part} {was} (now {now})" for part, (now, was) in changes.items())
            raise UsageError(
                f"study '{name}' was made with other {key}: {changed}. "
                f"To start another, add --study {name}-2; to go on with it, use what it was made with "
                f"(optitune {study.user_attrs[VERSIONS].get('optitune', '?')})"
            )
    return study


class Owner:
    """A process's name on the trials it trains, which others can tell to be alive or dead.

    A lock on a file of its own is held as long as the process lives; the system lets go of it however
    the process ends.

    Args:
        folder: where the lock file lies.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.path = folder / f"{uuid.uuid4().hex}.lock"
        self._lock = FileLock(self.path)
        with explained(self.path):
            self._lock.acquire()

    def name(self) -> dict[str, Any]:
        return {"host": socket.gethostname(), "pid": os.getpid(), "lock": str(self.path.resolve())}

    def release(self) -> None:
        """Let go of the lock and remove it, with the files of the same stem."""
        self._lock.release()
        for left in self.path.parent.glob(f"{self.path.stem}.*"):
            left.unlink(missing_ok=True)


def _is_alive(owner: Mapping[str, Any]) -> bool:
    """Whether the process that wrote this name still lives; yes, as far as can be told, on another machine."""
    return owner.get("host") != socket.gethostname() or _is_held(Path(str(owner.get("lock"))))


def _is_held(path: Path) -> bool:
    """Whether a process holds the lock file at `path`."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def sweep(folder: Path) -> None:
    """Remove what processes that were killed left in `folder`: their lock files, and files of the same stem."""
    for path in folder.glob("*.lock"):
        if not _is_held(path):
            for left in folder.glob(f"{path.stem}.*"):
                left.unlink(missing_ok=True)


Taken = tuple[Trial, FrozenTrial]
"""A trial to train, and what was known of it when it was taken."""


@dataclass
class Desk:
    """Where a worker takes trials and hands back results; every trial is at one worker at a time.

    Attributes:
        study: with sampler and pruner set.
        target: how many finished trials the study is to have.
        owner: this worker's name.
        folder: of the study, for the lock that lets workers of one machine take turns.
        local: whether all workers are on this machine.
    """

    study: optuna.Study
    target: int
    owner: Owner
    folder: Path
    local: bool

    def take(self) -> Taken | None:
        """The next trial: one left behind by a dead worker, or a new one; None while there is none to take."""
        with self._turn():
            trials = self.study.get_trials(deepcopy=False)
            taken = sum(trial.state.is_finished() and trial.state != TrialState.FAIL for trial in trials)
            for running in (trial for trial in trials if trial.state == TrialState.RUNNING):
                if self._left_behind(running):
                    # its owner may have ended it, and then itself, since the trials were read
                    frozen = self.study._storage.get_trial(running._trial_id)
                    if frozen.state == TrialState.RUNNING:
                        trial = Trial(self.study, frozen._trial_id)
                        trial.set_user_attr(OWNER, self.owner.name())
                        return trial, frozen
                taken += 1
            if taken >= self.target:
                return None
            trial = self.study.ask()
            trial.set_user_attr(OWNER, self.owner.name())
            frozen = self._frozen(trial)
            # workers of other machines do not take turns with this one: count again
            before = [other for other in self.study.get_trials(deepcopy=False) if other.number < frozen.number]
            if sum(other.state not in (TrialState.FAIL, TrialState.WAITING) for other in before) >= self.target:
                self.give_back(trial)
                return None
            return trial, frozen

    def finished(self) -> int:
        """How many trials need no more training."""
        return finished(self.study)

    def tell(
        self, trial: Trial, outcome: str, value: float | None, reason: str, seconds: float, epochs: float = 0.0
    ) -> None:
        """Write down how a trial ended, and how long it trained."""
        trial.set_user_attr(OUTCOME, outcome)
        if reason:
            trial.set_user_attr(REASON, reason)
        if versions() != self.study.user_attrs.get(VERSIONS):
            trial.set_user_attr(VERSIONS, versions())
        trial.set_user_attr(SECONDS, round(seconds, 3))
        trial.set_user_attr(EPOCHS, round(epochs, 3))
        state = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL}.get(outcome, TrialState.PRUNED)
        self.study.tell(trial, value if state == TrialState.COMPLETE else None, state)

    def give_back(self, trial: Trial) -> None:
        """Let another worker, now or later, train this trial from its start."""
        self.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self.study._storage.get_trial(trial._trial_id)

    def _left_behind(self, frozen: FrozenTrial) -> bool:
        owner = frozen.user_attrs.get(OWNER)
        if owner is not None:
            # the file of an SQLite storage is this machine's, whatever name the machine had then
            return not (_is_held(Path(str(owner.get("lock")))) if self.local else _is_alive(owner))
        # taken, but killed before it could be signed; on other machines it may be about to be
        started = frozen.datetime_start or datetime.min
        return self.local or datetime.now() - started > OWNERLESS_GRACE

    @contextmanager
    def _turn(self) -> Iterator[None]:
        path = self.folder / "turn.lock"
        lock = FileLock(path)
        with explained(path):
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def finished(study: optuna.Study) -> int:
    """How many trials of the study need no more training."""
    return len(study.get_trials(deepcopy=False, states=NO_MORE_TRAINING))


def trained_before(study: optuna.Study, configuration: Mapping[str, Any], device: str) -> FrozenTrial | None:
    """A finished trial of this study whose training, repeated, would give the same numbers; a complete one if possible.

    Args:
        study: all its trials have one task, precision, seed and length.
        configuration: as a trial stores it.
        device: as a trial stores it.
    """
    equal = [
        trial
        for trial in study.get_trials(deepcopy=False, states=NO_MORE_TRAINING)
        if trial.user_attrs.get(CONFIGURATION) == configuration
        and trial.user_attrs.get(DEVICE) == device
        and OUTCOME in trial.user_attrs
        and SAME_AS not in trial.user_attrs
    ]
    if equal:
        made_with = study.user_attrs.get(VERSIONS)
        equal = [trial for trial in equal if trial.user_attrs.get(VERSIONS, made_with) == versions()]
    return min(equal, key=lambda trial: (trial.state != TrialState.COMPLETE, trial.number), default=None)


class Ledger:
    """A study's trials as plain rows, for those who read them again and again: an ended trial is made a row once."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        self._ended: dict[int, TrialRecord] = {}

    def read(self) -> list[TrialRecord]:
        rows = []
        for trial in self._study.get_trials(deepcopy=False):
            row = self._ended.get(trial.number) or _record(trial, self._sign)
            if trial.state.is_finished():
                self._ended[trial.number] = row
            rows.append(row)
        return rows


def records(study: optuna.Study) -> list[TrialRecord]:
    """The study's trials as plain rows."""
    return Ledger(study).read()


def _record(trial: FrozenTrial, sign: int) -> TrialRecord:
    attrs = trial.user_attrs
    value = trial.value if trial.state == TrialState.COMPLETE else None
    names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    state = names.get(trial.state, trial.state.name.lower())
    outcome: Outcome = attrs.get(OUTCOME, state) if trial.state.is_finished() else state  # type: ignore[assignment]
    configuration = attrs.get(CONFIGURATION)
    return TrialRecord(
        number=trial.number,
        outcome=outcome,
        configuration=Configuration.model_validate(configuration) if configuration else None,
        value=value,
        reason=attrs.get(REASON, ""),
        curve=tuple(sorted(trial.intermediate_values.items())),
        seconds=attrs.get(SECONDS),
        epochs=attrs.get(EPOCHS, 0.0),
        same_as=attrs.get(SAME_AS),
        score=None if value is None else sign * value,
    )


def record(study: optuna.Study, number: int) -> TrialRecord:
    """The trial of that number.

    Raises:
        UsageError: there is none.
    """
    rows = records(study)
    for row in rows:
        if row.number == number:
            return row
    held = f"it has trials 0 to {len(rows) - 1}" if rows else "it has no trials yet"
    raise UsageError(f"study '{study.study_name}' has no trial {number}: {held}")


def home(studies_dir: Path, name: str, url: str | None) -> Home:
    """Where the study called `name` lives: its own SQLite file unless a `url` is given."""
    folder = studies_dir / name
    return Home(name, folder, url or sqlite_url(folder / "study.db"))
