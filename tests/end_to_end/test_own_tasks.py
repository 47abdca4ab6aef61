"""The tasks of `own_tasks.py` through the real command line: searched, trained in full, exported, resumed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import own_tasks
import pytest
import torch
from forked_commands import to_end
from torch.utils.data import DataLoader, TensorDataset

from optitune import Task
from optitune.cli.main import run
from optitune.tasks.data import Examples
from optitune.tasks.splits import full_data

pytestmark = pytest.mark.wide

FILE = Path(own_tasks.__file__)

SEARCHED: dict[str, list[str]] = {
    "breast_cancer": ["--optimizers", "adam,adamw-schedulefree", "--epochs", "5", "--batch-size", "32"],
    "breast_cancer_one_logit": ["--optimizers", "sgd,adam", "--epochs", "5", "--batch-size", "32"],
    "wine": ["--optimizers", "lbfgs", "--epochs", "3", "--set", "max_iter=4", "--set", "decay_biases=true"],
    "diabetes": ["--optimizers", "sgd,rprop", "--epochs", "10", "--batch-size", "32"],
    "diabetes_mse": ["--optimizers", "lbfgs", "--epochs", "3", "--batch-size", "400"],
    "text_gru": ["--optimizers", "muon", "--epochs", "3", "--batch-size", "32"],
    "text_transformer": ["--optimizers", "muon,sgd-schedulefree", "--epochs", "3", "--batch-size", "32"],
    "streamed": ["--optimizers", "sgd,adamw", "--epochs", "2", "--batch-size", "32", "--train-examples", "600"],
}
"""What is said of each in its search, besides two trials of it."""

EPOCHS = {"streamed": 2, "text_gru": 2, "text_transformer": 3}
"""Of the full training, where three times the search's would take too long."""


def task_of(name: str) -> Task:
    made: Task = getattr(own_tasks, name)()
    return made


def guessed(name: str) -> float:
    """What whoever knows nothing of the inputs reaches in the task's metric, but for luck."""
    if name.endswith("_one_logit"):
        return 0.5
    if name == "diabetes":
        return 0.0
    targets = full_data(task_of(name)).train.targets
    if targets is None:
        return 0.1
    if targets.is_floating_point():
        return float(targets.var())
    return float(targets.flatten().bincount().max() / targets.numel())


class Told:
    """What the commands say of a task, and where they leave it."""

    def __init__(self, name: str, folder: Path, capsys: Callable[[], Any]) -> None:
        self.name, self.folder, self._printed = name, folder, capsys
        self.source = f"{FILE}:{name}"

    def command(self, *words: str) -> tuple[int, str, str]:
        code = run([*words, "--studies-dir", str(self.folder)])
        printed = self._printed()
        return code, printed.out, printed.err

    def search(self, *words: str) -> tuple[int, str, str]:
        begun = ("search", "--task", self.source, "--study", self.name, "--trials", "2", "--json", "--workers", "2")
        return self.command(*begun, *SEARCHED[self.name], *words)

    def retrain(self, *words: str) -> tuple[int, str, str]:
        epochs = ["--epochs", str(EPOCHS[self.name])] if self.name in EPOCHS else []
        return self.command("retrain", "best", "--study", self.name, "--seeds", "2", "--json", *epochs, *words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made") / "studies"


@pytest.fixture(params=SEARCHED)
def told(request: pytest.FixtureRequest, folder: Path, capsys: pytest.CaptureFixture[str]) -> Told:
    return Told(request.param, folder, capsys.readouterr)


def test_each_is_searched_trained_in_full_and_exported_and_beats_guessing(told: Told) -> None:
    task, guess = task_of(told.name), guessed(told.name)
    better = (lambda value: value > guess) if task.judge.direction == "maximize" else (lambda value: value < guess)

    code, out, err = told.search()
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["task"], found["metric"]) == (told.source, task.judge.name)
    assert found["trials"]["finished"] == 2
    assert better(found["best"]["value"])

    code, out, err = told.retrain()
    assert code == 0
    # its data set turns images at random, those of the test too
    assert ("the test set differs at every reading" in err) == (told.name == "streamed")
    full = json.loads(out)
    assert len(full["test_value"]["each"]) == 2
    assert better(full["test_value"]["mean"])
    assert task.judge.lowest <= full["test_value"]["mean"] <= task.judge.highest
    metrics = json.loads((told.folder / told.name / "retrain" / "best" / "metrics.json").read_text())
    table = metrics["runs"][0]["confusion_matrix"]
    # a table of answers is for one class an example
    assert bool(table) == (told.name in ("breast_cancer", "wine", "text_transformer", "streamed"))
    if table:
        total = sum(map(sum, table))
        assert sum(table[each][each] for each in range(len(table))) / total == pytest.approx(
            full["test_value"]["each"][0]
        )

    code, out, err = told.command("export", "best", "--study", told.name)
    assert (code, err) == (0, "")
    losses = pasted(out, task, found["best"])
    assert losses[-1] < losses[0]

    # the same commands again train nothing
    again = json.loads(told.search()[1])
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
    again = json.loads(told.retrain()[1])
    assert {**again, "seconds": 0} == {**full, "seconds": 0}


