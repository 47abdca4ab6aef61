"""What a study and its trials tell in optuna-dashboard: notes, pictures, figures and files."""

import json
import shlex
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import optuna
import pytest
from matplotlib.image import imread
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna_dashboard import get_note, save_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from plotly import graph_objects
from report_world import costly, home, stored, subject

from optitune.cli.main import run
from optitune.dashboard import notes as story
from optitune.dashboard import result_notes, search_notes, trial_notes
from optitune.dashboard.artifacts import Artifacts, attached, put, system_attrs
from optitune.dashboard.notes import LINE, Chapter
from optitune.dashboard.server import Redrawn
from optitune.errors import OptituneError
from optitune.space.configuration import Configuration
from optitune.storage import studies, trials
from optitune.storage.artifacts import FOLDER
from optitune.storage.studies import find, stored_settings
from optitune.storage.trials import records
from optitune.storage.urls import open_storage, sqlite_url
from optitune.study.settings import StudySettings
from optitune.tasks.metrics import METRICS, kept

pytestmark = pytest.mark.wide

SEARCH = ["search", "--task", "digits", "--epochs", "2", "--optimizers", "sgd,adam,adamw", "--workers", "1", "--quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of studies with one that was searched: one trial diverges."""
    folder = tmp_path_factory.mktemp("studies")
    wild = ["--set", "sgd.lr=[1e20,1e25]", "--trials", "5", "--studies-dir", str(folder)]
    assert run([*SEARCH, *wild]) == 0
    return folder


def opened(folder: Path) -> optuna.Study:
    return find(open_storage(sqlite_url(folder / "digits" / "study.db"), create=False), "digits")


def note_of(told: optuna.Study, number: int) -> str:
    return get_note(optuna.trial.Trial(told, told.get_trials()[number]._trial_id))


def test_every_trial_has_a_note_with_its_settings_its_end_and_its_picture(folder: Path) -> None:
    told = opened(folder)
    outcomes = set()
    for row, frozen in zip(records(told), told.get_trials(), strict=True):
        outcomes.add(row.outcome)
        text = note_of(told, row.number)
        assert row.configuration is not None
        assert text.startswith(f"**{row.optimizer}**: {row.outcome}")
        assert f"lr={float(f'{row.configuration.lr:.6g}')!r}" in text
        assert row.reason in text
        assert "torch.optim.lr_scheduler.StepLR(optimizer, step_size=" in text
        if row.curve:
            artifact = attached(frozen.system_attrs)[trial_notes.PICTURE]
            assert f"(/artifacts/{told._study_id}/{frozen._trial_id}/{artifact})" in text
            assert imread(BytesIO((folder / "digits" / FOLDER / artifact).read_bytes()), format="png").shape[1] == 640
    assert {"complete", "diverged"} <= outcomes


def test_the_study_tells_its_question_its_standings_and_the_command_that_made_it(folder: Path) -> None:
    text = get_note(opened(folder))
    assert text.startswith("## Which optimizer, with which settings, and how sure?")
    assert "Trials finished: 5 of 5" in text
    for name in ("sgd", "adam", "adamw"):
        assert f"| {name}{story.WIDE_SPACE} |" in text
    assert "sgd.lr=" in text
    assert text.endswith(LINE)


def test_the_command_makes_the_same_study(folder: Path, tmp_path: Path) -> None:
    told = opened(folder)
    text = get_note(told)
    words = shlex.split(text.partition("```sh\n")[2].partition("\n```")[0])
    assert words[:2] == ["optitune", "search"]
    assert run([*words[1:], "--workers", "1", "--quiet", "--studies-dir", str(tmp_path)]) == 0
    assert stored_settings(opened(tmp_path)) == stored_settings(told)


def test_a_study_of_an_object_in_python_has_no_command() -> None:
    settings = StudySettings(task="python:wine").document()
    assert search_notes.command("wine", settings, 5) == ""


def test_figures_are_such_as_plotly_takes(folder: Path) -> None:
    drawn = get_plotly_graph_objects(system_attrs(opened(folder)))
    assert set(drawn) == {"optitune-learning-curves", "optitune-best-so-far", "optitune-learning-rates"}
    for text in drawn.values():
        figure = graph_objects.Figure(json.loads(text))
        assert figure.data
        assert all(len(trace.x) == len(trace.y) > 0 for trace in figure.data)
        assert figure.layout.title.text


def test_files_can_be_taken_away(folder: Path) -> None:
    told = opened(folder)
    held = attached(system_attrs(told))
    read = {name: (folder / "digits" / FOLDER / key).read_text() for name, key in held.items()}
    assert set(read) == {"best.toml", "train.py", "curves.csv"}
    assert read["best.toml"] == (folder / "digits" / "best.toml").read_text()
    compile(read["train.py"], "train.py", "exec")
    rows = read["curves.csv"].splitlines()
    assert len(rows) == 1 + sum(len(row.curve) for row in records(told))


def test_what_a_person_wrote_stays_and_what_is_unchanged_is_not_written_again(folder: Path) -> None:
    told = opened(folder)
    save_note(told, get_note(told) + "\n\nMind the *lr* of adam.")
    teller = search_notes.SearchNotes(told, folder / "digits", lambda: records(told))
    assert teller.end() == ""
    assert get_note(told).endswith(f"{LINE}\n\nMind the *lr* of adam.")
    before = system_attrs(told)
    times = {path: path.stat().st_mtime_ns for path in (folder / "digits" / FOLDER).iterdir()}
    assert teller.end() == ""
    assert system_attrs(told) == before
    assert {path: path.stat().st_mtime_ns for path in (folder / "digits" / FOLDER).iterdir()} == times


def made(tmp_path: Path) -> optuna.Study:
    return optuna.create_study(storage=open_storage(sqlite_url(tmp_path / "study.db"), create=True), study_name="x")


def test_a_note_that_was_there_before_is_kept(tmp_path: Path) -> None:
    told = made(tmp_path)
    save_note(told, "mine")
    story.write(told, "search", Chapter("found"), tmp_path)
    story.write(told, "compare", Chapter("compared"), tmp_path)
    story.write(told, "search", Chapter("found more"), tmp_path)
    assert get_note(told) == f"found more\n\ncompared\n\n---\n\n{LINE}\n\nmine"


def test_a_trial_that_was_taken_up_again_has_one_picture(
    tmp_path: Path, configured: Callable[..., Configuration]
) -> None:
    told = made(tmp_path)
    told.set_user_attr(studies.METRIC, kept(METRICS["accuracy"]))
    trial = told.ask()
    trial.set_user_attr(trials.CONFIGURATION, configured("sgd").model_dump(mode="json"))
    trial.report(0.5, 10)
    for value in (0.5, 0.7):
        assert trial_notes.attach(trial, "complete", value, "", 2, 10, tmp_path) == ""
    (frozen,) = told.get_trials()
    assert len(attached(frozen.system_attrs)) == len(list((tmp_path / FOLDER).iterdir())) == 1
    assert "70.00 %" in note_of(told, 0)


def test_a_trial_that_failed_before_it_drew_anything_has_no_note(tmp_path: Path) -> None:
    told = made(tmp_path)
    assert trial_notes.attach(told.ask(), "failed", None, "RuntimeError", 2, 10, tmp_path) == ""
    assert note_of(told, 0) == ""


def test_a_picture_that_cannot_be_written_is_told_of_and_costs_no_trial(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / FOLDER).write_text("in the way")
    assert run([*SEARCH, "--trials", "2", "--studies-dir", str(tmp_path)]) == 0
    told = opened(tmp_path)
    assert [row.outcome for row in records(told)] == ["complete"] * 2
    assert "As torch takes them" in note_of(told, 0)
    assert "learning curve" not in note_of(told, 0)


@pytest.mark.parametrize(
    ("value", "problem"),
    [(float("nan"), ""), (float("inf"), ""), (-1e308, "trial 0 has no picture in the dashboard: ")],
)
def test_whatever_its_values_are_a_trial_has_its_note(
    tmp_path: Path, configured: Callable[..., Configuration], value: float, problem: str
) -> None:
    told = made(tmp_path)
    told.set_user_attr(studies.DATA, {"metric": "mse $x"})
    trial = told.ask()
    trial.set_user_attr(trials.CONFIGURATION, configured("sgd").model_dump(mode="json"))
    for step in (10, 20):
        trial.report(value, step)
    untold = trial_notes.attach(trial, "diverged", None, "diverged at step 20", 2, 10, tmp_path)
    assert untold.startswith(problem)
    assert bool(untold) == bool(problem)
    assert "Why it ended early: diverged at step 20" in note_of(told, 0)


@pytest.mark.parametrize("name", ["../study.db", "a/b", "", "x" * 80, "g"])
def test_artifacts_do_not_leave_their_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "study.db").write_text("secret")
    store = Artifacts(tmp_path / FOLDER)
    with pytest.raises(ArtifactNotFound):
        store.open_reader(name)
    with pytest.raises(OptituneError):
        store.write(name, BytesIO(b"x"))
    store.remove(name)
    assert (tmp_path / "study.db").read_text() == "secret"


