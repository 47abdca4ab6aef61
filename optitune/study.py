"""A study in its storage: create or resume it, read it back as plain records."""

import platform
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optitune.configuration import Configuration
from optitune.errors import OptituneError, UsageError, unknown
from optitune.metrics import Metric, kept, restored
from optitune.records import Outcome, TrialRecord
from optitune.scaling import Scaling
from optitune.settings import StudySettings, differing, flat
from optitune.space import as_told_before
from optitune.storage import sqlite_url
from optitune.task_code import Record, changes, listed
from optitune.task_data import DIGESTS, SearchData, moved, unchanged
from optitune.tasks import FROM_PYTHON, Task

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


def same_metric(study: optuna.Study, judge: Metric) -> None:
    """Refuse to go on with another metric than the study was made with, whatever its name.

    Raises:
        UsageError: name, direction or limits are others, or one is built in and the other is not.
    """
    made_with = metric(study)
    # studies of older versions know of name and direction alone
    known = kept(judge).keys() if METRIC in study.user_attrs else ("name", "direction")
    if any(kept(judge)[key] != kept(made_with)[key] for key in known):
        raise UsageError(
            f"study '{study.study_name}' is judged by {made_with.described()}, but its task now by "
            f"{judge.described()}: judge by that again, or start another with --study {study.study_name}-2"
        )


def is_blank(study: optuna.Study) -> bool:
    """Whether nothing was written into the study: its making may have been interrupted."""
    return not study.user_attrs and not study.get_trials(deepcopy=False)


def create_or_resume(
    storage: BaseStorage,
    name: str,
    settings: StudySettings,
    data: Mapping[str, Any],
    metric: Metric,
    code: Record = MappingProxyType({}),
    accepted: bool = False,
) -> optuna.Study:
    """The study called `name`, made if it is not there.

    Args:
        storage: opened with `create`.
        name: of the study.
        settings: with every `auto` resolved.
        data: what the trials are trained and judged on: checksum and sizes.
        metric: what they are judged by.
        code: of the task; see `same_code`, also for `accepted`.

    Raises:
        UsageError: it is there and was made from other settings, data, ranges or code.
    """
    space = settings.space()
    judged = {"metric": metric.name, "direction": metric.direction}
    made_from = {SETTINGS: settings.document(), DATA: {**data, **judged}, RANGES: space.kept()}
    known = {**made_from, METRIC: kept(metric), VERSIONS: versions()}
    study = load(storage, name)
    if study is None:
        try:
            study = optuna.create_study(storage=storage, study_name=name, direction=metric.direction)
        except DuplicatedStudyError:  # another process was faster
            study = find(storage, name)
    if not is_blank(study) or study.direction.name.lower() != metric.direction:
        stored_settings(study)
    for key, value in known.items():
        # one by one, so that a study whose making was interrupted is completed
        if key not in study.user_attrs:
            study.set_user_attr(key, value)
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([f"validation {metric.name}"])
    if study.user_attrs[DATA].get("network") != data.get("network"):
        # which says what has changed, where a fingerprint shows only that something has
        same_code(study, settings.task, code, str(data.get("network")), accepted)
    for key, wanted in made_from.items():
        found = study.user_attrs[key]
        if key == RANGES and any(isinstance(each, str) for ranges in found.values() for each in ranges.values()):
            # a study of an older version keeps sentences
            wanted = space.kept(as_told_before)
        if key == DATA:
            # an older version wrote fewer digests, and inputs that differ at every reading have none
            both = set(found) & set(wanted)
            found, wanted = (
                {part: value for part, value in each.items() if part in both or part not in DIGESTS}
                for each in (found, wanted)
            )
            if found["checksum"] == wanted["checksum"] and (why := moved(found, wanted)):
                raise UsageError(f"study '{name}': {why}")
        if found != wanted:
            changes = differing(flat(wanted), flat(found))
            shown = {part: values for part, values in changes.items() if part not in DIGESTS} or changes
            changed = ", ".join(f"{part} {was} (now {now})" for part, (now, was) in shown.items())
            if key == DATA and {"checksum", "inputs"} & set(changes):
                changed += f" ({unchanged()})"
            raise UsageError(
                f"study '{name}' was made with other {key}: {changed}. "
                f"To start another, add --study {name}-2; to go on with it, use what it was made with "
                f"(optitune {study.user_attrs[VERSIONS].get('optitune', '?')})"
            )
    same_metric(study, metric)
    same_code(study, settings.task, code, str(data.get("network")), accepted)
    return study


