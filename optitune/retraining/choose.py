"""Which study and which configuration a user means."""

import re
from dataclasses import dataclass
from pathlib import Path

import optuna

from optitune.comparing.results import FOLDER, taken
from optitune.errors import OptituneError, UsageError
from optitune.storage import studies, trials
from optitune.storage.listing import choose_study, study_names
from optitune.storage.studies import StudyLocation
from optitune.storage.trials import best_config
from optitune.study import best_config as best
from optitune.study.best_config import BestConfig
from optitune.study.records import best as best_record
from optitune.study.records import standings
from optitune.study.settings import checked_study_name


@dataclass(frozen=True)
class Chosen:
    """A configuration, the name that its results go by, and the study it belongs to.

    Attributes:
        edited: whether its trial in the study had other settings, so that its value is not theirs.
        compared: whether it is what the study's comparison says to take.
    """

    name: str
    config: BestConfig
    home: StudyLocation
    edited: bool = False
    compared: bool = False

    @property
    def note(self) -> str:
        """What a user should know of it; empty where there is nothing to say."""
        if self.compared:
            found = self.config
            return (
                f"best is what the comparison says to take: {found.configuration.optimizer.name}, trial {found.trial}"
            )
        if self.edited:
            return "best.toml was edited; its value is that of the trial before the edit"
        return ""


def choose(what: str, name: str | None, studies_dir: Path, storage: str | None) -> Chosen:
    """Find the configuration that `best`, a trial's number or a file names.

    Args:
        what: `best`, a trial's number, or the path of a `best.toml`.
        name: of the study; None for the default task's, or the only one there is.
        studies_dir: the folder of all studies.
        storage: the URL of the storage; None for the study's own file.

    Raises:
        UsageError: there is no such study or trial, or the file is not a valid `best.toml` of that study's task.
        OptituneError: the study has no best configuration, or the trial is not complete.
    """
    file = Path(what)
    if what != "best" and not what.isdecimal():
        if not file.suffix and not file.exists():
            if storage is None and what in study_names(studies_dir, None):
                raise UsageError(f"'{what}' is a study: say what of it, as in  best --study {what}")
            raise UsageError(
                f"'{what}' is neither best, nor a trial's number, nor a file: see the trials with 'optitune show'"
            )
        config = best.load(file, "name a best.toml, best, or a trial's number")
        # the best of a study that was renamed may name it as before
        beside = file.name == "best.toml" and file.resolve().parent.parent == studies_dir.resolve()
        of = file.resolve().parent.name if beside else config.study
        home = studies.location(studies_dir, checked_study_name(name or of), storage)
        if name is not None and (home.folder / "study.db").exists():
            settings = studies.stored_settings(home.open())
            best.check_task(config, name, settings["task"], file)
        own = file.resolve() == (home.folder / "best.toml").resolve()
        return Chosen("best" if own else _folder_name(file), config, home)
    home = choose_study(name, studies_dir, storage)
    opened = home.open()
    studies.stored_settings(opened)
    if what == "best":
        return choose_best(home, opened)
    return Chosen(f"trial-{int(what)}", best_config(opened, trials.record(opened, int(what))), home)


def choose_best(home: StudyLocation, opened: optuna.Study) -> Chosen:
    """Find a study's best configuration: what its comparison says to take, or the search's best.

    Raises:
        UsageError: its `best.toml` is not valid, or of another task.
        OptituneError: there is none.
    """
    path, settings, records = home.folder / "best.toml", studies.stored_settings(opened), trials.records(opened)
    if path.exists():
        config = best.load(path, "").model_copy(update={"study": home.name})
    else:
        winner = best_record(records)
        if winner is None:
            raise OptituneError(
                f"study '{home.name}' has no complete trial yet: go on with 'optitune search --study {home.name}'"
            )
        # it was searched elsewhere, so that the file is not here
        config = best_config(opened, winner)
    best.check_task(config, home.name, settings["task"], path)
    edited = next((row.configuration for row in records if row.number == config.trial), None) != config.configuration
    leaders = {row.optimizer: row.best for row in standings(records, settings["optimizers"]) if row.best}
    recommended = taken(home.folder / FOLDER, {name: leader.number for name, leader in leaders.items()})
    if recommended is not None and not edited:
        return Chosen("best", best_config(opened, trials.record(opened, recommended)), home, compared=True)
    return Chosen("best", config, home, edited=edited)


def _folder_name(file: Path) -> str:
    """What the results of a file's configuration go by: its name, but none that a study has for its own."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-.")[:80] or "file"
    return f"{name}-file" if name in ("best", "partial") or name.startswith("trial-") else name
