"""A running search and a running full training as the terminal shows them."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from math import nan
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from optitune.common.text import Unit
from optitune.retraining.events import SeedFinished, SeedProgress
from optitune.retraining.records import EpochRecord
from optitune.retraining.run import FullPlan
from optitune.searching.events import StudySized, TrialFailed, TrialFinished, TrialProgress, TrialStarted
from optitune.space.configuration import Configuration
from optitune.space.optimizers import DEFAULT_OPTIMIZERS
from optitune.study.records import TrialRecord
from optitune.study.settings import StudySettings
from optitune.terminal.drawing import Curve, curves
from optitune.terminal.retrain import LinesRetrain, LiveRetrain, retrain_view
from optitune.terminal.screen import Silent
from optitune.terminal.search import LinesSearch, LiveSearch, fitted_standings, search_view, time_left

ACCURACY = Unit("accuracy", percent=True)
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


def terminal(width: int = 100, height: int = 30, **how: Any) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, **how)


class Encoded(io.StringIO):
    """A console that bears one encoding, as those of Windows do."""

    encoding = "cp1252"


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def drive_search(view: Any, records: list[TrialRecord]) -> None:
    view.begin("digits", SETTINGS, ACCURACY, 4, records[:1], 2)
    view.show(TrialStarted(0, 1, "sgd", 0.05), records[:1])
    view.show(TrialProgress(0, 1, "sgd", 0.05, 0.25, 0.5), records[:1])
    view.show(TrialFailed(1, 2, "RuntimeError: [no] such kernel"), records[:1])
    view.show(TrialFinished(0, 1), records)
    view.tick()
    view.end()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_live_view_shows_standings_failures_and_how_far_it_is(width: int, records: list[TrialRecord]) -> None:
    console = terminal(width)
    drive_search(LiveSearch(console), records)
    text = shown(console)
    for part in ("adam", "97.00 %", "2/4", "[no] such kernel"):
        assert part in text, part


def lines(console: Console, drawn: Any) -> list[str]:
    """What is drawn, without colours."""
    before = len(shown(console))
    console.print(drawn)
    return Text.from_ansi(shown(console)[before:]).plain.splitlines()


@pytest.fixture
def search(configured: Callable[..., Configuration]) -> list[TrialRecord]:
    """Trials of the default optimizers, each with a curve."""
    rows = []
    for number, name in enumerate(DEFAULT_OPTIMIZERS * 2):
        curve = tuple((10 * step, 0.99 - 0.5 / step**2 - 0.001 * number) for step in range(1, 13))
        value = curve[-1][1]
        rows.append(TrialRecord(number, "complete", configured(name), value, "", curve, 20.0, epochs=12, score=value))
    return rows


def running(console: Console, search: list[TrialRecord], workers: int = 2) -> Any:
    """A view of a search with so many workers at their trials, drawn by nobody."""
    view = LiveSearch(console)
    view._start = lambda: None  # type: ignore[method-assign]
    settings = StudySettings(task="digits", optimizers=DEFAULT_OPTIMIZERS, precision="fp32", epochs=12)
    view.begin("digits", settings, ACCURACY, 50, search, workers)
    for worker in range(workers):
        about = (worker, 16 + worker, "adadelta", 0.000123)
        view.show(TrialStarted(*about, since=3700.0), search)
        view.show(TrialProgress(*about, 11.75, 0.9876), search)
    return view


@pytest.mark.parametrize("how", [{}, {"no_color": True}, {"color_system": None}], ids=str)
@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_lines_fit_and_no_number_is_cut(width: int, how: dict[str, Any], search: list[TrialRecord]) -> None:
    console = terminal(width, **how)
    drawn = lines(console, running(console, search)._draw())
    assert max(len(line.rstrip()) for line in drawn) <= width
    assert not any("\u2026" in line for line in drawn)
    text = "\n".join(drawn)
    for row in search[: len(DEFAULT_OPTIMIZERS)]:
        assert ACCURACY.value(row.value or 0) in text
        assert len([line for line in drawn if line.startswith(f"{row.optimizer} ")]) == 1
    assert "about" in text
    assert "16/50" in text


def test_the_least_useful_columns_go_first(search: list[TrialRecord]) -> None:
    table = fitted_standings(search, DEFAULT_OPTIMIZERS, ACCURACY)
    kept = {width: [column.heading for column in table.kept(width)] for width in (200, 60, 40, 10)}
    assert len(kept[200]) == 9
    assert kept[60] == [name for name in kept[200] if name not in ("diverged", "epochs")]
    assert kept[40] == ["optimizer", "learning\ncurve", "best\naccuracy", "lr"]
    assert kept[10] == ["optimizer", "best\naccuracy", "lr"]


def test_a_pipe_has_no_width(search: list[TrialRecord]) -> None:
    console = Console(file=io.StringIO(), width=20, soft_wrap=True)
    drawn = lines(console, fitted_standings(search, DEFAULT_OPTIMIZERS, ACCURACY))
    assert drawn[1].split()[-1] == "epochs"
    assert len(drawn) == 2 + len(DEFAULT_OPTIMIZERS)


@pytest.mark.parametrize("workers", [1, 2, 64])
@pytest.mark.parametrize("height", [12, 24, 50])
def test_the_bar_is_never_pushed_off_the_screen(height: int, workers: int, search: list[TrialRecord]) -> None:
    console = terminal(80, height)
    drawn = lines(console, running(console, search, workers)._draw())
    assert len(drawn) <= height
    assert drawn[-1].startswith("trials")
    assert any("... and" in line for line in drawn) or workers < 64


def test_what_an_encoding_lacks_is_not_drawn(search: list[TrialRecord]) -> None:
    console = Console(file=Encoded(), force_terminal=True, width=80, height=30)
    drawn = "\n".join(lines(console, running(console, search)._draw()))
    assert drawn.isascii()
    assert "*" in drawn
    assert not "\n".join(lines(terminal(80), running(terminal(80), search)._draw())).isascii()


def test_colours_are_those_that_any_background_bears(search: list[TrialRecord]) -> None:
    console = terminal(80, color_system="standard")
    console.print(running(console, search)._draw())
    used = {code for codes in re.findall("\x1b\\[([0-9;]*)m", shown(console)) for code in codes.split(";")}
    # green, cyan and the grey of a bar; bold and dim
    assert used <= {"0", "1", "2", "32", "36", "90"}
    assert {"32", "36"} <= used


def test_a_worker_that_ended_its_trial_is_not_at_it_any_more(search: list[TrialRecord]) -> None:
    console = terminal()
    view = running(console, search, 1)
    assert any("11.75 of 12" in line and "1 h 01 min" in line for line in lines(console, view._draw()))
    view.show(TrialFinished(0, 16), search)
    assert any("no trial is under way" in line for line in lines(console, view._draw()))


def test_a_study_that_grows_has_a_longer_bar(search: list[TrialRecord]) -> None:
    console = terminal()
    view = running(console, search)
    view.show(StudySized(0, 90, 1), search)
    assert "16/90" in lines(console, view._draw())[-1]


def test_the_time_left_is_the_median_trial_times_what_is_left_over_the_workers(search: list[TrialRecord]) -> None:
    rows = [replace(row, seconds=float(seconds)) for row, seconds in zip(search, (10, 30, 20, 1000), strict=False)]
    assert time_left(rows, 44, 4) == 25 * 40 / 4
    assert time_left(rows[:3], 4, 0) == 20
    assert time_left(rows, 4, 2) == 0
    running = replace(rows[0], outcome="running", seconds=None)
    repeated = replace(rows[0], seconds=0.0, same_as=0)
    assert time_left([running, repeated], 4, 2) is None
    assert time_left([running, repeated, rows[1]], 4, 2) == 30


def test_the_time_left_follows_workers_and_target_and_is_gone_at_the_end(search: list[TrialRecord]) -> None:
    console = terminal()
    view = running(console, search)
    # 16 trials of 20 s are finished, and two workers have 34 to go
    assert "about 5.5 min left" in lines(console, view._draw())[-1]
    view.show(StudySized(0, 20, 1), search)
    assert "about 80 s left" in lines(console, view._draw())[-1]
    view.show(StudySized(0, 16, 1), search)
    assert "left" not in lines(console, view._draw())[-1]


def test_a_value_that_was_there_before_was_told_nobody_knows_when(search: list[TrialRecord]) -> None:
    console = terminal(200)
    view = running(console, search, 1)
    view.show(TrialProgress(0, 30, "sgd", 0.1, 1.0, 0.5, fresh=False), search)
    (line,) = [line for line in lines(console, view._draw()) if "1.00 of 12" in line]
    assert line.rstrip().endswith(" -")


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(search_view(quiet=False), LinesSearch)
    assert isinstance(retrain_view(quiet=False), LinesRetrain)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(search_view(quiet=False), LiveSearch)


@pytest.mark.parametrize(
    ("scores", "drawn"),
    [
        ([[0.5, 0.9, 0.98, 0.99]], "_-=#"),
        ([[0.5, nan, 0.99]], "_#"),
        ([[0.7, 0.7]], "##"),
        ([[nan]], ""),
        ([[]], ""),
        ([[-1e9, -2.0, -1.0]], "_##"),
    ],
)
def test_a_tiny_curve_rises_with_the_values(scores: list[list[float]], drawn: str) -> None:
    assert curves(scores)[0].text(ascii_only=True).plain == drawn


def test_a_tiny_curve_of_what_is_minimised_falls_as_its_values_do() -> None:
    falling, rising = curves([[2.0, 1.0, 0.5, 0.4], [0.6, 0.7, 0.8, 0.9]], less=True)
    assert list(falling.heights) == sorted(falling.heights, reverse=True)
    assert falling.heights[0] > falling.heights[-1] == 0
    assert list(rising.heights) == sorted(rising.heights)
    # as fine where it is decided, at the better end
    (gain,) = curves([[-2.0, -1.0, -0.5, -0.4]])
    (loss,) = curves([[2.0, 1.0, 0.5, 0.4]], less=True)
    assert [1 - height for height in gain.heights] == pytest.approx(loss.heights)


def test_the_table_of_standings_draws_a_loss_as_falling(configured: Callable[..., Configuration]) -> None:
    points = ((1, 2.0), (2, 1.0), (3, 0.5))
    row = TrialRecord(0, "complete", configured("adam"), 0.5, "", points, 1.0, score=-0.5)
    column = fitted_standings([row], ["adam"], Unit("loss")).columns[1]
    (drawn,) = column.cells
    assert isinstance(drawn, Curve)
    assert list(drawn.heights) == sorted(drawn.heights, reverse=True)
    assert drawn.heights[0] > drawn.heights[-1]


def test_tiny_curves_share_a_scale_and_keep_their_ends() -> None:
    better, worse = curves([[0.5, 0.9, 0.99], [0.5, 0.8, 0.9]])
    assert better.heights[-1] == 1
    assert worse.heights[-1] == better.heights[1] < 1
    (long,) = curves([[k / 100 for k in range(101)]])
    assert len(long.text(ascii_only=False)) == 8
    assert long.text(ascii_only=False).plain[-1] == "█"


def test_lines_say_each_trial_once(records: list[TrialRecord]) -> None:
    console = Console(file=io.StringIO(), width=100)
    drive_search(LinesSearch(console), records)
    lines = shown(console).splitlines()
    assert lines[1:] == [
        "going on after 1 finished trial",
        "trial 2 failed: RuntimeError: [no] such kernel",
        "[2/4] trial 1: sgd lr 0.05: diverged at step 3: loss inf; best 97.00 % (adam, trial 0)",
    ]


@pytest.mark.parametrize("view", [LiveRetrain, LinesRetrain])
def test_a_full_training_shows_each_seed(view: Any, plan: FullPlan) -> None:
    console = terminal(120)
    shows = view(console)
    shows.begin(plan, ACCURACY, 1)
    shows.show(SeedProgress(0, 0, EpochRecord(3, 0.001, 0.25, 0.9), fresh=True))
    shows.tick()
    shows.show(SeedFinished(0, 1, 0.98))
    shows.end()
    text = shown(console)
    assert "epoch 3 of 4: training loss 0.25, training accuracy 90.00 %, lr 0.001" in text
    assert "seed 2: test accuracy 98.00 %" in text


def full_training(console: Console, view: Any, plan: FullPlan) -> Any:
    """A full training taken up again: its second seed was finished before, its first after its second epoch."""
    shows = view(console)
    shows.begin(plan, ACCURACY, 1, {1})

    def show(epoch: int, fresh: bool = True) -> Any:
        shows.show(SeedProgress(0, 0, EpochRecord(epoch, 0.001, 0.25, 0.9), fresh))
        return shows

    show(2, fresh=False)
    return show


def test_the_bar_of_a_training_taken_up_again_begins_where_it_was_and_ends_at_its_end(
    plan: FullPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 5.0, 60.0, 90.0])
    monkeypatch.setattr("optitune.terminal.retrain.time", SimpleNamespace(monotonic=lambda: next(now)))
    console = terminal(120)
    further = full_training(console, LiveRetrain, plan)
    total = plan.epochs * len(plan.seeds)
    seeds, epochs = len(plan.seeds), plan.epochs
    assert (seeds, epochs) == (2, 4)
    # one epoch in a minute, of which the two that were there before took nothing
    view = further(3)
    assert view._bar.completed == total - 1
    assert "about 60 s left" in lines(console, view._draw())[-1]
    assert further(4)._bar.completed == total
    assert "left" not in lines(console, view._draw())[-1]
    view.end()


def test_lines_of_a_training_taken_up_again_say_where_it_was(plan: FullPlan) -> None:
    console = terminal(120)
    full_training(console, LinesRetrain, plan)(3)
    _, first, second, third = shown(console).splitlines()
    assert first == "going on after 1 finished seed"
    assert second == "seed 1 goes on after epoch 2 of 4"
    assert third.startswith("seed 1, epoch 3 of 4")


def test_a_view_that_was_never_begun_can_be_ended() -> None:
    LiveSearch(terminal()).end()


def test_quiet_shows_nothing(records: list[TrialRecord], capsys: pytest.CaptureFixture[str]) -> None:
    view = search_view(quiet=True)
    assert isinstance(view, Silent)
    drive_search(view, records)
    assert capsys.readouterr() == ("", "")
