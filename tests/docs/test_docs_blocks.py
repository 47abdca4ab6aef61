"""Every block of code in the documents is run, or checked by the rule of its language."""

import multiprocessing.process
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from itertools import pairwise
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from doc_pages import (
    EVERY,
    ONLY_READ,
    ONLY_READ_PAGES,
    PAGES,
    ROOT,
    RUN_ELSEWHERE,
    Block,
    blocks,
    calls,
    parse,
    prose,
    why_not_run,
)

from optitune.cli.main import run
from optitune.study import best_config
from optitune.study.study_file import from_file

pytestmark = pytest.mark.wide

LESS = {
    "search": ["--trials", "3", "--epochs", "1"],
    "compare": ["--max-runs", "4", "--sensitivity", "0"],
    "retrain": ["--epochs", "1", "--seeds", "1"],
}
"""What is typed after a command's own words, so that it takes seconds: what stands twice holds as said last."""

FEWER = ["--optimizers", "sgd,adam"]
"""The same for searches of studies that do not say themselves who competes."""

INSTEAD = {"optitune search --trials 50": ["--task", "digits", "--study", "mnist-cnn"]}
"""What is typed after a command that would train on MNIST."""

LESS_PYTHON = {r"max_runs=\d+": "max_runs=4, sensitivity=0", r"trials=\d+": "trials=3", r"epochs=\d+": "epochs=2"}
"""What is written in place of numbers in Python."""

REFERENCE = "mnist-cnn-reference"


def of(language: str) -> pytest.MarkDecorator:
    """All blocks in one language."""
    chosen = [block for block in EVERY if block.language == language]
    return pytest.mark.parametrize("block", chosen, ids=[block.name for block in chosen])


LANGUAGES = {"python", "sh", "toml", "yaml", "bibtex", "text"}
"""Those that have a rule here; what a program printed is `text`, of which nothing is checked."""


@pytest.mark.parametrize("block", EVERY, ids=[block.name for block in EVERY])
def test_every_block_has_a_language_that_has_a_rule(block: Block) -> None:
    assert block.language in LANGUAGES, f"{block.name}: '{block.language}' has no rule; what is printed is text"


@pytest.mark.parametrize("page", PAGES)
def test_no_code_hides_in_indented_lines(page: str) -> None:
    lines = prose(page)
    hidden = [line for before, line in pairwise(lines) if not before and re.match(r"    \S", line)]
    assert not hidden, "give it a fence and a language"


def test_there_are_blocks_of_every_kind_that_matters() -> None:
    assert {"python", "sh", "toml", "text", "bibtex"} <= {block.language for block in EVERY}
    assert len(EVERY) > 40


