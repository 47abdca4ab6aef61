"""`optitune.judge` from Python."""

from pathlib import Path

import pandas
import pytest
from judged_runs import three_arms

import optitune


def test_a_data_frame_is_judged_and_shown(tmp_path: Path) -> None:
    frame = pandas.read_csv(three_arms(tmp_path / "runs.csv"))
    found = optitune.judge(frame, rounds=10)
    assert (found.status, found.recommended, found.next_runs) == ("clear", "adam", {})
    assert found.sentence.startswith("Take adam. ")
    assert found.standings["arm"].tolist() == ["adam", "nadam", "sgd"]
    assert found.standings["relation"].tolist() == ["leads", "worse", "worse"]
    assert found.tasks == {}
    assert found.figures == ("values", "differences")
    assert "Take adam" in found._repr_html_()
    assert found.write_page(tmp_path / "page.html").is_file()
    assert found.document()["rounds"] == 10
    found.figure()


def test_each_task_has_a_verdict_of_its_own(tmp_path: Path) -> None:
    frame = pandas.read_csv(three_arms(tmp_path / "runs.csv"))
    both = pandas.concat([frame.assign(task=task) for task in ("a", "b", "c")])
    found = optitune.judge(both.reset_index(drop=True))
    assert list(found.tasks) == ["a", "b", "c"]
    assert found.tasks["a"].sentence.startswith("Take adam. ")
    assert found.sentence.startswith("Over all 3 tasks: ")
    assert found.tasks["a"].tasks == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefer": "memory"}, "prefer = 'memory': must be value or time"),
        ({"metric": 3}, "metric = 3: must be the name of a column"),
        ({"metric": "x"}, "unknown column 'x'"),
        ({"rounds": 2}, "rounds = 2: adam has 8 runs"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(optitune.UsageError, match=message):
        optitune.judge(three_arms(tmp_path / "runs.csv"), **options)  # type: ignore[arg-type]
