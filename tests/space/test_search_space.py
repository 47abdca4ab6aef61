"""Where a study looks: what it may say of a hyperparameter, what that means, and what it is called in Optuna."""

from collections.abc import Mapping, Sequence
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optitune.space import optimizers
from optitune.space.optimizers import OPTIMIZERS
from optitune.space.ranges import Choice, Fixed, Float, Int, Range
from optitune.space.schedules import SCHEDULES
from optitune.space.search_space import ALL_OWNERS, BY_THE_STUDY, TRAINING_SETTINGS, SearchSpace, build, narrowed, start

EPOCHS = 6


def space(
    names: Sequence[str] = ("sgd", "adam", "adamw"),
    curves: Sequence[str] = ("step",),
    said: Mapping[str, Mapping[str, Any]] | None = None,
    training: Mapping[str, Any] | None = None,
    groups: Mapping[str, Any] | None = None,
) -> SearchSpace:
    return build([optimizers.find(name) for name in names], curves, EPOCHS, said or {}, training or {}, groups or {})


def test_a_study_that_says_nothing_looks_where_the_registry_says() -> None:
    found = space(tuple(OPTIMIZERS), tuple(SCHEDULES))
    assert found.optimizers == {name: row.ranges for name, row in OPTIMIZERS.items()}
    assert found.schedules == {name: row.ranges(EPOCHS) for name, row in SCHEDULES.items()}
    assert found.training == {name: Fixed(knob.usual, BY_THE_STUDY) for name, knob in TRAINING_SETTINGS.items()}
    assert found.groups == {}
    assert found.rows == OPTIMIZERS


@pytest.mark.parametrize(
    ("said", "name", "meant"),
    [
        ({"adam": {"lr": 0.01}}, "lr", Fixed(0.01, BY_THE_STUDY)),
        ({"adam": {"lr": 1}}, "lr", Fixed(1.0, BY_THE_STUDY)),
        ({"adam": {"lr": [0.001, 1]}}, "lr", Float(0.001, 1.0, "log", BY_THE_STUDY)),
        ({"adam": {"beta2": [0.5, 0.9]}}, "beta2", Float(0.5, 0.9, "complement", BY_THE_STUDY)),
        ({"adam": {"beta2": (0.5, 0.9)}}, "beta2", Float(0.5, 0.9, "complement", BY_THE_STUDY)),
        ({"adam": {"beta1": 0}}, "beta1", Fixed(0.0, BY_THE_STUDY)),
        ({ALL_OWNERS: {"beta1": 0.8}}, "beta1", Fixed(0.8, BY_THE_STUDY)),
        ({"adam": {"weight_decay": 0.1}}, "weight_decay", Fixed(0.1, BY_THE_STUDY)),
        ({"adam": {"amsgrad": True}}, "amsgrad", Fixed(True, BY_THE_STUDY)),
        ({"adam": {"amsgrad": [False, True]}}, "amsgrad", Choice((False, True), BY_THE_STUDY)),
        ({"adam": {"amsgrad": [True]}}, "amsgrad", Fixed(True, BY_THE_STUDY)),
        ({ALL_OWNERS: {"amsgrad": True}}, "amsgrad", Fixed(True, BY_THE_STUDY)),
    ],
)
def test_what_is_said_of_an_optimizer_is_one_value_or_a_range_of_its_kind(
    said: Mapping[str, Mapping[str, Any]], name: str, meant: Range
) -> None:
    found = space(said=said).optimizers["adam"][name]
    assert found == meant
    # 1 and 1.0 are equal, but not the same to Optuna and TOML
    assert [type(end) for end in found.ends()] == [type(end) for end in meant.ends()]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"sgd": {"nesterov": True}}, Fixed(True, BY_THE_STUDY)),
        ({"sgd": {"nesterov": [True]}}, Fixed(True, BY_THE_STUDY)),
        ({"sgd": {"nesterov": [True, False]}}, Choice((True, False), BY_THE_STUDY)),
    ],
)
def test_a_choice_is_fixed_or_narrowed_by_its_options(said: Mapping[str, Mapping[str, Any]], meant: Range) -> None:
    assert space(said=said).optimizers["sgd"]["nesterov"] == meant


