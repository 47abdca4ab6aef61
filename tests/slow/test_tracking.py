"""Trainings written down as they go, as TensorBoard, MLflow and Weights & Biases themselves have them then."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    # what these libraries warn of is theirs
    pytest.mark.filterwarnings("ignore"),
]

ALONE = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "WANDB_MODE": "offline"}
SEARCH = ["search", "--task", "digits", "--optimizers", "sgd,adam", "--pruner", "none", "--workers", "1"]


def test_all_three_have_every_trial_also_of_a_search_that_was_stopped(run: Any, start: Any, tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    words = [*SEARCH, "--trials", 3, "--epochs", 8, "--studies-dir", tmp_path]
    words += ["--log", "tensorboard", "--log", f"mlflow={uri}", "--log", "wandb=mine"]
    boards, limit = tmp_path / "digits" / "tensorboard", time.monotonic() + 300
    with start(*words, environment=ALONE) as process:
        while len(list(boards.glob("*"))) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=300)
    done = run(*words, environment=ALONE)
    assert done.returncode == 0, done.stderr
    assert "no longer logged" not in done.stderr
    names = ["trial-0000-adam", "trial-0001-sgd", "trial-0002-sgd"]

    assert sorted(path.name for path in boards.iterdir()) == names
    for name in names:
        board = EventAccumulator(str(boards / name)).Reload()
        assert len({each.step for each in board.Scalars("validation/accuracy")}) >= 8

    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert sorted(each.info.run_name for each in runs) == names
    for each in runs:
        assert each.info.status == "FINISHED"
        assert each.data.params["outcome"] == "complete"
        steps = {point.step for point in client.get_metric_history(each.info.run_id, "validation/accuracy")}
        assert len(steps) >= 8
    # an export leaves them as they are
    export = ["export", "--study", "digits", "--format", "mlflow", "--out", uri, "--studies-dir", tmp_path]
    assert run(*export, environment=ALONE).returncode == 0
    assert len(client.search_runs([runs[0].info.experiment_id])) == 3

    # its file has what it is given as it is, one record after another
    counts = dict.fromkeys(names, 0)
    for path in (tmp_path / "digits" / "wandb").glob("offline-run-*/*.wandb"):
        data = path.read_bytes()
        assert b"mine" in data
        (name,) = [each for each in names if each.encode() in data]
        counts[name] += data.count(b"validation/accuracy")
    assert all(count >= 8 for count in counts.values()), counts


def test_an_address_that_does_not_answer_is_named(run: Any, unused_port: int, tmp_path: Path) -> None:
    words = [*SEARCH, "--trials", 1, "--epochs", 1, "--studies-dir", tmp_path]
    done = run(*words, "--log", f"mlflow=http://me:secret@127.0.0.1:{unused_port}", environment=ALONE)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: mlflow does not take the log: ")
    assert "secret" not in done.stderr