def test_what_was_removed_in_the_dashboard_is_put_there_again(tmp_path: Path) -> None:
    told = made(tmp_path)
    first = put(told, "curves.csv", b"1", tmp_path)
    told._storage.set_study_system_attr(told._study_id, f"artifacts:{first}", json.dumps(None))
    second = put(told, "curves.csv", b"2", tmp_path)
    assert attached(system_attrs(told)) == {"curves.csv": second}
    assert second != first


def test_what_lies_on_another_machine_is_drawn_anew(folder: Path, tmp_path: Path) -> None:
    told = opened(folder)
    store = Redrawn(told._storage, tmp_path, ())
    artifact = attached(told.get_trials()[0].system_attrs)[trial_notes.PICTURE]
    drawn = store.open_reader(artifact).read()
    assert drawn == (folder / "digits" / FOLDER / artifact).read_bytes()
    for key in attached(system_attrs(told)).values():
        assert store.open_reader(key).read() == (folder / "digits" / FOLDER / key).read_bytes()
    with pytest.raises(ArtifactNotFound):
        store.open_reader("0" * 36)
    assert list(tmp_path.iterdir()) == []


def test_the_choices_of_a_comparison_stand_in_its_note(tmp_path: Path) -> None:
    seconds = {"sgd": 10.0, "adam": 8.0, "adamw": 5.0, "adagrad": 20.0}
    about, place = costly(subject(stage="compared"), seconds, "time"), home(tmp_path)
    stored(place, about)
    assert about.comparison is not None
    assert result_notes.write_comparison(place, about.comparison) == ""
    text = get_note(find(open_storage(place.url, create=False), "digits"))
    assert text.index("**Take adamw. It needs 50 % of the time of sgd, the leader;") < text.index("cheapest as good")


def test_a_comparison_and_a_full_training_add_their_chapters(folder: Path) -> None:
    flags = ["--studies-dir", str(folder), "--quiet", "--workers", "1"]
    assert (
        run(["compare", "digits", "--optimizers", "adam,adamw", "--max-runs", "2", "--sensitivity", "0", *flags]) == 0
    )
    assert run(["retrain", "best", "--study", "digits", "--seeds", "2", *flags]) == 0
    told = opened(folder)
    text = get_note(told)
    assert text.index("## Which optimizer") < text.index("## The comparison") < text.index("## On the test set")
    assert "says the comparison below" in text
    assert "`optitune compare digits`" not in text
    verdict = json.loads((folder / "digits" / "compare" / "verdict.json").read_text())
    assert f"**{verdict['sentence']}**" in text
    metrics = json.loads((folder / "digits" / "retrain" / "best" / "metrics.json").read_text())
    mean = sum(seed["test_value"] for seed in metrics["runs"]) / 2
    assert f"{100 * mean:.2f} %" in text
    drawn = get_plotly_graph_objects(system_attrs(told))
    figure = graph_objects.Figure(json.loads(drawn["optitune-compared"]))
    assert [trace.name for trace in figure.data] == [place["optimizer"] for place in verdict["places"]]
