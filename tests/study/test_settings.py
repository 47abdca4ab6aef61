"""What a study is: which word wins, and which differences are refused."""

import json
from typing import Any

import pytest

from optitune.errors import UsageError
from optitune.space.optimizers import DEFAULT_OPTIMIZERS
from optitune.space.schedules import DEFAULT_SCHEDULES
from optitune.study.settings import (
    StudySettings,
    checked_study_name,
    differing,
    flat,
    merged,
    resolve,
    study_name,
)
from optitune.study.study_file import from_text

DEFAULTS = StudySettings()


def stored(**other: Any) -> dict[str, Any]:
    """Settings as a study keeps them: JSON, which has no tuples."""
    kept: dict[str, Any] = json.loads(json.dumps(StudySettings.model_validate(other).document()))
    return kept


def test_without_a_word_the_defaults_hold() -> None:
    assert resolve({}, {}, None, "s") == DEFAULTS
    assert DEFAULTS.optimizers == DEFAULT_OPTIMIZERS
    assert DEFAULTS.schedules == DEFAULT_SCHEDULES
    assert DEFAULTS.train_examples is None


def test_a_flag_wins_over_the_file_and_the_file_over_the_default() -> None:
    settings = resolve({"epochs": 7}, {"epochs": 9, "batch_size": 32}, None, "s")
    assert (settings.epochs, settings.batch_size, settings.seed) == (7, 32, DEFAULTS.seed)


def test_what_a_study_was_made_with_wins_over_the_default() -> None:
    made = stored(task="digits", epochs=9, optimizers=["adam"])
    assert resolve({}, {}, made, "s") == StudySettings(task="digits", epochs=9, optimizers=("adam",))


def test_saying_again_what_a_study_was_made_with_is_fine() -> None:
    made = stored(epochs=9, batch_size=32, optimizers=["adam", "sgd"])
    assert resolve({"epochs": 9, "optimizers": ("adam", "sgd")}, {"batch_size": 32}, made, "s").epochs == 9


def test_a_flag_that_agrees_with_the_study_wins_over_a_file_that_differs() -> None:
    assert resolve({"epochs": 9}, {"epochs": 3}, stored(epochs=9), "s").epochs == 9


@pytest.mark.parametrize("said", ["flags", "file"])
def test_a_difference_is_refused_with_both_ways_out(said: str) -> None:
    words: dict[str, dict[str, Any]] = {"flags": {}, "file": {}, said: {"epochs": 9, "optimizers": ["adam"]}}
    with pytest.raises(UsageError) as caught:
        resolve(words["flags"], words["file"], stored(epochs=5, optimizers=["sgd", "adam"]), "mine")
    assert str(caught.value) == (
        "study 'mine' was made with other settings:\n"
        '  optimizers: ["sgd", "adam"] -> ["adam"]\n'
        "  epochs: 5 -> 9\n"
        "To go on with it, use what was; to start another, add --study mine-2"
    )


@pytest.mark.parametrize(("flags", "file"), [({"train_examples": 100}, {}), ({}, {"train_examples": 100})])
def test_what_a_study_was_made_without_is_named_as_not_set(flags: dict[str, Any], file: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"\n  train_examples: not set -> 100\n"):
        resolve(flags, file, stored(epochs=5), "mine")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_auto_precision_means_the_one_a_study_was_made_in(precision: str) -> None:
    made = stored(precision=precision)
    assert resolve({"precision": "auto"}, {}, made, "s").precision == precision
    assert resolve({}, {"precision": "auto"}, made, "s").precision == precision


def test_another_precision_is_a_difference() -> None:
    with pytest.raises(UsageError, match=r'\n  precision: "bf16" -> "fp32"\n'):
        resolve({"precision": "fp32"}, {}, stored(precision="bf16"), "s")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", 10_001),
        ("epochs", 2.5),
        ("epochs", True),
        ("batch_size", 0),
        ("batch_size", 65_537),
        ("train_examples", 0),
        ("seed", -1),
        ("seed", 2**31),
        ("optimizers", []),
        ("optimizers", ["adam", "adam"]),
        ("optimizers", ["adamm"]),
        ("optimizers", "adamm"),
        ("schedules", ["steps"]),
        ("schedules", []),
        ("sampler", "best"),
        ("pruner", "all"),
        ("budget_in", "hours"),
        ("precision", "fp16"),
        ("task", 3),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"^study 's': {key}"):
        resolve({key: value}, {}, None, "s")


def test_several_faults_are_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"epochs = 0: .*; seed = -1: "):
        resolve({"epochs": 0, "seed": -1}, {}, None, "s")


def test_an_unknown_optimizer_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"optimizers = .*unknown optimizer 'adamm': did you mean 'adam"):
        resolve({"optimizers": ("adamm",)}, {}, None, "s")


def test_a_stored_study_that_makes_no_sense_is_named() -> None:
    with pytest.raises(UsageError, match=r"study 's' as stored: other = 1: unknown "):
        resolve({}, {}, {**stored(), "other": 1}, "s")


@pytest.mark.parametrize("name", ["a", "mnist-cnn", "A.b_c-1", "9", "x" * 100])
def test_a_study_name_that_can_be_a_folder_is_kept(name: str) -> None:
    assert checked_study_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a b", "-a", ".a", "ä", "a\n", "x" * 101, "a\\b"])
def test_a_study_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a study's name: use"):
        study_name(name)
    with pytest.raises(UsageError, match="cannot be a study's name"):
        checked_study_name(name)


