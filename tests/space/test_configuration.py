"""What a configuration refuses, and how it is stretched."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from optitune.common.text import setting
from optitune.space.configuration import (
    LARGEST,
    Configuration,
    OptimizerSettings,
    ScheduleSettings,
    TrainingSettings,
    configuration_text,
    flat,
    settings_text,
)
from optitune.space.losses import LOSSES, OF_TASK
from optitune.space.optimizers import OPTIMIZERS
from optitune.space.schedules import SCHEDULES
from optitune.tasks.models import Mlp
from optitune.training.build import build_optimizer

Configured = Callable[..., Configuration]

SGD = {"lr": 0.05, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4}
CYCLE = {"total_steps": 3, "pct_start": 0.3, "cycle_momentum": False}
LBFGS = {"lr": 1.0, "max_iter": 4, "history_size": 5, "line_search_fn": "strong_wolfe"}
RPROP = {"lr": 0.01, "etas": [0.5, 1.2], "step_sizes": [1e-6, 50.0]}
ADAM = {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8}


def test_settings_of_every_known_good_row_are_allowed() -> None:
    for row in OPTIMIZERS.values():
        for values in row.known_good:
            assert OptimizerSettings(name=row.name, settings=row.arguments(values)).name == row.name
    for schedule in SCHEDULES.values():
        settings = schedule.arguments(schedule.known_good(5))
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
        ("adam", {**ADAM, "dampening": 0.1}, "settings.dampening = 0.1: unknown setting of adam 'dampening'"),
        ("lbfgs", {**LBFGS, "line_search_fn": "none"}, "settings.line_search_fn = 'none': must be 'strong_wolfe'"),
        ("lbfgs", {**LBFGS, "line_search_fn": 1}, "settings.line_search_fn = 1: must be 'strong_wolfe'"),
        ("lbfgs", {**LBFGS, "max_iter": 2.5}, "settings.max_iter = 2.5: max_iter must be a whole number of at least 1"),
        ("rprop", {**RPROP, "etas": [1.2, 0.5]}, r"settings.etas = \[1.2, 0.5\]: eta1 must be above 0 and below 1"),
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
        ("multistep", {"milestones": [1], "gamma": 0.7}, r"settings.milestones = \[1\]: must be 2 numbers"),
        ("multistep", {"milestones": [0, 1], "gamma": 0.7}, "milestone1 must be a whole number of at least 1"),
        ("multistep", {"milestones": [1.0, 2.5], "gamma": 0.7}, "milestone1 must be a whole number of at least 1"),
        ("one-cycle", {**CYCLE, "cycle_momentum": 0}, "settings.cycle_momentum = 0: must be true or false"),
        ("one-cycle", {**CYCLE, "pct_start": 1.0}, "settings.pct_start = 1.0: pct_start must be above 0 and below 1"),
        ("linear", {"total_iters": 3, "start_factor": 0.0, "end_factor": 0.0}, "start_factor must be above 0"),
        ("reduce-on-plateau", {"factor": 1.0, "patience": 0}, "factor must be above 0 and below 1"),
        ("reduce-on-plateau", {"factor": 0.5, "patience": -1}, "patience must be a whole number of at least 0"),
        ("constant", {"gamma": 0.7}, "settings.gamma = 0.7: unknown setting of constant 'gamma'"),
    ],
)
def test_schedule_settings_that_make_no_sense_are_refused_by_name(
    name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        ScheduleSettings(name=name, settings=settings)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, {}])
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
    assert stretched.training == configuration.training
    assert configuration.schedule.settings == {"T_max": 5}


def test_milestones_are_stretched_with_the_rest(configured: Configured) -> None:
    configuration = configured("adam", "multistep", epochs=8)
    assert configuration.stretched(2.0).schedule.settings == {"milestones": [8, 12], "gamma": 0.1}


@pytest.mark.parametrize("row", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_what_is_allowed_of_further_arguments_is_taken_by_torch(row: Any) -> None:
    settings = row.arguments({**row.known_good[0], **row.also})
    chosen = OptimizerSettings(name=row.name, settings=settings)
    assert build_optimizer(chosen, Mlp((4, 4, 3)), TrainingSettings()).param_groups[0]["lr"] == row.lr


def test_a_word_in_place_of_a_number_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"settings.lr = '0.1': must be a number"):
        OptimizerSettings(name="adam", settings={**ADAM, "lr": "0.1"})


def test_arguments_that_are_not_searched_may_be_there_and_must_make_sense() -> None:
    said = {**ADAM, "weight_decay": 0.1, "amsgrad": True}
    assert OptimizerSettings(name="adam", settings=said).settings == said
    with pytest.raises(ValidationError, match=r"settings.weight_decay = -0.1: weight_decay must be at least 0"):
        OptimizerSettings(name="adam", settings={**ADAM, "weight_decay": -0.1})
    with pytest.raises(ValidationError, match=r"settings.amsgrad = 1: must be true or false"):
        OptimizerSettings(name="adam", settings={**ADAM, "amsgrad": 1})
    with pytest.raises(ValidationError, match=r"settings.dampening = 0.5: must be 0 with nesterov"):
        OptimizerSettings(name="sgd", settings={**SGD, "nesterov": True, "dampening": 0.5})


def test_an_optimizer_of_a_studys_own_brings_its_path() -> None:
    own = OptimizerSettings(name="mine", settings={"lr": 0.1, "cube": 3}, path="my_module:Mine", traits=("closure",))
    assert own.how == ("my_module:Mine", ("closure",))
    with pytest.raises(ValidationError, match=r"settings.lr = 0: must be a number above 0"):
        OptimizerSettings(name="mine", settings={"lr": 0}, path="my_module:Mine")


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warm_up_is_a_share_of_the_steps(warmup: float) -> None:
    with pytest.raises(ValidationError, match="warmup"):
        ScheduleSettings(name="constant", settings={}, warmup=warmup)


def test_a_schedule_with_a_warm_up_of_its_own_takes_no_other() -> None:
    with pytest.raises(ValidationError, match="one-cycle has a warm-up of its own"):
        ScheduleSettings(name="one-cycle", settings=CYCLE, warmup=0.1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("accumulation", 0),
        ("clip_norm", -1.0),
        ("l1", -1e-6),
        ("label_smoothing", 1.0),
        ("decay_biases", 1),
        ("groups", {"fc*": 0.0}),
    ],
)
def test_training_settings_that_make_no_sense_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingSettings.model_validate({key: value})
    assert caught.value.errors()[0]["loc"][0] == key


def test_groups_keep_their_order() -> None:
    groups = {"z*": 1.0, "a*": 2.0, "*": 3.0}
    assert list(TrainingSettings(groups=groups).groups) == list(groups)


def test_a_loss_is_one_of_those_there_are_or_the_tasks_own() -> None:
    for name in (*LOSSES, OF_TASK):
        assert TrainingSettings(loss=name).loss == name
    with pytest.raises(ValidationError, match="unknown loss 'huber'"):
        TrainingSettings(loss="huber")


def test_only_cross_entropy_has_labels_to_smooth() -> None:
    assert TrainingSettings(label_smoothing=0.1).label_smoothing == 0.1
    with pytest.raises(ValidationError, match="only cross-entropy has labels to smooth"):
        TrainingSettings(loss="mse", label_smoothing=0.1)


def test_the_text_of_a_configuration_has_what_is_unusual_and_all_that_was_drawn(
    configured: Callable[..., Configuration],
) -> None:
    usual = configured("adam", "step", training={"batch_size": 64})
    assert configuration_text(usual) == f"adam: {settings_text(usual)}"
    words = settings_text(usual).split(", ")
    assert words[0] == f"lr {setting(usual.lr)}"
    assert words[-1] == "batch_size 64"
    assert {"beta1 0.9", "beta2 0.999", "schedule step"} <= set(words)
    assert any(word.startswith("step.gamma ") for word in words)
    other = configured("adam", training={"clip_norm": 2.0, "groups": {"fc*": 10.0}})
    assert settings_text(other).endswith("clip_norm 2, groups.fc* 10")
    own = usual.model_copy(update={"training": usual.training.model_copy(update={"loss": "task"})})
    assert settings_text(own).endswith("the task's own loss")
    assert flat(usual).keys() >= {"warmup", "l1", "loss"}
