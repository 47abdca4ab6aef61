"""The benchmark of what a search costs beside training: its arithmetic, and its made-up studies."""

import os
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from optitune.storage import studies, study_checks
from optitune.storage import trials as storage_trials
from optitune.storage.urls import open_storage
from optitune.study.records import FINISHED
from optitune.study.settings import StudySettings


def test_the_parts_add_up_to_the_time_of_all_workers() -> None:
    from scripts.bench.search.overhead import Span, shares

    spans = [Span(1, 3.0, 5.0, 1.5), Span(2, 4.0, 10.0, 5.0), Span(1, 5.5, 8.0, 2.0)]
    parts = shares(spans, began=1.0, ended=11.0)
    assert sum(parts.values()) == pytest.approx(2 * (11.0 - 1.0))
    assert parts == {
        "training and evaluation": 8.5,
        "start-up, until the first trial": 5.0,
        "within trials: sampling, reports": 2.0,
        "between trials: telling, taking": 0.5,
        "tail, nothing left to take": 2.0,
        "after the last trial, until exit": 2.0,
    }


def test_made_up_studies_read_like_real_ones_and_one_more_trial_is_measured(tmp_path: Path) -> None:
    from scripts.bench.search.overhead import ACCURACY, FACTS, fill, growth, made_up

    settings = StudySettings(precision="fp32")
    trials = made_up(settings, 30)
    home = studies.location(tmp_path, "thirty", None)
    storage = open_storage(home.url, create=True)
    fill(study_checks.create_or_resume(storage, home.name, settings, FACTS, ACCURACY), storage.engine, trials)
    opened = studies.find(open_storage(home.url, create=False), home.name)
    assert {row.outcome for row in storage_trials.records(opened)} == {"complete", "pruned"} < set(FINISHED)
    for read, written in zip(opened.trials, trials, strict=True):
        assert (read.number, read.state, read.params, read.value) == (
            written.number,
            written.state,
            written.params,
            written.value,
        )
        assert (read.user_attrs, read.intermediate_values) == (written.user_attrs, written.intermediate_values)
    took = growth(settings, studies.location(tmp_path, "more", None), trials, rounds=1)
    assert {"take", "suggest", "tell", "a trial, all of these"} < set(took)
    more = studies.find(open_storage(studies.location(tmp_path, "more", None).url, create=False), "more")
    assert [trial.state for trial in more.trials[30:]] == [TrialState.COMPLETE] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_read_of_a_process_and_its_descendants() -> None:
    from scripts.bench.search.overhead import family, memory

    assert os.getpid() in family(os.getppid())
    held = memory(os.getpid())
    assert held["rss"] >= held["pss"] >= held["private"] > 10
    assert memory(2**22 + 1) == {}
