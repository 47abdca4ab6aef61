"""Studies are renamed, copied and removed: the folder, the settings file beside it, and the study in its storage.

Each call is whole or can be repeated: a step that was interrupted is found done, or done, by the next call.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import optuna
from optuna.trial import TrialState

from optitune.common.files import explained, write_text
from optitune.common.text import plural
from optitune.errors import OptituneError, UsageError, unknown
from optitune.storage import studies
from optitune.storage.listing import study_names
from optitune.storage.studies import OWN_FILE, OWNER, StudyLocation, rename_in_files
from optitune.storage.urls import explained_storage, open_storage, rename_study
from optitune.study.settings import checked_study_name
from optitune.workers.leases import BEAT, BEAT_S, is_alive, is_held, is_here

UNFINISHED = "renaming"
"""A file in the folder of a study that is being renamed: the old name and the new one."""

LOCKS = ("workers/*.lock", "partial/*.lock", "retrain/partial/*.lock")
"""Files in the folder of a study that are locked while a search, a comparison or a full training is under way."""

BRIEF = ("workers", "turn.lock", f"{OWN_FILE}*", UNFINISHED)
"""What is not copied along: it belongs to running processes, or is copied in another way."""


def rename(old: str, new: str, studies_dir: Path, storage: str | None = None) -> StudyLocation:
    """Rename a study: in its storage, its folder, its settings file `NEW.toml`, and the files that name it.

    Args:
        old: its name.
        new: its name from now on.
        studies_dir: the folder of all studies.
        storage: URL of a database; None for a file of the study's own.

    Returns:
        where it is now.

    Raises:
        UsageError: there is no such study, or the new name is taken or none.
        OptituneError: the study is being trained, or storage or folder cannot be written.
    """
    was, now = _two(old, new, studies_dir, storage)
    mark = f"{old} {new}"
    begun = any(_text(place.folder / UNFINISHED) == mark for place in (was, now))
    if not begun:
        _check(was, now, studies_dir, storage)
        check_at_rest(was)
        if was.folder.exists():
            write_text(was.folder / UNFINISHED, mark)
    if storage is not None and old in study_names(studies_dir, storage):
        rename_study(was.url, old, new)
    with explained(was.folder, "rename"):
        for before, after in ((was.folder, now.folder), (settings_file(was), settings_file(now))):
            if before.exists() and not after.exists():
                before.rename(after)
    # by which the storage follows, where it lies in the folder
    now.open()
    rename_in_files(now.folder, old, new)
    (now.folder / UNFINISHED).unlink(missing_ok=True)
    return now


def copy(old: str, new: str, studies_dir: Path) -> StudyLocation:
    """Copy a study with an SQLite file of its own, also while it is trained; the copy has all that was finished.

    Args:
        old: its name.
        new: name of the copy.
        studies_dir: the folder of all studies.

    Returns:
        where the copy is.

    Raises:
        UsageError: there is no such study, or the new name is taken or none.
        OptituneError: the folder cannot be written.
    """
    was, now = _two(old, new, studies_dir, None)
    _check(was, now, studies_dir, None)
    _sweep(studies_dir)
    scratch = _hidden(now)
    with explained(now.folder, "copy to"):
        try:
            shutil.copytree(was.folder, scratch, symlinks=True, ignore=shutil.ignore_patterns(*BRIEF))
            # as of one moment, whoever writes meanwhile
            source, target = (sqlite3.connect(folder / OWN_FILE) for folder in (was.folder, scratch))
            with closing(source), closing(target):
                source.backup(target)
            if settings_file(was).exists():
                shutil.copyfile(settings_file(was), settings_file(now))
            scratch.rename(now.folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    now.open()
    return now


def found(name: str, studies_dir: Path, storage: str | None) -> tuple[StudyLocation, str]:
    """The study to remove, and what is lost with it, in words; also one whose removal was interrupted.

    Args:
        name: of the study.
        studies_dir: the folder of all studies.
        storage: URL of a database; None for a file of the study's own.

    Raises:
        UsageError: there is no such study.
    """
    home = studies.location(studies_dir, checked_study_name(name), storage)
    there = study_names(studies_dir, storage)
    if name not in there and not (storage is not None and home.folder.is_dir()):
        raise unknown("study", name, there, "(see 'optitune studies')")
    files = [path for path in home.folder.rglob("*") if path.is_file()]
    size = f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB in {home.folder}"
    try:
        opened = home.load(open_storage(home.url, create=False))
    except OptituneError:
        # a damaged file can be removed as well
        return home, size
    if opened is None:
        return home, size
    parts = {"comparison": "compare", "full training": "retrain/*/metrics.json"}
    others = [plural(len(list(home.folder.glob(place))), word) for word, place in parts.items()]
    trials = plural(len(opened.get_trials(deepcopy=False)), "trial")
    return home, ", ".join([trials, *(each for each in others if not each.startswith("0")), size])


def remove(home: StudyLocation) -> None:
    """Remove a study: from its storage, and its folder; its settings file stays.

    Args:
        home: where the study lives.

    Raises:
        OptituneError: the study is being trained, or storage or folder cannot be written.
    """
    _sweep(home.folder.parent)
    check_at_rest(home)
    if not home.is_own_file:
        with explained_storage(home.url):
            storage = open_storage(home.url, create=False)
            if studies.load(storage, home.name) is not None:
                optuna.delete_study(study_name=home.name, storage=storage)
    with explained(home.folder, "remove"):
        if home.folder.is_symlink():
            home.folder.unlink()
        elif home.folder.exists():
            # gone at once; what is left of it after a kill is swept by the next call
            gone = _hidden(home)
            home.folder.rename(gone)
            shutil.rmtree(gone)


def check_at_rest(home: StudyLocation) -> None:
    """Check that nobody trains a study.

    Raises:
        OptituneError: somebody does.
    """
    busy = OptituneError(f"study '{home.name}' is being trained: wait until that has ended, or stop it with Ctrl-C")
    if any(is_held(path) for pattern in LOCKS for path in home.folder.glob(pattern)):
        raise busy
    if home.is_own_file or not home.url.exists():
        return
    before = _running(home)
    if any(is_here(owner) and is_alive(owner) for owner, _ in before.values()):
        raise busy
    until = time.monotonic() + 2 * BEAT_S
    while any(not is_here(owner) for owner, _ in before.values()) and time.monotonic() < until:
        # a worker of another machine shows by its beats that it is alive
        time.sleep(1)
        if _running(home) != before:
            raise busy


def _running(home: StudyLocation) -> Mapping[int, tuple[Mapping[str, object], object]]:
    """Owner and last heartbeat of the running trials that have an owner, by number."""
    with explained_storage(home.url):
        opened = home.load(open_storage(home.url, create=False))
        trials = [] if opened is None else opened.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    signed = [trial for trial in trials if trial.user_attrs.get(OWNER)]
    return {trial.number: (trial.user_attrs[OWNER], trial.system_attrs.get(BEAT)) for trial in signed}


def settings_file(home: StudyLocation) -> Path:
    """The file of a study's settings, `NAME.toml` beside its folder."""
    return home.folder.with_name(f"{home.name}.toml")


