"""The commands that made a study, as a report prints them: typed again they find nothing more to do."""

import html
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_world import comparison, full_training, trials

from optitune import load
from optitune.cli.compare import compare
from optitune.cli.main import optitune, run
from optitune.cli.retrain import retrain
from optitune.common.commands import line, place
from optitune.comparing.stored_verdict import CompareOptions
from optitune.retraining.repeat_commands import compare_words, retrain_words
from optitune.retraining.results import FoundLength, TriedLength
from optitune.statistics.runs import TUNED
from optitune.tasks.metrics import METRICS, Metric

NAMES = ("sgd", "adam", "adamw", "adagrad")
SETTINGS = {"optimizers": NAMES, "epochs": 5, "seed": 0, "precision": "fp32"}
ACCURACY = METRICS["accuracy"]

TASK = """
import torch
from torch import nn
from optitune import Metric, Task

def percent(outputs, targets):
    return 100.0 * (outputs.argmax(1) == targets).float().mean()

def make_task():
    inputs = torch.randn(240, 4, generator=torch.Generator().manual_seed(0))
    return Task(
        model=lambda: nn.Linear(4, 2),
        data=(inputs, (inputs[:, 0] > 0).long()),
        metric=Metric("accuracy", "maximize", percent, lowest=0.0, highest=100.0),
    )
"""


def commands(page: str) -> list[str]:
    text = html.unescape(re.sub(r"<[^>]+>", "\n", page))
    return [each.strip() for each in text.splitlines() if each.strip().startswith("optitune ")]


def files(folder: Path) -> dict[str, bytes]:
    """What is there, but for what any look at a study may write."""
    kept = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".json", ".safetensors", ".toml")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def test_what_a_report_says_to_repeat_finds_nothing_more_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my task.py").write_text(TASK, encoding="utf-8")
    there = ["--studies-dir", "my studies", "--storage", "sqlite:///all my studies.db"]
    quietly = ["--workers", "1", "--quiet"]
    searched = ["search", "--study", "s", "--task", "my task.py:make_task", "--trials", "3", "--epochs", "2"]
    assert run([*searched, "--optimizers", "sgd, adam", "--set", "adam.beta2=[0.9, 0.999]", "--seed", "7",
                "--set", "sgd.lr=[1e-3,0.5]", *there, *quietly]) == 0  # fmt: skip
    options = ["--optimizers", "adam,sgd", "--epochs", "1", "--seed", "3", "--epsilon", "0.25", "--target", "61.5",
               "--sensitivity", "1", "--max-runs", "9"]  # fmt: skip
    assert run(["compare", "s", *options, *there, *quietly]) == 0
    full = ["--epochs", "1", "--seeds", "2", "--seed", "4"]
    assert run(["retrain", "best", "--study", "s", *full, *there, *quietly]) == 0
    assert run(["report", "s", *there]) == 0
    capsys.readouterr()
    page = (tmp_path / "my studies" / "s" / "report" / "report.html").read_text(encoding="utf-8")
    printed = commands(page)
    repeated = {shlex.split(each)[1]: each for each in printed}
    assert list(repeated) == ["compare", "search", "retrain"]
    before = files(tmp_path / "my studies")
    for command in repeated.values():
        words = shlex.split(command)[1:]
        assert run([*words, *quietly]) == 0, command
        assert "nothing was trained" in capsys.readouterr().out, command
    assert files(tmp_path / "my studies") == before
    # to go on is the same but for the number of runs
    for command in printed:
        if command.startswith("optitune compare"):
            for each in ("--epochs 1", "--seed 3", "--epsilon 0.25", "--target 61.5", "--sensitivity 1", "adam"):
                assert each in command


def asked(words: list[str], command: Any) -> dict[str, Any]:
    """What a command line asks for."""
    name, *rest = words
    assert name == command.name
    group = optitune.make_context("optitune", [], resilient_parsing=True)
    with command.make_context(name, rest, parent=group) as context:
        return dict(context.params)


@pytest.mark.parametrize("seed", [0, 1, 12])
@pytest.mark.parametrize("metric", [ACCURACY, Metric("regret", "minimize", None)])
def test_a_comparison_of_an_older_version_is_repeated_by_what_came_of_it(seed: int, metric: Metric) -> None:
    records = trials(NAMES, metric=metric)
    found = comparison(records, NAMES, metric=metric, rounds=8)
    found = replace(found, plan=found.plan.model_copy(update={"seed": 7 + 2_000_003 + 1000 * seed}))
    told = asked(compare_words("s", found, {**SETTINGS, "seed": 7}, records, metric), compare)
    assert (told["study"], told["seed"], told["epochs"], told["optimizers"]) == ("s", seed, None, None)
    assert told["max_runs"] == len([run for run in found.runs if run.key.variant == TUNED])
    assert told["sensitivity"] == 2


