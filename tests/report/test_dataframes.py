"""Trials, curves, standings and comparisons as tables: nothing is lost, and every column has one kind of value."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pandas
import pytest
from report_world import comparison, full_training, subject, trials

from optitune.report import dataframes
from optitune.space.configuration import Configuration
from optitune.space.optimizers import OPTIMIZERS
from optitune.space.schedules import SCHEDULES
from optitune.statistics.runs import TUNED
from optitune.study.records import Outcome, TrialRecord
from optitune.tasks.metrics import METRICS

NAMES = ("sgd", "adam", "adamw", "adagrad")


def record(configuration: Configuration | None, number: int = 0, outcome: Outcome = "complete") -> TrialRecord:
    value = 0.5 if outcome == "complete" else None
    return TrialRecord(number, outcome, configuration, value, "", ((10, 0.4), (20, 0.5)), 1.5, epochs=2.0)


def test_a_row_per_trial_with_its_end_and_its_settings() -> None:
    records = trials(NAMES)
    table = dataframes.trials(records)
    assert list(table["trial"]) == [row.number for row in records]
    assert list(table["outcome"]) == [row.outcome for row in records]
    for row, told in zip(records, table.to_dict("records"), strict=True):
        assert row.configuration is not None
        assert (told["optimizer"], told["lr"], told["seconds"]) == (row.optimizer, row.configuration.lr, row.seconds)
        assert told["step.gamma"] == row.configuration.schedule.settings["gamma"]
        assert told["epochs"] == row.epochs
        assert told["value"] == row.value if row.value is not None else pandas.isna(told["value"])


def test_every_setting_of_every_optimizer_and_schedule_is_a_column(configured: Callable[..., Configuration]) -> None:
    records = []
    for optimizer in OPTIMIZERS:
        for schedule in SCHEDULES:
            configuration = configured(optimizer, schedule, training={"groups": {"fc*": 2.0, "*": 0.5}})
            records.append(record(configuration, len(records)))
    table = dataframes.trials(records)
    for row, told in zip(records, table.to_dict("records"), strict=True):
        assert row.configuration is not None
        given = row.configuration
        flat: list[Any] = []
        for value in (*given.optimizer.settings.values(), *given.schedule.settings.values()):
            flat += value if isinstance(value, list) else [value]
        own = [told[name] for name in dataframes.settings(given)]
        for value in flat:
            assert value in own, (given.optimizer.name, given.schedule.name, value)
        assert (told["groups.fc*"], told["groups.*"], told["batch_size"]) == (2.0, 0.5, 16)
    assert table["multistep.milestone1"].dtype == "Int64"
    assert table["nesterov"].dtype == "boolean"
    assert table["batch_size"].dtype == "int64"
    assert not [name for name, column in table.items() if {type(each) for each in column.dropna()} >= {float, str}]


def test_tuples_are_spelled_out(configured: Callable[..., Configuration]) -> None:
    told = dataframes.settings(configured("adam"))
    assert (told["beta1"], told["beta2"]) == (0.9, 0.999)
    assert "betas" not in told


OWN = {"name": "mine", "path": "torch.optim:SGD"}


def own(**settings: Any) -> Configuration:
    """A configuration of an optimizer that nobody knows."""
    schedule = {"name": "constant", "settings": {}}
    return Configuration.model_validate(
        {"optimizer": {**OWN, "settings": {"lr": 0.1, **settings}}, "schedule": schedule}
    )


def test_a_users_own_optimizer_may_call_its_settings_as_it_likes() -> None:
    told = dataframes.settings(own(value=3.0, schedule="fast", betas=[0.1, 0.2, 0.3], widths=[1, 2], momentum=0.5))
    assert (told["mine.value"], told["mine.schedule"], told["schedule"]) == (3.0, "fast", "constant")
    assert [told[f"betas{place}"] for place in (1, 2, 3)] == [0.1, 0.2, 0.3]
    assert (told["widths1"], told["widths2"], told["momentum"], told["lr"]) == (1, 2, 0.5, 0.1)


def test_what_two_optimizers_call_alike_and_mean_otherwise_is_told_in_words() -> None:
    table = dataframes.trials([record(own(mode=True)), record(own(mode="fast"), 1), record(own(), 2)])
    assert list(table["mode"])[:2] == ["True", "fast"]
    assert pandas.isna(table["mode"][2])


def test_a_trial_that_has_only_begun_has_a_row() -> None:
    running = TrialRecord(1, "running", None, None, "", (), None)
    table = dataframes.trials([replace(record(own()), began=datetime(2026, 1, 2), same_as=0), running])
    assert list(table["outcome"]) == ["complete", "running"]
    assert table.loc[1, ["optimizer", "value", "seconds", "began", "same_as", "lr"]].isna().all()
    assert (table["same_as"].dtype, table["began"][0]) == ("Int64", pandas.Timestamp(2026, 1, 2))


def test_a_study_without_trials_has_its_columns_and_their_kinds() -> None:
    for table in (dataframes.trials([]), dataframes.trials([record(own())])):
        assert list(table)[: len(dataframes.TRIAL)] == list(dataframes.TRIAL)
        assert [str(table[name].dtype) for name in ("value", "lr", "seconds")] == ["float64"] * 3
    assert list(dataframes.curves([])) == ["trial", "optimizer", "step", "epoch", "value"]
    standings = dataframes.standings([], NAMES)
    assert list(standings["optimizer"]) == list(NAMES)
    assert standings["value"].isna().all()


def test_a_row_per_evaluation_with_epochs_told_by_a_complete_trial() -> None:
    pruned = replace(record(own(), 0, "pruned"), curve=((10, 0.3),), epochs=0.9)
    lost = replace(record(own(), 2, "diverged"), curve=((7, 0.0),), epochs=0.7)
    table = dataframes.curves([pruned, record(own(), 1), lost])
    assert list(table["trial"]) == [0, 1, 1, 2]
    assert list(table["step"]) == [10, 10, 20, 7]
    # the complete one has 10 steps an epoch
    assert list(table["epoch"]) == [1.0, 1.0, 2.0, 0.7]
    assert list(table["value"]) == [0.3, 0.4, 0.5, 0.0]
    assert dataframes.curves([lost])["epoch"].isna().all()


def test_a_repeated_trial_does_not_tell_how_long_an_epoch_is() -> None:
    again = replace(record(own(), 1), same_as=0, epochs=0.0)
    assert list(dataframes.curves([again, record(own())])["epoch"]) == [1.0, 2.0, 1.0, 2.0]


def test_standings_have_the_best_first_and_who_has_none_last() -> None:
    records = [row for row in trials(NAMES) if row.optimizer != "sgd" or row.outcome != "complete"]
    table = dataframes.standings(records, NAMES)
    assert list(table["optimizer"])[-1] == "sgd"
    assert list(table["value"].dropna()) == sorted(table["value"].dropna(), reverse=True)
    assert table["trial"].dtype == "Int64"
    best = records[[row.number for row in records].index(table["trial"][0])]
    assert best.configuration is not None
    assert (table["value"][0], table["lr"][0]) == (best.value, best.configuration.lr)


def test_a_comparison_has_intervals_differences_and_costs() -> None:
    found = comparison(trials(NAMES), NAMES, diverging="adagrad")
    table = dataframes.comparison(found).set_index("optimizer")
    leader = found.verdict.leader
    assert list(table.index) == [place.optimizer for place in found.verdict.places]
    assert (table["low"] <= table["value"]).sum() == (table["value"] <= table["high"]).sum() == 4
    assert (table["relation"][leader], table["relation"]["adagrad"]) == ("leader", "diverged")
    assert pandas.isna(table["difference"][leader])
    for place in found.verdict.places:
        apart = place.to_leader
        if apart is not None:
            assert table["difference"][place.optimizer] == apart.mean
            low = table["difference_low"][place.optimizer]
            assert low == apart.low or (place.diverged and pandas.isna(low))
        assert table["regret"][place.optimizer] == place.regret or place.diverged
    assert list(table["runs"]) == [8] * 4
    assert table["diverged"]["adagrad"] == 1
    assert table["memory"]["sgd"] == 1.0


def test_what_is_not_known_of_a_comparison_yet_is_missing_and_not_infinite() -> None:
    table = dataframes.comparison(comparison(trials(NAMES), NAMES, rounds=1))
    assert table["low"].isna().all()
    assert table["difference_low"].isna().all()
    assert table["difference"].notna().sum() == 3


def test_runs_and_their_curves() -> None:
    found = comparison(trials(NAMES), NAMES, diverging="adagrad")
    runs = dataframes.runs(found)
    assert len(runs) == len(found.runs)
    lost = runs[runs["reason"] != ""]
    assert list(lost["optimizer"]) == ["adagrad"]
    assert lost["value"].isna().all()
    curves = dataframes.run_curves(found)
    assert len(curves) == sum(len(run.curve) for run in found.runs if run.key.variant == TUNED)
    assert list(curves) == ["optimizer", "round", "epoch", "seconds", "value", "loss"]


def test_full_trainings_have_a_row_per_test_and_per_epoch() -> None:
    records = trials(NAMES)
    told = full_training(None, records, METRICS["accuracy"])
    assert list(dataframes.tests(told.runs)["test_value"]) == [seed.test_value for seed in told.runs]
    assert list(dataframes.epochs(told.runs)["seed"]) == list(told.plan.seeds)
    untold = replace(told.runs[0], epochs=(replace(told.runs[0].epochs[0], train_value=None),))
    assert dataframes.epochs([untold])["train_value"].dtype == "float64"


def test_confusion_counts_all_seeds_and_is_none_without_classes() -> None:
    told = subject().tested
    assert told is not None
    table = dataframes.confusion(told.runs)
    assert table is not None
    assert (table.loc[8, 1], table.loc[1, 8], table.loc[0, 0]) == (6, 0, 105)
    assert (table.index.name, table.columns.name) == ("true class", "answered")
    # one seed's network never answered the last class
    small = replace(told.runs[0], confusion_matrix=((3, 1), (0, 4)))
    assert dataframes.confusion([small, *told.runs[1:]]).loc[0, 1] == 1
    assert dataframes.confusion([replace(told.runs[0], confusion_matrix=())]) is None


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, None], "Int64"),
        ([1, 2.5], "float64"),
        ([None, 2.5], "float64"),
        ([True, False], "bool"),
        ([True, None], "boolean"),
        (["a", None], "object"),
        ([None, None], "object"),
        ([True, 1.5], "object"),
    ],
)
def test_a_column_has_the_kind_of_its_values(values: list[Any], dtype: str) -> None:
    assert dataframes.frame([{"x": value} for value in values])["x"].dtype == dtype


def test_steps_are_those_of_each_trials_own_optimizer_where_batch_sizes_compete() -> None:
    small, large = record(own(), 0), record(own(), 1)
    for row, size in ((small, 16), (large, 64)):
        assert row.configuration is not None
        training = row.configuration.training.model_copy(update={"batch_size": size, "accumulation": 1})
        object.__setattr__(row, "configuration", row.configuration.model_copy(update={"training": training}))
        # both report at the steps of batches of 16: 40 an epoch of 640 examples
        object.__setattr__(row, "curve", ((40, 0.4), (80, 0.5)))
    table = dataframes.curves([small, large], 640)
    assert list(table["step"]) == [40, 80, 10, 20]
    assert list(table["epoch"]) == [1.0, 2.0, 1.0, 2.0]
    assert dataframes.curves([small, large])["step"].isna().all()
