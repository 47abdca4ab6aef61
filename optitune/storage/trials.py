"""The trials of a study in its storage, as plain records."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optitune.errors import OptituneError, UsageError
from optitune.space.configuration import Configuration
from optitune.storage import studies
from optitune.storage.studies import OWNER as OWNER
from optitune.storage.studies import VERSIONS, versions
from optitune.study.best_config import DIGESTS, BestConfig
from optitune.study.records import Outcome, TrialRecord
from optitune.study.repeated import REPEATS as REPEATS
from optitune.study.repeated import RUN as RUN

OUTCOME = "outcome"
REASON = "reason"
SECONDS = "seconds"
EPOCHS = "epochs"
CONFIGURATION = "configuration"
DEVICE = "device"
SAME_AS = "same_as"
FROM = "from"
"""Of a trial that was taken from another study: that one's name as `study`, and its number there as `trial`."""


NO_MORE_TRAINING = (TrialState.COMPLETE, TrialState.PRUNED)


def finished(study: optuna.Study) -> int:
    """The number of complete and pruned trials of a study."""
    return len(study.get_trials(deepcopy=False, states=NO_MORE_TRAINING))


def taken(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of a study that were taken from another one."""
    return [trial for trial in study.get_trials(deepcopy=False, states=NO_MORE_TRAINING) if FROM in trial.user_attrs]


def unfinished(study: optuna.Study) -> list[int]:
    """The numbers of the trials that have not ended."""
    return [trial.number for trial in study.get_trials(deepcopy=False) if not trial.state.is_finished()]


def trained_before(study: optuna.Study, configuration: Mapping[str, Any], device: str) -> FrozenTrial | None:
    """Find a finished trial that a training of this configuration would repeat; a complete one if possible.

    Args:
        study: whose trials share task, precision, seed and epochs.
        configuration: as stored in a trial.
        device: as stored in a trial.
    """
    equal = [
        trial
        for trial in study.get_trials(deepcopy=False, states=NO_MORE_TRAINING)
        if trial.user_attrs.get(CONFIGURATION) == configuration
        and trial.user_attrs.get(DEVICE) == device
        and OUTCOME in trial.user_attrs
        and SAME_AS not in trial.user_attrs
        and RUN not in trial.user_attrs
    ]
    if equal:
        made_with = study.user_attrs.get(VERSIONS)
        equal = [trial for trial in equal if trial.user_attrs.get(VERSIONS, made_with) == versions()]
    return min(equal, key=lambda trial: (trial.state != TrialState.COMPLETE, trial.number), default=None)


def outcome(trial: FrozenTrial) -> Outcome:
    """The outcome of a trial.

    A worker and a process that gives the trial up may end it at the same moment. Its state is that of the first; of
    the attributes that both wrote, only those that fit the state count.
    """
    if trial.state == TrialState.PRUNED:
        return "diverged" if trial.user_attrs.get(OUTCOME) == "diverged" else "pruned"
    names = {TrialState.COMPLETE: "complete", TrialState.FAIL: "failed"}
    return names.get(trial.state, trial.state.name.lower())  # type: ignore[return-value]


class RecordCache:
    """A cache of a study's trials as plain rows: an ended trial is converted once."""

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
    return RecordCache(study).read()


def _record(trial: FrozenTrial, sign: int) -> TrialRecord:
    attrs = trial.user_attrs
    value = trial.value if trial.state == TrialState.COMPLETE else None
    result = outcome(trial)
    configuration, origin = attrs.get(CONFIGURATION), attrs.get(FROM, {})
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
        from_study=origin.get("study"),
        from_trial=origin.get("trial"),
        run=attrs.get(RUN, 0),
        repeats=attrs.get(REPEATS),
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


def best_config(opened: optuna.Study, record: TrialRecord) -> BestConfig:
    """A complete trial as a `best.toml`.

    Raises:
        OptituneError: the trial is not complete.
    """
    settings = studies.settings_of(opened)
    if record.value is None or record.configuration is None or settings.precision == "auto":
        raise OptituneError(
            f"trial {record.number} of study '{opened.study_name}' is {record.outcome}, not complete: "
            "choose a complete one ('optitune show')"
        )
    facts = opened.user_attrs[studies.DATA]
    return BestConfig(
        study=opened.study_name,
        task=settings.task,
        trial=record.number,
        metric=facts["metric"],
        direction=facts["direction"] if settings.metric is not None else "",
        value=record.value,
        runs=record.runs,
        epochs=settings.epochs,
        train_examples=facts["train_examples"],
        validation_examples=facts["validation_examples"],
        precision=settings.precision,
        seed=settings.seed,
        data_checksum=facts["checksum"],
        scaling=facts.get("scaling", {}),
        data_digests={key: facts[key] for key in DIGESTS if key in facts},
        configuration=record.configuration,
        versions=opened.user_attrs[studies.VERSIONS],
    )
