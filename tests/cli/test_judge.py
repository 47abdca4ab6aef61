"""What `optitune judge` prints and writes."""

import json
from pathlib import Path

import pytest
from judged_runs import three_arms, values, write_csv

from optitune.cli.main import run


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["judge", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_it_prints_the_table_the_decision_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed([str(three_arms(tmp_path / "runs.csv"))], capsys)
    assert "Judged by 'accuracy', higher is better (by the name of 'accuracy')" in text
    assert "\nTake adam. " in text
    assert text.rstrip().endswith("No further runs are needed.")
    assert "does not matter (the usual one for accuracy)." in " ".join(text.split())
    assert {"adam", "nadam", "sgd"} <= {line.split()[0] for line in text.splitlines() if line.split()}


def test_quiet_prints_the_decision_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed([str(three_arms(tmp_path / "runs.csv")), "-q"], capsys).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Take adam. ")


def test_json_is_one_object_without_what_json_has_no_word_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path / "runs.csv", "optimizer,loss", [("a", 1.0), ("a", 1.2), ("b", 2.0), ("b", 2.1)])
    found = json.loads(printed([str(tmp_path / "runs.csv"), "--json", "--report", str(tmp_path / "page.html")], capsys))
    assert found["status"] == "undecided"
    assert found["loss"] is None
    assert found["next_runs"] == {"a": 1, "b": 1}
    assert not found["higher_is_better"]
    assert found["epsilon_from"].startswith(("half of what another seed changes", "a tenth of the"))
    assert {place["arm"] for place in found["places"]} == {"a", "b"}
    assert found["report"] == str(tmp_path / "page.html")


def test_the_report_is_one_page_that_needs_no_other_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = three_arms(tmp_path / "<runs>.csv")
    page = tmp_path / "new" / "page.html"
    assert str(page) in printed([str(path), "--report", str(page)], capsys)
    text = page.read_text(encoding="utf-8")
    assert "<h1>Take adam. " in text
    assert "&lt;runs&gt;.csv" in text
    assert "<runs>" not in text
    assert text.count("<svg ") == 2
    assert "src=" not in text
    assert "validation" not in text


def test_several_tasks_have_a_verdict_each_and_one_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        (arm, f"[b]{task}", seed, f"{10**task * value:.6f}")
        for task in range(4)
        for arm, own in values({"good": 1.0, "bad": 1.5}, runs=4, spread=0.01, seed=task).items()
        for seed, value in enumerate(own)
    ]
    path = write_csv(tmp_path / "runs.csv", "optimizer,task,seed,loss", rows)
    text = printed([str(path)], capsys)
    assert text.count("\nTake good. ") == 4
    assert "\nOver all 4 tasks: Take good. " in text
    assert "Task [b]0" in text
    assert "4 tasks say little of others" in text
    quiet = printed([str(path), "-q"], capsys).splitlines()
    assert quiet[0].startswith("[b]0: Take good. ")


def test_a_page_that_cannot_be_written_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = three_arms(tmp_path / "runs.csv")
    assert run(["judge", str(path), "--report", str(path / "page.html")]) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "cannot" in err
