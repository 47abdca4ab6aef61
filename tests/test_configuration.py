"""What a configuration refuses, and how it is stretched."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from optitune import optimizers, schedules
from optitune.configuration import LARGEST, Configuration, OptimizerSettings, ScheduleSettings, known_good
from optitune.optimizers import OPTIMIZERS
from optitune.schedules import SCHEDULES

Configured = Callable[..., Configuration]

SGD = {"lr": 0.05, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4}
ADAM = {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8}


def test_settings_of_every_known_good_row_are_allowed() -> None:
    for row in OPTIMIZERS.values():
        for values in row.known_good:
            assert OptimizerSettings(name=row.name, settings=row.arguments(values)).name == row.name
    for schedule in SCHEDULES.values():
        settings = {**schedule.fixed(5), **schedule.known_good(5)}
        assert ScheduleSettings(name=schedule.name, settings=settings).settings == settings


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("adamm", ADAM, "name = 'adamm': unknown optimizer 'adamm': did you mean"),
        ("adam", {**ADAM, "momentum": 0.9}, "settings.momentum = 0.9: unknown setting of adam 'momentum'"),
        ("adam", {"lr": 0.001, "eps": 1e-8}, "settings.betas is missing"),
        ("adam", {**ADAM, "lr": 0.0}, "settings.lr = 0.0: lr must be above 0"),
        ("adam", {**ADAM, "lr": [0.001]}, r"settings.lr = \[0.001\]: must be a number"),
        ("adam", {**ADAM, "lr": True}, "settings.lr = True: must be a number"),
        ("adam", {**ADAM, "lr": 1e31}, "settings.lr = 1e\\+31: must be at most 1e\\+30"),
        ("adam", {**ADAM, "lr": 10**400}, "must be at most 1e\\+30 in size"),
        ("adam", {**ADAM, "betas": [0.9]}, r"settings.betas = \[0.9\]: must be 2 numbers"),
        ("adam", {**ADAM, "betas": []}, r"settings.betas = \[\]: must be 2 numbers"),
        ("adam", {**ADAM, "betas": 0.9}, "settings.betas = 0.9: must be 2 numbers"),
        ("adam", {**ADAM, "betas": [0.9, 1.0]}, r"settings.betas = \[0.9, 1.0\]: beta2 must be at least 0 and below 1"),
        ("adam", {**ADAM, "betas": [-0.1, 0.9]}, r"settings.betas = .*: beta1 must be at least 0 and below 1"),
        ("adam", {**ADAM, "eps": -1e-8}, "settings.eps = -1e-08: eps must be at least 0"),
        ("sgd", {**SGD, "nesterov": 1}, "settings.nesterov = 1: must be true or false"),
        ("sgd", {**SGD, "nesterov": [1.0]}, r"settings.nesterov = \[1.0\]: must be true or false"),
        ("sgd", {**SGD, "momentum": 0.0, "nesterov": True}, "settings.nesterov = True: needs momentum above 0"),
        ("sgd", {**SGD, "momentum": 1.0}, "settings.momentum = 1.0: momentum must be at least 0 and below 1"),
        ("sgd", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}, "settings.nesterov is missing"),
        ("sgd", {"lr": 0.1, "weight_decay": 0.0}, "settings.momentum is missing"),
    ],
)
def test_optimizer_settings_that_make_no_sense_are_refused_by_name(
    name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        OptimizerSettings(name=name, settings=settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("steps", {}, "name = 'steps': unknown schedule 'steps': did you mean 'step'"),
        ("step", {"step_size": 0, "gamma": 0.7}, "settings.step_size = 0: step_size must be a whole number"),
        ("step", {"step_size": 1.5, "gamma": 0.7}, "settings.step_size = 1.5: step_size must be a whole number"),
        ("step", {"step_size": 1, "gamma": 0.0}, "settings.gamma = 0.0: gamma must be above 0 and at most 1"),
        ("step", {"step_size": 1, "gamma": 1.1}, "settings.gamma = 1.1: gamma must be above 0 and at most 1"),
        ("step", {"step_size": 10**40, "gamma": 0.7}, "must be at most"),
        ("step", {"gamma": 0.7}, "settings.step_size is missing"),
        ("cosine", {"T_max": 0}, "settings.T_max = 0: T_max must be a whole number of at least 1"),
        ("constant", {"gamma": 0.7}, "settings.gamma = 0.7: unknown setting of constant 'gamma'"),
    ],
)
def test_schedule_settings_that_make_no_sense_are_refused_by_name(
    name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        ScheduleSettings(name=name, settings=settings)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.1", None, {}])
def test_a_setting_must_be_a_finite_number(value: object) -> None:
    with pytest.raises(ValidationError, match="must be a finite number") as caught:
        OptimizerSettings.model_validate({"name": "adam", "settings": {**ADAM, "lr": value}})
    assert [fault["loc"] for fault in caught.value.errors()] == [("settings", "lr")]


def test_plain_sgd_may_leave_nesterov_out_or_say_false() -> None:
    without = {"lr": 0.1, "momentum": 0.0, "weight_decay": 1e-4}
    assert OptimizerSettings(name="sgd", settings=without).settings == without
    said = {**without, "nesterov": False}
    assert OptimizerSettings(name="sgd", settings=said).settings == said


def test_the_largest_setting_is_allowed() -> None:
    assert OptimizerSettings(name="adam", settings={**ADAM, "lr": LARGEST}).settings["lr"] == LARGEST


def test_a_configuration_is_frozen_and_has_no_other_keys(configured: Configured) -> None:
    configuration = configured("adam", "step")
    with pytest.raises(ValidationError, match="frozen"):
        configuration.optimizer = configured("sgd").optimizer  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Configuration.model_validate({**configuration.model_dump(), "other": 1})


def test_lr_is_the_optimizers(configured: Configured) -> None:
    assert configured("adam", lr=0.004).lr == 0.004
    assert configured("adadelta", lr=2).lr == 2.0
    assert isinstance(configured("adadelta", lr=2).lr, float)


def test_stretching_changes_the_schedule_alone(configured: Configured) -> None:
    configuration = configured("adam", "cosine", epochs=5)
    stretched = configuration.stretched(3.0)
    assert stretched.schedule.settings == {"T_max": 15}
    assert stretched.optimizer == configuration.optimizer
    assert configuration.schedule.settings == {"T_max": 5}


def test_known_good_has_each_optimizer_once_before_any_variant() -> None:
    names = ("adam", "sgd", "rmsprop")
    settings = known_good(5, names, "step")
    assert [name for name, _, _ in settings] == ["adam", "sgd", "rmsprop", "sgd", "sgd"]
    own = [values for name, values, _ in settings if name == "sgd"]
    assert own == list(optimizers.find("sgd").known_good)
    assert all(schedule == schedules.find("step").known_good(5) for _, _, schedule in settings)
