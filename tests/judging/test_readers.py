"""Every source that runs are read from gives the same runs, and the same verdict."""

import gzip
import json
from pathlib import Path
from typing import Any

import optuna
import pandas
import pytest
from judged_runs import three_arms, values, write_csv

from optitune.errors import OptituneError, UsageError
from optitune.judging.columns import Asked
from optitune.judging.judge import judge_source
from optitune.judging.readers import read
from optitune.judging.request import JudgeRequest
from optitune.judging.results import Judged
from optitune.judging.run_names import parted

FOUND = values({"adam": 0.93, "nadam": 0.92, "sgd": 0.90})


def judged(source: Any, study: str | None = None, higher: bool | None = None, **asked: str) -> Judged:
    return judge_source(JudgeRequest(source, Asked(**asked), higher=higher, study=study))


def means(found: Judged) -> dict[str, float]:
    places = found.main.verdict.places
    return {place.optimizer: round(place.value.mean, 4) for place in places if place.value is not None}


@pytest.fixture
def usual(tmp_path: Path) -> dict[str, float]:
    return means(judged(three_arms(tmp_path / "usual.csv")))


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_separators_a_mark_of_utf_8_and_old_line_ends_are_read(
    separator: str, tmp_path: Path, usual: dict[str, float]
) -> None:
    text = (tmp_path / "usual.csv").read_text().replace(",", separator).replace("\n", "\r\n")
    (tmp_path / "other.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert means(judged(tmp_path / "other.csv")) == usual
    (tmp_path / "other.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert means(judged(tmp_path / "other.csv.gz")) == usual


def test_a_data_frame_is_read_and_left_as_it_is(tmp_path: Path, usual: dict[str, float]) -> None:
    frame = pandas.read_csv(tmp_path / "usual.csv")
    before = frame.copy()
    assert means(judged(frame)) == usual
    assert means(judged(frame.set_index(["optimizer", "seed"]))) == usual
    pandas.testing.assert_frame_equal(frame, before)
    frame.loc[3, "accuracy"] = float("nan")
    with pytest.raises(Exception, match="the DataFrame, row 3: accuracy has no finite value"):
        judged(frame)


def test_what_a_data_frame_lacks_is_not_known(tmp_path: Path, usual: dict[str, float]) -> None:
    frame = pandas.read_csv(tmp_path / "usual.csv")
    frame.loc[0, "seconds"] = None
    assert means(judged(frame)) == usual
    frame["seed"] = frame["seed"].astype(float)
    frame.loc[0, "seed"] = None
    with pytest.raises(OptituneError, match="the DataFrame, row 0: has no seed"):
        judged(frame)


def test_numbers_with_a_comma_are_read_between_semicolons(tmp_path: Path, usual: dict[str, float]) -> None:
    text = (tmp_path / "usual.csv").read_text().replace(",", ";").replace(".", ",")
    (tmp_path / "other.csv").write_text(text)
    assert means(judged(tmp_path / "other.csv")) == usual


def test_files_of_a_folder_are_arms_where_no_column_is(tmp_path: Path, usual: dict[str, float]) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for arm, own in FOUND.items():
        rows = [(number, f"{value:.5f}") for number, value in enumerate(own)]
        write_csv(folder / f"{arm}.csv", "seed,accuracy", rows)
    assert means(judged(folder)) == usual
    write_csv(folder / "other.csv", "seed,loss", [(1, 2)])
    with pytest.raises(OptituneError, match=r"adam.csv and other.csv have other columns: name one file"):
        judged(folder)


def test_what_a_result_says_itself_goes_before_the_name_of_its_folder(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"job-{number}").mkdir()
        arm, value = ("adam", 0.9) if number < 3 else ("sgd", 0.8)
        text = f'{{"optimizer": "{arm}", "seed": {number % 3}, "accuracy": {value + number / 1000}}}'
        (tmp_path / f"job-{number}" / "metrics.json").write_text(text)
    assert set(judged(tmp_path).main.arms) == {"adam", "sgd"}
    assert judged(tmp_path).main.paired


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(UsageError, match="runs: is list, but must be a pandas DataFrame, a path, or the URL"):
        judged([1, 2])


@pytest.mark.wide
def test_parquet_is_read(tmp_path: Path, usual: dict[str, float]) -> None:
    pandas.read_csv(tmp_path / "usual.csv").to_parquet(tmp_path / "runs.parquet")
    assert means(judged(tmp_path / "runs.parquet")) == usual


def test_a_folder_of_flat_results_is_read(tmp_path: Path, usual: dict[str, float]) -> None:
    folder = tmp_path / "out"
    for arm, own in FOUND.items():
        for number, value in enumerate(own):
            (folder / arm / f"seed-{number}").mkdir(parents=True)
            text = f'{{"accuracy": {value:.5f}, "host": null, "notes": []}}'
            (folder / arm / f"seed-{number}" / "metrics.json").write_text(text)
    assert means(judged(folder)) == usual
    assert judged(folder).main.paired


def mlflow_run(folder: Path, arm: str, seed: int, value: float, status: int = 3) -> None:
    """A run as MLflow's file store keeps it."""
    run = folder / "123" / f"{arm}{seed}"
    for part in ("params", "metrics/val"):
        (run / part).mkdir(parents=True)
    lines = ("lifecycle_stage: active", "start_time: 1000", f"status: {status}", "tags: []")
    (run / "meta.yaml").write_text("\n".join(lines) + "\n")
    for name, setting in (("optimizer", arm), ("seed", seed), ("lr", 0.1)):
        (run / "params" / name).write_text(str(setting))
    (run / "metrics" / "val" / "accuracy").write_text(f"2000 0.5 0\n11000 {value:.5f} 1\n")


def test_a_folder_of_mlflow_is_read_without_mlflow(tmp_path: Path, usual: dict[str, float]) -> None:
    folder = tmp_path / "mlruns"
    for arm, own in FOUND.items():
        for number, value in enumerate(own):
            mlflow_run(folder, arm, number, value)
    mlflow_run(folder, "sgd", 99, 0.1, status=4)
    found = judged(folder)
    assert means(found) == usual
    assert found.metric == "val/accuracy"
    assert found.main.seconds == {"adam": 10.0, "nadam": 10.0, "sgd": 10.0}
    assert "1 run of MLflow did not finish and is left out." in found.notes


def test_a_table_that_mlflow_exported_is_read(tmp_path: Path, usual: dict[str, float]) -> None:
    heading = "run_id,experiment_id,status,start_time,end_time,metrics.accuracy,params.optimizer,params.seed,tags.x"
    begin, end = "2026-01-01 10:00:00+00:00", "2026-01-01 10:01:00+00:00"
    rows: list[tuple[object, ...]] = [
        ("r", 0, "FINISHED", begin, end, f"{value:.5f}", arm, number, "t")
        for arm, own in FOUND.items()
        for number, value in enumerate(own)
    ]
    rows.append(("r", 0, "RUNNING", begin, "", "", "sgd", 99, "t"))
    found = judged(write_csv(tmp_path / "exported.csv", heading, rows))
    assert means(found) == usual
    assert found.main.seconds["sgd"] == 60.0


def test_a_folder_of_tensorboards_downloads_is_read(tmp_path: Path, usual: dict[str, float]) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    for arm, own in FOUND.items():
        for number, value in enumerate(own):
            rows = [(1000.0, 0, 0.1), (1030.0, 1, f"{value:.5f}")]
            write_csv(folder / f"run-{arm}_seed{number}-tag-accuracy.csv", "Wall time,Step,Value", rows)
    found = judged(folder)
    assert means(found) == usual
    assert found.main.seconds["adam"] == 30.0
    assert found.main.paired


@pytest.mark.wide
def test_a_folder_of_event_files_is_read(tmp_path: Path, usual: dict[str, float]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for arm, own in FOUND.items():
        for number, value in enumerate(own):
            with SummaryWriter(str(tmp_path / "events" / arm / f"version_{number}")) as writer:
                writer.add_scalar("val/accuracy", 0.1, 0)
                writer.add_scalar("val/accuracy", round(value, 5), 1)
                writer.add_scalar("train/loss", 1.0, 1)
    assert means(judged(tmp_path / "events", metric="val/accuracy")) == usual


def test_trials_of_an_optuna_study_are_grouped_by_a_parameter(tmp_path: Path, usual: dict[str, float]) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    study = optuna.create_study(storage=url, study_name="theirs", direction="maximize")
    kinds = {"optimizer": optuna.distributions.CategoricalDistribution(list(FOUND))}
    kinds["lr"] = optuna.distributions.FloatDistribution(0.0, 1.0)
    for arm, own in FOUND.items():
        for number, value in enumerate(own):
            params = {"optimizer": arm, "lr": number / 10}
            study.add_trial(optuna.create_trial(params=params, distributions=kinds, value=round(value, 5)))
    study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.PRUNED))
    found = judged(url)
    assert means(found) == usual == means(judged(tmp_path / "optuna.db", study="theirs"))
    assert found.sign == 1
    assert not found.main.paired
    assert "1 trial that did not complete is left out." in found.notes
    assert any(note.startswith("The runs differ in lr too:") for note in found.notes)
    optuna.create_study(storage=url, study_name="another")
    with pytest.raises(UsageError, match="which study\\? there are another and theirs: name one with --study"):
        judged(url)


def test_what_retrain_writes_is_read(tmp_path: Path) -> None:
    reference = Path(__file__).parents[2] / "studies" / "mnist-cnn-reference"
    table = read(reference)
    assert table.sign == 1
    assert table.percent
    said = json.loads((reference / "retrain" / "best" / "metrics.json").read_text())
    assert {row["arm"] for row in table.rows} == {said["plan"]["configuration"]["optimizer"]["name"]}
    assert all(0.9 < row["accuracy"] < 1 for row in table.rows)


def test_folders_of_full_trainings_are_arms(tmp_path: Path) -> None:
    said = json.loads((Path(__file__).parents[2] / "studies/mnist-cnn-reference/retrain/best/metrics.json").read_text())
    for number, (folder, arm) in enumerate((("best", "nadam"), ("trial-7", "nadam"), ("trial-9", "adam"))):
        (tmp_path / "retrain" / folder).mkdir(parents=True)
        settings = {"lr": 0.001, "eps": 1e-8, "betas": [0.9, 0.999]}
        said["plan"]["configuration"]["optimizer"] |= {"name": arm, "settings": settings}
        # another seed came to something else
        said["runs"][0]["test_value"] = 0.98 + number / 1000
        (tmp_path / "retrain" / folder / "metrics.json").write_text(json.dumps(said))
    found = judged(tmp_path / "retrain")
    assert set(found.main.arms) == {"nadam (best)", "nadam (trial-7)", "adam"}
    assert found.main.paired
    assert found.main.unit.percent
    (tmp_path / "retrain" / "best" / "metrics.json").write_text("{}")
    with pytest.raises(OptituneError, match="is not what 'optitune retrain' writes, as others are: move it away"):
        judged(tmp_path / "retrain")


@pytest.mark.parametrize(
    ("name", "arm", "seed"),
    [
        ("adam/seed-3", "adam", "3"),
        ("adam_seed3", "adam", "3"),
        ("adam-3", "adam", "3"),
        ("adam/version_0", "adam", "0"),
        ("adam_lr0.1_seed2_long", "adam_lr0.1-long", "2"),
        ("trial-0003-adam", "adam", "3"),
        ("adam-lr0.01", "adam-lr0.01", None),
        ("sgd_0.001", "sgd_0.001", None),
        ("7", "7", None),
    ],
)
def test_the_name_of_a_run_says_arm_and_seed(name: str, arm: str, seed: str | None) -> None:
    assert parted(name) == (arm, seed)