def pasted(code: str, task: Task, best: Any) -> list[float]:
    """The losses of a training by what is exported, in a loop of one's own."""
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    data = full_data(task).train
    dataset: Any = TensorDataset(data.inputs, data.targets) if isinstance(data, Examples) else data.dataset
    torch.manual_seed(0)
    loader = DataLoader(dataset, best["training"]["batch_size"], shuffle=True)
    losses: list[float] = names["train"](task.model(), loader, *[task.loss] * (task.own_loss is not None), epochs=3)
    assert len(losses) == 3
    return losses


# what a study is held to


SEARCH = ("search", "--task", "flowers.py:wine", "--optimizers", "sgd", "--epochs", "2", "--workers", "1", "--quiet")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Any) -> Any:
    """Commands in a folder with a copy of the tasks, which may be changed: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("OPTITUNE_STUDIES_DIR", "OPTITUNE_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(FILE, tmp_path / "flowers.py")

    def call(*words: str) -> tuple[int, str, str]:
        # a command that is a process of its own would import the file anew
        for name in [name for name in sys.modules if name.endswith("flowers")]:
            del sys.modules[name]
        result: tuple[int, str, str] = run_command(*words)
        return result

    return call


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studies folder with a study of one trial of `flowers.py:wine`, to be copied."""
    place = tmp_path_factory.mktemp("begun")
    shutil.copy(FILE, place / "flowers.py")
    words = [sys.executable, "-m", "optitune", *SEARCH, "--trials", "1"]
    subprocess.run(words, check=True, capture_output=True, cwd=place)
    return place / "studies"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("perceptron(13, 3)", "perceptron(13, 4)", "network"),
        ("nn.Linear(inputs, 32)", "nn.Linear(inputs, 32, bias=False)", "network"),
        ("torch.tensor(measured)", "torch.tensor(measured) + 1", "checksum"),
        ("torch.tensor(classes)", "2 - torch.tensor(classes)", "checksum"),
        ("torch.tensor(measured), torch.tensor(classes)", "measured[:150], classes[:150]", "checksum"),
        (
            "Task(model=lambda: perceptron(13, 3),",
            "Task(validation=30, model=lambda: perceptron(13, 3),",
            "train_examples",
        ),
        ("Task(model=lambda: perceptron(13, 3),", "Task(metric='loss', model=lambda: perceptron(13, 3),", "metric"),
    ],
    ids=["outputs", "without a bias", "inputs", "classes", "fewer", "validation", "metric"],
)
def test_a_study_does_not_go_on_with_another_network_or_other_data(
    old: str, new: str, what: str, mine: Any, begun: Path, tmp_path: Path
) -> None:
    shutil.copytree(begun, tmp_path / "studies")
    text = (tmp_path / "flowers.py").read_text()
    changed = text.replace(old, new)
    assert changed != text
    (tmp_path / "flowers.py").write_text(changed)
    code, out, err = mine(*SEARCH, "--trials", "2")
    assert (code, out) == (2, "")
    if what == "network":
        assert "is no longer what study 'flowers' was made with: the network has (" in err
    else:
        assert err.startswith("error: study 'flowers' was made with other data:\n")
        assert f"\n  {what}: " in err
    assert "--study flowers-2" in err
    assert "Traceback" not in err


def test_a_study_goes_on_with_the_same_network_and_data(mine: Any, begun: Path, tmp_path: Path) -> None:
    shutil.copytree(begun, tmp_path / "studies")
    (tmp_path / "flowers.py").write_text((tmp_path / "flowers.py").read_text() + "\n# a word more\n")
    code, out, _ = mine(*SEARCH, "--trials", "2", "--json")
    assert (code, json.loads(out)["trials"]["finished"]) == (0, 2)