@pytest.mark.parametrize(
    ("said", "name", "meant"),
    [
        ({"step": {"gamma": 0.5}}, "gamma", Fixed(0.5, BY_THE_STUDY)),
        ({"step": {"gamma": [0.3, 1]}}, "gamma", Float(0.3, 1.0, "linear", BY_THE_STUDY)),
        ({"step": {"step_size": 2}}, "step_size", Fixed(2, BY_THE_STUDY)),
        ({"step": {"step_size": [1, 3]}}, "step_size", Int(1, 3, BY_THE_STUDY)),
        ({ALL_OWNERS: {"step_size": [2, 4]}}, "step_size", Int(2, 4, BY_THE_STUDY)),
    ],
)
def test_what_is_said_of_a_schedule_is_one_value_or_a_range_of_its_kind(
    said: Mapping[str, Mapping[str, Any]], name: str, meant: Range
) -> None:
    assert space(said=said).schedules["step"][name] == meant


@pytest.mark.parametrize(
    ("name", "said", "meant"),
    [
        ("batch_size", 32, Fixed(32, BY_THE_STUDY)),
        ("batch_size", [32], Fixed(32, BY_THE_STUDY)),
        ("batch_size", [128, 32, 64], Choice((128, 32, 64), BY_THE_STUDY)),
        ("accumulation", [1, 4], Choice((1, 4), BY_THE_STUDY)),
        ("clip_norm", 0, Fixed(0.0, BY_THE_STUDY)),
        ("clip_norm", [0.1, 10], Float(0.1, 10.0, "log", BY_THE_STUDY)),
        ("l1", [1e-6, 1e-3], Float(1e-6, 1e-3, "log", BY_THE_STUDY)),
        ("label_smoothing", [0.0, 0.2], Float(0.0, 0.2, "linear", BY_THE_STUDY)),
        ("warmup", [0, 0.2], Float(0.0, 0.2, "linear", BY_THE_STUDY)),
        ("warmup", 0.1, Fixed(0.1, BY_THE_STUDY)),
    ],
)
def test_training_settings_are_fixed_ranges_or_options(name: str, said: Any, meant: Range) -> None:
    found = space(training={name: said}).training[name]
    assert found == meant
    assert [type(end) for end in found.ends()] == [type(end) for end in meant.ends()]


def test_a_group_is_a_factor_or_a_range_of_factors() -> None:
    found = space(groups={"fc*": 10, "conv*": [0.1, 10]})
    assert found.groups == {"fc*": Fixed(10.0, BY_THE_STUDY), "conv*": Float(0.1, 10.0, "log", BY_THE_STUDY)}


NUMBER = "must be a number, or a list of them"
TWO_ENDS = "must be a value, or the two ends of a range, the lower first"

