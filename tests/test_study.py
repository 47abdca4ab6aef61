from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from optitune import metrics, study
from optitune.desk import Desk, Taken
from optitune.errors import UsageError
from optitune.ownership import Owner
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
def desk(made: Callable[..., optuna.Study], tmp_path: Path) -> Callable[..., Desk]:
    def sit(target: int, local: bool = True) -> Desk:
        return Desk(made(), target, Owner(tmp_path / "s" / "workers"), tmp_path / "s", local)

    return sit


def finish(desk: Desk, taken: Taken) -> None:
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
    own = Desk(opened, 4, Owner(tmp_path / "s" / "workers"), tmp_path / "s", local=True)
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


def test_records_tell_how_each_trial_ended(desk: Callable[..., Desk]) -> None:
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


def test_records_tell_for_how_many_epochs_each_trial_was_trained(desk: Callable[..., Desk]) -> None:
    own = desk(3)
    for outcome, epochs in (("complete", 2.0), ("pruned", 0.7504), ("diverged", 0.05)):
        taken = own.take()
        assert taken is not None
        own.tell(taken[0], outcome, 0.5 if outcome == "complete" else None, "", 1.5, epochs)
    own.study.add_trial(optuna.trial.create_trial(value=0.5))  # of a study that did not write them down
    rows = study.records(own.study)
    assert [row.epochs for row in rows] == [2.0, 0.75, 0.05, 0.0]
    assert [row.seconds for row in rows] == [1.5, 1.5, 1.5, None]


def test_an_unknown_trial_is_named_with_those_there_are(desk: Callable[..., Desk]) -> None:
    own = desk(1)
    with pytest.raises(UsageError, match="has no trial 0: it has no trials yet"):
        study.record(own.study, 0)
    own.take()
    with pytest.raises(UsageError, match="has no trial 7: it has trials 0 to 0"):
        study.record(own.study, 7)
    assert study.record(own.study, 0).outcome == "running"


def test_a_ledger_makes_a_row_of_an_ended_trial_once(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
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


def test_a_trial_trained_before_is_found_by_configuration_and_device(desk: Callable[..., Desk]) -> None:
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
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
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
