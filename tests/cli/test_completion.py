"""What a shell is told when somebody presses the tabulator."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from click.shell_completion import BashComplete

from optitune.cli import completion
from optitune.cli.completion import COMPLETING
from optitune.cli.main import COMMANDS, optitune
from optitune.sampling.sampler import SAMPLERS
from optitune.space.optimizers import OPTIMIZERS
from optitune.study.settings import Sampler
from optitune.tasks.builtin import TASKS

Told = Callable[..., list[str]]


@pytest.fixture
def completed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Told:
    """The words of a line -> how the last one may go on, in a folder with two studies, a task and a note."""
    monkeypatch.setenv(COMPLETING, "bash_complete")
    for name in ("OPTITUNE_STUDIES_DIR", "OPTITUNE_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "other"):
        (tmp_path / "studies" / name).mkdir(parents=True)
        (tmp_path / "studies" / name / "study.db").touch()
    (tmp_path / "studies" / "described.toml").touch()
    (tmp_path / "elsewhere" / "third").mkdir(parents=True)
    (tmp_path / "elsewhere" / "third" / "study.db").touch()
    for name in ("my_task.py", "note.txt", "edited.toml"):
        (tmp_path / name).touch()

    def told(*words: str) -> list[str]:
        *before, incomplete = words
        shell = BashComplete(optitune, {}, "optitune", COMPLETING)
        return [item.value for item in shell.get_completions(before, incomplete)]

    return told


def test_commands_are_completed_without_being_imported(completed: Told) -> None:
    assert completed("") == list(COMMANDS)
    assert completed("se") == ["search"]
    assert completed("--ver") == ["--version"]


def test_options_are_completed(completed: Told) -> None:
    assert completed("search", "--pru") == ["--pruner"]
    assert "--trial" in completed("show", "--tr")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["search", "--optimizers", "adag"], ["adagrad"]),
        (["search", "--optimizers", "sgd,adag"], ["sgd,adagrad"]),
        (["search", "--optimizers", "sgd,sg"], ["sgd,sgd-schedulefree"]),
        (["compare", "--optimizers", "mu"], ["muon"]),
        (["search", "--schedules", "cosine,on"], ["cosine,one-cycle"]),
        (["search", "--task", "mnist-c"], ["mnist-cnn"]),
        (["search", "--task", "my"], ["my_task.py"]),
        (["search", "--task", "note"], []),
        (["search", "--sampler", "tpe"], ["tpe", "tpe-group"]),
        (["search", "--pruner", "hyper"], ["hyperband"]),
        (["search", "--budget-in", ""], ["epochs", "seconds"]),
        (["search", "--study", ""], ["described", "mine", "other"]),
        (["worker", "--study", ""], ["mine", "other"]),
        (["show", ""], ["mine", "other"]),
        (["watch", "o"], ["other"]),
        (["watch", "--studies-dir", "elsewhere", ""], ["third"]),
        (["watch", "--storage", "postgresql://me@127.0.0.1:9/x", ""], []),
        (["retrain", "b"], ["best"]),
        (["export", "ed"], ["edited.toml"]),
        (["optimizers", "mu"], ["muon"]),
        (["schedules", "one"], ["one-cycle"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["nonsense", "zz"], []),
        (["search", "--nonsense", ""], []),
    ],
    ids=" ".join,
)
def test_values_are_completed(words: list[str], told: list[str], completed: Told) -> None:
    assert completed(*words) == told


def test_what_is_offered_is_what_there_is(completed: Told) -> None:
    # the module of the tasks would import torch, and is not asked
    assert tuple(TASKS) == completion.TASKS
    assert set(completed("search", "--optimizers", "")) == {*OPTIMIZERS, "all"}
    assert completed("search", "--sampler", "") == list(get_args(Sampler))
    assert set(get_args(Sampler)) == {*SAMPLERS, "optitune"}


def test_a_failure_offers_nothing(completed: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no")

    monkeypatch.setattr(completion, "_optimizers", fail)
    assert completed("search", "--optimizers", "") == []


@pytest.mark.parametrize("line", ["", "search --optimizers sgd,", "show ", "search --task d", "nonsense --x"])
def test_completing_imports_nothing_slow_and_says_nothing_else(line: str, completed: Told) -> None:
    code = (
        "import atexit, sys; "
        "atexit.register(lambda: print(*{'torch', 'optuna', 'sqlalchemy'} & set(sys.modules), file=sys.stderr)); "
        "from optitune.cli.main import run; run([])"
    )
    words = {"COMP_WORDS": f"optitune {line}", "COMP_CWORD": str(len(line.split(" ")))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **words},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() == ""
    assert done.returncode == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_for_our_variable(shell: str, run_command: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run_command("completion", shell)
    assert (code, err) == (0, "")
    assert f"{COMPLETING}={shell}_complete" in out


def test_an_unknown_shell_is_refused(run_command: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run_command("completion", "tcsh")
    assert (code, out) == (2, "")
    assert "'tcsh' is not one of" in err


@pytest.mark.parametrize(
    ("line", "told"),
    [("optitune sea", "search"), ("optitune search --optimizers sgd,adag", "sgd,adagrad"), ("optitune show m", "mine")],
)
def test_bash_completes_with_the_script(line: str, told: str, completed: Told, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    program = tmp_path / "bin" / "optitune"
    program.parent.mkdir()
    program.write_text(f'#!{bash}\nexec {sys.executable} -m optitune "$@"\n')
    program.chmod(0o755)
    script = f"""
        unset {COMPLETING}
        PATH="{program.parent}:$PATH"
        eval "$(optitune completion bash)"
        COMP_WORDS=({line}) COMP_CWORD={len(line.split()) - 1}
        _optitune_completion optitune
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([bash, "--norc", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == [told]
