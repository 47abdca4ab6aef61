"""Parts that all views of the terminal share: a block that is drawn anew, or nothing, and the next commands."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
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


class Screen:
    """A block of the terminal that is drawn anew a few times a second."""

    def __init__(self, console: Console, draw: Callable[[], RenderableType]) -> None:
        self._console = console
        self._draw = draw
        self._live: Live | None = None

    def begin(self) -> None:
        # made here, since it draws at once
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=4, transient=True)
        self._live.start()

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()


def dim(lines: str | list[str]) -> Text:
    """What the workers do now, a line each."""
    return Text("\n".join(lines or ["starting workers ..."]) if isinstance(lines, list) else lines, QUIET)


def print_next(console: Console, commands: Sequence[str]) -> None:
    """The commands that may be typed next, a line each."""
    if commands:
        console.print("\nnext:")
    for command in commands:
        console.print(f"  {command}", markup=False)
