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
from pydantic import TypeAdapter

from optitune.common.schema import validated
from optitune.common.text import plural
from optitune.errors import OptituneError, UsageError, unknown
from optitune.storage.retry import RetryPolicy
from optitune.storage.urls import StorageUrl, open_storage, sqlite_url
from optitune.study.settings import StudySettings
from optitune.tasks.metrics import Metric, restored

SETTINGS = "settings"
DATA = "data"
METRIC = "metric"
RANGES = "ranges"
VERSIONS = "versions"
TRIALS = "trials"
CODE = "code"
FROM = "from"

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class StudyLocation:
    """A study's name, its folder, and the URL of its storage."""

    name: str
    folder: Path
    url: StorageUrl

    def open(self, patience: RetryPolicy | None = None) -> optuna.Study:
        """The study, which is there.

        Args:
            patience: how to wait for a server that does not answer; None not to.

        Raises:
            UsageError: there is none of that name; the message has the nearest names.
            OptituneError: its storage is missing, damaged, or cannot be reached.
        """
        return find(open_storage(self.url, create=False, patience=patience), self.name)


@dataclass(frozen=True)
class Origin:
    """What a study took from another one at its beginning.

    Attributes:
        study: name of the other study.
        storage: URL of its storage, without a password; empty where it is found by its name.
        trials: numbers there of the trials that were taken.
        finished: how many finished trials it had.
        left_out: how many of those were not taken, by the reason in a few words.
    """

    study: str
    storage: str
    trials: tuple[int, ...]
    finished: int
    left_out: Mapping[str, int]

    def sentence(self) -> str:
        """What was taken and what was not, in words."""
        reasons = "; ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        count = f"{len(self.trials)} of the" if reasons else "all"
        of = f"{count} {plural(self.finished, 'finished trial')} of study '{self.study}'"
        return f"{of}; left out: {reasons}" if reasons else of

    def options(self) -> list[str]:
        """The words of a command that takes the same."""
        return ["--from", self.study, *(["--from-storage", self.storage] if self.storage else [])]


def origin(study: optuna.Study) -> Origin | None:
    """What the study took from another one at its beginning; None where it began with nothing."""
    kept = study.user_attrs.get(FROM)
    return TypeAdapter(Origin).validate_python(kept) if kept else None


def own_target(study: optuna.Study) -> int | None:
    """How many finished trials of its own the study is to have, as `--trials` counts; None where it does not say."""
    begun, number = origin(study), study.user_attrs.get(TRIALS)
    return number - len(begun.trials) if begun and number is not None else number


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


def settings_of(study: optuna.Study) -> StudySettings:
    """The settings that the study was made with.

    Raises:
        UsageError: it was not made by optitune, or an optimizer of it is not installed here.
    """
    return validated(StudySettings, stored_settings(study), f"study '{study.study_name}' as stored")


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


def location(studies_dir: Path, name: str, storage: str | None) -> StudyLocation:
    """Where a study of that name is, or would be.

    Args:
        studies_dir: folder of the studies.
        name: of the study.
        storage: URL of a database; None for an SQLite file of the study's own.

    Raises:
        UsageError: the URL is none of a storage.
    """
    folder = studies_dir / name
    return StudyLocation(name, folder, StorageUrl.parse(storage) if storage else sqlite_url(folder / "study.db"))
