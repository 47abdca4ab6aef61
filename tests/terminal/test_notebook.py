"""Progress in a notebook: one output of the cell, replaced in place."""

import re
from html import unescape
from typing import Any

import pytest
from IPython import display as ipython
from rich.console import Console
from rich.text import Text

from optitune.terminal.compare import LiveCompare, compare_view
from optitune.terminal.notebook import NotebookConsole
from optitune.terminal.retrain import LiveRetrain, retrain_view
from optitune.terminal.search import LiveSearch, search_view


class Cell:
    """The outputs of a cell, as Jupyter keeps them: `display` adds one, and its handle replaces it."""

    def __init__(self) -> None:
        self.outputs: list[str] = []
        self.updates = 0

    def display(self, shown: Any, display_id: bool) -> "Cell":
        assert display_id
        self.outputs.append(shown.data)
        return self

    def update(self, shown: Any) -> None:
        self.outputs[-1] = shown.data
        self.updates += 1

    @property
    def text(self) -> str:
        (output,) = self.outputs
        return unescape(re.sub(r"<.*?>", "", output))


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    made = Cell()
    monkeypatch.setattr(ipython, "display", made.display)
    return made


def test_lines_and_the_block_below_them_are_one_output_that_is_replaced(cell: Cell) -> None:
    console, done = NotebookConsole(), [0]
    console.print("digits: begins")
    console.begin(lambda: Text(f"{done[0]} of <3>"))
    for _ in range(3):
        done[0] += 1
        console.tick()
    # not at every moment
    assert cell.updates == 1
    assert cell.text.split("\n")[:2] == ["digits: begins", "0 of <3>"]
    console.print("trial 2 failed: [no] <b>", style="red", markup=False)
    console.end(lambda: Text("over"))
    assert cell.text.split("\n")[:3] == ["digits: begins", "trial 2 failed: [no] <b>", "over"]


@pytest.mark.parametrize(
    ("view", "live"), [(search_view, LiveSearch), (compare_view, LiveCompare), (retrain_view, LiveRetrain)]
)
def test_every_stage_shows_itself_so_in_a_notebook(view: Any, live: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    shown = view(quiet=False)
    assert isinstance(shown, live)
    assert isinstance(shown._console, NotebookConsole)
    assert not isinstance(view(quiet=True), live)
    monkeypatch.undo()
    assert not isinstance(getattr(view(quiet=False), "_console", Console()), NotebookConsole)
