"""Listing and finding of studies."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna

from optitune.common.files import expanded
from optitune.common.text import Unit
from optitune.errors import NoStudies, OptituneError, UsageError, unknown
from optitune.storage import studies, trials
from optitune.storage.studies import OWN_FILE, StudyLocation
from optitune.storage.urls import StorageUrl, open_storage
from optitune.study import records
from optitune.study.settings import StudySettings, checked_study_name


@dataclass(frozen=True)
class StudyRow:
    """A row of the list of studies.

    Attributes:
        name: of the study.
        task: its name.
        trials: number of trials by outcome.
        best: its best value; None without a complete trial.
        unit: of its metric.
        changed: when a trial last began or ended.
        target: number of finished trials to reach; None where it is not stored.
        optimizer: of its best trial.
        curve: metric values of its best trial.
        less: whether lower values are better.
    """

    name: str
    task: str
    trials: dict[str, int]
    best: float | None
    unit: Unit
    changed: datetime | None
    target: int | None = None
    optimizer: str | None = None
    curve: tuple[float, ...] = ()
    less: bool = False

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        changed = self.changed.isoformat(timespec="seconds") if self.changed else None
        return {
            "name": self.name,
            "task": self.task,
            "trials": self.trials,
            "best": self.best,
            "metric": self.unit.metric,
            "changed": changed,
            "target": self.target,
            "optimizer": self.optimizer,
        }


def overview(studies_dir: Path, storage: str | None) -> tuple[list[StudyRow], list[str]]:
    """The studies in a folder, or in a database where a URL is given, the latest first.

    Returns:
        (a row per study, a message per file that could not be read)

    Raises:
        OptituneError: the database cannot be opened.
    """
    found: list[optuna.Study | None] = []
    broken = []
    if storage is not None:
        with suppress(NoStudies):
            opened = open_storage(StorageUrl.parse(storage), create=False)
            found = [studies.find(opened, name) for name in optuna.get_all_study_names(opened)]
    for name in study_names(studies_dir, None) if storage is None else ():
        try:
            home = studies.location(studies_dir, checked_study_name(name), None)
            found.append(home.load(open_storage(home.url, create=False)))
        except NoStudies:
            continue
        except OptituneError as error:
            broken.append(str(error))
    rows = [row for each in found if each is not None and (row := _row(each)) is not None]
    return sorted(rows, key=lambda row: row.changed or datetime.min, reverse=True), broken


def _row(opened: optuna.Study) -> StudyRow | None:
    settings = opened.user_attrs.get(studies.SETTINGS)
    if not isinstance(settings, dict):  # another program's study
        return None
    rows = trials.records(opened)
    leader = records.best(rows)
    times = [time for row in rows for time in (row.began, row.ended) if time]
    return StudyRow(
        opened.study_name,
        settings["task"],
        records.counts(rows),
        leader.value if leader else None,
        studies.metric(opened).unit,
        max(times, default=None),
        target=opened.user_attrs.get(studies.TRIALS),
        optimizer=leader.optimizer if leader else None,
        curve=tuple(value for _, value in leader.curve) if leader else (),
        less=studies.metric(opened).direction == "minimize",
    )


def study_names(studies_dir: Path, storage: str | None) -> list[str]:
    """The studies with an SQLite file of their own in `studies_dir`, or those in a database where a URL is given."""
    if storage is not None:
        return sorted(optuna.get_all_study_names(open_storage(StorageUrl.parse(storage), create=False)))
    return sorted(path.parent.name for path in expanded(studies_dir).glob(f"[!.]*/{OWN_FILE}"))


def older_study(name: str, studies_dir: Path, storage: str | None, from_storage: str | None = None) -> StudyLocation:
    """Find the study that another one is to begin from.

    Args:
        name: of the older study.
        studies_dir: folder of the studies.
        storage: where the new one lives; None for an SQLite file of its own. The older one is looked for there, then in
            a file of its own.
        from_storage: URL of the storage of the older one; None to look for it.

    Raises:
        UsageError: there is no such study.
    """
    beside = studies.location(studies_dir, checked_study_name(name), None)
    if from_storage is None and storage is not None and beside.url.exists():
        try:
            there = study_names(studies_dir, storage) if StorageUrl.parse(storage).exists() else []
        except NoStudies:
            there = []
        if name not in there:
            return beside
    return choose_study(name, studies_dir, from_storage or storage)


def choose_study(name: str | None, studies_dir: Path, storage: str | None) -> StudyLocation:
    """Find a study.

    Args:
        name: of the study; None for the default task's, or the only one.
        studies_dir: folder of the studies.
        storage: URL of a database; None for the SQLite files in `studies_dir`.

    Raises:
        UsageError: there is no such study.
    """
    there = study_names(studies_dir, storage)
    place = str(studies_dir) if storage is None else StorageUrl.parse(storage).shown
    default = StudySettings().task
    if name is None:
        if default not in there and len(there) == 1:
            name = there[0]
        elif default not in there and there:
            raise UsageError(f"there are several studies in {place}: name one with --study ({', '.join(there)})")
        elif storage is None and not there:
            raise UsageError(
                f"there is no study yet in {place}: make one with 'optitune search --task digits', or name its place "
                "with --studies-dir"
            )
        else:
            name = default
    # also one that was found: any program may have put it into the database, and it names a folder
    checked_study_name(name)
    if name not in there:
        advice = f"make it with 'optitune search --study {name}', or name its place with --studies-dir"
        if storage is not None and (studies_dir / name).is_dir():
            of = there[0] if len(there) == 1 else "OLD"
            advice = f"if a study's folder was renamed, say so to the storage: optitune rename {of} {name}"
        raise unknown("study", name, there, f"(looked in {place}; {advice})")
    return studies.location(studies_dir, name, storage)
