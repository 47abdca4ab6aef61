"""Names that mean to lead elsewhere: no study, result or file of a task leaves its folder."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from bad_input import WORDS, answer, battery, files, quick_storage
from file_contents import DOCUMENT
from hypothesis import given
from hypothesis import strategies as st
from report_world import facts

from optitune.common import files as common_files
from optitune.errors import OptituneError, UsageError
from optitune.retraining.choose import choose
from optitune.storage import studies, study_checks
from optitune.storage.urls import open_storage, sqlite_url
from optitune.study.settings import StudySettings, checked_study_name
from optitune.tasks.loading import study_of
from optitune.tasks.metrics import METRICS

pytestmark = pytest.mark.wide

NAMES = (
    *("..", "../up", "../../up", "a/../../up", "/up", "//up", "~/up", "a/b", "a\\b", "..\\up", "C:up", ".hidden"),
    *("best", "partial", "trial-1", "-x", "x-", "x.", "..x", "x\n", "x\x00", "\u2024\u2024/up", "%2e%2e%2fup"),
)

names = st.sampled_from([*NAMES, *WORDS]) | st.text(max_size=12) | st.from_regex(r"(\.\./|[a-z.]){1,8}", fullmatch=True)


def stays(folder: Path, name: str) -> bool:
    """Whether a name is one plain part of a path, and so within its folder."""
    whole = (folder / name).resolve()
    return whole.parent == folder.resolve() and whole.name == name and not name.startswith((".", "-"))


@battery
@given(name=names)
def test_no_study_lies_outside_its_folder(name: str) -> None:
    folder = Path("studies")
    try:
        taken = checked_study_name(name)
    except UsageError:
        taken = "refused"
    assert stays(folder, taken)
    # what a study of a task is called, where it is given no name
    assert stays(folder, checked_study_name(study_of(name)[:100]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        quick_storage(patch)
        patch.chdir(tmp_path_factory.mktemp("places"))
        patch.delenv("OPTITUNE_STORAGE", raising=False)
        patch.delenv("OPTITUNE_STUDIES_DIR", raising=False)
        yield Path()


@battery
@given(name=names)
def test_results_stay_in_their_folder(folder: Path, name: str) -> None:
    path = folder / "files" / f"{name}.toml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tomli_w.dumps(DOCUMENT))
    except (OSError, ValueError):
        # no file can be of that name, or it lies in a folder that is not there
        return
    try:
        chosen = choose(str(path), None, folder / "studies", None)
    finally:
        path.unlink()
    results = chosen.home.folder / "retrain"
    assert stays(results, chosen.name)
    # what a study has there of its own
    assert chosen.name not in ("best", "partial")
    assert not re.fullmatch(r"trial-\d+", chosen.name)


@pytest.mark.parametrize("name", ["../up", "..", "/up", "a/b"])
def test_a_study_that_another_program_named_leads_nowhere_else(folder: Path, name: str) -> None:
    metric = METRICS["accuracy"]
    settings = StudySettings(task="digits", precision="fp32")
    storage = open_storage(sqlite_url(folder / "other.db"), create=True)
    study_checks.create_or_resume(storage, name, settings, facts(metric), metric)
    before = files(folder)
    for command in ("show", "report", "compare", "export", "retrain"):
        told = answer(command, "--storage", "sqlite:///other.db")
        assert (told.code, told.out) == (2, "")
        assert "cannot be a study's name" in told.err
    # a list is of whatever there is
    assert name in answer("studies", "--storage", "sqlite:///other.db").out
    assert files(folder) == before
    (folder / "other.db").unlink()


@pytest.mark.parametrize("name", ["../up", "/up", ""])
def test_a_best_toml_of_a_study_elsewhere_is_refused(folder: Path, name: str) -> None:
    (folder / "found.toml").write_text(tomli_w.dumps({**DOCUMENT, "study": name}))
    told = answer("retrain", "found.toml")
    assert told.code == 2
    assert f"study = {name!r}" in told.err


def test_a_task_is_looked_for_and_never_made(folder: Path) -> None:
    before = files(folder)
    for task in ("../up.py:make", "/dev/null/up.py:make", "nowhere.up:make", "~/up.py:make", f"{'a' * 5000}.py:make"):
        told = answer("search", "--task", task, "--study", "x")
        assert told.code in (1, 2)
    assert files(folder) == before


def test_results_have_a_folder_of_their_own_beside_what_is_unfinished(tmp_path: Path) -> None:
    with common_files.exclusive_lock(studies.location(tmp_path, "mine", None).folder / "retrain" / "partial-file"):
        assert (tmp_path / "mine" / "retrain" / "partial" / "partial-file.lock").exists()
    with pytest.raises(OptituneError, match="neither best"):
        choose("partial", None, tmp_path, None)
