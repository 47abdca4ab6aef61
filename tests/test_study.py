import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from optitune import metrics, study
from optitune.errors import UsageError
from optitune.records import best
from optitune.settings import StudySettings
from optitune.storage import open_storage, sqlite_url

SETTINGS = StudySettings(task="digits", optimizers=("sgd", "adam"), epochs=2, precision="fp32")
FACTS = {"checksum": "sha256:1", "train_examples": 10, "validation_examples": 5}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., optuna.Study]:
    def make(settings: StudySettings = SETTINGS, metric: str = "accuracy", **facts: Any) -> optuna.Study:
        storage = open_storage(sqlite_url(tmp_path / "s" / "study.db"), create=True)
        return study.create_or_resume(storage, "s", settings, FACTS | facts, metrics.find(metric))

    return make


@pytest.fixture
def desk(made: Callable[..., optuna.Study], tmp_path: Path) -> Callable[..., study.Desk]:
    def sit(target: int, local: bool = True) -> study.Desk:
        return study.Desk(made(), target, study.Owner(tmp_path / "s" / "workers"), tmp_path / "s", local)

    return sit


def finish(desk: study.Desk, taken: study.Taken) -> None:
    trial, _ = taken
    trial.report(0.5, 1)
    desk.tell(trial, "complete", 0.5, "", 0.1)


def test_a_study_keeps_what_it_was_made_from(made: Callable[..., optuna.Study]) -> None:
    attrs = made().user_attrs
    assert StudySettings.model_validate(attrs["settings"]) == SETTINGS
    assert attrs["data"] == FACTS | {"metric": "accuracy", "direction": "maximize"}
    assert {"optitune", "torch", "optuna", "python"} <= set(attrs["versions"])
    assert attrs["ranges"]["sgd"]["lr"] == "0.005 to 0.5, log scale"
    assert made().metric_names == ["validation accuracy"]
    assert made().direction == optuna.study.StudyDirection.MAXIMIZE


def test_equal_settings_resume_the_study(made: Callable[..., optuna.Study]) -> None:
    assert made()._study_id == made()._study_id


def test_other_data_are_refused_with_both_ways_out(made: Callable[..., optuna.Study]) -> None:
    made()
    with pytest.raises(UsageError, match=r"other data: checksum sha256:1 \(now sha256:2\).*--study s-2.*to go on"):
        made(checksum="sha256:2")


def test_another_metric_is_refused(made: Callable[..., optuna.Study]) -> None:
    made()
    with pytest.raises(
        UsageError, match=r"other data: metric accuracy \(now mse\), direction maximize \(now minimize\)"
    ):
        made(metric="mse")


def test_other_ranges_are_refused_with_the_range_that_differs(
    made: Callable[..., optuna.Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    made()
    words = SETTINGS.space().words()
    other = {**words, "sgd": {**words["sgd"], "lr": "0 to 1"}}
    monkeypatch.setattr("optitune.search_space.SearchSpace.words", lambda self: other)
    with pytest.raises(UsageError, match=r"other ranges: sgd.lr 0.005 to 0.5, log scale \(now 0 to 1\).*--study s-2"):
        made()


def test_where_less_is_better_the_least_is_the_best_and_scores_highest(
    made: Callable[..., optuna.Study], tmp_path: Path
) -> None:
    opened = made(metric="mse")
    assert opened.direction == optuna.study.StudyDirection.MINIMIZE
    assert opened.metric_names == ["validation mse"]
    own = study.Desk(opened, 4, study.Owner(tmp_path / "s" / "workers"), tmp_path / "s", local=True)
    for outcome, value in (("complete", 0.5), ("complete", 0.25), ("pruned", None), ("complete", 0.75)):
        taken = own.take()
        assert taken is not None
        own.tell(taken[0], outcome, value, "", 0.1)
    rows = study.records(opened)
    assert [row.value for row in rows] == [0.5, 0.25, None, 0.75]
    assert [row.score for row in rows] == [-0.5, -0.25, None, -0.75]
    assert best(rows) is rows[1]
    assert opened.best_trial.number == 1


def test_a_study_whose_making_was_interrupted_is_completed(made: Callable[..., optuna.Study], tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path / "s" / "study.db"), create=True)
    optuna.create_study(storage=storage, study_name="s", direction="maximize")
    assert made().user_attrs["data"] == FACTS | {"metric": "accuracy", "direction": "maximize"}


def test_another_programs_study_is_refused() -> None:
    with pytest.raises(UsageError, match="was not made by optitune"):
        study.stored_settings(optuna.create_study(study_name="theirs"))


def test_an_unknown_study_gets_the_nearest_names(made: Callable[..., optuna.Study]) -> None:
    made()
    storage = open_storage(made()._storage._backend.url, create=False)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="unknown study 'ss': did you mean 's'"):
        study.find(storage, "ss")


