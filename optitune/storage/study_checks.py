"""Creating and resuming studies, and the checks that a resumed one has the same settings, data, metric and code."""

import shlex
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import BaseStorage

from optitune.common.schema import differences_table
from optitune.common.text import digest
from optitune.errors import OptituneError, UsageError
from optitune.space.ranges import as_stored_before
from optitune.storage.studies import (
    CODE,
    DATA,
    LACKS,
    METRIC,
    RANGES,
    SETTINGS,
    VERSIONS,
    find,
    is_blank,
    load,
    metric,
    own_target,
    stored_settings,
    versions,
)
from optitune.study.best_config import DIGESTS
from optitune.study.settings import StudySettings, another, differing, flat
from optitune.tasks.loading import FROM_PYTHON
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.metrics import Metric, kept
from optitune.tasks.scaling import Scaling
from optitune.tasks.split_checks import regrouped, split_change, unchanged
from optitune.tasks.splits import SearchData
from optitune.tasks.task import Task
from optitune.training.task_code import Record, changes, listed


def create_or_resume(
    storage: BaseStorage,
    name: str,
    settings: StudySettings,
    data: Mapping[str, Any],
    judge: Metric,
    code: Record = MappingProxyType({}),
    accepted: bool = False,
) -> optuna.Study:
    """Create a study, or resume the one of that name.

    Args:
        storage: opened with `create`.
        name: of the study.
        settings: of the study, with every `auto` resolved.
        data: checksum, digests and sizes of the task's data.
        judge: metric of the task.
        code: of the task; see `same_code`.
        accepted: whether changes of the code are accepted; see `same_code`.

    Raises:
        UsageError: it exists and was made with other settings, data, ranges, metric or code.
    """
    known = {**_checked(settings, data, judge), METRIC: kept(judge), VERSIONS: versions()}
    study = load(storage, name)
    if study is None:
        try:
            study = optuna.create_study(storage=storage, study_name=name, direction=judge.direction)
        except DuplicatedStudyError:  # another process was faster
            study = find(storage, name)
    if not is_blank(study) or study.direction.name.lower() != judge.direction:
        stored_settings(study)
    for key, value in known.items():
        # one by one, so that a study whose making was interrupted is completed
        if key not in study.user_attrs:
            study.set_user_attr(key, value)
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([f"validation {judge.name}"])
    same_as_made(study, settings, data, judge, code, accepted)
    return study


def _checked(settings: StudySettings, data: Mapping[str, Any], judge: Metric) -> dict[str, Any]:
    """What decides a trial, by the attribute of a study that holds it."""
    judged = {"metric": judge.name, "direction": judge.direction}
    return {SETTINGS: settings.document(), DATA: {**data, **judged}, RANGES: settings.space().kept()}


def same_as_made(
    study: optuna.Study,
    settings: StudySettings,
    data: Mapping[str, Any],
    judge: Metric,
    code: Record = MappingProxyType({}),
    accepted: bool = False,
    write: bool = True,
) -> None:
    """Check that a study was made with all this.

    Args:
        study: that is there.
        settings: of the study, with every `auto` resolved.
        data: checksum, digests and sizes of the task's data.
        judge: metric of the task.
        code: of the task; see `same_code`.
        accepted: whether changes of the code are accepted; see `same_code`.
        write: whether code that is accepted becomes the study's.

    Raises:
        UsageError: it was made with other settings, data, ranges, metric or code.
    """
    name = study.study_name
    if study.user_attrs[DATA].get("network") != data.get("network"):
        # which says what has changed, where a fingerprint shows only that something has
        same_code(study, settings.task, code, str(data.get("network")), accepted, write)
    for key, wanted in _checked(settings, data, judge).items():
        found = stored_settings(study) if key == SETTINGS else study.user_attrs[key]
        if key == RANGES and any(isinstance(each, str) for ranges in found.values() for each in ranges.values()):
            # a study of an older version keeps sentences
            wanted = settings.space().kept(as_stored_before)
        others = differing(flat(wanted), flat(found))
        note = ""
        if key == DATA:
            others, note = other_data(name, found, wanted)
        if others:
            ways = another(name, {RANGES} if key == RANGES else others if key == SETTINGS else {DATA})
            raise UsageError(
                f"study '{name}' was made with other {key}:\n{differences_table(_short(others))}{note}\n"
                f"To go on with it, use what it was made with (optitune "
                f"{study.user_attrs[VERSIONS].get('optitune', '?')}); {ways}"
            )
    same_metric(study, judge)
    same_code(study, settings.task, code, str(data.get("network")), accepted, write)


