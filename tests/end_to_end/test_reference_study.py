"""The study that comes along: small, whole, and open to every command that looks at one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from optitune import load
from optitune.cli.main import run
from optitune.dashboard.artifacts import attached, system_attrs
from optitune.dashboard.trial_notes import PICTURE
from optitune.storage import study_checks
from optitune.storage.artifacts import FOLDER

ROOT = Path(__file__).parents[2]
NAME = "mnist-cnn-reference"
REFERENCE = ROOT / "studies" / NAME

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A copy, so that nothing is written into the checkout."""
    shutil.copytree(REFERENCE, tmp_path / NAME)
    return tmp_path


def test_it_is_small_and_one_file_holds_the_study() -> None:
    files = [path for path in REFERENCE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 3_000_000
    assert (REFERENCE / "study.db").is_file()
    assert not [path.name for path in files if path.name.startswith("study.db-") or path.name.startswith(".")]


def test_it_was_searched_compared_and_tested_in_full(studies: Path) -> None:
    found = load(NAME, studies_dir=studies)
    assert len(found.trials) == 50
    assert set(found.trials["outcome"]) <= {"complete", "pruned", "diverged"}
    assert found.settings.train_examples is None
    assert found.settings.epochs == 5
    assert found.best is not None
    assert found.comparison is not None
    assert len(found.comparison.runs) >= 3 * len(found.comparison.standings)
    assert found.tested is not None
    assert len(found.tested.seeds) == 3
    assert found.tested.test_value.mean > 0.99


def test_every_command_that_looks_at_it_does(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--studies-dir", str(studies)]
    assert run(["show", NAME, "--json", *there]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["trials"]) == 50
    assert run(["report", NAME, *there]) == 0
    page = (studies / NAME / "report" / "report.html").read_text(encoding="utf-8")
    assert shown["verdict"]["sentence"].split(":")[0].replace("'", "&#39;") in page
    assert run(["export", "best", "--study", NAME, *there]) == 0
    assert "def train(model, loader, epochs=5)" in capsys.readouterr().out


def test_its_pictures_are_there(studies: Path) -> None:
    from optitune.storage.studies import find
    from optitune.storage.urls import open_storage, sqlite_url

    opened = find(open_storage(sqlite_url(studies / NAME / "study.db"), create=False), NAME)
    for trial in opened.get_trials():
        if trial.intermediate_values:
            path = studies / NAME / FOLDER / attached(trial.system_attrs)[PICTURE]
            assert path.read_bytes().startswith(b"\x89PNG")
    assert {"best.toml", "train.py", "curves.csv"} == set(attached(system_attrs(opened)))


def test_it_is_gone_on_with_by_a_version_that_words_ranges_otherwise(
    studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optitune.space import ranges as space
    from optitune.storage import studies as study
    from optitune.storage import trials
    from optitune.storage.urls import open_storage, sqlite_url
    from optitune.study.settings import StudySettings
    from optitune.tasks.metrics import METRICS

    storage = open_storage(sqlite_url(studies / NAME / "study.db"), create=False)
    opened = study.find(storage, NAME)
    settings = StudySettings.model_validate(study.stored_settings(opened))
    facts = {key: value for key, value in opened.user_attrs[study.DATA].items() if key not in ("metric", "direction")}
    for kind in (space.Float, space.Int, space.Choice, space.Fixed):
        monkeypatch.setattr(kind, "__str__", lambda self: "in other words")
    again = study_checks.create_or_resume(storage, NAME, settings, facts, METRICS["accuracy"])
    assert again._study_id == opened._study_id
    assert trials.finished(again) == 50