REFUSED: Sequence[tuple[Mapping[str, Any], str]] = [
    ({"said": {"adam": {"lr": "fast"}}}, f"adam.lr = 'fast': {NUMBER}"),
    ({"said": {"adam": {"lr": True}}}, f"adam.lr = True: {NUMBER}"),
    ({"said": {"adam": {"lr": {}}}}, f"adam.lr = {{}}: {NUMBER}"),
    ({"said": {"adam": {"lr": [0.1, "1"]}}}, f"adam.lr = [0.1, '1']: {NUMBER}"),
    ({"said": {"adam": {"lr": [[0.1, 1.0]]}}}, f"adam.lr = [[0.1, 1.0]]: {NUMBER}"),
    ({"said": {"adam": {"lr": []}}}, f"adam.lr = []: {TWO_ENDS}"),
    ({"said": {"adam": {"lr": [0.1]}}}, f"adam.lr = [0.1]: {TWO_ENDS}"),
    ({"said": {"adam": {"lr": [0.1, 0.2, 0.3]}}}, f"adam.lr = [0.1, 0.2, 0.3]: {TWO_ENDS}"),
    ({"said": {"adam": {"lr": [0.1, 0.01]}}}, f"adam.lr = [0.1, 0.01]: {TWO_ENDS}"),
    ({"said": {"adam": {"lr": [0.1, 0.1]}}}, f"adam.lr = [0.1, 0.1]: {TWO_ENDS}"),
    ({"said": {"adam": {"lr": 0.0}}}, "adam.lr = 0.0: must be above 0"),
    ({"said": {"adam": {"lr": [-0.1, 0.1]}}}, "adam.lr = [-0.1, 0.1]: must be above 0"),
    ({"said": {"adam": {"lr": inf}}}, "adam.lr = inf: must be finite, and at most 1e30 in size"),
    ({"said": {"adam": {"lr": nan}}}, "adam.lr = nan: must be finite, and at most 1e30 in size"),
    ({"said": {"adam": {"lr": 1e31}}}, "adam.lr = 1e+31: must be finite, and at most 1e30 in size"),
    ({"said": {"adam": {"lr": 10**400}}}, "0: must be finite, and at most 1e30 in size"),
    ({"said": {ALL_OWNERS: {"lr": "fast"}}}, f"lr = 'fast': {NUMBER}"),
    ({"said": {"adam": {"beta2": 1.0}}}, "adam.beta2 = 1.0: must be at least 0 and below 1"),
    ({"said": {"adam": {"eps": [0.0, 1e-4]}}}, "adam.eps = [0.0, 0.0001]: low 0.0 must be above 0 on a log scale"),
    ({"said": {"adam": {"weight_decay": -1.0}}}, "adam.weight_decay = -1.0: must be at least 0"),
    ({"said": {"adam": {"amsgrad": 1}}}, "adam.amsgrad = 1: must be False or True"),
    ({"said": {"sgd": {"nesterov": "yes"}}}, "sgd.nesterov = 'yes': must be False or True"),
    ({"said": {"sgd": {"nesterov": []}}}, "sgd.nesterov = []: must be a value, or a list of some, all different"),
    (
        {"said": {"sgd": {"nesterov": [True, True]}}},
        "sgd.nesterov = [True, True]: must be a value, or a list of some, all different",
    ),
    ({"said": {"step": {"step_size": 0}}}, "step.step_size = 0: must be a whole number of at least 1"),
    ({"said": {"step": {"step_size": 1.5}}}, "step.step_size = 1.5: must be a whole number, or a list of them"),
    ({"said": {"step": {"step_size": [1, 2.0]}}}, "step.step_size = [1, 2.0]: must be a whole number"),
    ({"said": {"step": {"gamma": [0.5, 1.5]}}}, "step.gamma = [0.5, 1.5]: must be above 0 and at most 1"),
    (
        {"said": {"one-cycle": {"total_steps": 2}}, "curves": ("one-cycle",)},
        "one-cycle.total_steps = 2: must be",
    ),
    ({"said": {"adam": {"momentum": 0.9}}}, "adam.momentum = 0.9: unknown setting of adam 'momentum'"),
    ({"said": {"adam": {"beta3": 0.9}}}, "adam.beta3 = 0.9: unknown setting of adam 'beta3': did you mean 'beta"),
    ({"said": {ALL_OWNERS: {"betta1": 0.9}}}, "betta1 = 0.9: unknown setting of any competitor 'betta1': did you mean"),
    ({"said": {ALL_OWNERS: {"alpha": 0.9}}}, "alpha = 0.9: unknown setting of any competitor 'alpha'"),
    ({"said": {"rmsprop": {"lr": 0.9}}}, "rmsprop: is not among the optimizers and schedules that compete; add it"),
    ({"said": {"cosine": {"T_max": 3}}}, "cosine: is not among the optimizers and schedules that compete; add it"),
    ({"training": {"batch_size": 0}}, "batch_size = 0: must be a whole number from 1 to 65536"),
    ({"training": {"batch_size": 65_537}}, "batch_size = 65537: must be a whole number from 1 to 65536"),
    ({"training": {"batch_size": 6.5}}, "batch_size = 6.5: must be a whole number from 1 to 65536"),
    ({"training": {"batch_size": []}}, "batch_size = []: must be a value, or a list of some, all different"),
    ({"training": {"batch_size": [8, 8]}}, "batch_size = [8, 8]: must be a value, or a list of some, all different"),
    ({"training": {"batch_size": "64"}}, f"batch_size = '64': {NUMBER}"),
    ({"training": {"accumulation": -1}}, "accumulation = -1: must be a whole number from 1 to 65536"),
    ({"training": {"clip_norm": -1.0}}, "clip_norm = -1.0: must be at least 0"),
    ({"training": {"clip_norm": [0.0, 1.0]}}, "clip_norm = [0.0, 1.0]: low 0.0 must be above 0 on a log scale"),
    ({"training": {"label_smoothing": 1.0}}, "label_smoothing = 1.0: must be at least 0 and below 1"),
    ({"training": {"warmup": [0.0, 1.0]}}, "warmup = [0.0, 1.0]: must be at least 0 and below 1"),
    ({"groups": {"fc*": 0.0}}, 'groups."fc*" = 0.0: must be above 0'),
    ({"groups": {"fc*": "big"}}, f"groups.\"fc*\" = 'big': {NUMBER}"),
    ({"groups": {"fc*": [10, 0.1]}}, f'groups."fc*" = [10, 0.1]: {TWO_ENDS}'),
]


