"""Tasks in files and modules of the user's: found, or refused in one line with nothing written."""

import json
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from optitune import Task, search
from optitune.cli.main import run
from optitune.errors import UsageError
from optitune.tasks import loading
from optitune.tasks.loading import packed, study_of

SOUND = """
import torch
from torch import nn

from optitune import Task


def make_task():
    inputs = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    return Task(model=lambda: nn.Linear(4, 3), data=(inputs, torch.arange(60) % 3))
"""

NOWHERE = Path("no folder is needed")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that one is in, and from which nothing stays imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("OPTITUNE_DATA_DIR", "OPTITUNE_STUDIES_DIR", "OPTITUNE_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("mine", "inner", "inner.mine", "beside"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


WRONG = {
    "no file": (
        "other.py:make_task",
        "",
        "task 'other.py:make_task': there is no file {here}/other.py nor {here}/studies/other.py; "
        "'optitune task-template' writes one to begin with",
    ),
    "a typo": ("mine.py:make_tsk", "", "unknown function in mine.py 'make_tsk': did you mean 'make_task'?"),
    "syntax": (
        "mine.py:make_task",
        "\n\ndef broken(:\n",
        "task 'mine.py:make_task': import mine.py fails: SyntaxError: invalid syntax ({here}/mine.py, line 13)",
    ),
    "an import": (
        "mine.py:make_task",
        "\nimport nowhere_at_all\n",
        "task 'mine.py:make_task': import mine.py fails: "
        "ModuleNotFoundError: No module named 'nowhere_at_all' ({here}/mine.py, line 12)",
    ),
    "an exception": (
        "mine.py:make_task",
        "\n1 / 0\n",
        "task 'mine.py:make_task': import mine.py fails: ZeroDivisionError: division by zero ({here}/mine.py, line 12)",
    ),
    "in the function": (
        "mine.py:make",
        "\ndef make():\n    return open('none')\n",
        "task 'mine.py:make': make() fails: "
        "FileNotFoundError: [Errno 2] No such file or directory: 'none' ({here}/mine.py, line 13)",
    ),
    "no task": (
        "mine.py:make",
        "\ndef make():\n    return nn.Linear(4, 3)\n",
        "task 'mine.py:make': make() gives something of type Linear, but must give an optitune.Task",
    ),
    "nothing": (
        "mine.py:make",
        "\ndef make():\n    make_task()\n",
        "task 'mine.py:make': make() gives None, but must give an optitune.Task",
    ),
    "arguments": (
        "mine.py:make",
        "\ndef make(width, depth):\n    return make_task()\n",
        "task 'mine.py:make': make(width, depth) takes 2 parameters ({here}/mine.py, line 12): a training loop takes "
        "one, the run, and a function that gives a Task none; give the others a default",
    ),
    "no function": (
        "mine.py:WIDTH",
        "\nWIDTH = 3\n",
        "task 'mine.py:WIDTH': WIDTH is of type int, but must be a function that gives a Task",
    ),
    "no module": (
        "nowhere_at_all:make_task",
        "",
        "task 'nowhere_at_all:make_task': import nowhere_at_all fails: "
        "ModuleNotFoundError: No module named 'nowhere_at_all'",
    ),
    "a field": (
        "mine.py:make",
        "\ndef make():\n    return Task(model=nn.Linear(4, 3), data=None)\n",
        "Task(model=...): "
        "is of type Linear, but must be a function that builds a fresh network, since every trial trains one of its "
        "own: write model=lambda: Net()",
    ),
    "a field of another name": (
        "mine.py:make",
        "\ndef make():\n    return Task(net=nn.Linear, data=None)\n",
        "task "
        "'mine.py:make': make() fails: TypeError: Task.__init__() got an unexpected keyword argument 'net' "
        "({here}/mine.py, line 13)",
    ),
    "no colon": ("mine.py", "", "task 'mine.py': name the function in it that gives the task: mine.py:make_task"),
    "a model that raises": (
        "mine.py:make",
        "\ndef make():\n    def model():\n        return nn.Linear('4', 3)\n\n"
        "    return Task(model=model, data=make_task().data)\n",
        "task 'mine.py:make': model() fails: TypeError: ",
    ),
    "labels": (
        "mine.py:make",
        "\ndef make():\n    return Task(model=lambda: nn.Linear(4, 2), data=make_task().data)\n",
        "task 'mine.py:make': the model gives 2 logits, but the classes go from 0 to 2",
    ),
}


@pytest.mark.parametrize(("source", "more", "message"), WRONG.values(), ids=WRONG)
def test_a_task_that_cannot_be_had_is_one_line_and_exit_2_and_nothing_is_written(
    source: str, more: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.py").write_text(SOUND + more)
    code = run(["search", "--task", source, "--epochs", "1", "--trials", "1", "--workers", "1"])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("error: " + message.format(here=here))
    assert len(err.splitlines()) == 1
    assert [path.name for path in here.iterdir()] == ["mine.py"]


def test_with_json_the_message_is_one_object(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine.py").write_text(SOUND)
    assert run(["search", "--task", "mine.py:make_tsk", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"] == "unknown function in mine.py 'make_tsk': did you mean 'make_task'?"
    assert err == ""


SETTINGS = {
    "a pattern": (["--set", 'groups={"fc*" = 2.0}'], 'groups."fc*": fits no parameter of the network that is left'),
    "lbfgs": (["--optimizers", "lbfgs", "--set", "groups={bias = 2.0}"], "optimizer 'lbfgs' takes no parameter groups"),
    "the loss": (["--set", "loss=task"], "loss = 'task': the task has no loss function of its own"),
    "too many examples": (["--train-examples", "39"], "train_examples = 39: task 'mine.py:make_task' has 38 examples"),
}


@pytest.mark.parametrize(("words", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_do_not_fit_the_task_are_one_line_and_exit_2_and_nothing_is_written(
    words: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.py").write_text(SOUND)
    assert run(["search", "--task", "mine.py:make_task", "--workers", "1", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: " + message)
    assert len(err.splitlines()) == 1
    assert [path.name for path in here.iterdir()] == ["mine.py"]


def test_a_task_that_cannot_go_to_another_process_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    lock = threading.Lock()

    def model() -> nn.Module:
        with lock:
            return nn.Linear(4, 3)

    task = Task(model=model, data=(torch.rand(60, 4), torch.arange(60) % 3), name="mine")
    message = (
        "task 'mine': cannot be handed to worker processes: TypeError: cannot pickle '_thread.lock' object; "
        "make what it holds within its functions"
    )
    with pytest.raises(UsageError, match=re.escape(message)):
        packed(task)
    with pytest.raises(UsageError, match=re.escape(message)):
        search(task, trials=1, epochs=1, optimizers="sgd", studies_dir=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


# what is found


def test_a_file_is_found_wherever_it_lies_and_may_import_what_lies_beside_it(here: Path) -> None:
    folder = here / "a folder"
    folder.mkdir()
    (folder / "beside.py").write_text("WIDTH = 7\n")
    (folder / "mine.py").write_text(SOUND + "\nimport beside\n\ndef wide():\n    return make_task()\n")
    found = loading.find("a folder/mine.py:wide", NOWHERE)
    assert found.name == "a folder/mine.py:wide"
    assert loading.find(f"{folder}/mine.py:wide", NOWHERE).data[0].shape == (60, 4)  # type: ignore[index]


def test_the_same_file_is_run_once_and_another_of_its_name_is_another(here: Path) -> None:
    (here / "mine.py").write_text(SOUND + "\nprint('run')\n")
    (here / "other").mkdir()
    (here / "other" / "mine.py").write_text(SOUND.replace("60", "70"))
    first = loading.find("mine.py:make_task", NOWHERE)
    assert loading.find("mine.py:make_task", NOWHERE).model.__code__ is first.model.__code__  # type: ignore[attr-defined]
    assert len(loading.find("other/mine.py:make_task", NOWHERE).data[0]) == 70  # type: ignore[index, arg-type]
    assert len(loading.find("mine.py:make_task", NOWHERE).data[0]) == 60  # type: ignore[index, arg-type]


def test_a_file_that_is_named_as_a_library_hides_it_from_nobody(here: Path) -> None:
    (here / "optuna.py").write_text(SOUND)
    before = sys.modules["optuna"]
    assert loading.find("optuna.py:make_task", NOWHERE).data
    assert sys.modules["optuna"] is before


def test_a_file_whose_import_failed_is_read_again(here: Path) -> None:
    (here / "mine.py").write_text(SOUND + "\n1 / 0\n")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        loading.find("mine.py:make_task", NOWHERE)
    (here / "mine.py").write_text(SOUND)
    assert loading.find("mine.py:make_task", NOWHERE).data


def test_a_module_is_found_from_the_folder_that_one_is_in(here: Path) -> None:
    (here / "inner").mkdir()
    (here / "inner" / "__init__.py").touch()
    (here / "inner" / "mine.py").write_text(SOUND)
    assert loading.find("inner.mine:make_task", NOWHERE).name == "inner.mine:make_task"


def test_a_task_may_stand_in_a_file_without_a_function(here: Path) -> None:
    (here / "mine.py").write_text(SOUND + "\nTASK = make_task()\n")
    assert loading.find("mine.py:TASK", NOWHERE).name == "mine.py:TASK"


def test_a_name_of_its_own_goes_before_the_files(here: Path) -> None:
    (here / "mine.py").write_text(SOUND.replace("Task(", "Task(name='flowers', ", 1))
    assert loading.find("mine.py:make_task", NOWHERE).name == "flowers"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("digits", "digits"),
        ("wine.py:make_task", "wine"),
        ("/a folder/of mine/my wine.py:make_task", "my-wine"),
        ("package.wine:make_task", "wine"),
        ("wine:make_task", "wine"),
        ("my task!", "my-task-"),
        ("...", "study"),
        ("-x", "x"),
    ],
)
def test_a_study_is_called_after_its_task(source: str, name: str) -> None:
    assert study_of(source) == name


def test_the_template_is_a_task_that_trains(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["task-template", "mine.py"]) == 0
    words = ["--task", "mine.py:make_task", "--trials", "1", "--optimizers", "sgd", "--workers", "1", "--json"]
    assert run(["search", *words]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["best"]["value"] > 0.6


def test_a_tasks_file_is_found_from_the_studies_and_from_where_we_are(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies, elsewhere = here / "project" / "studies", here / "elsewhere"
    studies.mkdir(parents=True)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for name in ("digits", "package.module:make", "/nowhere/mine.py:make"):
        assert loading.located(name, studies) == name
    with pytest.raises(UsageError, match=r"elsewhere/mine\.py nor .*studies/mine\.py nor .*project/mine\.py;"):
        loading.located("mine.py:make", studies)
    found = []
    for folder in (elsewhere, studies.parent, studies):
        (folder / "mine.py").touch()
        found.append(loading.located("mine.py:make", studies))
        # what is typed is meant as a shell means it
        assert loading.located("mine.py:make", studies, typed=True) == "mine.py:make"
    assert found == ["mine.py:make", f"{studies.parent}/mine.py:make", f"{studies}/mine.py:make"]
    monkeypatch.chdir(studies)
    assert loading.located("mine.py:make", studies) == "mine.py:make"


def test_a_study_goes_on_from_another_folder_and_after_its_project_was_moved(
    here: Path, monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    (here / "project").mkdir()
    (here / "project" / "mine.py").write_text(SOUND)
    monkeypatch.chdir(here / "project")
    small = ["--epochs", "1", "--optimizers", "sgd,adam", "--batch-size", "16", "--workers", "1", "--json"]
    code, out, _ = run_command("search", "--task", "./mine.py:make_task", "--study", "s", "--trials", "2", *small)
    assert (code, json.loads(out)["task"]) == (0, "mine.py:make_task")
    (here / "project").rename(here / "moved")
    monkeypatch.chdir(here)
    there = ["--studies-dir", "moved/studies"]
    code, out, _ = run_command("search", "--study", "s", "--trials", "3", *there, "--workers", "1", "--json")
    assert (code, json.loads(out)["trials"]["finished"]) == (0, 3)
    assert run_command("worker", "--study", "s", *there, "--workers", "1")[0] == 0
    code, _, err = run_command("retrain", "--study", "s", *there, "--seeds", "1", "--epochs", "1", "--workers", "1")
    assert code == 0, err
    monkeypatch.chdir(here / "moved")
    code, out, _ = run_command("search", "--task", "mine.py:make_task", "--study", "s", "--trials", "3", "--json")
    assert (code, json.loads(out)["trials"]["finished"]) == (0, 3)
