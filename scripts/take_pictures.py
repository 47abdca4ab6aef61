"""Take the pictures of the documents, of a study that is there: its report, its dashboard, and `optitune watch`.

    python scripts/take_pictures.py report dashboard --study mnist-cnn-reference
    python scripts/take_pictures.py terminal --study mnist-cnn-reference      # while its search runs

Needs Debian's `chromium`, and playwright of the `dev` extra. Writes PNGs into docs/pictures.
"""

import re
import shutil
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import click
from playwright.sync_api import sync_playwright
from rich.console import Console

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
LOOKS = 40
"""After how many looks at a running search its picture is taken: by then it has seen how fast trials end."""
OPTITUNE = (sys.executable, "-m", "optitune")


@click.command()
@click.argument("which", nargs=-1, required=True, type=click.Choice(["report", "dashboard", "terminal"]))
@click.option("--study", required=True)
@click.option("--studies-dir", type=click.Path(path_type=Path), default=ROOT / "studies")
@click.option("--out", type=click.Path(path_type=Path), default=PICTURES)
def main(which: tuple[str, ...], study: str, studies_dir: Path, out: Path) -> None:
    """Take pictures of a study."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for each in which:
            PHOTOGRAPHERS[each](browser, study, studies_dir, out / f"{each}.png")
        browser.close()


def report(browser: Any, study: str, studies_dir: Path, path: Path) -> None:
    """The top of the report's page."""
    page = browser.new_page(viewport={"width": 1100, "height": 1150}, device_scale_factor=1)
    page.goto((studies_dir / study / "report" / "report.html").resolve().as_uri())
    page.screenshot(path=path)


def dashboard(browser: Any, study: str, studies_dir: Path, path: Path) -> None:
    """The study's own page in optuna-dashboard, from its figures on."""
    command = [*OPTITUNE, "dashboard", "--study", study, "--studies-dir", str(studies_dir), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address is not None
        page = browser.new_page(viewport={"width": 1300, "height": 1900})
        page.goto(address[0])
        page.locator("[id='user-defined-plot:optitune-compared'] .scatterlayer .trace").first.wait_for(state="attached")
        time.sleep(2)
        page.screenshot(path=path, animations="disabled")
    finally:
        server.terminate()
        server.wait()


def terminal(browser: Any, study: str, studies_dir: Path, path: Path) -> None:
    """What `optitune watch` shows now."""
    from optitune.searching.watch import watch
    from optitune.storage.studies import location
    from optitune.terminal.search import LiveSearch

    class Seen(Exception):
        pass

    console = Console(file=StringIO(), force_terminal=True, width=100, height=40, record=True)
    view = LiveSearch(Console(file=StringIO(), force_terminal=True, width=100, height=40))
    looks = 0

    def wait(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == LOOKS:
            console.print(view._draw())
            raise Seen
        time.sleep(seconds)

    try:
        watch(location(studies_dir, study, None), view, wait)
    except Seen:
        pass
    else:
        raise SystemExit("the search is over: take this picture while it runs")
    drawn = console.export_svg(title=f"optitune watch {study}")
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    # the font that it names lies elsewhere
    page.set_content(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.S))
    page.locator("svg").screenshot(path=path)


PHOTOGRAPHERS = {"report": report, "dashboard": dashboard, "terminal": terminal}

if __name__ == "__main__":
    main()
