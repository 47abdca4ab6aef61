"""The stages, and what optuna-dashboard shows of each: the command line and the functions for Python call these."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from optitune.comparing import dry_run as dry_comparing
from optitune.comparing import run as comparing
from optitune.comparing.requests import CompareRequest
from optitune.dashboard import result_notes, trial_notes
from optitune.dashboard.search_notes import SearchNotes
from optitune.retraining import dry_run as dry_retraining
from optitune.retraining import run as retraining
from optitune.retraining.seeds import View
from optitune.searching import dry_run as dry_searching
from optitune.searching import join as joining
from optitune.searching import run as searching
from optitune.searching import supervisor
from optitune.searching.notes import Notes
from optitune.searching.requests import JoinRequest, SearchRequest
from optitune.terminal.screen import Silent
from optitune.tracking.views import TrackedComparison, TrackedRetrain, TrackedSearch
from optitune.training.dry_run import DryRun

NOTES = Notes(trial_ends=trial_notes.attach, of_study=SearchNotes)


def search(request: SearchRequest, view: supervisor.View, log: str | Sequence[str] = ()) -> searching.SearchOutcome:
    """Train until the study has as many finished trials as were asked for; see `searching.run.search`.

    Args:
        request: what is asked for.
        view: shows it.
        log: where else every training is written down as it goes, see `tracking.trackers.check`.
    """
    if log:
        view = TrackedSearch(view, log, request.home.name, request.home.folder)
    return searching.search(request, view, NOTES)


def dry_search(request: SearchRequest) -> DryRun:
    """What a search would train; see `searching.dry_run.dry_run`."""
    return dry_searching.dry_run(request, Silent())


def join(request: JoinRequest, view: supervisor.View, log: str | Sequence[str] = ()) -> joining.JoinOutcome:
    """Help with a search that was begun elsewhere; see `searching.join.join`.

    Args:
        request: what is asked for.
        view: shows it.
        log: as of `search`.
    """
    if log:
        view = TrackedSearch(view, log, request.home.name, request.home.folder)
    return joining.join(request, view, NOTES)


def compare(
    request: CompareRequest,
    view: comparing.View,
    log: str | Sequence[str] = (),
    note: Callable[[str], None] = lambda text: None,
) -> comparing.CompareOutcome:
    """Train each optimizer's best configuration again; see `comparing.run.compare`, and `search` for `log`.

    Args:
        request: what is asked for.
        view: shows it.
        log: where else every run is written down as it goes.
        note: takes what the user should know of that.
    """
    if log:
        view = TrackedComparison(view, log, request.home.name, request.home.folder, note)
    result = comparing.compare(request, view)
    return replace(result, unwritten=result_notes.write_comparison(request.home, result.comparison))


def dry_compare(request: CompareRequest) -> DryRun:
    """What a comparison would train; see `comparing.dry_run.dry_run`."""
    return dry_comparing.dry_run(request)


def retrain(request: retraining.RetrainRequest, view: View, log: str | Sequence[str] = ()) -> retraining.RetrainOutcome:
    """Train in full and test once; see `retraining.run.retrain`.

    Args:
        request: what is asked for.
        view: shows it.
        log: as of `search`.
    """
    if log:
        view = TrackedRetrain(view, log, request.home.name, request.home.folder, request.name)
    result = retraining.retrain(request, view)
    return replace(result, unwritten=result_notes.write_tested(request.home, request.name))


def dry_retrain(request: retraining.RetrainRequest) -> DryRun:
    """What a full training would train; see `retraining.dry_run.dry_run`."""
    return dry_retraining.dry_run(request)