def test_trials_are_handed_out_up_to_the_target(desk: Callable[..., study.Desk]) -> None:
    own = desk(3)
    for _ in range(3):
        taken = own.take()
        assert taken is not None
        finish(own, taken)
    assert own.take() is None
    assert own.finished() == 3


def test_a_trial_that_its_worker_ended_just_now_is_not_taken_again(
    desk: Callable[..., study.Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = desk(1), desk(1)
    taken = other.take()
    assert taken is not None
    before = own.study.get_trials()
    finish(other, taken)
    other.owner.release()
    monkeypatch.setattr(own.study, "get_trials", lambda **_: before)
    assert own.take() is None


def test_running_trials_of_living_workers_count_and_are_left_alone(desk: Callable[..., study.Desk]) -> None:
    one, other = desk(2), desk(2)
    first, second = one.take(), other.take()
    assert first is not None
    assert second is not None
    assert first[1].number != second[1].number
    assert one.take() is None
    assert other.take() is None


def test_failed_trials_do_not_count(desk: Callable[..., study.Desk]) -> None:
    own = desk(1)
    taken = own.take()
    assert taken is not None
    own.tell(taken[0], "failed", None, "RuntimeError: no", 0.0)
    assert own.finished() == 0
    again = own.take()
    assert again is not None
    assert again[1].number == 1


def test_a_dead_workers_trial_is_taken_under_its_number_with_its_parameters(desk: Callable[..., study.Desk]) -> None:
    dead, own = desk(1), desk(1)
    taken = dead.take()
    assert taken is not None
    # a container has another name each time; the file of the study is this machine's all the same
    taken[0].set_user_attr("owner", dead.owner.name() | {"host": "elsewhere"})
    drawn = taken[0].suggest_float("x", 0, 1)
    taken[0].report(0.5, 7)
    dead.owner._lock.release()  # what the system does when a process is killed
    again = own.take()
    assert again is not None
    trial, frozen = again
    assert frozen.number == 0
    assert frozen.intermediate_values == {7: 0.5}
    assert trial.suggest_float("x", 0, 1) == drawn
    finish(own, again)
    assert own.finished() == 1


def test_a_trial_given_back_is_the_next_to_be_taken(desk: Callable[..., study.Desk]) -> None:
    one, other = desk(5), desk(5)
    taken = one.take()
    assert taken is not None
    one.give_back(taken[0])
    again = other.take()
    assert again is not None
    assert again[1].number == taken[1].number


def test_a_trial_without_an_owner_is_left_behind_at_once_only_on_one_machine(
    made: Callable[..., optuna.Study], desk: Callable[..., study.Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    made().ask()
    far = desk(2, local=False)
    taken = far.take()
    assert taken is not None
    assert taken[1].number == 1  # the ownerless trial 0 may be about to be signed elsewhere
    near = desk(2)
    left = near.take()
    assert left is not None
    assert left[1].number == 0


def test_an_ownerless_trial_of_a_shared_database_is_taken_after_a_while(
    made: Callable[..., optuna.Study], desk: Callable[..., study.Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    made().ask()
    monkeypatch.setattr(study, "OWNERLESS_GRACE", timedelta(0))
    taken = desk(1, local=False).take()
    assert taken is not None
    assert taken[1].number == 0


def test_another_machines_trial_is_never_taken(
    desk: Callable[..., study.Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    far = desk(1, local=False)
    assert far.take() is not None
    far.owner.release()
    monkeypatch.undo()
    assert desk(1, local=False).take() is None


def test_many_at_once_finish_exactly_the_target(desk: Callable[..., study.Desk]) -> None:
    def work(own: study.Desk) -> list[int]:
        numbers = []
        while own.finished() < 25:
            taken = own.take()
            if taken is not None:
                numbers.append(taken[1].number)
                finish(own, taken)
        return numbers

    desks = [desk(25) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        numbers = [number for own in threads.map(work, desks) for number in own]
    assert sorted(numbers) == list(range(25))
    assert len(desks[0].study.trials) == 25


def test_trials_asked_for_by_several_machines_at_once_are_given_back_beyond_the_target(
    desk: Callable[..., study.Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, seen = desk(1), []

    def ask_after_another() -> optuna.Trial:
        if not seen:
            seen.append(original())
            seen[0].set_user_attr("owner", {"host": "elsewhere", "lock": ""})
        return original()

    original = own.study.ask
    monkeypatch.setattr(own.study, "ask", ask_after_another)
    assert own.take() is None
    assert [trial.state for trial in own.study.trials] == [TrialState.RUNNING, TrialState.WAITING]


def test_records_tell_how_each_trial_ended(desk: Callable[..., study.Desk]) -> None:
    own = desk(9)
    for outcome, value, reason in (
        ("complete", 0.9, ""),
        ("pruned", None, "pruned at epoch 1"),
        ("diverged", None, "diverged at step 3: loss inf"),
        ("failed", None, "RuntimeError: no"),
    ):
        taken = own.take()
        assert taken is not None
        taken[0].report(0.4, 2)
        own.tell(taken[0], outcome, value, reason, 1.5)
    assert own.take() is not None
    rows = study.records(own.study)
    assert [row.outcome for row in rows] == ["complete", "pruned", "diverged", "failed", "running"]
    assert [row.value for row in rows] == [0.9, None, None, None, None]
    assert rows[2].reason == "diverged at step 3: loss inf"
    assert rows[1].curve == ((2, 0.4),)
    assert rows[0].seconds == 1.5


def test_records_tell_for_how_many_epochs_each_trial_was_trained(desk: Callable[..., study.Desk]) -> None:
    own = desk(3)
    for outcome, epochs in (("complete", 2.0), ("pruned", 0.7504), ("diverged", 0.05)):
        taken = own.take()
        assert taken is not None
        own.tell(taken[0], outcome, 0.5 if outcome == "complete" else None, "", 1.5, epochs)
    own.study.add_trial(optuna.trial.create_trial(value=0.5))  # of a study that did not write them down
    rows = study.records(own.study)
    assert [row.epochs for row in rows] == [2.0, 0.75, 0.05, 0.0]
    assert [row.seconds for row in rows] == [1.5, 1.5, 1.5, None]


def test_an_unknown_trial_is_named_with_those_there_are(desk: Callable[..., study.Desk]) -> None:
    own = desk(1)
    with pytest.raises(UsageError, match="has no trial 0: it has no trials yet"):
        study.record(own.study, 0)
    own.take()
    with pytest.raises(UsageError, match="has no trial 7: it has trials 0 to 0"):
        study.record(own.study, 7)
    assert study.record(own.study, 0).outcome == "running"


def test_a_released_owner_leaves_no_file(tmp_path: Path) -> None:
    owner = study.Owner(tmp_path / "workers")
    assert owner.path.exists()
    owner.release()
    assert list((tmp_path / "workers").iterdir()) == []
    assert owner.name()["host"] == socket.gethostname()


def test_a_ledger_makes_a_row_of_an_ended_trial_once(
    desk: Callable[..., study.Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = desk(3)
    ledger = study.Ledger(own.study)
    taken = own.take()
    assert taken is not None
    assert [row.outcome for row in ledger.read()] == ["running"]
    finish(own, taken)
    first = ledger.read()
    assert [row.outcome for row in first] == ["complete"]
    own.take()
    again = ledger.read()
    assert again[0] is first[0]
    assert [row.outcome for row in again] == ["complete", "running"]
    assert study.records(own.study) == again


ONE, OTHER = {"optimizer": {"name": "sgd"}}, {"optimizer": {"name": "adam"}}


def test_a_trial_trained_before_is_found_by_configuration_and_device(desk: Callable[..., study.Desk]) -> None:
    own = desk(9)

    def end(outcome: str, configuration: dict[str, Any], device: str = "cpu", **attrs: Any) -> None:
        taken = own.take()
        assert taken is not None
        for key, value in {"configuration": configuration, "device": device, **attrs}.items():
            taken[0].set_user_attr(key, value)
        own.tell(taken[0], outcome, 0.5 if outcome == "complete" else None, "", 0.1)

    def found(configuration: dict[str, Any], device: str = "cpu") -> int | None:
        trial = study.trained_before(own.study, configuration, device)
        return None if trial is None else trial.number

    end("failed", ONE)
    taken = own.take()
    assert taken is not None
    taken[0].set_user_attr("configuration", ONE)
    taken[0].set_user_attr("device", "cpu")
    assert found(ONE) is None  # neither one that failed nor one that is still running
    end("pruned", ONE)
    assert found(ONE) == 2
    end("complete", ONE, same_as=2)
    end("complete", ONE)
    assert found(ONE) == 4  # no repetition, and rather a complete one
    end("complete", ONE)
    assert found(ONE) == 4
    assert found(OTHER) is None
    assert found(ONE, "cuda") is None


def test_what_another_version_trained_is_trained_again(
    desk: Callable[..., study.Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = desk(9)
    taken = own.take()
    assert taken is not None
    taken[0].set_user_attr("configuration", ONE)
    taken[0].set_user_attr("device", "cpu")
    finish(own, taken)
    assert study.trained_before(own.study, ONE, "cpu") is not None
    monkeypatch.setattr(study, "versions", lambda: {"torch": "another"})
    assert study.trained_before(own.study, ONE, "cpu") is None
