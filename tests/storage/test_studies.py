from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from optitune.errors import UsageError
from optitune.searching.trial_queue import Claimed, TrialQueue
from optitune.space import ranges
from optitune.storage import studies, study_checks, trials
from optitune.storage.urls import open_storage, sqlite_url
from optitune.study.records import best
from optitune.study.settings import StudySettings
from optitune.tasks import metrics
from optitune.workers.leases import Owner

SETTINGS = StudySettings(task="digits", optimizers=("sgd", "adam"), epochs=2, precision="fp32")
FACTS = {"checksum": "sha256:1", "train_examples": 10, "validation_examples": 5}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., optuna.Study]:
    def make(settings: StudySettings = SETTINGS, metric: Any = "accuracy", **facts: Any) -> optuna.Study:
        storage = open_storage(sqlite_url(tmp_path / "s" / "study.db"), create=True)
        judge = metrics.find(metric) if isinstance(metric, str) else metric
        return study_checks.create_or_resume(storage, "s", settings, FACTS | facts, judge)

    return make


@pytest.fixture
def desk(made: Callable[..., optuna.Study], tmp_path: Path) -> Iterator[Callable[..., TrialQueue]]:
    opened: list[TrialQueue] = []

    def sit(target: int, local: bool = True) -> TrialQueue:
        opened.append(TrialQueue(made(), target, Owner(tmp_path / "s" / "workers"), tmp_path / "s", local))
        return opened[-1]

    yield sit
    for each in opened:
        each.close()


def finish(desk: TrialQueue, taken: Claimed) -> None:
    trial, _ = taken
    trial.report(0.5, 1)
    desk.report(trial, "complete", 0.5, "", 0.1)


def test_a_study_keeps_what_it_was_made_from(made: Callable[..., optuna.Study]) -> None:
    attrs = made().user_attrs
    assert StudySettings.model_validate(attrs["settings"]) == SETTINGS
    assert attrs["data"] == FACTS | {"metric": "accuracy", "direction": "maximize"}
    assert {"optitune", "torch", "optuna", "python"} <= set(attrs["versions"])
    assert attrs["ranges"]["sgd"]["lr"] == {"kind": "float", "low": 5e-5, "high": 50.0, "scale": "log"}
    assert made().metric_names == ["validation accuracy"]
    assert made().direction == optuna.study.StudyDirection.MAXIMIZE


def test_equal_settings_resume_the_study(made: Callable[..., optuna.Study]) -> None:
    assert made()._study_id == made()._study_id


def test_other_data_are_refused_with_both_ways_out(made: Callable[..., optuna.Study]) -> None:
    made()
    with pytest.raises(
        UsageError, match=r'(?s)other data:\n  checksum: "sha256:1" -> "sha256:2"\n.*To go on.*--study s-2'
    ):
        made(checksum="sha256:2")


def test_another_metric_is_refused(made: Callable[..., optuna.Study]) -> None:
    made()
    with pytest.raises(
        UsageError, match=r'other data:\n  metric: "accuracy" -> "mse"\n  direction: "maximize" -> "minimize"'
    ):
        made(metric="mse")


OWN = metrics.Metric("accuracy", "maximize", lambda outputs, targets: 95.0, lowest=0.0, highest=100.0)


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (OWN, "accuracy", r"'accuracy' \(own, maximize, from 0 to 100\).*now by 'accuracy' \(built in, maximize"),
        ("accuracy", OWN, r"'accuracy' \(built in, maximize, from 0 to 1\).*now by 'accuracy' \(own, .*--study s-2"),
        (OWN, metrics.Metric("accuracy", "maximize", OWN.function), r"from 0 to 100\), but .* \(own, maximize\)"),
        ("loss", metrics.Metric("loss", "maximize", OWN.function), r'direction: "minimize" -> "maximize"'),
    ],
)
def test_another_metric_of_the_same_name_is_refused(
    made: Callable[..., optuna.Study], first: Any, then: Any, message: str
) -> None:
    opened = made(metric=first)
    with pytest.raises(UsageError, match=message):
        made(metric=then)
    if not isinstance(then, str) and "direction" not in message:
        with pytest.raises(UsageError, match=message):
            study_checks.same_metric(opened, then)


def test_a_metric_of_ones_own_is_read_back_with_direction_and_limits(made: Callable[..., optuna.Study]) -> None:
    found = studies.metric(made(metric=OWN))
    assert (found.name, found.direction, found.lowest, found.highest) == ("accuracy", "maximize", 0.0, 100.0)
    assert found.unit.value(95.0) == "95"
    assert studies.metric(made(metric=OWN)) == found


