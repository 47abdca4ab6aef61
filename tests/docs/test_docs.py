"""What the documents promise, held against the program."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from doc_pages import PAGES, ROOT, blocks

from optitune.cli.main import COMMANDS
from optitune.cli.search import search
from optitune.space.losses import LOSSES
from optitune.space.optimizers import DEFAULT_OPTIMIZERS, OPTIMIZERS
from optitune.space.schedules import SCHEDULES
from optitune.study.study_file import from_file
from optitune.tasks.builtin import TASKS
from scripts.write_commands import PAGE, page


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


README, SEARCH, CITE = text_of("README.md"), text_of("docs/search.md"), text_of("docs/cite.md")
PROJECT = tomllib.loads(text_of("pyproject.toml"))["project"]


def code(page: str, language: str) -> list[str]:
    """The code of a page in one language."""
    return [block.text for block in blocks(page) if block.language == language]


def test_the_page_of_commands_is_what_the_program_prints() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run scripts/write_commands.py"


def test_the_quick_start_is_two_lines_that_install_and_run() -> None:
    block = re.search(r"## Quick start.*?```\w*\n(.*?)```", README, re.S)
    assert block is not None
    first, second = block[1].strip().splitlines()
    assert first.endswith("optitune search --task digits --trials 20")
    assert second.endswith("-m pytest")


def test_the_readme_is_short_and_its_first_screen_leads_to_a_result() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150
    assert any("search --task digits" in line for line in lines[:20])
    assert any("mnist-cnn-reference" in line for line in lines[:40])


def test_the_readme_shows_three_pictures_and_says_what_they_show() -> None:
    shown = {path: alt for alt, path in re.findall(r"!\[(.*?)\]\((.*?)\)", README)}
    assert list(shown) == [f"docs/pictures/{name}.png" for name in ("report", "dashboard", "terminal")]
    for path, alt in shown.items():
        assert (ROOT / path).read_bytes().startswith(b"\x89PNG")
        assert len(alt.split()) >= 8


def test_the_table_of_options_has_every_option_of_search() -> None:
    table = SEARCH.split("| option of `search` |")[1].split("\n\n")[0]
    for option in search.params:
        assert isinstance(option, click.Option)
        assert option.opts[0] in table, option.opts[0]


def test_the_page_of_the_search_names_every_task_and_schedule_and_the_default_optimizers() -> None:
    for name in (*TASKS, *SCHEDULES):
        assert f"`{name}`" in SEARCH
    assert ", ".join(DEFAULT_OPTIMIZERS) in SEARCH


def test_the_readme_names_every_command() -> None:
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", README), name


def test_the_index_and_the_readme_lead_to_every_page() -> None:
    pages = {Path(page).name for page in PAGES if page.startswith("docs/")} - {"README.md"}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", text_of("docs/README.md"))) == pages
    assert set(re.findall(r"\]\(docs/([\w-]+\.md)", README)) == pages


def test_methods_are_cited_with_the_sources_that_the_registries_name() -> None:
    for table in (OPTIMIZERS, SCHEDULES, LOSSES):
        for row in table.values():
            assert f"| `{row.name}` | {row.source} |" in CITE


def test_nothing_is_cited_that_neither_code_nor_the_measured_pages_name() -> None:
    said = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "optitune").rglob("*.py")) + text_of(
        "docs/verdict.md"
    )
    for paper in re.findall(r"arXiv:\d{4}\.\d{5}|\b\d+:\d{3,}\b", CITE):
        assert paper in said, paper


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.name)
def test_the_studies_of_the_repository_are_valid(path: Path) -> None:
    settings, budget = from_file(path)
    assert {**settings, **budget} == tomllib.loads(path.read_text(encoding="utf-8"))
    assert path.name in text_of("studies/README.md")


def anchors(page: Path) -> set[str]:
    """What can be linked to within a page: its headings, as they are spelled in addresses."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_within_the_documents_lead_somewhere(page: str) -> None:
    place = ROOT / page
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", place.read_text(encoding="utf-8")):
        there = place.parent / target if target else place
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def test_the_changelog_has_this_version_and_is_linked() -> None:
    assert f"\n## [{PROJECT['version']}]" in text_of("CHANGELOG.md")
    assert "](CHANGELOG.md)" in README


def test_every_dependency_is_justified_beside_it() -> None:
    needed = [*PROJECT["dependencies"], *(p for extra in PROJECT["optional-dependencies"].values() for p in extra)]
    lines = text_of("pyproject.toml").splitlines()
    for requirement in needed:
        assert any(f'"{requirement}"' in line and re.search(r"  # \w", line) for line in lines), requirement


def test_the_walk_through_names_files_and_functions_that_are_there() -> None:
    page = text_of("CONTRIBUTING.md")
    files = re.findall(r"`([\w/]+\.py)`", page.split("## One search, as the data flow")[1].split("\n## ")[0])
    assert len(files) > 20
    for file in files:
        assert (ROOT / "optitune" / file).is_file(), file
    for file in re.findall(r"`((?:optitune|scripts|docs)/[\w/.]+)`", page):
        assert (ROOT / file).exists(), file
    tables = re.findall(r"\| ((?:`[A-Z_]+`(?:, )?)+) in `optitune/([\w/]+)(?:\.py)?` \|", page)
    assert len(tables) > 5
    for names, place in tables:
        inside = ROOT / "optitune" / place
        code = "".join(
            path.read_text() for path in (inside.glob("*.py") if inside.is_dir() else [inside.with_suffix(".py")])
        )
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^{name}\b", code, re.M), f"{name} in {place}"


def test_the_row_shown_for_adding_an_optimizer_is_a_valid_one() -> None:
    from optitune.space import optimizer_rows

    row = eval(code("CONTRIBUTING.md", "python")[0], vars(optimizer_rows))  # noqa: S307
    assert row.name not in OPTIMIZERS
    assert all(row.ranges[name].contains(value) for name, value in row.known_good[0].items())


def test_the_readmes_task_is_the_template_and_short() -> None:
    template = text_of("optitune/task_template.py.txt")
    (task,) = [block for block in blocks("README.md") if block.title == "my_task.py"]
    assert task.text == template
    assert len(template.splitlines()) <= 25


def test_the_study_shown_has_every_kind_of_line(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(code("docs/tune-your-model.md", "toml")[0])
    settings, budget = from_file(path)
    assert settings["groups"] == {"fc*": 10.0, "conv1.*": [0.1, 10.0]}
    assert budget == {"trials": 100}


def test_the_examples_mark_few_lines_as_ours() -> None:
    counts = {path.name: path.read_text().count("# optitune") for path in (ROOT / "docs" / "examples").glob("*.py")}
    assert all(0 < count <= 10 for count in counts.values()), counts
    assert counts["hf_trainer.py"] <= 6


def test_the_plain_optuna_script_runs_as_it_stands(tmp_path: Path) -> None:
    (script,) = code("docs/search-quality.md", "python")
    assert "n_trials=30" in script
    (tmp_path / "script.py").write_text(script.replace("n_trials=30", "n_trials=12"))
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pruned" in done.stderr
