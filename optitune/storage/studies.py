"""A study in its storage, read as plain records."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optitune.errors import OptituneError, UsageError, unknown
from optitune.space.configuration import Configuration
from optitune.storage.urls import sqlite_url
from optitune.study.records import Outcome, TrialRecord
from optitune.tasks.metrics import Metric, restored

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
METRIC = "metric"
RANGES = "ranges"
VERSIONS = "versions"
TRIALS = "trials"
CODE = "code"

NO_MORE_TRAINING = (TrialState.COMPLETE, TrialState.PRUNED)

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


def load(storage: BaseStorage, name: str) -> optuna.Study | None:
    """The study called `name`, or None."""
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None


def find(storage: BaseStorage, name: str) -> optuna.Study:
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


def target(study: optuna.Study) -> int:
    """How many finished trials the study is to have.

    Raises:
        OptituneError: it does not say.
    """
    number, name = study.user_attrs.get(TRIALS), study.study_name
    if not isinstance(number, int):
        raise OptituneError(
            f"study '{name}' does not say how many trials it is to have: say it with "
            f"'optitune search --study {name} --trials N'"
        )
    return number


def metric(study: optuna.Study) -> Metric:
    """What the study judges by; a metric of one's own without its function."""
    attrs = study.user_attrs
    data = attrs.get(DATA, {})
    usual = {"name": data.get("metric", "value"), "direction": study.direction.name.lower()}
    return restored(attrs.get(METRIC, usual))


def is_blank(study: optuna.Study) -> bool:
    """Whether nothing was written into the study: its making may have been interrupted."""
    return not study.user_attrs and not study.get_trials(deepcopy=False)


def finished(study: optuna.Study) -> int:
    """How many trials of the study need no more training."""
    return len(study.get_trials(deepcopy=False, states=NO_MORE_TRAINING))


def unfinished(study: optuna.Study) -> list[int]:
    """The numbers of the trials that have not ended, as the storage has them now."""
    return [trial.number for trial in study.get_trials(deepcopy=False) if not trial.state.is_finished()]


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


def outcome(trial: FrozenTrial) -> Outcome:
    """What became of a trial.

    Two may end it at the same moment, a worker and whoever gives it up. Its state is that of the first; of what both
    wrote beside it, only what fits the state counts.
    """
    if trial.state == TrialState.PRUNED:
        return "diverged" if trial.user_attrs.get(OUTCOME) == "diverged" else "pruned"
    names = {TrialState.COMPLETE: "complete", TrialState.FAIL: "failed"}
    return names.get(trial.state, trial.state.name.lower())  # type: ignore[return-value]


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
    result = outcome(trial)
    configuration = attrs.get(CONFIGURATION)
    return TrialRecord(
        number=trial.number,
        outcome=result,
        configuration=Configuration.model_validate(configuration) if configuration else None,
        value=value,
        # whoever wrote of another outcome came too late
        reason=attrs.get(REASON, "") if attrs.get(OUTCOME, result) == result else "",
        curve=tuple(sorted(trial.intermediate_values.items())),
        seconds=attrs.get(SECONDS),
        epochs=attrs.get(EPOCHS, 0.0),
        same_as=attrs.get(SAME_AS),
        score=None if value is None else sign * value,
        began=trial.datetime_start,
        ended=trial.datetime_complete,
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
