"""`optitune dashboard` as a user meets it: a real study, the real command, a real browser."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from postgres_server import grpc_proxy

pytestmark = pytest.mark.slow

TRIALS = 16
"""More than there are known-good settings, so that every parameter varies."""
SHARED = ("gamma", "lr_factor", "optimizer", "step_size")
"""Parameters that every trial has, in the order of the dashboard."""

WAIT_MS = 60_000
"""Guards against a hang; what is waited for is there much sooner."""

DRAWN = """id => (document.getElementById(id)?.data ?? []).map(trace => ({
    type: trace.type,
    mode: trace.mode ?? null,
    x: Array.from(trace.x ?? []),
    y: Array.from(trace.y ?? []),
    dimensions: (trace.dimensions ?? []).map(one => ({label: one.label, values: Array.from(one.values)})),
}))"""
"""The data that Plotly draws in the element of an id."""

POINTS = """id => (document.getElementById(id)?.data ?? [])
    .filter(trace => trace.mode === 'markers').reduce((sum, trace) => sum + trace.x.length, 0)"""


@dataclass(frozen=True)
class Dashboard:
    """A running dashboard: its process, its address, and the page of its study."""

    process: Any
    address: str
    study: str


Open = Callable[[Path], AbstractContextManager[Dashboard]]
Visit = Callable[..., AbstractContextManager[Any]]


def search(studies_dir: Path, trials: int) -> list[object]:
    # the dashboard leaves pruned trials out of some of its plots
    flags = {"--task": "digits", "--trials": trials, "--epochs": 3, "--seed": 0, "--workers": 2, "--pruner": "none"}
    return ["search", *(word for pair in flags.items() for word in pair), "--studies-dir", studies_dir, "--quiet"]


@pytest.fixture(scope="module")
def studies_dir(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study."""
    folder = tmp_path_factory.mktemp("studies")
    done = run(*search(folder, TRIALS))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def trials(run: Any, studies_dir: Path) -> list[dict[str, Any]]:
    """What `optitune show` says of the study's trials."""
    shown = run("show", "digits", "--studies-dir", studies_dir, "--json")
    assert shown.returncode == 0, shown.stderr
    rows: list[dict[str, Any]] = json.loads(shown.stdout)["trials"]
    assert len(rows) == TRIALS
    return rows


@pytest.fixture(scope="module")
def open_dashboard(start: Any) -> Open:
    """Run the command on a folder; the dashboard is gone when the block ends."""

    @contextmanager
    def opened(folder: Path) -> Iterator[Dashboard]:
        with start("dashboard", "--study", "digits", "--studies-dir", folder, "--port", 0) as process:
            said = "".join(process.stdout.readline() for _ in range(3))
            match = re.match(r"study 'digits': (http://127\.0\.0\.1:\d+)(/dashboard/studies/\d+)\n", said)
            assert match, said + process.communicate(timeout=60)[1]
            assert said.endswith("\nCtrl-C ends it\n")
            yield Dashboard(process, match[1], match[2])

    return opened


