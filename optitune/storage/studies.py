"""A study in its storage, read as plain records."""

import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from pydantic import TypeAdapter

from optitune.common.files import expanded, explained, replacing
from optitune.common.schema import validated
from optitune.common.text import plural
from optitune.errors import OptituneError, UsageError, unknown
from optitune.storage.retry import RetryPolicy
from optitune.storage.urls import STORAGE_ERRORS, StorageUrl, open_storage, rename_study, sqlite_url
from optitune.study.settings import StudySettings, task_name
from optitune.tasks.metrics import Metric, restored

SETTINGS = "settings"
DATA = "data"
LACKS = "lacks"
METRIC = "metric"
RANGES = "ranges"
VERSIONS = "versions"
TRIALS = "trials"
CODE = "code"
FROM = "from"
OWNER = "owner"
COSTS = "costs"

OWN_FILE = "study.db"
"""The SQLite file in a study's folder, where its storage is no other."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class StudyLocation:
    """A study's name, its folder, and the URL of its storage."""

    name: str
    folder: Path
    url: StorageUrl

    @property
    def is_own_file(self) -> bool:
        """Whether the storage is a file in the study's own folder, whose name decides what the study is called."""
        return self.url.path == (self.folder / OWN_FILE).resolve()

    def load(self, storage: BaseStorage) -> optuna.Study | None:
        """The study in its storage, or None.

        The only study in the file of a folder that was renamed or copied is meant, whatever it was called: its name,
        and what its files call it, becomes the folder's.

        Args:
            storage: opened.

        Raises:
            UsageError: the file holds several studies, none of that name.
        """
        study = load(storage, self.name)
        others = optuna.get_all_study_names(storage) if study is None and self.is_own_file else []
        if not others:
            return study
        if len(others) > 1:
            raise UsageError(
                f"{self.url.path} holds several studies, none of them called '{self.name}': {', '.join(others)}; "
                f"name one with --storage {self.url.shown} and --study {others[0]}"
            )
        study = find(storage, others[0])
        if study.user_attrs and SETTINGS not in study.user_attrs:
            return study
        with suppress(OptituneError, *STORAGE_ERRORS):
            # what can only be read is called by its folder all the same
            rename_in_files(self.folder, study.study_name, self.name)
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                # its worker, if it is alive, trains it for the study that this one is a copy of
                storage.set_trial_user_attr(trial._trial_id, OWNER, None)
            rename_study(self.url, study.study_name, self.name)
        study.study_name = self.name
        return study

    def open(self, patience: RetryPolicy | None = None) -> optuna.Study:
        """The study, which is there.

        Args:
            patience: how to wait for a server that does not answer; None not to.

        Raises:
            UsageError: there is none of that name; the message has the nearest names.
            OptituneError: its storage is missing, damaged, or cannot be reached.
        """
        storage = open_storage(self.url, create=False, patience=patience)
        return self.load(storage) or find(storage, self.name)


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
    # studies made before there was a choice count epochs, keep to the usual learning rates, and may name a rule that is
    # no more
    made = {"budget_in": "epochs", "lr_reach": 1.0}
    made |= {key: value for key, value in settings.items() if key != "allocation"}
    return {**made, "task": task_name(str(made["task"]))} if "task" in made else made


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


def costs(study: optuna.Study) -> dict[str, float] | None:
    """The relative cost of an epoch by optimizer, as it was measured for the study; None where it was not."""
    found: dict[str, float] | None = study.user_attrs.get(COSTS)
    return found


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
    folder = expanded(studies_dir) / name
    return StudyLocation(name, folder, StorageUrl.parse(storage) if storage else sqlite_url(folder / OWN_FILE))


SETTINGS_FILE = "../NAME.toml"

NAMED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        SETTINGS_FILE: ("# NAME: run it with ", "optitune search --study NAME\n"),
        "best.toml": ("# The best of study 'NAME': ", "optitune retrain best --study NAME\n", '\nstudy = "NAME"\n'),
        "retrain/*/config.toml": ("of study 'NAME'.\n", "/NAME/retrain/", " --study NAME ", '\nstudy = "NAME"\n'),
        "retrain/*/metrics.json": ('\n "study": "NAME",\n',),
    }
)
"""What is written with the name of a study into its files, by their place in its folder."""


def rename_in_files(folder: Path, old: str, new: str) -> None:
    """Let the files of a study name it by its new name; all else in them stays as it is.

    Args:
        folder: of the study.
        old: the name that they may have.
        new: the name of the study now.

    Raises:
        OptituneError: one cannot be read or written.
    """
    for place, words in NAMED.items():
        paths = [folder.with_name(f"{new}.toml")] if place == SETTINGS_FILE else folder.glob(place)
        for path in paths:
            if not path.is_file():
                continue
            with explained(path, "read"):
                data = renamed = path.read_bytes()
            for line in words:
                before, after = (line.replace("NAME", name).encode() for name in (old, new))
                renamed = renamed.replace(before, after, 1)
            if renamed != data:
                with replacing(path) as scratch:
                    scratch.write_bytes(renamed)
