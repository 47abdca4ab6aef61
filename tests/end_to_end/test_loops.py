"""Training loops of the user's own through the real command line: killed, searched, compared, trained in full."""

import json
import os
import signal
from pathlib import Path

import pytest
from commands_under_way import begin, wait_until
from optuna.trial import TrialState
from real_commands import held

from optitune.cli.main import run

pytestmark = pytest.mark.wide

LOOP = """
import torch
from sklearn.datasets import load_digits
from torch.nn import functional


def train(run):
    digits = load_digits()
    data = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    (x, y), (held, truth) = run.split(data)
    model = torch.nn.Linear(64, 10)
    optimizer = run.optimizer(model)
    scheduler = run.scheduler(optimizer, steps_per_epoch=len(x) // 64)
    run.keep(model=model, optimizer=optimizer, scheduler=scheduler)
    for epoch in run.epochs():
        for batch in torch.randperm(len(x))[: len(x) // 64 * 64].split(64):
            loss = functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        right = (model(held).argmax(1) == truth).float()
        run.report(right.mean(), loss=loss, each=right)
"""
TRIALS = 6
SEARCH = ["--metric", "accuracy", "--epochs", "5", "--optimizers", "sgd,adam", "--workers", "1"]

BARE = """
import torch

X = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).float()


def train(run):
    model = torch.nn.Linear(8, 1).to(run.device)
    optimizer = run.optimizer(model)
    for epoch in run.epochs():
        for batch in torch.randperm(300).split(50):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(X[batch])[:, 0], Y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.report(((model(X[300:])[:, 0] > 0) == Y[300:].bool()).float().mean())
"""


def searched(file: Path, study: str) -> list[str]:
    return ["search", "--task", f"{file}:train", "--study", study, "--trials", str(TRIALS), *SEARCH]


WAITS = """
        while epoch == 3 and not here.with_name("go").exists():
            here.with_name("waits").touch()
            time.sleep(0.05)
"""


def test_a_loop_that_is_killed_goes_on_to_the_trials_of_one_that_was_not(tmp_path: Path) -> None:
    file, folder = tmp_path / "loop.py", tmp_path / "studies"
    text = LOOP.replace("    for epoch in run.epochs():\n", f"    for epoch in run.epochs():{WAITS}")
    file.write_text(
        "import time\nfrom pathlib import Path\n" + text.replace("(run):\n", "(run):\n    here = Path(__file__)\n")
    )
    process = begin([*searched(file, "killed"), "--budget-in", "epochs"], folder)
    wait_until((tmp_path / "waits").exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (left,) = held(folder, "killed").trials
    assert (left.state, len(left.intermediate_values)) == (TrialState.RUNNING, 3)
    (tmp_path / "go").touch()
    found = []
    for study in ("killed", "straight"):
        assert run([*searched(file, study), "--budget-in", "epochs", "--quiet", "--studies-dir", str(folder)]) == 0
        trials = held(folder, study).trials
        found.append([(each.number, each.state, each.params, each.value, each.intermediate_values) for each in trials])
    assert found[0] == found[1]
    assert len(found[0]) == TRIALS


def test_a_loop_is_compared_trained_in_full_reported_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "loop.py", tmp_path / "studies"
    file.write_text(LOOP)
    place = ["--studies-dir", str(folder)]

    def printed(*words: str) -> str:
        assert run([*words, *place]) == 0
        return capsys.readouterr().out

    printed(*searched(file, "loop"))
    verdict = json.loads(printed("compare", "loop", "--max-runs", "6", "--sensitivity", "0", "--json"))
    assert {each["optimizer"] for each in verdict["places"]} == {"sgd", "adam"}
    table = " ".join(printed("compare", "loop", "--max-runs", "6", "--sensitivity", "0").split())
    assert "each on 1062 examples, judged on 88 others" in table
    tested = printed("retrain", "best", "--study", "loop", "--epochs", "auto", "--seeds", "2")
    assert "test accuracy" in tested
    assert "the task's own loss" not in tested
    assert "batch_size" not in tested
    code: dict[str, object] = {}
    exec(printed("export", "--study", "loop"), code)  # noqa: S102
    assert "build" in code
    text = (folder / "loop" / "retrain" / "best" / "train.py").read_text()
    assert "def build(model, steps_per_epoch" in text
    printed("report", "loop")
    assert "own examples" not in (folder / "loop" / "report" / "report.html").read_text()
    shown = json.loads(printed("show", "loop", "--json"))
    assert len(shown["trials"]) == TRIALS


def test_what_a_loop_leaves_open_is_said_wherever_it_matters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "bare.py", tmp_path / "studies"
    file.write_text(BARE)
    place = ["--studies-dir", str(folder)]
    assert run([*searched(file, "bare"), "--schedules", "constant", *place]) == 0
    assert run(["compare", "bare", "--max-runs", "4", "--sensitivity", "0", *place]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "each on the loop's own examples, judged on what the loop judges on" in out
    assert run(["retrain", "best", "--study", "bare", "--seeds", "1", *place]) == 0
    assert (folder / "bare" / "retrain" / "best" / "curves.png").stat().st_size > 0
    assert run(["show", "bare", *place]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "the loop's own examples to train on" in shown
    assert "the loop never calls run.split" in shown
    assert "the loop keeps nothing (run.keep)" in shown
    assert run(["report", "bare", *place]) == 0
    page = (folder / "bare" / "report" / "report.html").read_text()
    assert "The loop never calls run.split" in page
    assert "1 example" not in page
