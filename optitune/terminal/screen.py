"""Parts that all views of the terminal share: a block that is drawn anew, or nothing, and the next commands."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import rich.live
from rich.console import Console, RenderableType
from rich.text import Text

from optitune.terminal.drawing import QUIET


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
    """A block of the terminal that is drawn anew a few times a second; `_draw` gives what it shows."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: rich.live.Live | None = None

    def _start(self) -> None:
        # made here, since it draws at once
        self._live = rich.live.Live(
            console=self._console, get_renderable=self._draw, refresh_per_second=4, transient=True
        )
        self._live.start()

    def _draw(self) -> RenderableType:
        raise NotImplementedError

    def tick(self) -> None:
        """The screen draws itself."""

    def end(self) -> None:
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
    """The view of a stage that fits where stderr goes.

    Args:
        quiet: whether nothing is to be shown.
        live: makes the view of a terminal.
        lines: makes the view of a log.
    """
    console = Console(stderr=True)
    if quiet:
        return Silent()
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