def test_a_study_of_an_older_version_goes_on_and_keeps_its_metric_from_then_on(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path / "s" / "study.db"), create=True)
    opened = study_checks.create_or_resume(storage, "s", SETTINGS, FACTS, OWN)
    forget(opened, studies.METRIC)
    assert studies.metric(opened).built_in
    study_checks.same_metric(opened, OWN)
    study_checks.create_or_resume(storage, "s", SETTINGS, FACTS, OWN)
    assert not studies.metric(studies.find(storage, "s")).built_in


def forget(opened: optuna.Study, attribute: str) -> None:
    """Take an attribute from a study, as one of an older version lacks it."""
    from optuna.storages._rdb import models
    from sqlalchemy import delete
    from sqlalchemy.orm import Session

    storage: Any = opened._storage
    engine = getattr(storage, "_backend", storage).engine
    with Session(engine) as session:
        session.execute(delete(models.StudyUserAttributeModel).where(models.StudyUserAttributeModel.key == attribute))
        session.commit()


def test_other_ranges_are_refused_with_the_range_that_differs(
    made: Callable[..., optuna.Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made()
    kept = SETTINGS.space().kept()
    kept["sgd"]["lr"]["high"] = 49.99999
    monkeypatch.setattr("optitune.space.search_space.SearchSpace.kept", lambda self: kept)
    with pytest.raises(UsageError, match=r"(?s)other ranges:\n  sgd.lr.high: 50.0 -> 49.99999\n.*--study s-2"):
        made()
    monkeypatch.undo()
    assert made()._study_id == opened._study_id


WIDE = StudySettings.model_validate(
    {
        "task": "digits",
        "optimizers": ["sgd", "adam"],
        "epochs": 2,
        "precision": "fp32",
        "batch_size": [16, 64],
        "label_smoothing": [0.0, 0.1],
        "groups": {"fc*": [0.1, 10]},
        "lr": [1e-4, 0.25],
        "sgd": {"nesterov": True},
        "adam": {"eps": 1},
    }
)


@pytest.mark.parametrize("settings", [SETTINGS, WIDE])
def test_a_study_goes_on_though_ranges_are_worded_anew(
    made: Callable[..., optuna.Study], settings: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made(settings)
    for kind in (ranges.Float, ranges.Int, ranges.Choice, ranges.Fixed):
        monkeypatch.setattr(kind, "__str__", lambda self: "in other words")
    assert made(settings)._study_id == opened._study_id


OLD = {
    "sgd": {
        "lr": "0.0001 to 0.25, log scale",
        "momentum": "0 to 0.99, log scale of 1 - value",
        "nesterov": "always True",
        "weight_decay": "1e-06 to 0.01, log scale",
    },
    "step": {"step_size": "1 to 2, whole", "gamma": "0.1 to 1"},
    "training": {"batch_size": "16 or 64", "label_smoothing": "0 to 0.1", "lr of fc*": "0.1 to 10, log scale"},
}
"""What an older version keeps of `WIDE`, but for Adam."""


def test_a_study_whose_ranges_are_sentences_goes_on_and_notices_others(
    made: Callable[..., optuna.Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made(WIDE)
    sentences = WIDE.space().kept(ranges.as_stored_before)
    assert {owner: {name: sentences[owner][name] for name in OLD[owner]} for owner in OLD} == OLD
    opened.set_user_attr(studies.RANGES, sentences)
    for kind in (ranges.Float, ranges.Int, ranges.Choice, ranges.Fixed):
        monkeypatch.setattr(kind, "__str__", lambda self: "in other words")
    assert made(WIDE)._study_id == opened._study_id
    sentences["sgd"]["lr"] = "0.0001 to 0.1, log scale"
    opened.set_user_attr(studies.RANGES, sentences)
    with pytest.raises(UsageError, match=r'other ranges:\n  sgd.lr: "0.0001 to 0.1, log scale" -> "0.0001 to 0.25'):
        made(WIDE)


def test_where_less_is_better_the_least_is_the_best_and_scores_highest(
    made: Callable[..., optuna.Study], tmp_path: Path
) -> None:
    opened = made(metric="mse")
    assert opened.direction == optuna.study.StudyDirection.MINIMIZE
    assert opened.metric_names == ["validation mse"]
    own = TrialQueue(opened, 4, Owner(tmp_path / "s" / "workers"), tmp_path / "s", local=True)
    for outcome, value in (("complete", 0.5), ("complete", 0.25), ("pruned", None), ("complete", 0.75)):
        taken = own.claim()
        assert taken is not None
        own.report(taken[0], outcome, value, "", 0.1)
    rows = trials.records(opened)
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
        studies.stored_settings(optuna.create_study(study_name="theirs"))


def test_an_unknown_study_gets_the_nearest_names(made: Callable[..., optuna.Study], tmp_path: Path) -> None:
    made()
    storage = open_storage(sqlite_url(tmp_path / "s" / "study.db"), create=False)
    with pytest.raises(UsageError, match="unknown study 'ss': did you mean 's'"):
        studies.find(storage, "ss")


def test_records_tell_how_each_trial_ended(desk: Callable[..., TrialQueue]) -> None:
    own = desk(9)
    for outcome, value, reason in (
        ("complete", 0.9, ""),
        ("pruned", None, "pruned at epoch 1"),
        ("diverged", None, "diverged at step 3: loss inf"),
        ("failed", None, "RuntimeError: no"),
    ):
        taken = own.claim()
        assert taken is not None
        taken[0].report(0.4, 2)
        own.report(taken[0], outcome, value, reason, 1.5)
    assert own.claim() is not None
    rows = trials.records(own.study)
    assert [row.outcome for row in rows] == ["complete", "pruned", "diverged", "failed", "running"]
    assert [row.value for row in rows] == [0.9, None, None, None, None]
    assert rows[2].reason == "diverged at step 3: loss inf"
    assert rows[1].curve == ((2, 0.4),)
    assert rows[0].seconds == 1.5


def test_records_tell_for_how_many_epochs_each_trial_was_trained(desk: Callable[..., TrialQueue]) -> None:
    own = desk(3)
    for outcome, epochs in (("complete", 2.0), ("pruned", 0.7504), ("diverged", 0.05)):
        taken = own.claim()
        assert taken is not None
        own.report(taken[0], outcome, 0.5 if outcome == "complete" else None, "", 1.5, epochs)
    own.study.add_trial(optuna.trial.create_trial(value=0.5))  # of a study that did not write them down
    rows = trials.records(own.study)
    assert [row.epochs for row in rows] == [2.0, 0.75, 0.05, 0.0]
    assert [row.seconds for row in rows] == [1.5, 1.5, 1.5, None]


def test_an_unknown_trial_is_named_with_those_there_are(desk: Callable[..., TrialQueue]) -> None:
    own = desk(1)
    with pytest.raises(UsageError, match="has no trial 0: it has no trials yet"):
        trials.record(own.study, 0)
    own.claim()
    with pytest.raises(UsageError, match="has no trial 7: it has trials 0 to 0"):
        trials.record(own.study, 7)
    assert trials.record(own.study, 0).outcome == "running"


def test_a_ledger_makes_a_row_of_an_ended_trial_once(
    desk: Callable[..., TrialQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = desk(3)
    ledger = trials.RecordCache(own.study)
    taken = own.claim()
    assert taken is not None
    assert [row.outcome for row in ledger.read()] == ["running"]
    finish(own, taken)
    first = ledger.read()
    assert [row.outcome for row in first] == ["complete"]
    own.claim()
    again = ledger.read()
    assert again[0] is first[0]
    assert [row.outcome for row in again] == ["complete", "running"]
    assert trials.records(own.study) == again


ONE, OTHER = {"optimizer": {"name": "sgd"}}, {"optimizer": {"name": "adam"}}


def test_a_trial_trained_before_is_found_by_configuration_and_device(desk: Callable[..., TrialQueue]) -> None:
    own = desk(9)

    def end(outcome: str, configuration: dict[str, Any], device: str = "cpu", **attrs: Any) -> None:
        taken = own.claim()
        assert taken is not None
        for key, value in {"configuration": configuration, "device": device, **attrs}.items():
            taken[0].set_user_attr(key, value)
        own.report(taken[0], outcome, 0.5 if outcome == "complete" else None, "", 0.1)

    def found(configuration: dict[str, Any], device: str = "cpu") -> int | None:
        trial = trials.trained_before(own.study, configuration, device)
        return None if trial is None else trial.number

    end("failed", ONE)
    taken = own.claim()
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
    desk: Callable[..., TrialQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = desk(9)
    taken = own.claim()
    assert taken is not None
    taken[0].set_user_attr("configuration", ONE)
    taken[0].set_user_attr("device", "cpu")
    finish(own, taken)
    assert trials.trained_before(own.study, ONE, "cpu") is not None
    monkeypatch.setattr("optitune.storage.trials.versions", lambda: {"torch": "another"})
    assert trials.trained_before(own.study, ONE, "cpu") is None


def test_a_network_that_is_refused_leaves_no_record_of_its_code(tmp_path: Path) -> None:
    def opened(network: str, digest: str) -> optuna.Study:
        storage = open_storage(sqlite_url(tmp_path / "s" / "study.db"), create=True)
        code = {"id": digest, "python": "c", "torch": "t", "network": [network], "parts": {}} if digest else {}
        return study_checks.create_or_resume(
            storage, "s", SETTINGS, {**FACTS, "network": network}, metrics.find("accuracy"), code
        )

    # of an older version, which kept no code
    opened("sha256:1", "")
    with pytest.raises(UsageError, match=r'network: "sha256:1" -> "sha256:2"'):
        opened("sha256:2", "sha256:other")
    assert opened("sha256:1", "sha256:own").user_attrs[studies.CODE]["id"] == "sha256:own"
