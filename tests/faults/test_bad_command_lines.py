"""Command lines that nobody should type, and what each is told."""

import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from bad_input import CASES, LINES, URLS, WORDS, answer, battery, check_whole, files, quick_storage
from hypothesis import given
from hypothesis import strategies as st
from report_world import home, stored, subject

from optitune.cli.main import COMMANDS
from optitune.errors import OptituneError
from optitune.searching import run as searching
from optitune.searching.requests import SearchRequest
from optitune.training.device import resolve_device

pytestmark = pytest.mark.wide


def options_of(name: str) -> list[click.Parameter]:
    module, _ = COMMANDS[name]
    command: click.Command = getattr(import_module(module), name.replace("-", "_"))
    return command.params


OPTIONS = {name: options_of(name) for name in COMMANDS}
ALL = sorted({option for params in OPTIONS.values() for each in params for option in each.opts if option[0] == "-"})


def nothing(*_: Any, **__: Any) -> None:
    """Neither a training nor a server nor a browser."""


def refused(*_: Any, **__: Any) -> None:
    raise OptituneError("nothing is trained or served here")


def settled(request: SearchRequest, *_: Any) -> None:
    """A search up to where it would take data and train."""
    searching.settle(request, resolve_device(request.device))
    refused()


class NoWorkers:
    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing is started."""

    run = refused


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A folder to be in, with a study, a file and a database of another program; and a copy of what is around it."""
    around = tmp_path_factory.mktemp("world")
    here = around / "a" / "b" / "c"
    here.mkdir(parents=True)
    place = home(here)
    stored(place, subject(("sgd", "adam"), stage="compared", rounds=4))
    told = answer("export", "--format", "toml", "--studies-dir", str(here / "studies"))
    (place.folder / "best.toml").write_text(told.out)
    (here / "file").write_text("a file")
    connection = sqlite3.connect(here / "foreign.db")
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    with closing(sqlite3.connect(place.folder / "study.db")) as connection:
        # else SQLite does it when the last connection closes, after the copy
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    kept = tmp_path_factory.mktemp("kept") / "copy"
    shutil.copytree(around, kept)
    with pytest.MonkeyPatch.context() as patch:
        quick_storage(patch)
        patch.chdir(here)
        for name in ("OPTITUNE_DATA_DIR", "OPTITUNE_STUDIES_DIR", "OPTITUNE_STORAGE", "OPTITUNE_DEBUG"):
            patch.delenv(name, raising=False)
        # some of what is typed names a task in a module, which is looked for here
        patch.setattr("sys.path", ["", *sys.path])
        patch.setattr("optitune.workers.pool.warm_up", nothing)
        patch.setattr("optitune.searching.run.search", settled)
        patch.setattr("optitune.searching.join.join", refused)
        patch.setattr("optitune.searching.watch.watch", refused)
        patch.setattr("optitune.comparing.run.Pool", NoWorkers)
        patch.setattr("optitune.retraining.seeds.Pool", NoWorkers)
        patch.setattr("optitune.dashboard.server.serve", refused)
        patch.setattr("optitune.tasks.datasets._download", refused)
        patch.setattr("optitune.report.rendering.svg", lambda panel: "<svg></svg>")
        patch.setattr("optitune.report.page.save_png", nothing)
        patch.setattr("webbrowser.open", nothing)
        yield around, kept


words = st.one_of(st.sampled_from(WORDS), st.text(st.characters(exclude_characters="/\x00", codec="utf-8"), max_size=8))


def value_of(option: str) -> st.SearchStrategy[str]:
    if option == "--storage":
        return st.sampled_from(URLS)
    return st.sampled_from(LINES) | words if option == "--set" else words


@st.composite
def typed(draw: st.DrawFn, option: click.Parameter | str) -> list[str]:
    """An option, mostly with a value, in either spelling."""
    name = option if isinstance(option, str) else draw(st.sampled_from([*option.opts, *option.secondary_opts]))
    if not name.startswith("-"):
        return [draw(words)]
    needs = isinstance(option, str) or not getattr(option, "is_flag", False)
    if draw(st.integers(0, 19)) == 0:
        needs = not needs
    if not needs:
        return [name]
    value = draw(value_of(name))
    return [f"{name}={value}"] if draw(st.integers(0, 4)) == 0 and name.startswith("--") else [name, value]


@st.composite
def lines(draw: st.DrawFn) -> tuple[bool, list[str]]:
    """Whether --json is asked for, and a whole command line."""
    name = draw(st.sampled_from(list(COMMANDS)))
    known = draw(st.lists(st.sampled_from(OPTIONS[name]), max_size=4)) if OPTIONS[name] else []
    parts = [draw(typed(option)) for option in known]
    if draw(st.integers(0, 9)) == 0:
        parts.append(draw(typed(draw(st.sampled_from(ALL)))))
    if draw(st.integers(0, 9)) == 0:
        parts.insert(0, [draw(words)])
    if draw(st.integers(0, 19)) == 0:
        parts.insert(draw(st.integers(0, len(parts))), ["--"])
    as_json = draw(st.booleans())
    command = draw(words) if draw(st.integers(0, 29)) == 0 else name
    return as_json, [command, *["--json"] * as_json, *(word for part in parts for word in part)]


@contextmanager
def watched(around: Path, kept: Path) -> Iterator[None]:
    """What is written in the block has to be whole; then put back what was there before."""
    try:
        yield
        changed = check_whole(around, files(kept))
    except BaseException:
        restore(around, kept)
        raise
    if changed:
        restore(around, kept)


def restore(around: Path, kept: Path) -> None:
    for path in sorted(around.rglob("*"), reverse=True):
        if path.is_dir():
            # not the one that this process is in
            if not (kept / path.relative_to(around)).exists():
                path.rmdir()
        else:
            path.unlink()
    shutil.copytree(kept, around, dirs_exist_ok=True)


@battery
@given(line=lines())
def test_any_command_line_ends_in_a_plain_answer(world: tuple[Path, Path], line: tuple[bool, list[str]]) -> None:
    as_json, typed_words = line
    with watched(*world):
        told = answer(*typed_words)
    if as_json and not typed_words[0].startswith("-"):
        assert isinstance(json.loads(told.out), dict)
    elif told.code and "--json" not in typed_words:
        assert any(line.startswith("error: ") for line in told.err.splitlines())


@battery
@given(name=st.sampled_from(list(COMMANDS)), flag=st.sampled_from(["-h", "--help"]), data=st.data())
def test_help_is_given_whatever_else_is_typed(world: tuple[Path, Path], name: str, flag: str, data: Any) -> None:
    around, kept = world
    options = [each for each in OPTIONS[name] if not getattr(each, "is_flag", False) and each.opts[0].startswith("-")]
    said = data.draw(st.lists(st.sampled_from(options), max_size=2)) if options else []
    given_words = [word for option in said for word in (option.opts[0], data.draw(value_of(option.opts[0])))]
    told = answer(name, *given_words, flag)
    assert told.code == 0
    assert told.out.startswith(f"Usage: optitune {name}")
    assert not check_whole(around, files(kept))


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["--version"], ["--help", "nonsense"]])
def test_the_group_has_help_and_a_version(words: list[str]) -> None:
    told = answer(*words)
    assert told.code == 0
    assert "optitune" in told.out


def test_there_are_two_thousand_cases_and_each_is_of_a_test() -> None:
    beside = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_bad_*.py"))
    tests = set(re.findall(r"^def (test_\w+)\(", beside, re.M))
    assert sum(CASES.values()) >= 2000
    assert CASES.keys() <= tests
