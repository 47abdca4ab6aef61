"""optitune from Python: searches and full trainings of a task that is an object."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from local_task import local_task
from torch import nn

import optitune
from optitune.cli.main import run
from optitune.errors import UsageError
from optitune.storage import trials
from optitune.workers.pool import WORKER_MODULES, warm_up

pytestmark = pytest.mark.wide

QUIET: dict[str, Any] = {"device": "cpu", "progress": False}
QUICK: dict[str, Any] = {**QUIET, "epochs": 2, "optimizers": "sgd,adam", "batch_size": 16, "workers": 2}


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """What the command line does as it begins, and a program of one's own has no need of."""
    warm_up(*WORKER_MODULES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studies folder with a finished study of `local_task`, to be looked at and not changed."""
    place = tmp_path_factory.mktemp("made")
    optitune.search(local_task(), study="mine", trials=4, studies_dir=place, **QUICK)
    return place


# names


def python(code: str, here: Path | None = None) -> str:
    """What a program of its own prints."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OPTITUNE_")}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=plain, cwd=here, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_names_are_functions_and_classes_also_after_the_modules_were_imported() -> None:
    code = """
import optitune.searching.run, optitune.comparing.run, optitune.retraining.run
import optitune.api.functions, optitune.tasks.task, optitune.tasks.metrics
import optitune, optitune.searching.objective
from optitune import FairSampler, ForecastPruner, Metric, Objective, Task, compare, load, retrain, search
from optitune import ComparisonResult, RetrainResult, SearchResult
import types
assert all(isinstance(each, types.FunctionType) for each in (search, compare, load, retrain))
assert all(isinstance(each, type) for each in (FairSampler, ForecastPruner, Metric, Objective, Task))
assert optitune.search is search and optitune.Task is Task
print(sorted(optitune.__all__), search.__module__, retrain.__module__)
"""
    names = ["Choice", "ComparisonResult", "FairSampler", "Fixed", "Float", "ForecastPruner", "Int", "Interrupted"]
    names += [
        "JudgeResult",
        "Metric",
        "Objective",
        "Optimizer",
        "OptituneError",
        "RetrainResult",
        "Run",
        "Schedule",
        "SearchResult",
    ]
    names += ["Task", "UsageError", "compare", "judge", "load", "retrain", "search"]
    assert python(code).strip() == f"{names} optitune.api.functions optitune.api.functions"


def test_rows_ranges_and_errors_are_imported_from_the_package_without_torch() -> None:
    code = """
import sys
from optitune import Choice, Fixed, Float, Int, Interrupted, Optimizer, OptituneError, Schedule, UsageError
assert "torch" not in sys.modules and "optuna" not in sys.modules
assert issubclass(UsageError, OptituneError)
print(Float(1e-4, 1.0, "log", "said").contains(0.1), Optimizer.__name__, Schedule.__name__)
"""
    assert python(code).strip() == "True Optimizer Schedule"


def test_the_package_itself_imports_nothing_slow() -> None:
    code = (
        "import sys, optitune; slow = {'torch', 'optuna', 'numpy', 'pydantic', 'sklearn'} & set(sys.modules); "
        "assert not slow, slow"
    )
    python(code)


def test_an_unknown_name_is_an_attribute_error_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'optitune' has no attribute 'serch'"):
        optitune.serch  # type: ignore[attr-defined]  # noqa: B018


# a task that is an object


def test_a_task_of_lambdas_and_local_classes_is_searched_by_worker_processes(folder: Path) -> None:
    found = optitune.search(local_task(), study="mine", trials=4, studies_dir=folder, **QUICK)
    assert (found.name, found.metric.name, len(found.trials), found.trained) == ("mine", "share", 4, 0)
    assert found.run is not None
    assert (found.run.best, found.run.best_file) == (found.best, found.best_file)
    assert found.best is not None
    assert found.best.value is not None
    assert found.best.value > 0.7
    assert found.best_file == folder / "mine" / "best.toml"
    assert found.settings.task == "python:mine"
    assert {row.optimizer for row in found.records} == {"sgd", "adam"}
    assert all(row.outcome in ("complete", "pruned") for row in found.records)


def test_a_study_goes_on_from_a_task_made_anew(tmp_path: Path) -> None:
    first = optitune.search(local_task(), study="mine", trials=1, studies_dir=tmp_path, **QUICK)
    again = optitune.search(local_task(), study="mine", trials=3, studies_dir=tmp_path, **QUICK)
    assert (first.trained, again.trained) == (1, 2)
    assert again.records[0] == first.records[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": lambda: nn.Linear(4, 2)}, "made with: the network has Linear(in_features=4, out_features=2"),
        ({"data": (torch.rand(200, 4), torch.arange(200) % 2)}, "was made with other data:\n  checksum: "),
        ({"examples": 150}, "was made with other data:\n  checksum: "),
        ({"metric": "accuracy"}, 'was made with other data:\n  metric: "share" -> "accuracy"'),
        ({"name": "other"}, 'was made with other settings:\n  task: "python:mine" -> "python:other"'),
    ],
    ids=["network", "data", "fewer", "metric", "name"],
)
def test_a_study_is_refused_to_another_task(fields: dict[str, Any], message: str, folder: Path) -> None:
    before = study_rows(folder)
    with pytest.raises(UsageError) as caught:
        optitune.search(local_task(**fields), study="mine", trials=9, studies_dir=folder, **QUICK)
    assert message in str(caught.value)
    assert re.search(r"add --study mine-2|begin another with optitune.search\(..., study='mine-2'\)", str(caught.value))
    assert study_rows(folder) == before


