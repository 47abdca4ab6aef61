"""The report's page in a real browser: on a phone and a desk, by day and by night."""

from pathlib import Path
from typing import Any

import pytest
from report_world import subject

from optitune.report.page import write_page

pytestmark = pytest.mark.slow

NAMES = ("sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad", "adadelta", "muon", "adamax")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(subject(NAMES), tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_all_of_itself_and_asks_for_nothing(browser: Any, page: Path, scheme: str, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    told: list[str] = []
    tab.on("console", lambda message: told.append(message.text))
    tab.on("request", lambda request: told.append(request.url) if request.url.startswith("http") else None)
    tab.goto(page.as_uri())
    assert told == []
    # wide tables scroll within themselves
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate("[...document.querySelectorAll('figure svg')].every(one => one.getBBox().width > 0)")
    night = scheme == "dark"
    assert letters(tab) == ("rgb(160, 167, 173)" if night else "rgb(99, 105, 110)")
    tab.emulate_media(media="print")
    assert letters(tab) == "rgb(99, 105, 110)"
    tab.close()


def letters(tab: Any) -> str:
    """The colour of the numbers at a figure's axis."""
    return str(tab.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill"))
