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
    assert tab.evaluate("[...document.images].every(one => one.naturalWidth > 0 && one.alt)")
    assert shown(tab) == {"night" if scheme == "dark" else "day"}
    tab.emulate_media(media="print")
    assert shown(tab) == {"day"}
    tab.close()


def shown(tab: Any) -> set[str]:
    """Which kinds of images can be seen."""
    return set(tab.evaluate("[...document.images].filter(one => one.checkVisibility()).map(one => one.className)"))
