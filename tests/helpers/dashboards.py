"""A dashboard with a study, for the tests that look at it."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

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