def test_what_was_asked_of_a_comparison_is_asked_again() -> None:
    records = trials(NAMES)
    found = comparison(records, NAMES, rounds=8)
    wish = CompareOptions(
        optimizers=NAMES, epsilon=0.1 + 0.2, target=-1e-7, sensitivity=1, until="clear", prefer="memory"
    )
    found = replace(found, asked=wish, plan=found.plan.model_copy(update={"epochs": 9}))
    told = asked(compare_words("s", found, SETTINGS, records, ACCURACY), compare)
    assert (told["epsilon"], told["target"], told["sensitivity"]) == (0.1 + 0.2, -1e-7, 1)
    assert (told["until"], told["prefer"]) == ("clear", "memory")
    assert told["optimizers"] == NAMES
    assert told["epochs"] == 9
    more = asked(compare_words("s", found, SETTINGS, records, ACCURACY, 60), compare)
    assert more == {**told, "max_runs": 60}
    # one that was stopped by time before any other settings were trained
    early = replace(found, runs=tuple(run for run in found.runs if run.key.variant == TUNED))
    assert asked(compare_words("s", early, SETTINGS, records, ACCURACY), compare)["sensitivity"] == 0
    assert asked(compare_words("s", early, SETTINGS, records, ACCURACY, 60), compare)["sensitivity"] == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"epochs": 4}, {"epochs": 4}),
        ({"seeds": (1_005_003, 1_005_004)}, {"seeds": 2, "seed": 5}),
        ({"precision": "bf16"}, {"precision": "bf16"}),
        ({"keep": "best"}, {"keep": "best"}),
    ],
)
def test_a_full_training_is_repeated_with_what_was_asked_of_it(
    changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    result = full_training(None, trials(NAMES), ACCURACY)
    usual = {"epochs": 15, "seeds": (1_000_003, 1_000_004, 1_000_005), "precision": "fp32"}
    result = replace(result, plan=result.plan.model_copy(update=usual | changes))
    told = asked(retrain_words("s", result, "7", SETTINGS), retrain)
    defaults = asked(["retrain", "7", "--study", "s"], retrain)
    assert told == defaults | expected
    tried = (TriedLength(epochs=result.plan.epochs, value=0.9, seconds=1.0),)
    found = replace(result, length=FoundLength(tried=tried, made_with="x"))
    assert asked(retrain_words("s", found, "7", SETTINGS), retrain) == told | {"epochs": "auto"}


def test_the_reference_study_is_repeated_as_its_readme_says() -> None:
    root = Path(__file__).parents[2] / "studies"
    readme = (root / "README.md").read_text(encoding="utf-8")
    made_by = [each for each in readme.splitlines() if each.startswith("optitune compare mnist-cnn-reference")]
    found = load("mnist-cnn-reference", studies_dir=root)
    told = found.comparison
    assert told is not None
    words = compare_words(found.name, told.comparison, found.settings.document(), found.records, found.metric)
    # the comparison ended before it had all the runs that it might have
    runs = sum(run.key.variant == TUNED for run in told.comparison.runs)
    assert asked(words, compare) == asked(shlex.split(made_by[0])[1:], compare) | {"max_runs": runs}
    page = (root / "mnist-cnn-reference" / "report" / "report.html").read_text(encoding="utf-8")
    assert line(words) in commands(page)
    assert "retrain best --study mnist-cnn-reference" in page
    assert "--seed" not in " ".join(commands(page))


def test_a_command_leads_to_the_same_place_and_tells_no_password() -> None:
    words = place(Path("my studies"), "sqlite:///a b.db", Path("it's data"))
    assert shlex.split(line(["show", *words]))[2:] == [
        "--studies-dir", "my studies", "--data-dir", "it's data", "--storage", "sqlite:///a b.db"
    ]  # fmt: skip
    assert place(Path("studies"), "postgresql://me:secret@host/db") == ["--storage", "URL"]
    assert place(Path("studies"), "postgresql://me@host/db") == ["--storage", "postgresql://me@host/db"]
    assert json.dumps(place(Path("studies"))) == "[]"