def other_data(
    study: str, found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> tuple[dict[str, tuple[Any, Any]], str]:
    """How data differ from those that a study was made with.

    Args:
        study: its name.
        found: checksum, digests and sizes of the study's data.
        wanted: the same of the present data.

    Returns:
        (values (now, was) by key, a remark in parentheses on a line of its own, which may be empty)

    Raises:
        UsageError: the same examples are split in another way.
    """
    # an older version wrote fewer digests, and inputs that differ at every reading have none
    both = set(found) & set(wanted)
    found, wanted = (
        {part: value for part, value in each.items() if part in both or part == "split" or part not in DIGESTS}
        for each in (found, wanted)
    )
    why = regrouped(found, wanted)
    if found["checksum"] == wanted["checksum"]:
        why = split_change(found, wanted)
    if why:
        raise UsageError(f"study '{study}': {why}")
    others = differing(flat(wanted), flat(found))
    note = f"\n({unchanged()})" if {"checksum", "inputs"} & set(others) else ""
    return {part: values for part, values in others.items() if part not in DIGESTS} or others, note


def _short(differences: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Differences with their checksums as messages show them."""

    def short(value: Any) -> Any:
        return digest(value) if isinstance(value, str) and value.startswith("sha256:") else value

    return {part: (short(now), short(was)) for part, (now, was) in differences.items()}


def same_metric(study: optuna.Study, judge: Metric) -> None:
    """Check that the metric is the one that the study was made with.

    Raises:
        UsageError: name, direction or limits differ, or one is built in and the other is not.
    """
    made_with = metric(study)
    # studies of older versions know of name and direction alone
    known = kept(judge).keys() if METRIC in study.user_attrs else ("name", "direction")
    if any(kept(judge)[key] != kept(made_with)[key] for key in known):
        raise UsageError(
            f"study '{study.study_name}' is judged by {made_with.described()}, but its task now by "
            f"{judge.described()}: judge by that again, or start another with --study {study.study_name}-2"
        )


def same_scaling(task: Task, made_with: Mapping[str, Any]) -> None:
    """Check that the task scales its targets as the study did.

    Raises:
        UsageError: it does not.
    """
    if task.scale_targets != bool(made_with):
        raise UsageError(
            f"task '{task.name}' has scale_targets={task.scale_targets}, but the study was made with "
            f"{bool(made_with)}: bring that back, or search again with --study NAME"
        )


def facts(task: Task, data: SearchData, network: str) -> dict[str, Any]:
    """What a study keeps of its task, beside settings, metric and code, as JSON.

    Args:
        task: of the study.
        data: of the task.
        network: fingerprint of the task's network.
    """
    return {
        "network": network,
        "loss": task.loss_name,
        "checksum": data.checksum,
        "train_examples": len(data.train),
        "validation_examples": len(data.validation),
        **data.digests,
        **({LACKS: list(task.known.lacks)} if isinstance(task, LoopTask) else {}),
        **({"scaling": Scaling.of(data.train).document()} if task.scale_targets else {}),
    }


def same_task(study: optuna.Study, task: Task, data: SearchData, network: str) -> None:
    """Check that this machine has the task that a study was made with.

    Args:
        study: to take part in.
        task: as found on this machine.
        data: of the task, loaded on this machine.
        network: fingerprint of the task's network.

    Raises:
        OptituneError: data, network, loss or metric are not those that the study was made with.
    """
    same_metric(study, task.judge)
    made_with = study.user_attrs[DATA]
    # an older version wrote fewer digests
    known = facts(task, data, network).items()
    here = {"scaling": None, **{key: value for key, value in known if key in made_with or key not in data.digests}}
    here.pop(LACKS, None)
    if made_with["checksum"] == data.checksum and (why := split_change(made_with, here)):
        raise OptituneError(f"task '{task.name}': {why}")
    others = [
        f"{key} {value} (the study: {made_with.get(key)})" for key, value in here.items() if made_with.get(key) != value
    ]
    if others:
        raise OptituneError(
            f"task '{task.name}' is another one on this machine than study '{study.study_name}' was made with: "
            f"{', '.join(others)}; bring the same file and data here, then run the same command again"
        )


def same_code(
    study: optuna.Study, task: str, code: Record, network: str, accepted: bool = False, write: bool = True
) -> str:
    """Check that a task's code is the one that the study was made with.

    Args:
        study: to resume.
        task: as a user names it.
        code: record of the present code, by `task_code.record`; empty for a built-in task.
        network: fingerprint of the task's network; a change of its shapes is never accepted.
        accepted: whether the user accepts changes, as ones that make no difference to a training.
        write: whether code that is accepted, or that the study does not know yet, becomes the study's.

    Returns:
        The digest of the code that the study was made with.

    Raises:
        UsageError: the code has changed.
    """
    before: Record = study.user_attrs.get(CODE) or {}
    found = changes(before, code)
    reshaped = str(study.user_attrs[DATA].get("network")) != network
    if found and (reshaped or not accepted):
        name, trials = study.study_name, own_target(study)
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
    if write and code and not reshaped and (found or not before):
        # what was accepted counts as the same, so that what was trained before stays as it is
        study.set_user_attr(CODE, {**code, "id": before.get("id", code["id"])})
    return str(before.get("id") or code.get("id", ""))
