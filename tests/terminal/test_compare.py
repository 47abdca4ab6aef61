"""A comparison as the terminal shows it."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from made_up_runs import DIVERGED, curve, made_up, noisy, runs
from rich.console import Console
from rich.text import Text

from optitune.comparing.events import RunFinished, RunProgress
from optitune.comparing.kept_runs import save_run
from optitune.comparing.results import Comparison, conclude, load, save_plan, save_verdict
from optitune.comparing.run import CompareOutcome
from optitune.report.comparison_tables import comparison_table, costs_table
from optitune.space.configuration import Configuration
from optitune.statistics.runs import HALF, KNOWN_GOOD, TWICE, Finalist, Plan, Prefer, RunId
from optitune.tasks.metrics import METRICS
from optitune.terminal.compare import (
    LinesCompare,
    LiveCompare,
    compare_view,
    fitted,
    print_comparison,
)
from optitune.terminal.screen import Silent


@pytest.fixture
def plan(configured: Callable[..., Configuration]) -> Plan:
    return Plan(
        task="digits",
        finalists=tuple(
            Finalist(trial=number, value=0.97, configuration=configured(name), known_good=configured(name, lr=0.01))
            for number, name in enumerate(("adam", "sgd", "muon"))
        ),
        epochs=2,
        precision="fp32",
        seed=7,
        data_checksum="sha256:0",
        network="Net",
        metric="accuracy",
        train_examples=1000,
        held_out=57,
        rounds=20,
        evaluations=2,
    )


@pytest.fixture
def found(plan: Plan) -> Comparison:
    values = noisy({"adam": 0.95, "sgd": 0.9495}, 6)
    rows = [made_up(run.key.round, run.key.optimizer, run.value, curve=curve(0.9, run.value)) for run in runs(values)]
    rows += [made_up(0, "muon", 0.9), made_up(1, "muon", DIVERGED)]
    rows += [made_up(0, "adam", 0.9, HALF), made_up(0, "adam", DIVERGED, KNOWN_GOOD)]
    comparison = conclude(plan, rows, [], METRICS["accuracy"], 0.001, target=0.93)
    assert comparison is not None
    return comparison


def terminal(width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=30)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain(renderable: Any, width: int) -> list[str]:
    console = terminal(width)
    console.print(renderable)
    return Text.from_ansi(text(console)).plain.splitlines()


def drive(view: Any, plan: Plan, found: Comparison) -> None:
    view.begin("digits", plan, METRICS["accuracy"].unit, 2, 100)
    view.judged(None, 0)
    view.show(RunProgress(0, RunId(0, "adam"), 0.5, 0.9))
    view.show(RunFinished(0, RunId(0, "adam"), 0.95, ""))
    view.show(RunFinished(1, RunId(0, "muon"), 0.0, DIVERGED))
    view.show(RunFinished(1, RunId(0, "adam", HALF), 0.9, ""))
    view.judged(found, 14)
    view.others(6)
    view.show(RunFinished(0, RunId(1, "adam", HALF), 0.95, ""))
    view.show(RunProgress(1, RunId(1, "sgd"), 0.5, 0.9))
    view.tick()
    view.end()


def test_lines_tell_every_run_and_what_is_known_so_far(plan: Plan, found: Comparison) -> None:
    console = Console(file=io.StringIO(), width=100)
    drive(LinesCompare(console), plan, found)
    lines = text(console).splitlines()
    assert lines[0] == (
        "digits: adam, sgd, muon from fresh seeds, 2 epochs on 1000 examples, judged on 57 others in each of up to 20 "
        "rounds; at most 100 runs, 2 workers"
    )
    assert lines[1:4] == [
        "round 1, adam: accuracy 95.00 %",
        f"round 1, muon: {DIVERGED}",
        "round 1, adam with half the lr: accuracy 90.00 %",
    ]
    assert lines[4].startswith("after 14 runs")
    assert lines[4].endswith(found.sentence)
    assert lines[5:] == ["other settings are trained too: 6 runs", "round 2, adam with half the lr: accuracy 95.00 %"]


def test_the_live_view_shows_the_verdict_so_far_and_what_workers_do(plan: Plan, found: Comparison) -> None:
    console = terminal()
    drive(LiveCompare(console), plan, found)
    shown = text(console)
    assert "round 2, sgd, epoch 0.50 of 2, accuracy 90.00 %" in shown
    assert "P(best)" in shown
    assert "diverged in 1" in shown


def test_the_bar_counts_the_runs_of_other_settings_for_themselves(plan: Plan, found: Comparison) -> None:
    view = LiveCompare(terminal())
    drive(view, plan, found)
    last = plain(view._draw(), 100)[-1]
    assert last.startswith("runs of other settings")
    assert "1/6" in last


@pytest.mark.parametrize("width", [80, 200])
def test_tables_keep_their_numbers_whole(width: int, found: Comparison) -> None:
    upper, heading, *rows = plain(fitted(comparison_table(found)), width)
    assert "held-out" in upper
    assert "accuracy" in heading
    assert len(rows) == 3
    assert all(len(row.rstrip()) <= width and "\u2026" not in row for row in rows)
    (own,) = [row for row in rows if row.startswith("adam")]
    assert "95.0" in own
    assert " % " in own
    (lost,) = [row for row in rows if row.startswith("muon")]
    assert "diverged in 1" in lost
    spent = plain(fitted(costs_table(found)), width)
    assert all(len(row.rstrip()) <= width for row in spent)
    (own,) = [row for row in spent if row.startswith("adam")]
    assert "diverged (1)" in own
    assert " 2.0 " in own


def test_the_end_says_what_is_spent_and_what_to_type_next(
    found: Comparison, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    result = CompareOutcome("digits", found, "runs", ("nadam",), tmp_path, 14, 1.0, None, False)
    print_comparison(result, Path("studies"), None, None)
    told = capsys.readouterr().out
    assert "\nTake adam. Undecided: with 95 % confidence none of the three is better by more than" in told
    assert f"After 14 runs --max-runs is spent: the same command with --max-runs {found.goes_on_to} goes on." in told
    assert found.goes_on_to > 14
    assert "not compared, for want of a complete trial: nadam" in told
    assert "optitune report digits\n" in told


def test_a_cheaper_one_that_is_as_good_has_a_table(
    plan: Plan, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    spent = {"adam": (10.0, 200), "sgd": (6.0, 100), "muon": (8.0, 50)}
    rows = [
        made_up(run.key.round, run.key.optimizer, run.value, seconds=seconds + 0.01 * run.key.round, state_bytes=state)
        for run in runs(noisy({"adam": 0.953, "sgd": 0.95, "muon": 0.949}, 9))
        for seconds, state in [spent[run.key.optimizer]]
    ]
    told = {}
    for prefer in get_args(Prefer):
        found = conclude(plan, rows, [], METRICS["accuracy"], 0.01, prefer=prefer, epsilon_from="as asked")
        assert found is not None
        result = CompareOutcome("digits", found, "decided", (), tmp_path, 27, 1.0, None, False)
        print_comparison(result, Path("studies"), None, None)
        told[prefer] = capsys.readouterr().out
        assert "less than 1.00 pp does not matter (as asked)" in told[prefer]
        assert "cheapest as good" in told[prefer]
        assert f"\nTake {found.recommendation.optimizer}. " in told[prefer]
    assert "of those as good, sgd needs 60 % of the time" in told["value"]
    assert "\nTake sgd. It needs 60 % of the time of adam, the leader; with 95 % confidence none of" in told["time"]
    assert "\nTake muon. It needs 25 % of the memory for optimizer state of adam" in told["memory"]


def test_one_that_is_not_tuned_to_the_end_is_searched_on(
    plan: Plan, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = runs(noisy({"adam": 0.95, "sgd": 0.93, "muon": 0.92}, 9))
    own = [run for run in rows if run.key.optimizer == "adam"][:2]
    rows += [made_up(run.key.round, "adam", run.value + 0.01, TWICE) for run in own]
    found = conclude(plan, rows, [], METRICS["accuracy"], 0.001)
    assert found is not None
    assert [each.optimizer for each in found.untuned] == ["adam"]
    words = ("search", "--study", "digits", "--trials", "75")
    result = CompareOutcome("digits", found, "decided", (), tmp_path, 27, 1.0, None, False, words)
    print_comparison(result, Path("there"), None, None)
    told = capsys.readouterr().out
    assert "adam is not tuned to the end: with twice the lr it is better by 1.00 pp (2 rounds)." in told
    assert "next:\n  optitune search --study digits --trials 75 --studies-dir there\n" in told
    assert found.document()["untuned"] == [
        {"optimizer": "adam", "variant": TWICE, "better": pytest.approx(0.01), "rounds": 2}
    ]


def test_a_quiet_comparison_shows_nothing(plan: Plan, found: Comparison) -> None:
    view = compare_view(quiet=True)
    assert isinstance(view, Silent)
    drive(view, plan, found)


def test_where_less_is_better_another_lr_is_called_worse_and_has_no_sign(plan: Plan) -> None:
    rows = [made_up(run.key.round, run.key.optimizer, run.value) for run in runs(noisy({"adam": 3.0, "sgd": 14.0}, 6))]
    rows += [made_up(0, "adam", 14.0, HALF), made_up(0, "adam", 2.0, KNOWN_GOOD)]
    found = conclude(plan.model_copy(update={"finalists": plan.finalists[:2]}), rows, [], METRICS["loss"], 0.1)
    assert found is not None
    cells = dict(zip(costs_table(found).headings, costs_table(found).rows[0], strict=True))
    assert cells["half the lr"] == "11 worse (1)"
    assert cells["by tuning"] == "1 worse (1)"
    assert (
        dict(zip(comparison_table(found).headings, comparison_table(found).rows[1], strict=True))["against adam"]
        == "11 worse"
    )


def test_what_is_read_back_has_the_chances_that_were_printed(plan: Plan, found: Comparison, tmp_path: Path) -> None:
    # another processor rounds the draws behind them otherwise
    places = tuple(replace(each, best=each.best / 2) for each in found.verdict.places)
    printed = replace(found, verdict=replace(found.verdict, places=places), sentence="as printed", advice="too")
    save_plan(tmp_path, plan)
    for run in found.runs:
        save_run(tmp_path, run)
    save_verdict(tmp_path, printed)
    again = load(tmp_path, [], METRICS["accuracy"])
    assert again is not None
    assert (again.sentence, again.advice, again.verdict.places) == ("as printed", "too", places)
    save_run(tmp_path, made_up(6, "adam", 0.95))
    more = load(tmp_path, [], METRICS["accuracy"])
    assert more is not None
    assert more.sentence != "as printed"
