"""What the documents promise, held against the program."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import click
import pytest

from optitune import settings
from optitune.cli.main import COMMANDS, optitune
from optitune.cli.search import search
from optitune.optimizers import DEFAULT_OPTIMIZERS, OPTIMIZERS
from optitune.schedules import SCHEDULES
from optitune.tasks import TASKS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_page_of_commands_is_what_the_program_prints() -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from write_commands import PAGE, page
    finally:
        sys.path.pop(0)
    assert PAGE.read_text(encoding="utf-8") == page(), "run scripts/write_commands.py"


def test_the_quick_start_is_two_lines_that_install_and_run() -> None:
    block = re.search(r"## Quick start.*?```\w*\n(.*?)```", README, re.S)
    assert block is not None
    first, second = block[1].strip().splitlines()
    assert first.endswith("optitune search --task digits --trials 20")
    assert second.endswith("-m pytest")


def commands(text: str) -> list[list[str]]:
    """The optitune commands in the shell blocks of a document."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    calls = [call for line in lines for call in line.split("&&") if re.search(r"\boptitune \w", call)]
    return [shlex.split(call[call.index("optitune ") :], comments=True)[1:] for call in calls]


@pytest.mark.parametrize("words", commands(README), ids=" ".join)
def test_every_command_in_the_readme_parses(words: list[str]) -> None:
    command = optitune.get_command(click.Context(optitune), words[0])
    assert command is not None
    command.make_context(words[0], words[1:])


def test_the_readmes_table_has_every_option_of_search() -> None:
    table = README.split("| option of `search` |")[1].split("\n\n")[0]
    for option in search.params:
        assert isinstance(option, click.Option)
        assert option.opts[0] in table, option.opts[0]


def test_the_readme_names_every_task_and_schedule_and_the_default_optimizers() -> None:
    for name in (*TASKS, *SCHEDULES):
        assert f"`{name}`" in README
    assert ", ".join(DEFAULT_OPTIMIZERS) in README


def test_the_readme_names_every_command() -> None:
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", README), name


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.name)
def test_the_studies_of_the_repository_are_valid(path: Path) -> None:
    assert settings.from_file(path) == tomllib.loads(path.read_text(encoding="utf-8"))
    assert path.name in (ROOT / "studies" / "README.md").read_text(encoding="utf-8")


def test_links_within_the_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page.name, target)


def test_every_dependency_is_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *(p for extra in project["optional-dependencies"].values() for p in extra)]
    reasons = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Why each dependency")[1]
    for requirement in needed:
        name = re.match(r"[\w-]+", requirement)
        assert name is not None
        assert re.search(rf"\b{name[0]}\b", reasons), requirement


def test_the_row_shown_for_adding_an_optimizer_is_a_valid_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from optitune import optimizers

    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", text, re.S)
    assert block is not None
    row = eval(block[1], vars(optimizers))  # noqa: S307
    assert row.name not in OPTIMIZERS
    assert all(row.ranges[name].contains(value) for name, value in row.known_good[0].items())
