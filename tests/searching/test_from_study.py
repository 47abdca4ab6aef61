"""A study begins with the trials of another one that lie in its search space, and with no others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from optitune.errors import UsageError
from optitune.sampling.parameters import first_parameters, suggest
from optitune.sampling.repeats import is_due
from optitune.searching import from_study
from optitune.searching.worker import open_study
from optitune.space.configuration import Configuration
from optitune.storage import studies, study_checks, trials
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import open_storage
from optitune.study.records import TrialRecord
from optitune.study.settings import StudySettings
from optitune.study.steps import usual_steps
from optitune.tasks import metrics

FACTS = {"checksum": "sha256:1", "network": "sha256:2", "train_examples": 1000, "validation_examples": 200}
ACCURACY = metrics.find("accuracy")
CODE = {"id": "1", "python": "x", "torch": "y", "network": ["Linear(2, 3)"], "parts": {"model": "code 1"}}


def settings(**given: Any) -> StudySettings:
    usual = {"task": "digits", "optimizers": ["sgd", "adam"], "epochs": 2, "precision": "fp32", "loss": "cross-entropy"}
    return StudySettings.model_validate({**usual, **given})


def made(home: StudyLocation, how: StudySettings, code: Any = CODE) -> optuna.Study:
    return study_checks.create_or_resume(open_storage(home.url, create=True), home.name, how, FACTS, ACCURACY, code)


def searched(home: StudyLocation, how: StudySettings, number: int) -> optuna.Study:
    """A study with so many trials, every third of them pruned, as its workers would have left them."""
    made(home, how)
    opened = open_study(home, how, ACCURACY)
    for _ in range(number):
        trial = opened.ask()
        configuration = suggest(trial, how, how.space())
        trial.set_user_attr(trials.CONFIGURATION, configuration.model_dump(mode="json"))
        trial.set_user_attr(trials.DEVICE, "cpu")
        last, usual = trial.number % 3 == 2, usual_steps(how, 1000)
        for epoch in (1, 2)[: 1 if last else 2]:
            trial.report(0.5 + trial.number / 100, epoch * usual)
        for key, value in (
            (trials.OUTCOME, "pruned" if last else "complete"),
            (trials.SECONDS, 1.5),
            (trials.EPOCHS, 2),
        ):
            trial.set_user_attr(key, value)
        opened.tell(trial, None if last else 0.5 + trial.number / 100, TrialState.PRUNED if last else None)
    return opened


@pytest.fixture
def home(tmp_path: Path) -> Callable[..., StudyLocation]:
    return lambda name, url=None: studies.location(tmp_path, name, url)


@pytest.fixture
def old(home: Callable[..., StudyLocation]) -> StudyLocation:
    searched(home("old"), settings(), 9)
    return home("old")


def selected(old: StudyLocation, new: StudyLocation, how: StudySettings, **other: Any) -> from_study.Taking:
    known = {"data": FACTS, "judge": ACCURACY, "code": CODE, "accepted": False, **other}
    return from_study.select(old, new, how, **known)


def begun(old: StudyLocation, new: StudyLocation, how: StudySettings) -> optuna.Study:
    taking = selected(old, new, how)
    opened = made(new, how)
    from_study.take(taking, opened, new, lambda: None)
    return opened


def plain(row: TrialRecord) -> tuple[Any, ...]:
    return row.outcome, row.configuration, row.value, row.curve, row.seconds, row.epochs, row.began, row.ended


@pytest.mark.parametrize("url", [None, "journal"])
def test_a_wider_study_has_all_trials_as_they_were_and_the_old_one_stays(
    home: Callable[..., StudyLocation], old: StudyLocation, url: str | None, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(from_study, "SETTLE_S", 0.01)
    new = home("new", url and f"journal:///{tmp_path}/studies.log")
    before = old.open()
    kept = before.user_attrs, before.trials
    opened = begun(old, new, settings(optimizers=["sgd", "adam", "rmsprop"]))
    rows, were = trials.records(opened), trials.records(old.open())
    assert [plain(row) for row in rows] == [plain(row) for row in were]
    assert [(row.from_study, row.from_trial) for row in rows] == [("old", number) for number in range(9)]
    assert [trial.params for trial in opened.trials] == [trial.params for trial in before.trials]
    assert studies.origin(opened) == studies.Origin("old", "", tuple(range(9)), 9, {})
    assert (old.open().user_attrs, old.open().trials) == kept


def test_known_good_settings_of_the_new_one_come_next_and_no_point_comes_again(
    home: Callable[..., StudyLocation], old: StudyLocation
) -> None:
    wide = settings(optimizers=["sgd", "adam", "rmsprop"])
    begun(old, home("new"), wide)
    opened = searched(home("new"), wide, 9)
    new = [trial.params for trial in opened.trials[9:]]
    first = [each for each in first_parameters(wide) if each["optimizer"] == "rmsprop"]
    assert [{name: first[number].get(name) for name in new[number]} for number in range(len(first))] == new[
        : len(first)
    ]
    every = [tuple(sorted(trial.params.items())) for trial in opened.trials if not is_due(trial.number)]
    assert len(set(every)) == len(every)
    # as many epochs for everyone: the new optimizer has to catch up
    assert sum(each["optimizer"] == "rmsprop" for each in new) >= 5


def test_what_lies_outside_is_left_out_with_its_reason(home: Callable[..., StudyLocation], old: StudyLocation) -> None:
    rows = trials.records(old.open())
    taking = selected(old, home("new"), settings(optimizers=["adam"], lr=[0.001, 0.1]))
    lie = [
        row.number for row in rows if row.optimizer == "adam" and row.configuration and row.configuration.lr >= 0.001
    ]
    assert list(taking.origin.trials) == lie
    assert taking.origin.left_out["of sgd, which does not compete"] == sum(row.optimizer == "sgd" for row in rows)
    assert taking.origin.left_out["with adam.lr outside 0.001 to 0.1, log scale"] > 0
    assert sum(taking.origin.left_out.values()) + len(lie) == 9
    with pytest.raises(UsageError, match=r"no trial of study 'old' lies in .* of sgd, which does not compete"):
        selected(old, home("new"), settings(optimizers=["rmsprop"]))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"batch_size": 32}, "with batch_size outside always 32"),
        ({"warmup": 0.1}, "with warmup outside always 0.1"),
        ({"schedules": ["cosine"]}, "with the schedule step, which does not compete"),
        ({"groups": {"fc*": 2.0}}, "with another groups.fc*"),
        ({"adam": {"amsgrad": True}, "sgd": {"momentum": 0.5}}, ""),
    ],
)
def test_a_setting_that_is_another_one_leaves_trials_out(
    home: Callable[..., StudyLocation], old: StudyLocation, how: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError) as caught:
        selected(old, home("new"), settings(**how))
    assert f"9 {reason}" in str(caught.value) or (not reason and "with another amsgrad" in str(caught.value))


@pytest.mark.parametrize("cut", [0, 1, 5])
def test_stopped_in_the_midst_it_takes_the_rest_once(
    home: Callable[..., StudyLocation], old: StudyLocation, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, how, left = home("new"), settings(optimizers=["sgd", "adam", "rmsprop"]), iter(range(cut))

    def stop() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    taking, opened = selected(old, new, how), made(new, how)
    with pytest.raises(KeyboardInterrupt):
        from_study.take(taking, opened, new, stop)
    with pytest.raises(UsageError, match=rf"lacks {9 - cut} of 9: run the search again with --from old"):
        from_study.check_begun(opened, None)
    assert from_study.check_begun(opened, old)
    # meanwhile the old one went on
    searched(old, settings(), 2)
    again = selected(old, new, how, begun=studies.origin(opened))
    for _ in range(2):
        from_study.take(again, opened, new, lambda: None)
    assert [row.from_trial for row in trials.records(opened)] == list(range(9))
    assert not from_study.check_begun(opened, old)


def test_only_a_new_study_begins_from_another(home: Callable[..., StudyLocation], old: StudyLocation) -> None:
    searched(home("other"), settings(), 1)
    with pytest.raises(UsageError, match="study 'other' has trials already, and only a new study can begin"):
        from_study.check_begun(home("other").open(), old)
    begun(old, home("new"), settings())
    with pytest.raises(UsageError, match="was begun from study 'old', not from 'other'"):
        from_study.check_begun(home("new").open(), home("other"))
    with pytest.raises(UsageError, match="cannot begin from itself; name the new one with --study old-2"):
        from_study.settings_of(old, old)


@pytest.mark.parametrize(
    ("how", "other", "line"),
    [
        ({"epochs": 4}, {}, "  epochs: 2 -> 4\n"),
        ({"seed": 1}, {}, "  seed: 0 -> 1\n"),
        ({}, {"data": {**FACTS, "checksum": "sha256:9"}}, '  checksum: "sha256:1" -> "sha256:9"\n'),
        ({}, {"data": {**FACTS, "train_examples": 500}}, "  train_examples: 1000 -> 500\n"),
        ({}, {"judge": metrics.find("r2")}, '  metric: "accuracy" -> "r2"\n'),
        ({}, {"code": {**CODE, "parts": {"model": "code 2"}}}, "  code: model was changed\n"),
    ],
)
def test_values_that_cannot_be_compared_are_not_taken(
    home: Callable[..., StudyLocation], old: StudyLocation, how: dict[str, Any], other: dict[str, Any], line: str
) -> None:
    with pytest.raises(UsageError, match="study 'new' cannot begin from study 'old'") as caught:
        selected(old, home("new"), settings(**how), **other)
    assert line in str(caught.value)
    assert not home("new").folder.exists()
    if "code" in other:
        assert "--accept-changes" in str(caught.value)
        assert len(selected(old, home("new"), settings(), **other, accepted=True).trials) == 9


def test_curves_follow_the_steps_of_the_new_study(home: Callable[..., StudyLocation], old: StudyLocation) -> None:
    taking = selected(old, home("new"), settings(batch_size=[32, 64], accumulation=1))
    assert [list(trial.intermediate_values) for trial in taking.trials[:1]] == [[16, 32]]
    searched(home("small"), settings(batch_size=[16, 32]), 4)
    steps = [set(trial.intermediate_values) for trial in home("small").open().trials]
    assert set.union(*steps) == {63, 126}
    taking = selected(home("small"), home("new"), settings(batch_size=[16, 32, 64]))
    assert set.union(*(set(trial.intermediate_values) for trial in taking.trials)) == {16, 32}
    assert [Configuration.model_validate(each.user_attrs[trials.CONFIGURATION]) for each in taking.trials] == [
        row.configuration for row in trials.records(home("small").open())
    ]


def test_what_was_copied_within_the_old_study_names_its_trial_in_the_new_one(
    home: Callable[..., StudyLocation], old: StudyLocation
) -> None:
    opened = old.open()
    last = next(trial for trial in reversed(opened.trials) if trial.params["optimizer"] == "adam")
    attrs = {**last.user_attrs, trials.SAME_AS: last.number}
    last.number, last.user_attrs = 9, attrs
    opened.add_trial(last)
    new = begun(old, home("new"), settings(optimizers=["adam"]))
    *_, original, copied = trials.records(new)
    assert copied.same_as == original.number
    assert copied.from_trial == 9
