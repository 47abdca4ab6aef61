"""A user's own code: whatever goes wrong in it is one line, and what it does to its process stays its own."""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from optitune.errors import UsageError
from optitune.tasks import loading, user_code
from optitune.tasks.task import Task
from optitune.tasks.user_code import AlreadyDescribed, calling, described, of_a_library, reason, script, whole

pytestmark = pytest.mark.wide

SOUND = """
import torch
from torch import nn

from optitune import Task


def make_task():
    inputs = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    return Task(model=lambda: nn.Linear(4, 3), data=(inputs, torch.arange(60) % 3))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that one is in, and of which nothing is left afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(user_code, "_folder", [])
    # a task of another test
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield tmp_path
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def found(text: str, source: str = "mine.py:make_task") -> Task:
    Path(source.partition(":")[0]).write_text(text + SOUND, encoding="utf-8")
    return loading.find(source, Path("no folder is needed"))


PARSED = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=16)
"""


def test_a_script_that_reads_its_options_finds_their_defaults(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["optitune", "search", "--task", "mine.py:make_task"]
    monkeypatch.setattr(sys, "argv", typed)
    found(PARSED + "assert parser.parse_args().width == 16\nimport sys\nARGV = sys.argv\n")
    assert [str(here / "mine.py")] == sys.modules["mine"].ARGV
    assert sys.argv is typed


def test_an_option_that_must_be_given_is_named_and_nothing_is_printed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as error:
        found(PARSED + "parser.add_argument('data')\nparser.parse_args()\n")
    assert str(error.value) == (
        "task 'mine.py:make_task': import mine.py leaves by sys.exit(2): its options were refused "
        "(the following arguments are required: data); give each one a default, since none can be given here "
        f"({here / 'mine.py'}, line 6)"
    )
    assert capsys.readouterr() == ("", "")
    assert "print_usage" in argparse.ArgumentParser.error.__code__.co_names
    assert "mine" not in sys.modules


@pytest.mark.parametrize(("code", "said"), [("3", "3"), ("", ""), ("'no GPU here'", "'no GPU here'")])
def test_leaving_is_one_line_with_its_place(here: Path, code: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        found(f"import sys\nsys.exit({code})\n")
    line = f"task 'mine.py:make_task': import mine.py leaves by sys.exit({said}) ({here / 'mine.py'}, line 2)"
    assert str(error.value) == line


def test_so_is_leaving_in_a_function(here: Path) -> None:
    with pytest.raises(UsageError, match=r"make\(\) leaves by sys.exit\(3\) \(.*mine.py, line 3\)$"):
        found("def make():\n    import sys\n    sys.exit(3)\n", "mine.py:make")


def test_an_interrupt_stays_one(here: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        found("raise KeyboardInterrupt\n")
    assert "mine" not in sys.modules


class Stop(BaseException):
    pass


class Wordless(Exception):
    def __str__(self) -> NoReturn:
        raise ValueError


def deeper(depth: int = 0) -> None:
    deeper(depth + 1)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError(), "ValueError"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (Stop("now"), "Stop: now"),
        (Wordless(), "Wordless: its message cannot be shown (ValueError)"),
        (ExceptionGroup("both", [ValueError("a"), KeyError("b")]), "ExceptionGroup of 2, the first ValueError: a"),
        (MemoryError(), "MemoryError"),
        (UserWarning("beware"), "UserWarning: beware"),
        (SystemExit(), "sys.exit()"),
        (AlreadyDescribed("rank 1: ValueError: a"), "rank 1: ValueError: a"),
        (ValueError("x" * 1000), f"ValueError: {'x' * 385}..."),
    ],
)
def test_any_error_is_one_line(error: BaseException, line: str) -> None:
    assert described(error) == line
    assert len(line) <= 400
    line = r"^task 'mine': it (fails: |leaves by ).*test_user_code.py, line \d+\)$"
    with pytest.raises(UsageError, match=line), calling("mine", "it"):
        raise error


def test_the_place_is_that_of_the_users_code_as_seen_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    for call in (deeper, lambda: int("x"), lambda: argparse.ArgumentParser().add_argument("x", required=True)):
        with pytest.raises((RecursionError, ValueError, TypeError)) as error:
            call()
        assert reason(error.value).endswith(f"(test_user_code.py, line {error.traceback[-1].lineno + 1})") or (
            "(test_user_code.py, line " in reason(error.value)
        )


def test_an_error_that_cannot_be_written_has_a_traceback_all_the_same() -> None:
    def fail() -> None:
        raise Wordless

    with pytest.raises(Wordless) as error:
        fail()
    assert "in fail" in whole(error.value)


def test_a_folder_that_only_looks_like_ours_is_the_users(tmp_path: Path) -> None:
    package = Path(user_code.__file__).parent.parent
    assert of_a_library(str(package / "tasks" / "task.py"))
    assert of_a_library(os.__file__)
    assert not of_a_library(f"{package}-tasks/mine.py")
    assert not of_a_library("/home/me/lib/python/mine.py")


def test_code_that_changes_the_folder_finds_it_again_and_the_rest_stays(here: Path) -> None:
    (here / "inner").mkdir()
    (here / "inner" / "numbers.txt").write_text("1 2 3")
    with calling("mine", "it"):
        os.chdir("inner")
    assert Path.cwd() == here
    with calling("mine", "it"):
        assert Path("numbers.txt").read_text() == "1 2 3"
    assert Path.cwd() == here


def test_signals_and_streams_are_as_before(here: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    streams = sys.stdout, sys.stderr
    with calling("mine", "it"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: None)
        sys.stdout = sys.stderr = None  # type: ignore[assignment]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert (sys.stdout, sys.stderr) == streams


@pytest.mark.parametrize("name", ["my task.py", "müßig.py", "test.py", "tasks.py", "optitune.py", "a-b.py"])
def test_a_file_may_be_called_as_it_likes(here: Path, name: str) -> None:
    assert found("", f"{name}:make_task").name == f"{name}:make_task"
    assert sys.modules["optitune"].__file__ != str(here / name)


def test_a_relative_import_is_told_with_its_line(here: Path) -> None:
    with pytest.raises(UsageError, match=r"ImportError: attempted relative import .* \(.*mine.py, line 1\)$"):
        found("from . import inner\n")


def hides(here: Path, name: str, text: str) -> None:
    (here / f"{name}.py").write_text(text)
    sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["this", "colorsys", "yaml"])
def test_a_file_named_as_one_that_is_needed_is_left_out_and_named(
    here: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hides(here, name, "raise ImportError('mine')\n")
    (here / "beside.py").write_text("OWN = True\n")
    sys.modules.pop("beside", None)
    found(f"import {name}, beside\nassert beside.OWN\n")
    assert f"note: {name}.py ('import {name}') in {here}: left out" in capsys.readouterr().err
    assert str(here) not in sys.path
    assert sys.modules[name].__file__ != str(here / f"{name}.py")


def test_a_package_hides_as_a_file_does_and_a_mere_folder_does_not(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "colorsys").mkdir()
    found("")
    assert capsys.readouterr().err == ""
    assert sys.path[0] == str(here)


def test_the_task_itself_may_have_such_a_name(here: Path) -> None:
    before = sys.modules["random"]
    assert found("import random\nassert random.randint(1, 1) == 1\n", "random.py:make_task").name
    assert sys.modules["random"] is before
    assert found("", "colorsys.py:make_task").name
    assert "colorsys" not in sys.modules or sys.modules["colorsys"].__file__ != str(here / "colorsys.py")


def test_modules_by_name_are_found_in_the_present_folder_by_the_same_rule(here: Path) -> None:
    hides(here, "colorsys", "raise ImportError('mine')\n")
    Path("mine.py").write_text("import colorsys\n" + SOUND)
    assert loading.find("mine:make_task", Path("none")).name == "mine:make_task"


def test_options_are_refused_as_ever_outside() -> None:
    with pytest.raises(SystemExit) as error, script(Path("x.py")):
        argparse.ArgumentParser().parse_args(["--none"])
    assert error.value.code == 2
    assert "unrecognized arguments: --none" in error.value.__notes__[0]


CHATTY = """
import multiprocessing
import os
import subprocess
import sys

import torch
from torch import nn

from optitune import Task

print("at import")


def double(number):
    return 2 * number


def data():
    with multiprocessing.Pool(2) as pool:
        doubled = pool.map(double, range(60))
    inputs = torch.tensor(doubled)[:, None] / 120
    return inputs, (inputs[:, 0] > 0.5).long()


def model():
    print("a model")
    subprocess.run([sys.executable, "-c", "print('a process of it')"], check=True)
    return nn.Linear(1, 2)


def make_task():
    os.write(1, b"a library in C\\n")
    with multiprocessing.Pool(1) as pool:
        assert pool.map(double, [1]) == [2]
    return Task(model=model, data=data)
"""


def test_a_task_that_prints_and_has_processes_leaves_standard_output_to_the_one_object(here: Path) -> None:
    (here / "chatty.py").write_text(CHATTY)
    # what a console script may not see, and `python -m` would
    (here / "random.py").write_text("raise ImportError('mine')\n")
    words = [
        "search",
        "--task",
        "chatty.py:make_task",
        "--trials",
        "1",
        "--epochs",
        "1",
        "--optimizers",
        "sgd",
        "--workers",
        "1",
        "--json",
    ]
    done = subprocess.run([sys.executable, "-m", "optitune", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trials"]["complete"] == 1
    lines = done.stderr.splitlines()
    for line in ("at import", "a model", "a library in C", "a process of it"):
        # in this process and in the worker
        assert lines.count(line) >= 2
    assert "Traceback" not in done.stderr
    assert "KeyboardInterrupt" not in done.stderr
