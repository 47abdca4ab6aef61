"""What is said to tables of runs that cannot be judged: the file, the row, and what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from optitune.cli.main import run

GOOD = "optimizer,seed,accuracy\nadam,1,0.91\nadam,2,0.92\nadam,3,0.93\nsgd,1,0.81\nsgd,2,0.82\nsgd,3,0.83\n"

COULD_NOT = [
    ("", "runs.csv: is empty: it needs a heading and a row for each run"),
    ("\n\n", "runs.csv: is empty"),
    ("optimizer,seed,accuracy\n", "runs.csv: has no rows"),
    (GOOD.replace("0.92", "nan"), "runs.csv, row 3: accuracy has no finite value: remove the row if the run"),
    (GOOD.replace("0.92", "inf"), "or say --diverged, so that it counts against its arm"),
    (GOOD.replace("0.92", ""), "runs.csv, row 3: accuracy has no finite value"),
    (GOOD.replace("0.92", "good"), "runs.csv, row 3: accuracy: 'good' is not a number: write a number, or remove"),
    (GOOD.replace("0.92", "92%"), "runs.csv, row 3: accuracy: '92%' is not a number: write 92, or remove the row"),
    (GOOD.replace("0.92", '"0,92"'), "'0,92' is not a number: write 0.92"),
    (GOOD.replace("0.92", "1_000"), "'1_000' is not a number"),
    (GOOD.replace("adam,2", ",2"), "runs.csv, row 3: names no optimizer: fill it in, or remove the row"),
    (GOOD.replace("adam,2", "adam,"), "runs.csv, row 3: has no seed: fill it in, or remove the row"),
    (GOOD.replace("adam,2", "adam,1"), "runs.csv, row 2 and row 3 are both adam, seed 1: remove one, give it another"),
    (GOOD.replace("adam,2", "adam,1.0"), "runs.csv, row 2 and row 3 are both adam, seed 1"),
    (
        GOOD.replace("0.92", "92"),
        "runs.csv, row 3: accuracy is 92, where others are like 0.91 (runs.csv, row 2): write",
    ),
    (GOOD.replace("0.92", "0.92,7"), "runs.csv, row 3: has 4 cells, but the heading has 3"),
    (GOOD.replace("adam,2,0.92", "adam"), "runs.csv, row 3: has 1 cells, but the heading has 3"),
    ("optimizer,seed,accuracy\nadam,1,0.9\nsgd,1,0.8\n", "runs.csv, row 2: adam has one run, and no arm has more"),
    ("optimizer,seed,accuracy\n" + "adam,1,0.5\nadam,2,0.5\nsgd,1,0.5\nsgd,2,0.5\n", "accuracy is 0.5 in all 4 runs"),
    ("optimizer,seed,accuracy,accuracy\nadam,1,0.9,0.9\n", "runs.csv, row 1: two columns are called 'accuracy'"),
    ("optimizer,task,accuracy\nadam,,0.9\nadam,b,0.8\nsgd,b,0.7\n", "runs.csv, row 2: names no task: fill it in"),
    ("optimizer,task,accuracy\nadam,a,0.9\nadam,a,0.8\nsgd,b,0.7\n", "task a has one arm only, adam: remove its rows"),
    (GOOD + "lion,1,0.9,\nlion,1,0.9,,\n", "both lion, seed 1"),
    (GOOD.replace("sgd,1,0.81", "\x00\x01"), "runs.csv: is a binary file, not text: export the runs as CSV or Parquet"),
]

WRONG = [
    ("name,lr\nadam,0.1\n", "--metric x", "unknown column 'x': there are: lr, name (--metric, of runs.csv)"),
    ("seed,accuracy\n1,0.9\n2,0.8\n", "", "runs.csv: no column names the arms, such as the optimizer (columns: seed,"),
    (
        "optimizer,seed\nadam,1\nsgd,1\n",
        "",
        "runs.csv: no column is the metric (columns: optimizer, seed): say --metric",
    ),
    ("optimizer,a,b\nadam,1,2\nsgd,1,2\n", "", "which column is the metric? It may be a or b: say --metric COLUMN"),
    ("who,where,accuracy\na,b,1\nc,d,1\n", "", "which column names the arms, such as the optimizer? It may be who or"),
    (GOOD.replace("accuracy", "figure"), "", "the name of 'figure' does not say which values are better: say --higher"),
    (GOOD.replace("sgd", "adam").replace("adam,1,0.81", "adam,4,0.8"), "--seed accuracy", "is the metric"),
    (
        GOOD.replace("sgd,", "adam,1"),
        "",
        "column 'optimizer' has one arm only, adam: a verdict needs two; name another",
    ),
    (GOOD, "--rounds 2", "rounds = 2: adam has 3 runs: give the number that was planned, or leave --rounds out"),
    (GOOD, "--rounds 1", "'1' is not a whole number of at least 2"),
    (GOOD, "--epsilon -1", "epsilon = -1.0: must be a number of at least 0"),
    (GOOD, "--epsilon nan", "epsilon = nan: must be a number of at least 0"),
    (GOOD, "--arm optimiser", "unknown column 'optimiser': did you mean 'optimizer'? (--arm, of runs.csv)"),
    (
        GOOD,
        "--target 0.9",
        "has no curves, a row for each epoch or step of a run: --target needs a column such as epoch",
    ),
    (GOOD, "--target soon", "target = 'soon': must be a number, or TASK=NUMBER"),
    (GOOD, "--target 1 --target 2", "target = 1, 2: give one number, or one for each task as TASK=NUMBER"),
    (GOOD, "--rounds 1000", "rounds = 1000: must be from 2 to 100; for more, or any number, leave it out"),
    (GOOD.replace("sgd,1", "sgd,7").replace("sgd,2", "sgd,8"), "--paired", "the arms share too few values of 'seed'"),
    (GOOD, "--prefer memory", "'memory' is not one of"),
]


def answer(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run(["judge", *words])
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    return code, err


@pytest.mark.parametrize(("text", "message"), COULD_NOT)
def test_a_wrong_row_is_named_in_one_line(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs.csv").write_text(text)
    code, err = answer(["runs.csv"], capsys)
    assert message in err
    assert code == 1


@pytest.mark.parametrize(("text", "options", "message"), WRONG)
def test_what_has_to_be_said_is_asked_for_in_one_line(
    text: str,
    options: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs.csv").write_text(text)
    code, err = answer(["runs.csv", *options.split()], capsys)
    assert message in err
    assert code == 2


def _file(name: str, data: bytes) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        return name

    return make


def _folder(name: str, data: bytes) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        return _file(name, data)(folder).split("/")[0]

    return make


SOURCES = [
    (lambda folder: "none.csv", 1, "there is no none.csv: name a CSV or Parquet file, a folder of metrics.json"),
    (_file("runs.xlsx", b"PK"), 2, "runs.xlsx: '.xlsx' is no format that is read here: name a CSV or Parquet file"),
    (_file("runs", b"x"), 2, "is no format that is read here"),
    pytest.param(_file("runs.parquet", b""), 1, "runs.parquet: is empty", marks=pytest.mark.wide),
    pytest.param(
        _file("runs.parquet", b"PAR1 and no more"),
        1,
        "runs.parquet: is damaged or not a Parquet file: write it again",
        marks=pytest.mark.wide,
    ),
    (_file("runs.csv.gz", b"\x1f\x8b and no more"), 1, "runs.csv.gz: is damaged or not gzip"),
    (_file("runs.csv", b"optimizer,seed\nGr\xf6\xdfe,1\n"), 1, "runs.csv, row 2: is not UTF-8 text"),
    (_file("runs.db", b"not a database, but long enough to be looked at as if it were one" * 4), 1, "damaged or not a"),
    (_folder("void/notes.txt", b"x"), 1, "void holds no runs: no metrics.json, no MLflow run, no event file, no CSV"),
    (_folder("out/a/metrics.json", b"{"), 1, "out/a/metrics.json: is damaged or no JSON"),
    (_folder("out/a/metrics.json", b"[1]"), 1, "out/a/metrics.json: holds no object of names and values"),
    (lambda folder: "sqlite:///none.db", 1, "there is no storage"),
]


@pytest.mark.parametrize(("make", "code", "message"), SOURCES)
def test_a_source_that_cannot_be_read_is_named_in_one_line(
    make: Callable[[Path], str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    found, err = answer([make(tmp_path)], capsys)
    assert message in err
    assert found == code


def test_an_error_is_the_one_object_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["judge", str(tmp_path / "none.csv"), "--json"]) == 1
    assert "there is no" in json.loads(capsys.readouterr().out)["error"]
