"""What the slow tests need: the real command, a PostgreSQL server of their own, Chromium."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from dashboards import TRIALS, WAIT_MS, Dashboard, Open, Visit, search
from forked_commands import popen
from forked_commands import to_end as run_to_end

from scripts.postgres_server import Server, Unavailable, free_port, postgres_server

HANG_S = 900
"""No command of these tests takes nearly as long; it only keeps a hang from lasting for ever."""

MISSING = "{what} is missing: install the Debian package '{package}' (scripts/ci_services.sh does)"

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., AbstractContextManager["subprocess.Popen[str]"]]


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """The environment without settings of optitune's that whoever runs the tests may have."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OPTITUNE_")}
    return plain | dict(extra or {})


@pytest.fixture(scope="session")
def run() -> Run:
    """Run an optitune command to its end: `run("show", "--json", environment={...}, cwd=...)`."""

    def to_end(
        *arguments: object, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return run_to_end(arguments, HANG_S, env=_environment(environment), cwd=cwd)

    return to_end


@pytest.fixture(scope="session")
def start() -> Start:
    """Begin an optitune command in a process group of its own, which is gone when the block ends."""

    @contextmanager
    def begun(
        *arguments: object, environment: Mapping[str, str] | None = None, **how: Any
    ) -> Iterator["subprocess.Popen[str]"]:
        process = popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=_environment(environment),
            **how,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    return begun


@pytest.fixture
def unused_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server on a free port of 127.0.0.1, with a password, gone at the end."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgres_server())
        except Unavailable as error:
            pytest.fail(str(error), pytrace=False)
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium of the system, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail(MISSING.format(what="Chromium", package="chromium"), pytrace=False)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def studies_dir(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study."""
    folder = tmp_path_factory.mktemp("studies")
    done = run(*search(folder, TRIALS))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def trials(run: Any, studies_dir: Path) -> list[dict[str, Any]]:
    """What `optitune show` says of the study's trials."""
    shown = run("show", "digits", "--studies-dir", studies_dir, "--json")
    assert shown.returncode == 0, shown.stderr
    rows: list[dict[str, Any]] = json.loads(shown.stdout)["trials"]
    assert len(rows) == TRIALS
    return rows


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def dashboard(open_dashboard: Open, studies_dir: Path) -> Iterator[Dashboard]:
    with open_dashboard(studies_dir) as opened:
        yield opened


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("OPTITUNE_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
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
