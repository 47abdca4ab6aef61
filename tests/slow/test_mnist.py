"""The main job on real MNIST, through the real command, killed on the way."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from optitune.storage import studies
from optitune.storage.urls import open_storage, sqlite_url

pytestmark = pytest.mark.slow

SEARCH = ["search", "--trials", "14", "--epochs", "2", "--train-examples", "4000", "--json"]
KILLS = 3


@pytest.fixture(scope="module")
def mnist() -> dict[str, str]:
    """Where MNIST lies, for the command's environment; without it the command downloads it."""
    return {key: os.environ[key] for key in ("OPTITUNE_DATA_DIR",) if key in os.environ}


def trials(folder: Path) -> list[Any]:
    path = folder / "mnist-cnn" / "study.db"
    if not path.exists():
        return []
    found = studies.load(open_storage(sqlite_url(path), create=False), "mnist-cnn")
    return found.get_trials(deepcopy=False) if found else []


@pytest.fixture(scope="module")
def searched(start: Any, run: Any, mnist: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A search killed with -9 three times and then let through: its folder, what it printed, what each kill left."""
    folder = tmp_path_factory.mktemp("mnist")
    left = []
    for kill in range(KILLS):
        with start(*SEARCH, "--studies-dir", folder, environment=mnist) as process:
            limit = time.monotonic() + 300
            # a few trials further each time, and in the midst of training
            while not (
                sum(trial.state.is_finished() for trial in trials(folder)) >= 3 * (kill + 1)
                and any(trial.state == TrialState.RUNNING and trial.intermediate_values for trial in trials(folder))
            ):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < limit
                time.sleep(0.1)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        left.append(trials(folder))
    ended = run(*SEARCH, "--studies-dir", folder, environment=mnist)
    assert ended.returncode == 0, ended.stderr
    return folder, json.loads(ended.stdout), left


def test_a_search_killed_three_times_ends_with_exactly_its_trials(searched: Any) -> None:
    folder, document, left = searched
    assert document["trials"]["finished"] == 14
    ended = trials(folder)
    assert [trial.number for trial in ended] == list(range(14))
    assert {trial.state for trial in ended} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for before in left:
        for trial in before:
            after = ended[trial.number]
            assert trial.params.items() <= after.params.items()
            if trial.state.is_finished():
                # not run again: told once, at the same moment
                assert (trial.datetime_complete, trial.values) == (after.datetime_complete, after.values)
            else:
                # repeated with the same draws, it met the same numbers
                assert trial.intermediate_values.items() <= after.intermediate_values.items()


def test_the_search_finds_a_good_configuration(searched: Any) -> None:
    _, document, _ = searched
    assert document["best"]["value"] >= 0.96
    assert document["trials"]["complete"] >= 7  # the known-good settings of every competitor come through


def test_a_full_training_reaches_its_accuracy(searched: Any, run: Any, mnist: dict[str, str]) -> None:
    folder, _, _ = searched
    # a step of Muon takes many times as long
    quick = [
        each for each in trials(folder) if each.state == TrialState.COMPLETE and each.params["optimizer"] != "muon"
    ]
    number = max(quick, key=lambda each: each.value).number
    place = ["--study", "mnist-cnn", "--studies-dir", folder]
    words = ["retrain", number, "--epochs", "2", "--seeds", "1", "--json", *place]
    ended = run(*words, environment=mnist)
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert document["test_value"]["mean"] >= 0.98
    assert len(document["test_value"]["each"]) == 1
    metrics = json.loads((folder / "mnist-cnn" / "retrain" / f"trial-{number}" / "metrics.json").read_text())
    assert all(sum(map(sum, row["confusion_matrix"])) == 10_000 for row in metrics["runs"])


# the ReLU at the end of mnist-mlp silences classes that start below zero
@pytest.mark.parametrize(("task", "accuracy"), [("mnist-mlp", 0.6), ("mnist-net", 0.8)])
def test_the_perceptrons_learn(task: str, accuracy: float, run: Any, mnist: dict[str, str], tmp_path: Path) -> None:
    words = f"search --task {task} --trials 2 --epochs 2 --train-examples 5000 --optimizers adam,adadelta --json"
    ended = run(*words.split(), "--studies-dir", tmp_path, environment=mnist)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["best"]["value"] > accuracy
