"""What the documents promise, held against the program."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import torch

from optitune.cli.main import COMMANDS, optitune
from optitune.cli.search import search
from optitune.optimizers import DEFAULT_OPTIMIZERS, OPTIMIZERS
from optitune.schedules import SCHEDULES
from optitune.study_file import from_file
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
    settings, budget = from_file(path)
    assert {**settings, **budget} == tomllib.loads(path.read_text(encoding="utf-8"))
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


def blocks(page: str, language: str) -> list[str]:
    """The code of a document in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


def test_the_row_shown_for_adding_an_optimizer_is_a_valid_one() -> None:
    from optitune import optimizer_rows

    row = eval(blocks("CONTRIBUTING.md", "python")[0], vars(optimizer_rows))  # noqa: S307
    assert row.name not in OPTIMIZERS
    assert all(row.ranges[name].contains(value) for name, value in row.known_good[0].items())


def test_the_row_shown_for_adding_a_schedule_is_a_valid_one() -> None:
    from optitune import schedules
    from optitune.building import at

    row = eval(blocks("CONTRIBUTING.md", "python")[1], vars(schedules))  # noqa: S307
    assert row.name not in SCHEDULES
    for epochs in (1, 10):
        good = row.known_good(epochs)
        assert all(row.ranges(epochs)[name].contains(value) for name, value in good.items())
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        at(row.path)(optimizer, **row.in_steps(row.arguments(good), steps_per_epoch=7))


def test_the_readmes_task_is_the_template_and_short() -> None:
    template = (ROOT / "optitune" / "task_template.py.txt").read_text(encoding="utf-8")
    assert blocks("README.md", "python")[0] == template
    assert len(template.splitlines()) <= 25


def test_the_readmes_task_and_scripts_run_as_they_stand(tmp_path: Path) -> None:
    task, script, own_study = blocks("README.md", "python")
    (tmp_path / "my_task.py").write_text(task)
    small = {"trials=20": "trials=2", "n_trials=20": "n_trials=2", "epochs=20": "epochs=2"}
    for name, text in (("script.py", script), ("own_study.py", own_study)):
        for shown, less in small.items():
            text = text.replace(shown, less)
        (tmp_path / name).write_text(text)
        done = subprocess.run([sys.executable, name], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "studies" / "wine" / "retrain" / "best" / "metrics.json").is_file()


def test_the_readmes_study_is_a_valid_file(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    (text,) = blocks("README.md", "toml")
    path.write_text(text)
    settings, budget = from_file(path)
    assert settings["groups"] == {"fc*": 10.0, "conv1.*": [0.1, 10.0]}
    assert budget == {"trials": 100}


def test_the_plain_optuna_script_runs_as_it_stands(tmp_path: Path) -> None:
    (script,) = blocks("docs/search-quality.md", "python")
    assert "n_trials=30" in script
    (tmp_path / "script.py").write_text(script.replace("n_trials=30", "n_trials=12"))
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pruned" in done.stderr