@of("sh")
def test_a_shell_block_is_sound_and_every_command_of_ours_parses(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    if block.page == "docs/cluster.md":
        # ssh, variables and nohup: docs/test_manifests.py knows how to read those
        return
    for call in calls(block):
        program, *words = shlex.split(call)
        if program == "optitune":
            parse(words)
        elif call.startswith("python -m scripts."):
            text = (ROOT / f"{words[1].replace('.', '/')}.py").read_text(encoding="utf-8")
            assert [word for word in words if word.startswith("--") and f'"{word}"' not in text] == []
        else:
            assert why_not_run(block, call), (
                f"{block.name}: neither ours nor among the lines that are only read: {call}"
            )


def test_every_reason_not_to_run_something_is_needed() -> None:
    shell = [block for block in EVERY if block.language == "sh" and block.page not in ONLY_READ_PAGES]
    there = [call for block in shell for call in calls(block)]
    assert [pattern for pattern in ONLY_READ if not any(re.search(pattern, call) for call in there)] == []
    assert {*ONLY_READ_PAGES, *RUN_ELSEWHERE} <= set(PAGES)


@of("toml")
def test_a_toml_block_is_a_valid_study_or_configuration(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    path.write_text(block.text, encoding="utf-8")
    if "configuration" in tomllib.loads(block.text):
        best_config.load(path, "")
    else:
        settings, budget = from_file(path)
        assert {**settings, **budget} == tomllib.loads(block.text)


@of("bibtex")
def test_a_bibtex_block_is_closed_and_tells_this_version(block: Block) -> None:
    assert re.match(r"@\w+\{\w+,\n", block.text)
    assert block.text.count("{") == block.text.count("}")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"version = {{{version}}}" in block.text


def test_a_yaml_block_is_a_valid_manifest() -> None:
    for block in EVERY:
        for manifest in yaml.safe_load_all(block.text) if block.language == "yaml" else ():
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def read(page: str, folder: Path) -> None:
    """Do in a folder what a page says, block by block: save its files, type its commands, run its Python."""
    shutil.copytree(ROOT / "docs" / "examples", folder / "docs" / "examples", dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        # worker processes begin where this process did
        patch.setattr(multiprocessing.process, "ORIGINAL_DIR", str(folder))
        for name in ("OPTITUNE_STUDIES_DIR", "OPTITUNE_STORAGE"):
            patch.delenv(name, raising=False)
        for block in blocks(page):
            if block.title:
                (folder / block.title).parent.mkdir(exist_ok=True)
                (folder / block.title).write_text(block.text, encoding="utf-8")
            if block.language == "python" and page not in RUN_ELSEWHERE:
                run_python(block, folder)
            elif block.language == "sh":
                for call in calls(block):
                    absent = REFERENCE in call and not (folder / "studies" / REFERENCE).exists()
                    if not absent and not why_not_run(block, call):
                        assert run(typed(call)) == 0, f"{block.name}: {call}"
    for name, module in [*sys.modules.items()]:
        # another page may have another file of the same name
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def typed(call: str) -> list[str]:
    """The words of a command as they are typed in a test."""
    command, *words = shlex.split(call)[1:]
    less = [*LESS.get(command, []), *INSTEAD.get(call, [])]
    if command == "search" and "sign" not in call:
        less += FEWER
    return [command, *words, *less]


def run_python(block: Block, folder: Path) -> None:
    """Run a block as a script; one that is a module for later blocks is not run, but imported by those."""
    if block.title and "__main__" not in block.text:
        return
    text = block.text
    for shown, less in LESS_PYTHON.items():
        text = re.sub(shown, less, text)
    script = folder / f"block_{block.line}.py"
    script.write_text(text, encoding="utf-8")
    with warnings.catch_warnings():
        # as in a script of one's own, where a warning is no error
        warnings.simplefilter("default")
        runpy.run_path(str(script), run_name="__main__")


@pytest.fixture(scope="session")
def readers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody has done all that the README says; pages under `docs` go on from there."""
    folder = tmp_path_factory.mktemp("reader")
    if (ROOT / "studies" / REFERENCE / "study.db").exists():
        shutil.copytree(ROOT / "studies" / REFERENCE, folder / "studies" / REFERENCE)
    read("README.md", folder)
    return folder


def test_what_the_readme_says_can_be_done(readers_folder: Path) -> None:
    studies = readers_folder / "studies"
    assert (studies / "digits" / "best.toml").is_file()
    assert (studies / "mnist-cnn" / "compare" / "verdict.json").is_file()
    assert (studies / "mnist-cnn" / "report" / "report.html").is_file()
    for name in ("mnist-cnn", "my_task", "wine"):
        assert (studies / name / "retrain" / "best" / "metrics.json").is_file()


FURTHER = [
    page
    for page in PAGES
    if page not in ("README.md", *ONLY_READ_PAGES) and {"python", "sh"} & {block.language for block in blocks(page)}
]


@pytest.mark.parametrize("page", FURTHER)
def test_what_a_page_says_can_be_done(page: str, readers_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    shutil.copytree(readers_folder, folder)
    read(page, folder)