def test_a_full_training_of_another_network_or_of_other_data_is_refused(mine: Any, begun: Path, tmp_path: Path) -> None:
    retrain = ("retrain", "best", "--study", "flowers", "--seeds", "1", "--epochs", "2", "--json")
    shutil.copytree(begun, tmp_path / "studies")
    first = json.loads(mine(*retrain)[1])
    text = (tmp_path / "flowers.py").read_text()
    (tmp_path / "flowers.py").write_text(text.replace("nn.Linear(inputs, 32)", "nn.Linear(inputs, 32, bias=False)"))
    code, out, err = mine(*retrain)
    assert code == 2
    assert "the network has (1): Linear(in_features=13, out_features=32, bias=False)" in json.loads(out)["error"]
    code, out, err = mine(*SEARCH, "--trials", "1", "--accept-changes")
    assert code == 2
    assert "--study flowers-2'" in err
    assert "--accept-changes" not in err
    # a change that keeps all shapes may be accepted, and the study then goes on with it
    (tmp_path / "flowers.py").write_text(text.replace("nn.ReLU()", "nn.Tanh()"))
    assert mine(*retrain)[0] == 2
    assert mine(*SEARCH, "--trials", "1", "--accept-changes")[0] == 0
    assert json.loads(mine(*retrain)[1])["test_loss"] == first["test_loss"]
    (tmp_path / "flowers.py").write_text(text.replace("torch.tensor(measured)", "torch.tensor(measured) + 1"))
    code, out, err = mine(*retrain)
    assert code == 2
    assert "the data are not those of the search" in out + err
    assert "or search again with --study NAME" in out + err


def test_a_task_in_a_module_of_a_package_is_searched_and_trained(mine: Any, tmp_path: Path) -> None:
    package = tmp_path / "garden" / "red"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (tmp_path / "flowers.py").rename(package / "flowers.py")
    code, out, _ = mine(*SEARCH, "--task", "garden.red.flowers:wine", "--trials", "1", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["study"], found["task"]) == ("flowers", "garden.red.flowers:wine")
    code, out, _ = mine("retrain", "--study", "flowers", "--seeds", "1", "--json")
    assert code == 0
    assert json.loads(out)["test_value"]["mean"] > guessed("wine")


def test_a_task_in_a_studys_file_needs_no_flag(mine: Any, tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "grapes.toml").write_text(
        'task = "flowers.py:wine"\noptimizers = ["muon"]\nepochs = 1\ntrials = 1\n[groups]\n"3.*" = 2.0\n'
    )
    code, out, _ = mine("search", "--study", "grapes", "--json")
    assert code == 0
    assert json.loads(out)["best"]["training"]["groups"] == {"3.*": 2.0}


def test_a_metric_that_becomes_nan_fails_the_trial_with_that_reason(mine: Any, tmp_path: Path) -> None:
    text = (tmp_path / "flowers.py").read_text()
    nan = "metric=Metric('mine', 'maximize', lambda outputs, targets: float('nan'))"
    (tmp_path / "flowers.py").write_text(
        text.replace("Task(model=lambda: perceptron(13, 3)", f"Task({nan}, model=lambda: perceptron(13, 3)")
    )
    code, out, err = mine(*SEARCH, "--trials", "4")
    assert (code, out) == (1, "")
    assert "3 trials in a row failed, the last with " in err
    assert "the metric 'mine' is nan on 28 examples, while the loss is " in err
    assert "see all reasons with: optitune show flowers" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_residual_network_learns_mnist_with_its_own_test_set(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("OPTITUNE_STUDIES_DIR",)}

    def command(*words: str) -> Any:
        ended = to_end([*words, "--study", "mnist", "--json"], 900, cwd=tmp_path, env=environment)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    words = ["--optimizers", "sgd,muon", "--epochs", "2", "--train-examples", "4000", "--trials", "2"]
    found = command("search", "--task", f"{FILE}:mnist_resnet", *words)
    assert found["best"]["value"] > 0.8
    full = command("retrain", "best", "--seeds", "1", "--epochs", "1")
    assert full["test_value"]["mean"] > 0.97
    metrics = json.loads((tmp_path / "studies" / "mnist" / "retrain" / "best" / "metrics.json").read_text())
    assert sum(map(sum, metrics["runs"][0]["confusion_matrix"])) == 10_000
