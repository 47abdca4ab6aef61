"""What a comparison and a full training tell in optuna-dashboard."""

from collections.abc import Callable

import optuna

from optitune.comparing import results as comparison_results
from optitune.comparing.results import Comparison
from optitune.dashboard import notes as story
from optitune.dashboard import plotly_figures, search_notes
from optitune.dashboard.notes import Chapter
from optitune.errors import OptituneError
from optitune.report import data as report_data
from optitune.report import tables as report_tables
from optitune.report.compared import compared
from optitune.retraining import results as retrain_results
from optitune.storage import studies
from optitune.storage import trials as storage_trials
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import STORAGE_ERRORS, exists, open_storage


def write_comparison(home: StudyLocation, found: Comparison) -> str:
    """Let a study tell what its comparison came to; what could not be done, or nothing."""

    def chapter(opened: optuna.Study) -> Chapter:
        verdict, unit = found.verdict, found.unit
        names = studies.stored_settings(opened)["optimizers"]
        table = compared(found)
        values, gaps = report_data.intervals(verdict.places), report_data.gaps(verdict)
        return Chapter(
            f"## The comparison\n\n**{found.sentence}**\n\n{found.advice}\n\n{story.table(table)}\n\n{table.caption}",
            plotly_figures.of_comparison(values, gaps, verdict.leader, verdict.epsilon, names, unit),
        )

    return _tell(home, "compare", chapter)


def write_tested(home: StudyLocation, name: str) -> str:
    """Let a study tell what its full training of that name came to; what could not be done, or nothing."""

    def chapter(opened: optuna.Study) -> Chapter | None:
        result = retrain_results.load(home.folder / "retrain" / name)
        if result is None:
            return None
        trials = storage_trials.records(opened)
        metric = studies.metric(opened)
        found = comparison_results.load(home.folder / comparison_results.FOLDER, trials, metric)
        words = report_tables.tested(result, found, metric.unit, metric.sign)
        return Chapter(f"## On the test set\n\n{' '.join(words)}")

    return _tell(home, "retrain", chapter)


def _tell(home: StudyLocation, stage: str, chapter: Callable[[optuna.Study], Chapter | None]) -> str:
    """Write a stage's chapter; its results are on disk, and stay good where the storage cannot be written."""
    try:
        if not exists(home.url) or (opened := studies.load(open_storage(home.url, create=False), home.name)) is None:
            # the configuration came as a file
            return ""
        written = chapter(opened)
        if written is None:
            return ""
        unwritten = story.tell(opened, stage, written, home.folder)
        # which advises a comparison until there is one
        searched = search_notes.chapter(opened, storage_trials.records(opened))
        return unwritten or story.tell(opened, "search", searched, home.folder)
    except (OptituneError, *STORAGE_ERRORS) as error:
        return f"the dashboard does not tell of it: {' '.join(str(error).split())}"
