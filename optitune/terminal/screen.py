"""Parts that all views of the terminal share: a block that is drawn anew, or nothing, and the next commands."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import rich.live
from rich.console import Console, RenderableType
from rich.text import Text

from optitune.terminal.drawing import QUIET
from optitune.terminal.notebook import NotebookConsole


class Silent:
    """Shows nothing."""

    def begin(self, *args: Any) -> None: ...

    def show(self, *args: Any) -> None: ...

    def note(self, *args: Any) -> None: ...

    def judged(self, *args: Any) -> None: ...

    def others(self, *args: Any) -> None: ...

    def tick(self) -> None: ...

    def end(self) -> None: ...


class Live:
    """A block of the terminal, or of a notebook, drawn anew a few times a second; `_draw` gives what it shows."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: rich.live.Live | None = None

    def _start(self) -> None:
        if isinstance(self._console, NotebookConsole):
            self._console.begin(self._draw)
            return
        # made here, since it draws at once
        self._live = rich.live.Live(
            console=self._console, get_renderable=self._draw, refresh_per_second=4, transient=True
        )
        self._live.start()

    def _draw(self) -> RenderableType:
        raise NotImplementedError

    def _drawn_last(self) -> RenderableType:
        """What a notebook keeps, where a terminal's block is removed."""
        return self._draw()

    def tick(self) -> None:
        """Draw a notebook's block anew; a terminal's draws itself."""
        if isinstance(self._console, NotebookConsole):
            self._console.tick()

    def end(self) -> None:
        if isinstance(self._console, NotebookConsole):
            self._console.end(self._drawn_last)
        if self._live is not None:
            self._live.stop()


class Lines:
    """Lines for a log, which need no clock and stay as they are."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def tick(self) -> None: ...

    def end(self) -> None: ...


View = TypeVar("View")


def view(quiet: bool, live: Callable[[Console], View], lines: Callable[[Console], View]) -> View | Silent:
    """The view of a stage that fits where stderr goes, or a notebook's cell.

    Args:
        quiet: whether nothing is to be shown.
        live: makes the view of a terminal.
        lines: makes the view of a log.
    """
    console = Console(stderr=True)
    if quiet:
        return Silent()
    if console.is_jupyter:
        return live(NotebookConsole())
    return live(console) if console.is_interactive else lines(console)


def dim(lines: str | list[str]) -> Text:
    """What the workers do now, a line each."""
    return Text("\n".join(lines or ["starting workers ..."]) if isinstance(lines, list) else lines, QUIET)


def print_next(console: Console, commands: Sequence[str]) -> None:
    """The commands that may be typed next, a line each."""
    if commands:
        console.print("\nnext:")
    for command in commands:
        console.print(f"  {command}", markup=False)
