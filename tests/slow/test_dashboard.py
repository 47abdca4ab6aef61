"""`optitune dashboard` as a user meets it: a real study, the real command, a real browser."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from dashboards import DRAWN, POINTS, SHARED, TRIALS, Dashboard, Open, Visit, choose, drawn, search

pytestmark = pytest.mark.slow

OURS = "user-defined-plot:optitune-"
"""How the dashboard calls the figures that we hand it."""


def test_list_names_the_study_and_leads_to_it(dashboard: Dashboard, visit: Visit) -> None:
    with visit(dashboard, "/", "list") as page:
        named = page.get_by_text(re.compile(r"^\d+\. digits$"))
        named.wait_for()
        assert "MAXIMIZE" in page.inner_text("body")
        named.click()
        page.wait_for_url(f"**{dashboard.study}")
        page.go_back()
        named.wait_for()


def test_history_shows_every_trial(dashboard: Dashboard, visit: Visit, trials: list[dict[str, Any]]) -> None:
    with visit(dashboard, dashboard.study, "history") as page:
        points, best = drawn(page, "plot-history", TRIALS)
        assert dict(zip(points["x"], points["y"], strict=True)) == pytest.approx(
            {row["number"]: row["value"] if row["value"] is not None else row["curve"][-1][1] for row in trials}
        )
        assert max(best["y"]) == pytest.approx(max(row["value"] for row in trials if row["value"] is not None))
        page.locator("#graph-intermediate-values .scatterlayer .trace").nth(TRIALS - 1).wait_for(state="attached")
        curves = page.evaluate(DRAWN, "graph-intermediate-values")
        shown = [[list(point) for point in zip(one["x"], one["y"], strict=True)] for one in curves]
        assert sorted(shown) == sorted(row["curve"] for row in trials)
        assert len(page.evaluate(DRAWN, "graph-timeline")[0]["x"]) > 0
        assert "validation accuracy" in page.inner_text("#plot-history")
        user_attributes = page.inner_text("body").partition("Study User Attributes")[2]
        assert all(re.search(rf"^{key}\t", user_attributes, re.MULTILINE) for key in ("settings", "data", "versions"))


def test_importance_weighs_the_shared_parameters(dashboard: Dashboard, visit: Visit) -> None:
    with visit(dashboard, dashboard.study) as page:
        bars = page.locator("#graph-hyperparameter-importances .barlayer .point")
        bars.nth(len(SHARED) - 1).wait_for(state="attached")
        (trace,) = page.evaluate(DRAWN, "graph-hyperparameter-importances")
        assert set(SHARED) <= set(trace["y"])
        assert sum(trace["x"]) == pytest.approx(1)


def test_slice_contour_and_rank_fill_with_shared_parameters(dashboard: Dashboard, visit: Visit) -> None:
    with visit(dashboard, f"{dashboard.study}/analytics", "analytics") as page:
        page.locator("#plot-slice .scatterlayer").first.wait_for(state="attached")
        choose(page, 1, "Param lr_factor")
        (points,) = drawn(page, "plot-slice", TRIALS)
        assert all(0 < factor < 100 for factor in points["x"])
        assert page.text_content("#plot-slice .xtitle") == "Param lr_factor"
        for first, plot in ((2, "graph-contour"), (4, "graph-rank")):
            choose(page, first, "lr_factor")
            choose(page, first + 1, "gamma")
            page.wait_for_function(f"id => ({POINTS})(id) > 0", arg=plot)
            traces = [trace for trace in page.evaluate(DRAWN, plot) if trace["mode"] == "markers"]
            assert sorted(factor for trace in traces for factor in trace["x"]) == pytest.approx(sorted(points["x"]))
        edf = page.evaluate(DRAWN, "plot-edf-0")[0]
        # where the largest value was rounded down on its way to the axis, that trial is not counted
        assert edf["y"][-1] >= 1 - 1 / TRIALS


def test_parallel_coordinates_have_an_axis_for_each_shared_parameter(
    dashboard: Dashboard, visit: Visit, trials: list[dict[str, Any]]
) -> None:
    with visit(dashboard, f"{dashboard.study}/smartSelection", "smart-selection") as page:
        page.locator("#plot-parallel-coordinate .parcoords .y-axis").nth(len(SHARED)).wait_for(state="attached")
        (trace,) = page.evaluate(DRAWN, "plot-parallel-coordinate")
        assert [axis["label"] for axis in trace["dimensions"]] == ["validation accuracy", *SHARED]
        assert all(len(axis["values"]) == TRIALS for axis in trace["dimensions"])
        drawn(page, "plot-history", TRIALS)
        rows = page.locator("tbody tr")
        rows.nth(TRIALS - 1).wait_for()
        assert rows.count() == TRIALS
        header = page.inner_text("thead")
        assert all(f"Param {name}" in header for name in SHARED)
        assert "UserAttribute lr" in header


def test_trial_shows_its_learning_rate_and_configuration(
    dashboard: Dashboard, visit: Visit, trials: list[dict[str, Any]]
) -> None:
    complete = [row for row in trials if row["value"] is not None]
    best = max(complete, key=lambda row: (row["value"], -row["number"]))
    with visit(dashboard, f"{dashboard.study}/trials?numbers={best['number']}", "trial") as page:
        page.get_by_role("heading", name=re.compile(rf"^Trial {best['number']} ")).wait_for()
        text = page.inner_text("body")
        for row in trials:
            assert re.search(rf"^Trial {row['number']}\n", text, re.MULTILINE)
        attributes = text.partition("User Attributes")[2]
        assert re.search(rf"^lr {re.escape(str(best['settings']['lr']))}$", attributes, re.MULTILINE)
        window = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        assert len(set(page.evaluate(window))) == 1, "the page is wider than the window"
        configuration = re.search(r"^configuration (\{.*\})$", attributes, re.MULTILINE)
        assert configuration is not None
        shown = json.loads(configuration[1])
        assert (shown["optimizer"]["name"], shown["optimizer"]["settings"]) == (best["optimizer"], best["settings"])
        assert "outcome complete" in attributes
        assert re.search(rf"^Value\n+{re.escape(str(best['value']))}$", text, re.MULTILINE)
        # of equals the dashboard may crown another one
        (crowned,) = set(re.findall(r"^Trial (\d+)\n+Complete\n+Best Trial$", text, re.MULTILINE))
        assert next(row["value"] for row in trials if row["number"] == int(crowned)) == best["value"]


def test_list_of_trials_opens_a_trial(dashboard: Dashboard, visit: Visit) -> None:
    with visit(dashboard, f"{dashboard.study}/trials", "trials") as page:
        page.get_by_text(f"{TRIALS} Trials", exact=True).wait_for()
        page.get_by_text("Trial 3", exact=True).click()
        page.get_by_role("heading", name=re.compile("^Trial 3 ")).wait_for()
        page.wait_for_url("**/trials?numbers=3")


def test_the_note_tells_how_the_study_stands(dashboard: Dashboard, visit: Visit, trials: list[dict[str, Any]]) -> None:
    with visit(dashboard, f"{dashboard.study}/note", "note") as page:
        page.get_by_role("heading", name="Which optimizer, with which settings, and how sure?").wait_for()
        text = page.inner_text("body")
        assert f"Trials finished: {TRIALS} of {TRIALS}" in text
        for name in {row["optimizer"] for row in trials}:
            assert re.search(rf"^{name}\s+(?:\d+\.\d\d %|-|–)\s", text, re.MULTILINE), name
        assert "optitune search --study digits --task digits" in text


def test_figures_of_ours_and_files_are_on_the_studys_page(
    dashboard: Dashboard, visit: Visit, trials: list[dict[str, Any]]
) -> None:
    with visit(dashboard, dashboard.study, "figures") as page:
        for name in ("learning-curves", "best-so-far", "learning-rates"):
            page.locator(f"[id='{OURS}{name}'] .scatterlayer .trace").first.wait_for(state="attached")
        traces = page.evaluate(DRAWN, f"{OURS}learning-curves")
        assert len(traces) == len([row for row in trials if row["curve"] and row["outcome"] == "complete"])
        for name in ("best.toml", "train.py", "curves.csv"):
            page.get_by_text(name, exact=True).wait_for()


def test_a_trials_page_has_its_curve_as_a_picture(dashboard: Dashboard, visit: Visit) -> None:
    with visit(dashboard, f"{dashboard.study}/trials?numbers=1", "trial-note") as page:
        picture = page.get_by_role("img", name="learning curve")
        picture.wait_for()
        page.wait_for_function("() => document.querySelector('img[alt=\"learning curve\"]').naturalWidth === 640")
        assert "torch.optim.lr_scheduler.StepLR(optimizer, step_size=" in page.inner_text("body")


def test_search_goes_on_undisturbed_while_the_dashboard_is_watched(
    run: Any, start: Any, open_dashboard: Open, visit: Visit, studies_dir: Path, tmp_path: Path
) -> None:
    folder, target = tmp_path / "studies", TRIALS + 6
    shutil.copytree(studies_dir, folder)
    with open_dashboard(folder) as watched, visit(watched, watched.study, "while-searching") as page:
        drawn(page, "plot-history", TRIALS)
        seen = []
        with start(*search(folder, target)) as process:
            while process.poll() is None:
                answer = page.request.get(f"{watched.address}/api{watched.study.removeprefix('/dashboard')}")
                assert answer.ok, answer.text()
                seen.append(sum(trial["state"] in ("Complete", "Pruned") for trial in answer.json()["trials"]))
                importances = f"{watched.address}/api{watched.study.removeprefix('/dashboard')}/param_importances"
                assert page.request.get(importances).ok
                page.wait_for_timeout(300)
            out, err = process.communicate()
        assert (process.returncode, err) == (0, "")
        assert f"\n{target} trials finished: " in out
        assert seen[0] == TRIALS
        assert seen == sorted(seen)
        # the open page catches up by itself
        drawn(page, "plot-history", target)
    rows = json.loads(run("show", "digits", "--studies-dir", folder, "--json").stdout)["trials"]
    assert [row["number"] for row in rows] == list(range(target))
    assert {row["outcome"] for row in rows} <= {"complete", "pruned", "diverged"}
