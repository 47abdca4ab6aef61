"""The documents that people read, their blocks of code, and what becomes of each line of them in the tests."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from optitune.cli.main import optitune

ROOT = Path(__file__).parents[2]

PAGES = ["README.md", "CONTRIBUTING.md", "studies/README.md"]
PAGES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
"""All pages whose blocks are held, by their paths from the root."""

ONLY_READ = {
    r"^python3 -m venv ": "makes a virtual environment; .ci/run runs the line",
    r"^\.venv/bin/(pip|python -m pytest)": "installs, or runs all tests; .ci/run runs the line",
    r"^bash \.ci/run$": "is what runs these tests",
    r"^optitune dashboard": "serves until Ctrl-C; slow/test_dashboard.py runs it",
    r"^optitune (search --study|compare|retrain best --study) mnist-cnn-reference": "an hour on all of MNIST; "
    "end_to_end/test_reference_study.py looks at what they left",
    r"^pip install 'optitune\[transformers\]'": "installs; .ci/run installs both",
    r"lion[-_]pytorch": "needs the package, which is not installed; training/test_optimizer_classes.py has one like it",
    r"^optuna-dashboard": "serves until Ctrl-C, without us",
    r"^eval .*completion": "changes the shell that types it; cli/test_completion.py runs it",
    r"^python -m scripts\.": "minutes to hours, most of them on MNIST; the script and its options are looked up",
}
"""Lines that are not run, and why; all of them are parsed as far as they are ours."""

ONLY_READ_PAGES = {
    "docs/cluster.md": "needs several machines, a database or a cluster; docs/test_manifests.py parses the commands",
    "docs/verdict.md": "what was measured on MNIST, for hours",
    "docs/verdict-tables.md": "what was measured on MNIST, for hours",
}
"""Pages whose shell lines are not run, and why."""

RUN_ELSEWHERE = {
    "CONTRIBUTING.md": "docs/test_docs.py reads its Python as rows of the registries",
    "docs/search-quality.md": "docs/test_docs.py runs its script, and sees it prune",
}
"""Pages whose Python other tests run."""


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        line: of the page, where it begins.
        title: the file that it is to be saved as, as `title=FILE` beside the language says; empty for none.
    """

    page: str
    line: int
    language: str
    title: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in order; one that is not closed is none."""
    found, opened = [], None
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        fence = re.match(r"\s*(`{3,}|~{3,})(.*)$", line)
        if fence is None:
            continue
        if opened is None:
            opened = number, *fence.groups()
        elif fence[1].startswith(opened[1]) and not fence[2].strip():
            begin, _, info = opened
            language, _, rest = info.strip().partition(" ")
            title = re.fullmatch(r"title=(\S+)", rest.strip())
            assert title is not None or not rest, f"{page}:{begin}: {rest!r} says nothing that is known"
            text = "\n".join(lines[begin : number - 1]) + "\n"
            found.append(Block(page, begin, language, title[1] if title else "", text))
            opened = None
    assert opened is None, f"{page}:{opened[0] if opened else 0}: a block that is not closed"
    return found


EVERY = [block for page in PAGES for block in blocks(page)]


def prose(page: str) -> list[str]:
    """The lines of a page outside its blocks."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    for block in blocks(page):
        for number in range(block.line - 1, block.line + len(block.text.splitlines()) + 1):
            lines[number] = ""
    return lines


def calls(block: Block) -> Iterator[str]:
    """The simple commands of a shell block, one by one, without comments."""
    for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
        for call in line.split("&&"):
            words = shlex.split(call, comments=True)
            if words:
                yield re.sub(r"^\.venv/bin/(?=optitune )", "", shlex.join(words))


def why_not_run(block: Block, call: str) -> str:
    """Why a command of a page is not run; empty where it is."""
    reasons = (why for pattern, why in ONLY_READ.items() if re.search(pattern, call))
    return ONLY_READ_PAGES.get(block.page) or next(reasons, "")


def parse(words: list[str]) -> None:
    """Read a command line as the program does, and run nothing.

    Raises:
        click.ClickException: there is no such command or option.
    """
    # as within the program: a command keeps the help options of the first context that it is asked in
    program = click.Context(optitune, info_name="optitune", **optitune.context_settings)
    command = optitune.get_command(program, words[0])
    assert command is not None, f"there is no command {words[0]}"
    command.make_context(words[0], words[1:], parent=program)