@pytest.mark.parametrize("made", ["task's own", "cross-entropy"])
def test_a_study_is_refused_to_a_task_of_another_loss(made: str, tmp_path: Path) -> None:
    own, named = local_task(), local_task(loss="cross-entropy")
    first, second = (own, named) if made == "task's own" else (named, own)
    words: dict[str, Any] = {"study": "mine", "studies_dir": tmp_path, **QUICK}
    optitune.search(first, trials=1, **words)
    with pytest.raises(UsageError, match="loss"):
        optitune.search(second, trials=2, **words)


def study_rows(folder: Path, name: str = "mine") -> list[Any]:
    loaded = optuna.load_study(study_name=name, storage=f"sqlite:///{folder / name / 'study.db'}")
    return trials.records(loaded)


def test_a_full_training_takes_the_same_task(folder: Path) -> None:
    words: dict[str, Any] = {"study": "mine", "studies_dir": folder, "seeds": 2, "epochs": 4, **QUIET}
    full = optitune.retrain(local_task(), **words)
    assert (full.metric, full.trained, full.other_data) == ("share", True, False)
    assert full.test_value.mean > 0.75
    files = ["config.toml", "curves.png", "metrics.json", "model.safetensors", "train.py"]
    assert sorted(path.name for path in full.folder.iterdir()) == files
    # 40 of 200 are sealed away, and each is answered rightly or not
    runs = json.loads((full.folder / "metrics.json").read_text())["runs"]
    assert all(float(row["test_value"] * 40).is_integer() for row in runs)
    assert list(full.seeds["test_value"]) == [row["test_value"] for row in runs]
    again = optitune.retrain(local_task(), **words)
    assert (again.trained, again.test_value) == (False, full.test_value)
    kept = optitune.load("mine", studies_dir=folder).tested
    assert kept is not None
    assert (kept.test_value, kept.folder, kept.run) == (full.test_value, full.folder, None)


def test_a_full_training_names_data_that_are_others(folder: Path) -> None:
    words: dict[str, Any] = {"study": "mine", "what": "0", "studies_dir": folder, "seeds": 1, "epochs": 1, **QUIET}
    with pytest.raises(UsageError, match="examples that the search has seen would be sealed away for the test"):
        optitune.retrain(local_task(examples=160), **words)
    own = local_task(examples=160, test=(torch.rand(20, 4), torch.arange(20) % 2))
    assert optitune.retrain(own, **words).other_data


def test_a_full_training_refuses_what_is_judged_otherwise_and_what_does_not_fit(folder: Path) -> None:
    before = written(folder)
    for fields, message in (
        ({"metric": "accuracy"}, "is judged by 'accuracy' now, but this configuration was found by 'share'"),
        ({"model": lambda: nn.Linear(4, 1), "loss": "cross-entropy"}, "the task has no loss function of its own"),
        ({"model": lambda: nn.Linear(5, 2)}, "the model on inputs of shape (8, 4)"),
    ):
        with pytest.raises(UsageError) as caught:
            optitune.retrain(local_task(**fields), study="mine", studies_dir=folder, **QUIET)
        assert message in str(caught.value)
    assert written(folder) == before


def written(folder: Path) -> list[Path]:
    """All files but those that SQLite keeps as long as a database is open."""
    return sorted(path for path in folder.rglob("*") if path.suffix not in (".db-shm", ".db-wal"))


def test_a_full_training_of_another_task_than_the_studys_is_refused(folder: Path) -> None:
    for other in ("digits", local_task(name="other")):
        with pytest.raises(UsageError, match="python:mine"):
            optitune.retrain(other, study="mine", studies_dir=folder, seeds=1, epochs=1, **QUIET)


def test_the_command_line_says_where_such_a_study_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = (
        "error: task 'python:mine' was given as an object from Python: go on there, with optitune.search and "
        "optitune.retrain, or put it into a file and name that as FILE.py:FUNCTION\n"
    )
    for command in ("retrain", "search"):
        assert run([command, "--study", "mine", "--studies-dir", str(folder)]) == 2
        assert capsys.readouterr() == ("", message)
    for command in ("show", "export"):
        assert run([command, *["mine"] * (command == "show"), "--studies-dir", str(folder)]) == 0
        assert "python:mine" in capsys.readouterr().out


