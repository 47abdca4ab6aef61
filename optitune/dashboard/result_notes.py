"""The notes of a comparison and of a full training in optuna-dashboard."""

from collections.abc import Callable

import optuna

from optitune.comparing import results as comparison_results
from optitune.comparing.results import Comparison
from optitune.dashboard import notes, plotly_figures, search_notes
from optitune.dashboard.notes import Chapter
from optitune.errors import OptituneError
from optitune.report import tables as report_tables
from optitune.report.comparison_tables import comparison_table, front_table
from optitune.report.style import Palette
from optitune.retraining import results as retrain_results
from optitune.storage import studies
from optitune.storage import trials as storage_trials
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import STORAGE_ERRORS, open_storage


def write_searched(home: StudyLocation) -> str:
    """Write the search's part of the study's note again; returns what could not be done, or nothing."""
    return _write(
        home, "search", lambda opened: search_notes.chapter(opened, storage_trials.records(opened), home.folder)
    )


def write_comparison(home: StudyLocation, found: Comparison) -> str:
    """Write what the comparison came to into the study's note; returns what could not be done, or nothing."""

    def chapter(opened: optuna.Study) -> Chapter:
        verdict, unit = found.verdict, found.unit
        names = studies.stored_settings(opened)["optimizers"]
        table = comparison_table(found)
        tables = [table, *filter(None, [front_table(found)])]
        shown = "\n\n".join(f"{notes.table(each)}\n\n{each.caption}" for each in tables)
        return Chapter(
            f"## The comparison\n\n**{found.sentence}**\n\n{found.advice}\n\n{shown}",
            plotly_figures.of_comparison(verdict, Palette(tuple(names), unit)),
        )

    return _write(home, "compare", chapter)


def write_tested(home: StudyLocation, name: str) -> str:
    """Write what a full training came to into the study's note; returns what could not be done, or nothing."""

    def chapter(opened: optuna.Study) -> Chapter | None:
        result = retrain_results.load(home.folder / "retrain" / name)
        if result is None:
            return None
        trials = storage_trials.records(opened)
        metric = studies.metric(opened)
        found = comparison_results.load(home.folder / comparison_results.FOLDER, trials, metric)
        words = report_tables.tested(result, found, metric.unit, metric.sign)
        return Chapter(f"## On the test set\n\n{' '.join(words)}")

    return _write(home, "retrain", chapter)


def _write(home: StudyLocation, stage: str, chapter: Callable[[optuna.Study], Chapter | None]) -> str:
    """Write a stage's chapter; its results are on disk, and stay good where the storage cannot be written."""
    try:
        if not home.url.exists() or (opened := home.load(open_storage(home.url, create=False))) is None:
            # the configuration came as a file
            return ""
        written = chapter(opened)
        if written is None:
            return ""
        unwritten = notes.write(opened, stage, written, home.folder)
        # which advises a comparison until there is one, and has the code of what it says to take
        searched = search_notes.chapter(opened, storage_trials.records(opened), home.folder)
        return unwritten or notes.write(opened, "search", searched, home.folder)
    except (OptituneError, *STORAGE_ERRORS) as error:
        return f"the dashboard does not show it: {' '.join(str(error).split())}"