@pytest.fixture(scope="module")
def dashboard(open_dashboard: Open, studies_dir: Path) -> Iterator[Dashboard]:
    with open_dashboard(studies_dir) as opened:
        yield opened


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("OPTITUNE_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def visit(browser: Any, screenshots: Path) -> Visit:
    """Open a page of a dashboard; at the end of the block check that nothing went wrong in it, and take its picture."""

    @contextmanager
    def visited(dashboard: Dashboard, path: str, picture: str = "") -> Iterator[Any]:
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        troubles: list[str] = []

        def is_ours(url: str) -> bool:
            return urlsplit(url).scheme in ("data", "blob") or url.startswith(dashboard.address + "/")

        def on_console(message: Any) -> None:
            # a failed request is told of once more in the console; those to elsewhere are of our own making
            if message.type == "error" and is_ours(message.location["url"] or dashboard.address + "/"):
                troubles.append(f"console: {message.text}")

        def on_request_failed(request: Any) -> None:
            if is_ours(request.url):
                troubles.append(f"no answer: {request.url} ({request.failure})")

        def on_response(response: Any) -> None:
            if response.status >= 400:
                troubles.append(f"{response.status}: {response.url}")

        try:
            context.route(lambda url: not is_ours(url), lambda route: route.abort())
            page = context.new_page()
            page.set_default_timeout(WAIT_MS)
            page.on("console", on_console)
            page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
            page.on("requestfailed", on_request_failed)
            page.on("response", on_response)
            page.goto(dashboard.address + path)
            yield page
            if picture:
                page.evaluate("scrollTo(0, 0)")
                page.screenshot(path=screenshots / f"{picture}.png", full_page=True, animations="disabled")
            assert troubles == []
        finally:
            context.close()

    return visited


def drawn(page: Any, plot: str, points: int) -> list[dict[str, Any]]:
    """The traces of a plot that has anything in them, once it shows that many points."""
    page.wait_for_function(f"([id, points]) => ({POINTS})(id) === points", arg=[plot, points])
    assert page.locator(f"#{plot} .scatterlayer path.point").count() == points, "held, but not drawn"
    return [trace for trace in page.evaluate(DRAWN, plot) if trace["x"]]


def choose(page: Any, box: int, option: str) -> None:
    """Pick an option of the n-th drop-down list of a page."""
    page.get_by_role("combobox").nth(box).click()
    page.get_by_role("option", name=option, exact=True).click()
    page.get_by_role("listbox").wait_for(state="hidden")


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
        assert edf["y"][-1] == 1


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


def test_note_page_opens(dashboard: Dashboard, visit: Visit) -> None:
    with visit(dashboard, f"{dashboard.study}/note", "note") as page:
        page.get_by_role("heading", name="Note", exact=True).wait_for()
        assert page.get_by_role("button").count() > 0


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


def test_ctrl_c_ends_it_without_a_traceback(open_dashboard: Open, visit: Visit, studies_dir: Path) -> None:
    with open_dashboard(studies_dir) as opened:
        with visit(opened, opened.study) as page:
            page.locator("#graph-hyperparameter-importances .barlayer .point").first.wait_for(state="attached")
        opened.process.send_signal(signal.SIGINT)
        out, err = opened.process.communicate(timeout=WAIT_MS / 1000)
    assert (opened.process.returncode, out, err.strip()) == (130, "", "interrupted")


def test_taken_port_is_told_in_one_line(run: Any, studies_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("dashboard", "--study", "digits", "--studies-dir", studies_dir, "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    assert "--port" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("flag", "value"), [("--studies-dir", "nowhere"), ("--storage", "sqlite:///nowhere/study.db")])
def test_storage_that_is_not_there_is_not_made(run: Any, tmp_path: Path, flag: str, value: str) -> None:
    done = run("dashboard", "--study", "digits", flag, value, "--port", 0, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "nowhere" in done.stderr
    assert "optitune search" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def states(address: str, page: str) -> list[str]:
    """How the trials of a study stand, as a dashboard tells a program."""
    limit = time.monotonic() + WAIT_MS / 1000
    while True:
        try:
            with urlopen(f"{address}/api{page.removeprefix('/dashboard')}", timeout=WAIT_MS / 1000) as answer:  # noqa: S310
                return [trial["state"] for trial in json.load(answer)["trials"]]
        except URLError:
            # it may not listen yet
            if time.monotonic() > limit:
                raise
            time.sleep(0.2)


@pytest.fixture(params=["sqlite", "journal", "postgresql", "grpc"])
def stored(request: pytest.FixtureRequest, run: Any, tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The URL of a storage with a small study in it, and the environment that opens it."""
    kind, environment = request.param, {}
    with ExitStack() as stack:
        if kind == "postgresql":
            server = request.getfixturevalue("postgresql")
            server.create("dashboard")
            url = f"postgresql://{server.user}@127.0.0.1:{server.port}/dashboard"
            environment = {"PGPASSWORD": server.password}
        elif kind == "journal":
            url = f"journal:///{tmp_path}/a study.log"
        else:
            url = f"sqlite:///{tmp_path}/a study.db"
        done = run(*search(tmp_path / "studies", 3), "--storage", url, environment=environment)
        assert (done.returncode, done.stderr) == (0, "")
        if kind == "grpc":
            url = stack.enter_context(grpc_proxy(url)).url
        yield url, environment


def test_every_storage_is_shown_by_us_and_by_the_command_that_is_named(
    stored: tuple[str, dict[str, str]], start: Any, unused_port: int
) -> None:
    url, environment = stored
    with start("dashboard", "--study", "digits", "--storage", url, "--port", 0, environment=environment) as process:
        first = process.stdout.readline()
        match = re.match(r"study 'digits': (http://127\.0\.0\.1:\d+)(/dashboard/studies/\d+)\n", first)
        assert match, first + process.communicate(timeout=60)[1]
        page = match[2]
        assert states(match[1], page) == ["Complete"] * 3
        named = process.stdout.readline()
        if not named.startswith("Ctrl-C"):
            assert process.stdout.readline().startswith("Ctrl-C")
    if url.startswith("grpc"):
        assert named == "Ctrl-C ends it\n"
        return
    words = shlex.split(named.removeprefix("the same without optitune: "))
    assert words[0] == "optuna-dashboard"
    plain = subprocess.Popen(
        [
            Path(sys.executable).with_name(words[0]),
            *words[1:],
            "--host",
            "127.0.0.1",
            "--port",
            str(unused_port),
            "--quiet",
        ],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
    )
    try:
        assert states(f"http://127.0.0.1:{unused_port}", page) == ["Complete"] * 3
    finally:
        plain.kill()
        plain.wait()


@pytest.mark.parametrize(
    ("host", "reached", "warned"),
    [
        ("127.0.0.1", "127.0.0.1", False),
        ("[::1]", "[::1]", False),
        ("0.0.0.0", "127.0.0.1", True),  # noqa: S104
        ("::", "[::1]", True),
    ],
)
def test_another_host_is_warned_of(host: str, reached: str, warned: bool, start: Any, studies_dir: Path) -> None:
    with start("dashboard", "--studies-dir", studies_dir, "--host", host, "--port", 0) as process:
        match = re.match(r"study 'digits': http://(\S+):(\d+)(/dashboard/studies/\d+)\n", process.stdout.readline())
        assert match
        assert match[1] == (socket.gethostname() if warned else reached)
        assert len(states(f"http://{reached}:{match[2]}", match[3])) == TRIALS
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT_MS / 1000)
    *warning, last = [line for line in err.splitlines() if line]
    assert last == "interrupted"
    assert len(warning) == warned
    for line in warning:
        assert line.startswith("warning: optuna-dashboard has no login: everyone who reaches http://")
        assert f"ssh -L {match[2]}:127.0.0.1:{match[2]} " in line


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
def test_a_host_that_is_not_here_is_told_in_one_line(run: Any, studies_dir: Path, host: str) -> None:
    done = run("dashboard", "--studies-dir", studies_dir, "--host", host, "--port", 0)
    assert done.returncode == (1 if host[0].isdigit() else 2)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert host in done.stderr
    assert done.stderr.count("\n") == 1