def _two(old: str, new: str, studies_dir: Path, storage: str | None) -> tuple[StudyLocation, StudyLocation]:
    if checked_study_name(old) == checked_study_name(new):
        raise UsageError(f"study '{old}' is called so already: give another name")
    was, now = (studies.location(studies_dir, name, storage) for name in (old, new))
    return was, now


def _check(was: StudyLocation, now: StudyLocation, studies_dir: Path, storage: str | None) -> None:
    """Check that a study is there, and that nothing is in its way under another name.

    Raises:
        UsageError: there is none, or something is.
    """
    there = study_names(studies_dir, storage)
    if was.name not in there:
        raise unknown("study", was.name, there, "(see 'optitune studies')")
    if now.name in there:
        raise UsageError(f"there is a study '{now.name}' already: choose another name, or remove that one first")
    # of a study in a database, the folder may have been renamed before
    alone = storage is not None and not was.folder.exists()
    if os.path.lexists(now.folder) and not alone:
        raise UsageError(f"{now.folder} is in the way: move it, or choose another name")
    if settings_file(now).exists() and settings_file(was).exists():
        raise UsageError(f"{settings_file(now)} is in the way: move it, or choose another name")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _hidden(home: StudyLocation) -> Path:
    """A place for the folder of a study that is not listed as one."""
    return home.folder.with_name(f".{home.name}-gone-{uuid4().hex[:8]}")


def _sweep(studies_dir: Path) -> None:
    """Remove the folders of removed studies, and of copies, whose process was killed."""
    for path in studies_dir.glob(".*-gone-????????"):
        shutil.rmtree(path, ignore_errors=True)
