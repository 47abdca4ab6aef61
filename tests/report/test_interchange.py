"""`optitune export` of all trials: tables that other programs read, whole, and wrong usage refused."""

import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
from report_world import home, stored, subject

from optitune.report import interchange
from optitune.report.page import Subject
from optitune.study.records import TrialRecord

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def about() -> Subject:
    return subject(stage="searched")


@pytest.fixture(scope="module")
def made(about: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studies folder with `digits`, to be looked at and not changed."""
    folder = tmp_path_factory.mktemp("made")
    stored(home(folder), about)
    return folder / "studies"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_per_trial_and_one_per_evaluation(
    about: Subject, made: Path, run_command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "folder"
    code, printed, err = run_command(
        "export", "--study", "digits", "--format", "csv", "--out", str(out), "--studies-dir", str(made)
    )
    assert (code, err) == (0, "")
    assert printed.splitlines() == [str(out / "trials.csv"), str(out / "curves.csv")]
    assert sorted(path.name for path in out.iterdir()) == ["curves.csv", "trials.csv"]
    trials = rows(out / "trials.csv")
    assert [int(row["trial"]) for row in trials] == [row.number for row in about.trials]
    for told, record in zip(trials, about.trials, strict=True):
        assert record.configuration is not None
        # to the last digit
        assert float(told["lr"]) == record.configuration.lr
        assert told["value"] == ("" if record.value is None else repr(record.value))
        assert (told["optimizer"], told["outcome"]) == (record.optimizer, record.outcome)
        assert float(told["step.gamma"]) == record.configuration.schedule.settings["gamma"]
        assert (told["batch_size"], float(told["epochs"])) == ("64", record.epochs)
    assert {row["nesterov"] for row in trials} == {"False", ""}
    points = [(row.number, step, value) for row in about.trials for step, value in row.curve]
    curves = rows(out / "curves.csv")
    assert [(int(row["trial"]), int(row["step"]), float(row["value"])) for row in curves] == points


def test_it_lies_in_the_studys_folder_unless_another_is_named(
    about: Subject, run_command: Command, tmp_path: Path
) -> None:
    stored(home(tmp_path), about)
    code, printed, _ = run_command("export", "--format", "csv", "--studies-dir", str(tmp_path / "studies"))
    folder = tmp_path / "studies" / "digits" / "export"
    assert (code, printed.splitlines()[0]) == (0, str(folder / "trials.csv"))
    assert len(rows(folder / "trials.csv")) == len(about.trials)


def test_exporting_again_writes_what_is_there_by_then(about: Subject, tmp_path: Path) -> None:
    interchange.write_tables(about.trials[:3], tmp_path, "csv")
    interchange.write_tables(about.trials, tmp_path, "csv")
    assert len(rows(tmp_path / "trials.csv")) == len(about.trials)


def test_commas_quotes_and_lines_in_a_reason_stay_what_they_are(about: Subject, tmp_path: Path) -> None:
    reason = 'loss "nan", then\nnothing; ü'
    interchange.write_tables([replace(about.trials[0], reason=reason)], tmp_path, "csv")
    assert rows(tmp_path / "trials.csv")[0]["reason"] == reason


def test_a_trial_without_a_configuration_has_a_row(tmp_path: Path) -> None:
    interchange.write_tables([TrialRecord(0, "running", None, None, "", (), None)], tmp_path, "csv")
    (row,) = rows(tmp_path / "trials.csv")
    assert (row["trial"], row["outcome"], row["optimizer"], row["lr"]) == ("0", "running", "", "")
    assert rows(tmp_path / "curves.csv") == []


def test_what_is_exported_is_what_notebooks_see(about: Subject, made: Path, tmp_path: Path) -> None:
    import optitune

    found = optitune.load("digits", studies_dir=made)
    interchange.write_tables(found.records, tmp_path, "csv")
    read = pandas.read_csv(tmp_path / "trials.csv")
    assert list(read) == list(found.trials)
    assert list(read["lr"]) == list(found.trials["lr"])


def test_where_a_file_cannot_be_written_the_other_stays_as_it_was(
    about: Subject, made: Path, run_command: Command, tmp_path: Path
) -> None:
    (tmp_path / "trials.csv").write_text("before")
    (tmp_path / "curves.csv").mkdir()
    (tmp_path / "curves.csv" / "in the way").touch()
    code, out, err = run_command("export", "--format", "csv", "--out", str(tmp_path), "--studies-dir", str(made))
    assert (code, out) == (1, "")
    assert f"cannot write {tmp_path / 'curves.csv'}" in err
    assert (tmp_path / "trials.csv").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.csv", "trials.csv"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("7", "--format", "csv"), "'7': csv has all trials of a study; name the study with --study, and no trial"),
        (("best", "--format", "mlflow"), "'best': mlflow has all trials of a study"),
        (
            ("--format", "json", "--out", "x"),
            "--out x: json is printed; send it to a file with '> FILE', or choose csv",
        ),
        (("--out", "x"), "--out x: python is printed"),
        (
            ("--format", "csv", "--out", "sqlite:///x.db"),
            "--out sqlite:///x.db: csv is written into a folder; name one",
        ),
        (("--format", "xlsx"), "'xlsx' is not one of"),
        (("--format", "csv", "--study", "digit"), "unknown study 'digit': did you mean 'digits'"),
    ],
)
def test_wrong_usage_is_refused(words: tuple[str, ...], message: str, made: Path, run_command: Command) -> None:
    before = sorted(made.rglob("*.*"))
    code, out, err = run_command("export", *words, "--studies-dir", str(made))
    assert (code, out) == (2, "")
    assert message in err
    assert sorted(made.rglob("*.*")) == before


def test_a_study_without_a_trial_has_nothing_to_export(run_command: Command, tmp_path: Path) -> None:
    stored(home(tmp_path), subject(stage="empty"))
    code, _, err = run_command("export", "--format", "csv", "--studies-dir", str(tmp_path / "studies"))
    assert (code, err) == (1, "error: study 'digits' has no trial yet: 'optitune search --study digits'\n")


@pytest.mark.parametrize(
    ("form", "module", "package"),
    [
        ("parquet", "pyarrow", "pyarrow"),
        ("tensorboard", "torch.utils.tensorboard", "tensorboard"),
        ("mlflow", "mlflow", "mlflow-skinny"),
    ],
)
def test_a_package_that_is_missing_is_named(
    form: str,
    module: str,
    package: str,
    made: Path,
    run_command: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = run_command("export", "--format", form, "--out", str(tmp_path / "x"), "--studies-dir", str(made))
    assert (code, out) == (1, "")
    assert err == f"error: {package} is not installed: run pip install 'optitune[{form}]'\n"
    assert not (tmp_path / "x").exists()
