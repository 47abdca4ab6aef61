"""Write docs/commands.md: the help of every command, as the program gives it."""

from importlib import import_module
from pathlib import Path

import click

from optitune.cli.main import COMMANDS, optitune

WIDTH = 100
PAGE = Path(__file__).parent.parent / "docs" / "commands.md"


def page() -> str:
    """The whole page."""
    parts = ["# Commands\n\nAs `optitune COMMAND --help` prints them; written by `scripts/write_commands.py`.\n"]
    group = optitune.make_context("optitune", [], resilient_parsing=True, terminal_width=WIDTH)
    parts.append(f"```text\n{optitune.get_help(group)}\n```\n")
    for name, (module, _) in COMMANDS.items():
        command: click.Command = getattr(import_module(module), name.replace("-", "_"))
        context = command.make_context(name, [], parent=group, resilient_parsing=True)
        parts.append(f"## optitune {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