SCRIPT = """
import torch
from torch import nn

import optitune

with open("runs", "a") as file:
    file.write("run\\n")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, WIDTH)

    def forward(self, inputs):
        return self.layer(inputs)


WIDTH = 3
inputs = torch.rand(100, 4, generator=torch.Generator().manual_seed(0))
task = optitune.Task(model=Net, data=(inputs, torch.arange(100) % 3), metric="loss", name="mine")
found = optitune.search(task, trials=2, epochs=1, optimizers="sgd", workers=1, device="cpu")
full = optitune.retrain(task, seeds=1, device="cpu")
print(len(found.records), full.trained, full.folder)
"""


def test_a_script_that_searches_without_a_guard_runs_exactly_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["2", "True", "studies/mine/retrain/best"]
    assert (tmp_path / "runs").read_text() == "run\n"
    assert "[2/2] trial 1: sgd" in ended.stderr
    assert "seed 1: test loss" in ended.stderr


# settings


def test_settings_are_what_a_studys_file_may_say_tables_and_own_optimizers_included(tmp_path: Path) -> None:
    row = {
        "name": "plain",
        "path": "torch.optim:SGD",
        "known_good": [{"lr": 0.1}],
        "ranges": {"lr": {"low": 0.01, "high": 1.0, "scale": "log"}},
    }
    said: dict[str, Any] = {
        "optimizers": ("adam", "plain"),
        "optimizer": [row],
        "adam": {"beta2": 0.98, "lr": (1e-3, 1e-2)},
        "schedules": ("constant",),
        "groups": {"head.*": 0.5, "inner.*": (0.1, 10.0)},
        "clip_norm": 1.0,
        "warmup": 0.25,
        "seed": 7,
    }
    found = optitune.search(
        local_task(), study="mine", trials=6, epochs=1, batch_size=[8, 16], studies_dir=tmp_path, **QUIET, **said
    )
    assert found.settings.seed == 7
    drawn = [row.configuration for row in found.records]
    for configuration in drawn:
        assert configuration is not None
        training, optimizer = configuration.training, configuration.optimizer
        assert training.batch_size in (8, 16)
        assert (training.clip_norm, training.groups["head.*"], configuration.schedule.warmup) == (1.0, 0.5, 0.25)
        assert 0.1 <= training.groups["inner.*"] <= 10
        if optimizer.name == "adam":
            assert optimizer.settings["betas"][1] == 0.98  # type: ignore[index]
            assert 1e-3 <= configuration.lr <= 1e-2
        else:
            assert optimizer.path == "torch.optim:SGD"
    assert {each.optimizer.name for each in drawn if each} == {"adam", "plain"}
    same = optitune.search(
        local_task(), study="mine", trials=6, epochs=1, batch_size=(8, 16), studies_dir=tmp_path, **QUIET, **said
    )
    assert same.trained == 0


def test_a_studys_file_says_what_the_call_does_not(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('epochs = 1\noptimizers = ["adam"]\ntrials = 3\nadam.lr = 0.01\n')
    found = optitune.search(local_task(), study="mine", trials=1, studies_dir=tmp_path, **QUIET)
    assert found.settings.epochs == 1
    assert [row.configuration.lr for row in found.records if row.configuration] == [0.01]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"epoch": 3}, "study 'mine': epoch = 3: unknown key 'epoch': did you mean 'epochs' or 'eps'?"),
        ({"epochs": 0}, "study 'mine': epochs = 0: "),
        ({"optimizers": "sgd,adm"}, "unknown optimizer 'adm': did you mean 'adam' or 'radam'?"),
        ({"adam": {"beta3": 0.9}}, "beta3"),
        ({"groups": {"fc*": 2.0}}, 'groups."fc*": fits no parameter of the network that is left'),
        ({"study": "../up"}, "'../up' cannot be a study's name"),
        ({"device": "cuda:99"}, "torch finds no such device here"),
        ({"trials": 0}, "trials = 0"),
        ({"timeout": -1.0}, "timeout = -1.0"),
        ({"train_examples": 1000}, "has 128 examples to train on"),
    ],
    ids=lambda each: "" if isinstance(each, str) else next(iter(each)),
)
def test_a_setting_that_is_not_allowed_is_refused_and_nothing_is_written(
    said: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        optitune.search(local_task(), **{"study": "mine", "trials": 1, "studies_dir": tmp_path, **QUIET, **said})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("said", [{"seeds": 0}, {"epochs": 0}, {"epochs": -1}, {"what": "99"}, {"study": "other"}])
def test_a_full_training_that_makes_no_sense_is_refused(said: dict[str, Any], folder: Path) -> None:
    with pytest.raises(UsageError):
        optitune.retrain(local_task(), **{"study": "mine", "studies_dir": folder, **QUIET, **said})


def test_progress_is_shown_on_stderr_unless_it_is_not_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words: dict[str, Any] = {"study": "mine", "studies_dir": tmp_path, **QUICK}
    optitune.search(local_task(), trials=1, **words)
    assert capsys.readouterr() == ("", "")
    optitune.search(local_task(), trials=2, **{**words, "progress": True})
    out, err = capsys.readouterr()
    assert out == ""
    assert "[2/2] trial 1: " in err
