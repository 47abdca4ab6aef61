"""The note of a search in optuna-dashboard: its question, its standings, the command that made it."""

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import optuna

from optitune.common.commands import line
from optitune.common.schema import inline
from optitune.common.text import Unit, over_runs, plural
from optitune.comparing import results as comparison_results
from optitune.dashboard import notes, plotly_figures, trial_notes
from optitune.dashboard.artifacts import system_attrs
from optitune.dashboard.notes import Chapter
from optitune.errors import OptituneError, UsageError
from optitune.report.standings import standings_table
from optitune.report.style import Palette
from optitune.searching.conclusions import conclusions
from optitune.storage import studies, trials
from optitune.storage.trials import best_config
from optitune.study import steps
from optitune.study.best_config import BestConfig
from optitune.study.records import TrialRecord, best, counts, standings
from optitune.study.settings import StudySettings, flat
from optitune.study.steps import examples_text, reported_epoch
from optitune.study.study_file import Budget
from optitune.tasks.loading import FROM_PYTHON
from optitune.training import export_code

EVERY_S = 10.0
"""The least time between two notes of a running search, in seconds."""


class SearchNotes:
    """Writes the note of a search as it goes on, and at its end.

    Args:
        opened: the study.
        folder: of the study.
        read: reads the trials again.
    """

    def __init__(self, opened: optuna.Study, folder: Path, read: Callable[[], list[TrialRecord]]) -> None:
        self._study = opened
        self._folder = folder
        self._read = read
        self._next = 0.0

    def refreshed(self) -> list[TrialRecord]:
        """Read the trials again, and write how they stand unless that was done a moment ago."""
        records = self._read()
        if time.monotonic() >= self._next:
            self._write(records)
            self._next = time.monotonic() + EVERY_S
        return records

    def end(self) -> str:
        """Write how the trials stand in the end; returns what could not be written, or nothing."""
        return self._write(self._read())

    def _write(self, records: Sequence[TrialRecord]) -> str:
        return notes.write(self._study, "search", chapter(self._study, records, self._folder), self._folder)


def chapter(opened: optuna.Study, records: Sequence[TrialRecord], folder: Path) -> Chapter:
    """The search's part of the note.

    Args:
        opened: the study.
        records: its trials.
        folder: of the study.
    """
    settings, data = studies.stored_settings(opened), opened.user_attrs[studies.DATA]
    metric = studies.metric(opened)
    palette = Palette(tuple(settings["optimizers"]), metric.unit)
    winner = best(records)
    config = best_config(opened, winner) if winner is not None else None
    number = _taken(folder, records, palette.optimizers)
    taken = config if number is None else best_config(opened, trials.record(opened, number))
    return Chapter(
        text="\n\n".join(_parts(opened, settings, data, records, config, taken, metric.unit)),
        figures=plotly_figures.of_search(records, palette, metric.sign),
        files=files(records, config, taken, data.get("train_examples")),
    )


def _taken(folder: Path, records: Sequence[TrialRecord], optimizers: Sequence[str]) -> int | None:
    """The trial that the comparison says to take; None where it says none, or cannot be read."""
    leaders = {row.optimizer: row.best.number for row in standings(records, optimizers) if row.best}
    try:
        return comparison_results.taken(folder / comparison_results.FOLDER, leaders)
    except OptituneError:
        return None


def _parts(
    opened: optuna.Study,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    records: Sequence[TrialRecord],
    config: BestConfig | None,
    taken: BestConfig | None,
    unit: Unit,
) -> list[str]:
    number, target = counts(records), opened.user_attrs.get(studies.TRIALS)
    of = f" of {target}" if target else ""
    parts = [
        "## Which optimizer, with which settings, and how sure?",
        f"**{settings['task']}**, judged by validation {unit.metric} on "
        f"{examples_text(data['validation_examples'])} after {plural(settings['epochs'], 'epoch')} on "
        f"{examples_text(data['train_examples'])}. Trials finished: "
        f"{number['finished']}{of} ({number['complete']} complete, {number['pruned']} pruned, "
        f"{number['diverged']} diverged" + (f", {number['failed']} failed" if number["failed"] else "") + ").",
        notes.table(standings_table(records, settings["optimizers"], unit)),
    ]
    with suppress(UsageError):
        # an optimizer of it may not be installed here
        parts += conclusions(studies.settings_of(opened), records).sentences(unit)
    if config is not None and taken is not None:
        compared = notes.PART + "compare" in system_attrs(opened)
        next_step = (
            "Which optimizer is truly best, and how sure that is, says the comparison below. To take, by now: "
            f"{taken.configuration.optimizer.name}, trial {taken.trial}."
            if compared
            else f"`optitune compare {opened.study_name}` trains the best of each optimizer again on fresh seeds and "
            "says which is truly best, and how sure that is."
        )
        parts += [
            f"The best is trial {config.trial}: {over_runs(config.runs)}, the luckiest of {number['complete']}, and so "
            f"no estimate. "
            f"{next_step}",
            trial_notes.code(taken.configuration, taken.epochs),
            "The whole training as code is `train.py` among the artifacts, as "
            f"`optitune export --study {opened.study_name}` prints it.",
        ]
    own = {key: value for key, value in settings.items() if key != "loss" or value != data["loss"]}
    origin = studies.origin(opened)
    if origin is not None:
        parts.append(f"Taken at its beginning: {origin.sentence()}.")
    made_by = command(opened.study_name, own, studies.own_target(opened), origin)
    return [*parts, f"Made by\n\n```sh\n{made_by}\n```" if made_by else "Made from Python by `optitune.search`."]


def command(name: str, settings: Mapping[str, Any], trials: int | None, origin: studies.Origin | None = None) -> str:
    """The command that makes such a study; empty where its task was an object in Python.

    Args:
        settings: of the study, without a loss that the task decides.
        trials: that it is to have, those taken from another study not counted.
        origin: what it took from another study, whose settings go before the defaults.
    """
    task = settings["task"]
    if task.startswith(FROM_PYTHON):
        return ""
    usual = flat(StudySettings(task=task).document())
    words = ["search", "--study", name, "--task", task, "--trials", str(trials or Budget().trials)]
    words += origin.options() if origin is not None else []
    for key, value in flat(settings).items():
        if key != "task" and (usual.get(key) != value or origin is not None):
            words += ["--set", f"{key}={inline(value)}"]
    return line(words)


def files(
    records: Sequence[TrialRecord], config: BestConfig | None, taken: BestConfig | None, examples: int | None = None
) -> dict[str, str]:
    """Files for the dashboard, by name: every curve as CSV, the search's best as TOML, and code.

    Args:
        records: the study's trials, finished and running.
        config: the search's best; None where no trial is complete.
        taken: whose code to show; None where no trial is complete.
        examples: that every trial trains on; without it, no step is known where batch sizes differ.
    """
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("trial", "optimizer", "step", "epoch", "value"))
    times, an_epoch = steps.own_steps(records, examples), reported_epoch(records)
    for record in records:
        own = times.get(record.number)
        rows.writerows(
            (
                record.number,
                record.optimizer,
                "" if own is None else round(step * own),
                step / an_epoch if an_epoch else "",
                value,
            )
            for step, value in record.curve
        )
    found = {"curves.csv": text.getvalue()}
    if config is not None and taken is not None:
        found |= {
            "best.toml": export_code.export(config, "toml") + "\n",
            "train.py": export_code.export(taken, "python") + "\n",
        }
    return found