def same_scaling(task: Task, made_with: Mapping[str, Any]) -> None:
    """Refuse a task whose targets are scaled where those of the study were not, or the other way round.

    Raises:
        UsageError: it is one.
    """
    if task.scale_targets != bool(made_with):
        raise UsageError(
            f"task '{task.name}' has scale_targets={task.scale_targets}, but the study was made with "
            f"{bool(made_with)}: bring that back, or search again with --study NAME"
        )


def same_task(study: optuna.Study, task: Task, data: SearchData, network: str) -> None:
    """Refuse a machine whose trials would not be those of the study.

    Raises:
        OptituneError: data, network, loss or metric are not those that the study was made with.
    """
    same_metric(study, task.judge)
    made_with = study.user_attrs[DATA]
    here = {
        **{key: value for key, value in data.digests.items() if key in made_with},
        "checksum": data.checksum,
        "train_examples": len(data.train),
        "validation_examples": len(data.validation),
        "network": network,
        "loss": task.loss_name,
        "scaling": Scaling.of(data.train).document() if task.scale_targets else None,
    }
    if made_with["checksum"] == data.checksum and (why := moved(made_with, here)):
        raise OptituneError(f"task '{task.name}': {why}")
    others = [
        f"{key} {value} (the study: {made_with.get(key)})" for key, value in here.items() if made_with.get(key) != value
    ]
    if others:
        raise OptituneError(
            f"task '{task.name}' is another one on this machine than study '{study.study_name}' was made with: "
            f"{', '.join(others)}; bring the same file and data here, then run the same command again"
        )


def same_code(study: optuna.Study, task: str, code: Record, network: str, accepted: bool = False) -> str:
    """Refuse a task whose code is no longer what the study was made with; the digest of the code it was made with.

    Args:
        task: as a user names it.
        code: what `task_code.record` gave; empty for a built-in task.
        network: its fingerprint; one of other shapes is another network whatever the user says.
        accepted: whether the user says that the change makes no difference to a training.

    Raises:
        UsageError: the code has changed.
    """
    before: Record = study.user_attrs.get(CODE) or {}
    found = changes(before, code)
    reshaped = str(study.user_attrs[DATA].get("network")) != network
    if found and (reshaped or not accepted):
        name, trials = study.study_name, study.user_attrs.get(TRIALS)
        if task.startswith(FROM_PYTHON):
            other, same = f"optitune.search(..., study='{name}-2')", f"optitune.search(..., study='{name}'"
            same += (f", trials={trials}" if trials else "") + ", accept_changes=True)"
        else:
            search = shlex.join(["optitune", "search", "--task", task, "--study"])
            other, same = f"'{search} {name}-2'", f"'{search} {name}"
            same += (f" --trials {trials}" if trials else "") + " --accept-changes'"
        ways = "" if reshaped else f"; or, if the change makes no difference to a training, go on after {same}"
        raise UsageError(
            f"task '{task}' is no longer what study '{name}' was made with: {listed(found)}. Trainings of the two "
            f"cannot be compared: begin another with {other}{ways}"
        )
    if code and (found or not before):
        # what was accepted counts as the same, so that what was trained before stays as it is
        study.set_user_attr(CODE, {**code, "id": before.get("id", code["id"])})
    return str(before.get("id") or code.get("id", ""))


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
