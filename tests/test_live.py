"""A running search and a running full training as the terminal shows them."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from optitune.cli.live import LinesRetrain, LinesSearch, LiveRetrain, LiveSearch, Silent, search_view
from optitune.configuration import Configuration
from optitune.records import TrialRecord
from optitune.retraining import FullPlan
from optitune.settings import StudySettings
from optitune.workers import Event

SETTINGS = StudySettings(task="digits", optimizers=("sgd", "adam"), precision="fp32")


@pytest.fixture
def records(configured: Callable[..., Configuration]) -> list[TrialRecord]:
    return [
        TrialRecord(0, "complete", configured("adam"), 0.97, "", ((1, 0.9),), 1.0, score=0.97),
        TrialRecord(1, "diverged", configured("sgd"), None, "diverged at step 3: loss inf", (), 0.1),
    ]


@pytest.fixture
def plan(configured: Callable[..., Configuration]) -> FullPlan:
    return FullPlan(
        task="digits",
        configuration=configured("adam"),
        epochs=4,
        precision="fp32",
        seeds=(1, 2),
        data_checksum="sha256:" + "0" * 64,
        network="sha256:" + "1" * 64,
    )


def terminal(width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=30)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def drive_search(view: Any, records: list[TrialRecord]) -> None:
    view.begin("digits", SETTINGS, "accuracy", 4, records[:1], 2)
    view.show(Event("started", 0, {"number": 1, "optimizer": "sgd", "lr": 0.05}), records[:1])
    progress = {"number": 1, "optimizer": "sgd", "lr": 0.05, "epoch": 0.25, "value": 0.5}
    view.show(Event("progress", 0, progress), records[:1])
    view.show(Event("failed", 1, {"number": 2, "reason": "RuntimeError: [no] such kernel"}), records[:1])
    view.show(Event("finished", 0, {"number": 1}), records)
    view.tick()
    view.end()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_live_view_shows_standings_what_workers_do_and_the_time_left(
    width: int, records: list[TrialRecord]
) -> None:
    console = terminal(width)
    drive_search(LiveSearch(console), records)
    text = shown(console)
    for part in ("adam", "0.9700", "trial 1: sgd", "2/4", "left", "[no] such kernel"):
        assert part in text, part


def test_lines_say_each_trial_once(records: list[TrialRecord]) -> None:
    console = Console(file=io.StringIO(), width=100)
    drive_search(LinesSearch(console), records)
    lines = shown(console).splitlines()
    assert lines[1:] == [
        "going on after 1 finished trials",
        "trial 2 failed: RuntimeError: [no] such kernel",
        "[2/4] trial 1: sgd lr 0.05: diverged at step 3: loss inf; best 0.97 (adam, trial 0)",
    ]


@pytest.mark.parametrize("view", [LiveRetrain, LinesRetrain])
def test_a_full_training_shows_each_seed(view: Any, plan: FullPlan) -> None:
    console = terminal(120)
    shows = view(console)
    shows.begin(plan, "accuracy", 1)
    row = {"seed": 0, "epoch": 3, "lr": 0.001, "train_loss": 0.25, "train_value": 0.9}
    shows.show(Event("progress", 0, row))
    shows.tick()
    shows.show(Event("finished", 0, {"seed": 1, "value": 0.98}))
    shows.end()
    text = shown(console)
    assert "epoch 3 of 4: training loss 0.25, accuracy 0.9, lr 0.001" in text
    assert "seed 2: test accuracy 0.98" in text


def test_a_view_that_was_never_begun_can_be_ended() -> None:
    LiveSearch(terminal()).end()


def test_quiet_shows_nothing(records: list[TrialRecord], capsys: pytest.CaptureFixture[str]) -> None:
    view = search_view(quiet=True)
    assert isinstance(view, Silent)
    drive_search(view, records)
    assert capsys.readouterr() == ("", "")
