"""One output of a notebook's cell, which is replaced as there is more to show."""

from collections.abc import Callable
from io import StringIO
from time import monotonic
from typing import Any

from rich.console import Console, RenderableType

EVERY_S = 0.5
"""The least time between two drawings, in seconds."""

WIDTH = 120
"""Characters of a line; a narrower cell can be scrolled."""

HEIGHT = 60

PRE = '<pre style="white-space: pre; overflow-x: auto; line-height: normal; margin: 0">{code}</pre>'


class NotebookConsole(Console):
    """A console whose lines stand above a block, both in one output of a cell."""

    def __init__(self) -> None:
        super().__init__(file=StringIO(), force_jupyter=False, force_interactive=True, width=WIDTH, height=HEIGHT)
        self._draw: Callable[[], RenderableType] | None = None
        self._printed: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._handle: Any = None
        self._next = 0.0

    def print(self, *objects: Any, **how: Any) -> None:
        """Add a line; see `rich.console.Console.print`."""
        self._printed.append((objects, how))
        self.refresh()

    def begin(self, draw: Callable[[], RenderableType]) -> None:
        """Show a block below the lines from now on."""
        self._draw = draw
        self.refresh()

    def tick(self) -> None:
        """Draw the block anew, unless that was done a moment ago."""
        if monotonic() >= self._next:
            self.refresh()

    def end(self, last: Callable[[], RenderableType]) -> None:
        """Show another block in place of the one that there was; nothing where there was none."""
        if self._draw is not None:
            self.begin(last)

    def refresh(self) -> None:
        """Draw lines and block anew."""
        from IPython.display import HTML, display

        shown = HTML(self._html())  # type: ignore[no-untyped-call]
        if self._handle is None:
            self._handle = display(shown, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(shown)
        self._next = monotonic() + EVERY_S

    def _html(self) -> str:
        drawn = Console(
            file=StringIO(), force_jupyter=False, force_terminal=True, width=self.width, height=self.height, record=True
        )
        for objects, how in self._printed:
            drawn.print(*objects, **how)
        if self._draw is not None:
            drawn.print(self._draw())
        return drawn.export_html(inline_styles=True, code_format=PRE)
