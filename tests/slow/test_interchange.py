"""Trials for other programs, as those programs read them: Parquet, TensorBoard, MLflow."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from report_world import home, stored, subject

from optitune.report.page import Subject

pytestmark = [
    pytest.mark.slow,
    # what these libraries warn of is theirs
    pytest.mark.filterwarnings("ignore"),
]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

ALONE = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


@pytest.fixture(scope="module")
def about() -> Subject:
    return subject(stage="searched")


@pytest.fixture(scope="module")
def made(about: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studies folder with `digits`, to be looked at and not changed."""
    folder = tmp_path_factory.mktemp("made")
    stored(home(folder), about)
    return folder / "studies"


def test_parquet_says_what_csv_says_with_the_kinds_of_its_columns(made: Path, run: Run, tmp_path: Path) -> None:
    import pandas

    for form in ("csv", "parquet"):
        done = run("export", "--format", form, "--out", tmp_path, "--studies-dir", made)
        assert (done.returncode, done.stderr) == (0, "")
    for name in ("trials", "curves"):
        read = pandas.read_parquet(tmp_path / f"{name}.parquet")
        same = tmp_path / f"{name}-again.csv"
        read.to_csv(same, index=False)
        assert same.read_text() == (tmp_path / f"{name}.csv").read_text()
    trials = pandas.read_parquet(tmp_path / "trials.parquet")
    assert (trials["same_as"].dtype, trials["nesterov"].dtype, trials["lr"].dtype) == ("Int64", "boolean", "float64")


def test_tensorboard_has_a_run_per_trial_with_its_curve_and_its_settings(
    about: Subject, made: Path, run: Run, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    out = tmp_path / "runs"
    done = run("export", "--format", "tensorboard", "--out", out, "--studies-dir", made)
    assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        f"trial-{row.number:04d}-{row.optimizer}" for row in about.trials
    ]
    # the two that are to be told apart: one that is complete, and one that is not
    for outcome in ("complete", "pruned"):
        record = next(row for row in about.trials if row.outcome == outcome)
        assert record.configuration is not None
        read = EventAccumulator(str(out / f"trial-{record.number:04d}-{record.optimizer}"))
        read.Reload()
        points = [(event.step, event.value) for event in read.Scalars("validation/accuracy")]
        assert points == [(step, pytest.approx(value)) for step, value in record.curve]
        tags = read.Tags()["scalars"]
        assert ("final/accuracy" in tags) == (outcome == "complete")
        content = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        told = HParamsPluginData.FromString(content).session_start_info.hparams
        assert told["lr"].number_value == record.configuration.lr
        assert told["optimizer"].string_value == record.optimizer
        assert told["outcome"].string_value == outcome
    again = run("export", "--format", "tensorboard", "--out", out, "--studies-dir", made)
    assert again.returncode == 2
    assert again.stderr == f"error: {out} is not empty: remove it, or name another folder with --out\n"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_mlflow_has_a_run_per_trial_and_each_but_once(about: Subject, made: Path, run: Run, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'tracked.db'}"
    words = ("export", "--format", "mlflow", "--out", uri, "--studies-dir", made)
    done = run(*words, environment=ALONE, cwd=tmp_path)
    count = len(about.trials)
    assert (done.returncode, done.stdout) == (0, f"{count} trials logged to MLflow's experiment 'digits'\n"), (
        done.stderr
    )
    again = run(*words, environment=ALONE, cwd=tmp_path)
    assert again.stdout == f"0 trials logged to MLflow's experiment 'digits'; {count} were there before\n", again.stderr
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = {each.data.tags["optitune.trial"]: each for each in client.search_runs([experiment.experiment_id])}
    assert len(runs) == count
    for record in about.trials:
        told = runs[str(record.number)]
        assert record.configuration is not None
        assert told.info.run_name == f"trial-{record.number:04d}-{record.optimizer}"
        assert told.info.status == "FINISHED"
        assert float(told.data.params["lr"]) == record.configuration.lr
        assert told.data.params["outcome"] == record.outcome
        assert told.data.metrics.get("value") == record.value
    record = next(row for row in about.trials if row.outcome == "complete")
    history = client.get_metric_history(runs[str(record.number)].info.run_id, "accuracy")
    assert sorted((point.step, point.value) for point in history) == list(record.curve)


@pytest.mark.parametrize("uri", ["nowhere://here", "http://127.0.0.1:9"])
def test_mlflow_that_does_not_take_them_is_told_in_a_line(uri: str, made: Path, run: Run, tmp_path: Path) -> None:
    words = ("export", "--format", "mlflow", "--out", uri, "--studies-dir", made)
    done = run(*words, environment=ALONE, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: MLflow does not take the trials: " in done.stderr
    assert done.stderr.rstrip().endswith("check the address after --out")