def test_differing_has_every_key_of_either_side_that_differs() -> None:
    assert differing({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4}) == {
        "b": (2, 5),
        "d": (None, 4),
        "c": (3, None),
    }


TOLD = {
    "batch_size": [32, 64],
    "clip_norm": 1.0,
    "lr": [1e-4, 0.1],
    "adam": {"beta2": 0.999, "lr": 0.01},
    "step": {"gamma": [0.3, 1.0]},
    "groups": {"fc*": 10.0, "conv1.*": [0.1, 10.0]},
}


def test_what_is_said_of_hyperparameters_is_kept_by_owner_and_told_as_it_was_said() -> None:
    settings = resolve({}, TOLD, None, "s")
    assert settings.hyperparameters == {"": {"lr": [1e-4, 0.1]}, "adam": TOLD["adam"], "step": TOLD["step"]}
    document = settings.document()
    assert {key: document[key] for key in TOLD} == TOLD
    assert StudySettings.model_validate(document) == settings


def test_the_same_tables_again_resume_a_study() -> None:
    made = stored(**TOLD)
    assert resolve({}, TOLD, made, "s").document() == made
    assert resolve({}, {}, made, "s").document() == made
    assert resolve({"adam": {"lr": 0.01}}, {"adam": {"beta2": 0.999}}, made, "s").document() == made


@pytest.mark.parametrize(
    ("said", "listed"),
    [
        ({"adam": {"beta2": 0.99}}, "adam.beta2: 0.999 -> 0.99"),
        ({"groups": {"fc*": 5.0}}, 'groups."fc*": 10.0 -> 5.0'),
        ({"groups": {"conv1.*": 1.0}}, 'groups."conv1.*": [0.1, 10.0] -> 1.0'),
        ({"step": {"gamma": 0.5}}, "step.gamma: [0.3, 1.0] -> 0.5"),
        ({"lr": 0.01}, "lr: [0.0001, 0.1] -> 0.01"),
        ({"clip_norm": [0.5, 2.0]}, "clip_norm: 1.0 -> [0.5, 2.0]"),
        ({"batch_size": 32}, "batch_size: [32, 64] -> 32"),
    ],
)
def test_a_difference_within_a_table_is_named_by_its_dotted_key_and_the_way_back_leads_back(
    said: dict[str, Any], listed: str
) -> None:
    made = stored(**TOLD)
    with pytest.raises(UsageError) as caught:
        resolve(said, {}, made, "mine")
    assert f"made with other settings:\n  {listed}\nTo go on with it" in str(caught.value)
    way_back = listed.partition(" -> ")[0].replace(": ", "=", 1)
    assert resolve(from_text([way_back]), {}, made, "mine").document() == made


def test_a_hyperparameter_that_a_study_was_made_without_is_not_set() -> None:
    with pytest.raises(UsageError, match=r"adam.lr: not set -> 0.1\n"):
        resolve({}, {"adam": {"lr": 0.1}}, stored(adam={"beta2": 0.999}), "mine")


def test_what_was_typed_goes_before_the_file_key_by_key_also_within_tables() -> None:
    file = {"lr": 0.1, "adam": {"beta1": 0.8, "beta2": 0.9}, "groups": {"a": 1.0, "b": 2.0}}
    said = {"adam": {"beta2": 0.99}, "groups": {"b": 3.0}}
    assert merged(file, said) == {"lr": 0.1, "adam": {"beta1": 0.8, "beta2": 0.99}, "groups": {"a": 1.0, "b": 3.0}}
    assert file["adam"] == {"beta1": 0.8, "beta2": 0.9}, "neither is changed"


def test_flat_names_each_value_by_a_key_that_can_be_typed() -> None:
    told = flat({"a": 1, "b": {"c": [1, 2], "d.e": 3}, "f": {}})
    assert told == {"a": 1, "b.c": [1, 2], 'b."d.e"': 3}
    assert from_text([f"{key}={value}" for key, value in told.items()]) == {"a": 1, "b": {"c": [1, 2], "d.e": 3}}


@pytest.mark.parametrize("names", ["sgd, adam", " sgd ,adam,", ["sgd", "adam"], ("sgd", "adam")])
def test_names_in_one_text_are_those_of_a_list(names: Any) -> None:
    made = stored(optimizers=["sgd", "adam"], schedules=["step", "cosine"], adam={"beta2": 0.99}, cosine={"T_max": 7})
    schedules = ", ".join(("step", "cosine")) if isinstance(names, str) else ("step", "cosine")
    for said, filed in (({"optimizers": names, "schedules": schedules}, {}), ({}, {"optimizers": names})):
        assert resolve(said, filed, made, "s").document() == StudySettings.model_validate(made).document()


def test_names_that_are_none_are_refused_in_words() -> None:
    with pytest.raises(UsageError, match="optimizers = 5: "):
        resolve({"optimizers": 5}, {}, stored(optimizers=["sgd", "adam"], adam={"beta2": 0.99}), "s")


def test_ends_given_as_a_tuple_are_those_of_a_list() -> None:
    made = stored(optimizers=["sgd", "adam"], lr=[1e-4, 1.0], adam={"beta2": [0.9, 0.99]})
    said = {"lr": (0.0001, 1), "adam": {"beta2": (0.9, 0.99)}}
    assert resolve(said, {}, made, "s").document() == StudySettings.model_validate(made).document()