@pytest.mark.parametrize(("said", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_makes_no_sense_is_refused_by_its_key(said: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011, the message is compared as it stands
        space(**said)
    assert message in str(caught.value)


@pytest.mark.parametrize("order", [1, -1])
def test_a_value_of_its_own_goes_before_one_that_is_said_of_all(order: int) -> None:
    said = dict([(ALL_OWNERS, {"lr": 0.1, "eps": [1e-9, 1e-3]}), ("adam", {"lr": [0.01, 0.2]})][::order])
    found = space(said=said).optimizers
    assert found["adam"]["lr"] == Float(0.01, 0.2, "log", BY_THE_STUDY)
    assert found["adamw"]["lr"] == found["sgd"]["lr"] == Fixed(0.1, BY_THE_STUDY)
    assert found["adam"]["eps"] == found["adamw"]["eps"] == Float(1e-9, 1e-3, "log", BY_THE_STUDY)


def test_what_is_said_of_all_reaches_whoever_has_it() -> None:
    names = ("sgd", "adam", "lbfgs")
    found = space(names, ("step", "exponential", "cosine"), {ALL_OWNERS: {"weight_decay": 0.1, "gamma": 0.7}})
    assert found.optimizers["sgd"]["weight_decay"] == Fixed(0.1, BY_THE_STUDY)
    assert found.optimizers["adam"]["weight_decay"] == Fixed(0.1, BY_THE_STUDY)
    assert "weight_decay" not in found.optimizers["lbfgs"]
    assert found.schedules["step"]["gamma"] == found.schedules["exponential"]["gamma"] == Fixed(0.7, BY_THE_STUDY)
    assert found.schedules["cosine"] == SCHEDULES["cosine"].ranges(EPOCHS)


def test_the_registry_stays_as_it_was() -> None:
    before = {name: dict(row.ranges) for name, row in OPTIMIZERS.items()}
    space(said={ALL_OWNERS: {"lr": 0.1}, "adam": {"weight_decay": 0.1}})
    assert {name: row.ranges for name, row in OPTIMIZERS.items()} == before


usual_ranges = st.sampled_from([each for row in OPTIMIZERS.values() for each in row.ranges.values()])
anything = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.none()),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(said=anything, usual=usual_ranges)
def test_whatever_is_said_is_a_range_of_that_kind_or_refused_with_its_key(said: Any, usual: Range) -> None:
    try:
        found = narrowed("adam.lr", said, usual, None)
    except ValueError as error:
        assert str(error).startswith(f"adam.lr = {said!r}: ")  # noqa: PT017, either way out is right
        return
    assert isinstance(found, Fixed | type(usual)) or isinstance(usual, Fixed)
    for value in said if isinstance(said, list) else [said]:
        assert found.contains(value)


@given(data=st.data(), usual=usual_ranges)
def test_a_start_lies_in_the_range_and_stays_where_it_can(data: st.DataObject, usual: Range) -> None:
    if isinstance(usual, Float | Int):
        value = data.draw(st.floats(-100, 100) if isinstance(usual, Float) else st.integers(-100, 100))
    else:
        value = data.draw(st.sampled_from([*usual.ends(), True, 3.5]))
    assert usual.contains(start(usual, value))
    if usual.contains(value) and not isinstance(usual, Fixed):
        assert start(usual, value) == value
