"""A trial that is stopped or killed goes on at its last evaluation, to the numbers it would have had."""

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import Trial

from optitune.common import checkpoint
from optitune.common.files import replacing, write_text
from optitune.searching.objective import Result, ReturnedToQueue, run_trial
from optitune.searching.trial_checkpoint import path_of, remove, sweep
from optitune.space.configuration import Configuration
from optitune.study import steps
from optitune.study.settings import StudySettings
from optitune.tasks.data import Examples
from optitune.tasks.models import Cnn
from optitune.tasks.splits import SearchData
from optitune.tasks.task import Task

TASK = Task(name="tiny", model=lambda: Cnn(size=4, channels=(4, 8), hidden=16, classes=3), data=None)
PARAMS = {"optimizer": "sgd", "lr_factor": 1.0, "one_minus_momentum": 0.1, "nesterov": False, "weight_decay": 1e-4}
SETTINGS = StudySettings(optimizers=("sgd",), schedules=("constant",), epochs=4, batch_size=5, precision="fp32")
POINTS = 16


class Killed(BaseException):
    """What a kill leaves: nothing is done after it."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """On so few images an epoch would be evaluated once, at its end; and a checkpoint takes longer than that."""
    monkeypatch.setattr(steps, "EVALUATION_SHARE", 10.0)
    monkeypatch.setattr("optitune.searching.objective.CHECKPOINT_SHARE", 1e9)


@pytest.fixture
def data(images: Examples) -> SearchData:
    return SearchData(images.take(slice(0, 60)), images.take(slice(60, 90)), "sha256:" + "0" * 64)


def asked() -> Trial:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.NopPruner())
    study.enqueue_trial(PARAMS)
    return study.ask()


def attempt(
    trial: Trial,
    data: SearchData,
    path: Path | None,
    reported_before: tuple[int, ...] = (),
    stop_at: int = 1_000,
    killed_at: int = 1_000,
) -> tuple[Result | None, int]:
    """One worker's try at a trial: how it ended, None where it did not; and how many evaluations it made."""
    seen = 0

    def on_progress(configuration: Configuration, progress: object) -> None:
        nonlocal seen
        seen += progress is not None
        if seen == killed_at:
            raise Killed

    def stopping() -> bool:
        return seen >= stop_at

    device = torch.device("cpu")
    try:
        told = run_trial(trial, SETTINGS, TASK, data, device, reported_before, on_progress, stopping, path)
        return told, seen
    except (ReturnedToQueue, Killed):
        return None, seen


def again(trial: Trial) -> tuple[Trial, tuple[int, ...]]:
    """The trial as another worker takes it up."""
    frozen = trial.storage.get_trial(trial._trial_id)
    return Trial(trial.study, trial._trial_id), tuple(frozen.intermediate_values)


def curve(trial: Trial) -> dict[int, float]:
    return trial.storage.get_trial(trial._trial_id).intermediate_values


@pytest.mark.parametrize("how", ["stop_at", "killed_at"])
@pytest.mark.parametrize("every", [1, 2, 5])
def test_a_trial_interrupted_again_and_again_has_the_numbers_of_one_that_was_not(
    how: str, every: int, data: SearchData, tmp_path: Path
) -> None:
    straight = asked()
    whole, evaluations = attempt(straight, data, None)
    assert whole is not None
    assert evaluations == POINTS
    trial, reported, made = asked(), (), 0
    result = None
    for _ in range(3 * POINTS):
        # one that is killed before it has kept anything would never get further
        result, seen = attempt(trial, data, tmp_path / "t.safetensors", reported, **{how: every + (how == "killed_at")})
        made += seen
        if result is not None:
            break
        trial, reported = again(trial)
    assert result is not None
    assert (result.outcome, result.value, result.epochs) == (whole.outcome, whole.value, whole.epochs)
    assert curve(trial) == curve(straight)
    if how == "stop_at":
        assert made == POINTS


def test_a_kill_between_checkpoint_and_report_loses_no_point(
    data: SearchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = asked()
    attempt(straight, data, None)
    trial = asked()
    saved = checkpoint.save

    def save_and_die(*given: Any) -> None:
        saved(*given)
        raise Killed

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    assert attempt(trial, data, tmp_path / "t.safetensors") == (None, 0)
    assert curve(trial) == {}
    monkeypatch.undo()
    monkeypatch.setattr(steps, "EVALUATION_SHARE", 10.0)
    trial, reported = again(trial)
    result, seen = attempt(trial, data, tmp_path / "t.safetensors", reported)
    assert result is not None
    assert seen == POINTS - 1
    assert curve(trial) == curve(straight)


def test_what_was_to_be_judged_when_a_worker_was_killed_is_judged_by_the_next(
    data: SearchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, path = asked(), tmp_path / "t.safetensors"
    assert attempt(trial, data, path, stop_at=3) == (None, 3)
    trial, reported = again(trial)
    monkeypatch.setattr(trial, "should_prune", lambda: True)
    result, seen = attempt(trial, data, path, reported)
    assert result is not None
    assert (result.outcome, seen) == ("pruned", 0)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_trial_with_a_damaged_checkpoint_begins_anew(damage: bytes | None, data: SearchData, tmp_path: Path) -> None:
    straight = asked()
    attempt(straight, data, None)
    trial, path = asked(), tmp_path / "t.safetensors"
    attempt(trial, data, path, stop_at=3)
    whole = path.read_bytes()
    flipped = whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:]
    path.write_bytes(flipped if damage is None else damage)
    trial, reported = again(trial)
    result, seen = attempt(trial, data, path, reported)
    assert result is not None
    assert seen == POINTS
    assert curve(trial) == curve(straight)


def test_checkpoints_of_ended_trials_are_swept_and_no_others(tmp_path: Path) -> None:
    names = ["trial-1.safetensors", ".trial-1-abcdefgh.safetensors", "trial-2.safetensors"]
    users = ["notes.txt", "trial-1.txt", "trial-1-copy.safetensors", ".trial-1-notes", ".ipynb_checkpoints"]
    folder = path_of(tmp_path, 1).parent
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    (folder / "trial-3.safetensors").mkdir()
    for name in (*names, *users[:-1]):
        (folder / name).touch()
    sweep(tmp_path, lambda: {2})
    assert {path.name for path in folder.iterdir()} == {names[-1], *users, "trial-3.safetensors"}
    (folder / ".trial-2-abcdefgh.safetensors").touch()
    remove(path_of(tmp_path, 2))
    assert {path.name for path in folder.iterdir()} == {*users, "trial-3.safetensors"}


def test_a_trial_that_another_search_begins_while_one_sweeps_keeps_its_checkpoint(tmp_path: Path) -> None:
    path = path_of(tmp_path, 0)
    numbers: set[int] = set()

    def read() -> set[int]:
        before = set(numbers)
        # as it is read the other one begins its trial, and writes
        numbers.add(0)
        write_text(path, "all of it")
        return before

    sweep(tmp_path, read)
    assert path.read_text() == "all of it"


def test_what_a_living_worker_writes_is_not_swept_though_its_trial_was_ended_for_it(tmp_path: Path) -> None:
    path = path_of(tmp_path, 0)
    with replacing(path) as scratch:
        scratch.write_text("all of it")
        sweep(tmp_path, lambda: ())
        remove(path)
    assert path.read_text() == "all of it"
