"""What hyperparameters are called in Optuna, what is tried first, and which best values lie at an end."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import pytest

from optitune.sampling.parameters import first_parameters, known_good_parameters, owned_values, spaces, suggest
from optitune.space import optimizers, schedules
from optitune.space.edges import edges
from optitune.space.optimizers import OPTIMIZERS
from optitune.space.ranges import Fixed
from optitune.space.schedules import SCHEDULES
from optitune.space.search_space import ALL_OWNERS, LR_FACTOR, SearchSpace, build, known_good
from optitune.study.settings import StudySettings
from optitune.study.study_file import from_text

EPOCHS = 6
ALL = {"optimizers": ("all",), "schedules": ("all",)}


def space(
    names: Sequence[str] = ("sgd", "adam"), curves: Sequence[str] = ("step",), said: Any = None, **other: Any
) -> SearchSpace:
    rows = [optimizers.find(name) for name in names]
    return build(rows, curves, EPOCHS, said or {}, other.get("training", {}), other.get("groups", {}))


def own(name: str, **ranges: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a study's file has it, its known-good settings at the low ends."""
    first = {key: each.get("low", each.get("options", [None])[0]) for key, each in ranges.items()}
    return {"name": name, "path": "torch.optim:SGD", "known_good": [first], "ranges": ranges}


LR = {"low": 0.01, "high": 1.0, "scale": "log"}

STUDIES: Sequence[Mapping[str, Any]] = [
    ALL,
    {**ALL, "lr": [1e-4, 0.1], "weight_decay": [1e-6, 1e-2], "eps": [1e-9, 1e-5], "gamma": [0.2, 0.9]},
    {**ALL, "batch_size": [16, 32], "accumulation": [1, 2], "clip_norm": [0.1, 10], "l1": [1e-6, 1e-3]},
    {**ALL, "warmup": [0, 0.3], "label_smoothing": [0, 0.2], "groups": {"fc*": [0.1, 10], "*": [0.5, 2]}},
    {
        "optimizers": ["sgd", "adam", "nadam"],
        "sgd": {"nesterov": [True, False]},
        "nadam": {"weight_decay": [1e-4, 0.1]},
    },
    {"optimizers": ["adam", "asgd", "rmsprop"], "adam": {"lr": 0.01}, "alpha": [0.6, 0.9]},
    {"schedules": ["step", "exponential", "multistep"], "step": {"gamma": 0.5}, "multistep": {"milestone2": 5}},
    {"optimizers": ["mine", "adam"], "optimizer": [own("mine", lr=LR, eps={"low": 1e-9, "high": 1e-3})]},
    {"optimizers": ["adam", "mine"], "optimizer": [own("mine", lr={"low": 0.01, "high": 1.0})]},
    {"optimizers": ["adam", "mine"], "optimizer": [own("mine", lr={"options": [0.01, 0.1]})]},
    {
        "optimizers": ["sgd", "mine"],
        "optimizer": [
            {
                **own("mine", nesterov={"options": [False, True]}, momentum={"low": 0.0, "high": 0.9}, lr=LR),
                "needs": {"nesterov": "momentum"},
            }
        ],
    },
]


@pytest.mark.parametrize("said", STUDIES, ids=range(len(STUDIES)))
def test_optuna_takes_every_draw_of_every_competitor_under_one_set_of_names(said: Mapping[str, Any]) -> None:
    settings = StudySettings.model_validate({"epochs": EPOCHS, **said})
    ranges = settings.space()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    first = first_parameters(settings)
    for parameters in first:
        study.enqueue_trial(parameters)
    limits = {(owner, name): value_range for owner, name, value_range in ranges.owned()}
    seen = set()
    for _ in range(len(first) + 60):
        configuration = suggest(study.ask(), settings, ranges)
        seen |= {configuration.optimizer.name, configuration.schedule.name}
        for place, value in owned_values(configuration).items():
            if place in limits and place[1] not in ("milestone1", "milestone2", "warmup"):
                assert limits[place].contains(value), place
    assert seen == {*settings.optimizers, *settings.schedules}


@pytest.mark.parametrize("said", STUDIES, ids=range(len(STUDIES)))
def test_the_spaces_are_what_the_draws_of_each_optimizer_ask_for(said: Mapping[str, Any]) -> None:
    settings = StudySettings.model_validate({"epochs": EPOCHS, **said})
    ranges, found = settings.space(), spaces(settings)
    assert list(found) == list(settings.optimizers)
    for name, distributions in found.items():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for number in range(50):
            curve = settings.schedules[number % len(settings.schedules)]
            study.enqueue_trial({"optimizer": name, **({"schedule": curve} if len(settings.schedules) > 1 else {})})
            suggest(study.ask(), settings, ranges)
        asked = {key: each for trial in study.trials for key, each in trial.distributions.items() if key != "optimizer"}
        assert distributions == asked


def test_known_good_parameters_are_drawn_as_they_were_enqueued() -> None:
    settings = StudySettings(**ALL, epochs=EPOCHS, batch_size=[16, 64], warmup=[0, 0.3], groups={"fc*": [0.1, 10]})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for parameters, first in zip(known_good_parameters(settings), known_good(settings.space(), EPOCHS), strict=True):
        study.enqueue_trial(parameters)
        configuration = suggest(study.ask(), settings, settings.space())
        row = optimizers.find(first.optimizer)
        for name, value in row.arguments(first.values).items():
            drawn = configuration.optimizer.settings[name]
            assert drawn == (pytest.approx(value) if isinstance(value, float | list) else value), name
        assert configuration.schedule.settings == schedules.find("step").arguments(first.shape)
        assert configuration.training.batch_size == first.training["batch_size"] == 64
        assert configuration.training.groups == {"fc*": 1.0}


def test_what_is_of_one_kind_shares_a_name() -> None:
    names = space(tuple(OPTIMIZERS), tuple(SCHEDULES)).parameters
    assert {names[row, "lr"] for row in OPTIMIZERS} == {LR_FACTOR}
    assert names["adam", "beta1"] == names["adamw", "beta1"] == "one_minus_beta1"
    assert names["adam", "eps"] == names["adagrad", "eps"] == "eps"
    assert names["step", "gamma"] == names["exponential", "gamma"] == "gamma"


def test_what_differs_in_kind_has_a_name_of_its_own() -> None:
    names = space(("asgd", "rmsprop"), said={"rmsprop": {"momentum": 0.5}}).parameters
    assert names["asgd", "alpha"] == "alpha"
    assert names["rmsprop", "alpha"] == "one_minus_alpha"
    assert ("rmsprop", "momentum") not in names
    narrowed = {"sgd": {"nesterov": [True, False]}, "muon": {"nesterov": [False, True]}}
    names = space(("sgd", "muon"), said=narrowed).parameters
    assert names["sgd", "nesterov"] == "nesterov"
    assert names["muon", "nesterov"] == "muon.nesterov"


def test_training_settings_and_groups_are_called_as_they_are() -> None:
    names = space(training={"batch_size": [16, 32], "l1": [1e-6, 1e-3]}, groups={"fc*": [0.1, 10]}).parameters
    assert {name for owner, name in names if owner == ALL_OWNERS} == {"batch_size", "l1", "lr of fc*"}
    assert [names[ALL_OWNERS, name] for name in ("batch_size", "l1", "lr of fc*")] == ["batch_size", "l1", "lr of fc*"]


def test_the_words_leave_out_what_is_as_usual() -> None:
    words = space(("adam",), said={"adam": {"lr": 0.1, "amsgrad": True}}, training={"l1": 0.5}).kept(str)
    assert words["adam"]["lr"] == "always 0.1"
    assert words["adam"]["amsgrad"] == "always True"
    assert words["training"] == {"l1": "always 0.5"}
    assert words["step"] == {"step_size": "1 to 6, whole", "gamma": "0.1 to 1"}
    assert "training" not in space().kept()


def test_known_good_has_each_optimizer_once_before_any_variant() -> None:
    found = known_good(space(("adam", "sgd", "rmsprop"), ("step", "cosine")), EPOCHS)
    assert [first.optimizer for first in found] == ["adam", "sgd", "rmsprop", "sgd", "sgd"]
    assert [first.values for first in found if first.optimizer == "sgd"] == list(optimizers.find("sgd").known_good)
    assert all(first.schedule == "step" for first in found)
    assert all(first.shape == schedules.find("step").known_good(EPOCHS) for first in found)
    assert all(first.training["batch_size"] == 64 for first in found)


def test_what_is_known_to_be_good_is_moved_into_narrowed_ranges() -> None:
    said = {
        "adam": {"lr": [0.01, 0.1], "beta1": [0.5, 0.6], "eps": 1e-6, "weight_decay": [0.1, 0.2], "amsgrad": [True]},
        "sgd": {"nesterov": [True], "lr": [0.001, 0.06]},
        "step": {"step_size": [2, 3], "gamma": [0.9, 1.0]},
    }
    training = {"batch_size": [16, 32], "clip_norm": [2, 5], "label_smoothing": [0.1, 0.2], "l1": [1e-6, 1e-3]}
    found = known_good(space(said=said, training=training, groups={"fc*": [2, 4], "*": 7}), EPOCHS)
    (adam,) = (first.values for first in found if first.optimizer == "adam")
    sgd = [first for first in found if first.optimizer == "sgd"]
    assert adam == {"lr": 0.01, "beta1": 0.6, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True}
    assert [(first.values["nesterov"], first.values["lr"]) for first in sgd] == [
        (True, 0.05),
        (True, 0.05),
        (True, 0.06),
    ]
    for first in found:
        assert first.shape == {"step_size": 3, "gamma": 0.9}
        told = {"batch_size": 16, "clip_norm": 2.0, "label_smoothing": 0.1, "l1": 1e-6, "accumulation": 1, "warmup": 0}
        assert first.training == told
        assert first.groups == {"fc*": 2.0, "*": 7.0}


@pytest.mark.parametrize(
    ("said", "place", "value", "line"),
    [
        ({}, ("adam", "lr"), 1e-4, "adam.lr = [1e-05, 0.01]"),
        ({}, ("adam", "lr"), 0.0099, "adam.lr = [0.0001, 0.1]"),
        ({}, ("adam", "beta2"), 0.9999, "adam.beta2 = [0.9, 0.99999]"),
        ({}, ("adam", "beta2"), 0.9, "adam.beta2 = [0, 0.9999]"),
        ({}, ("adam", "beta1"), 0.99, "adam.beta1 = [0.5, 0.999]"),
        ({}, ("adam", "eps"), 1e-10, "adam.eps = [1e-11, 0.0001]"),
        ({"said": {"step": {"gamma": [0.4, 0.6]}}}, ("step", "gamma"), 0.4, "step.gamma = [0.2, 0.6]"),
        ({"said": {"step": {"step_size": [2, 3]}}}, ("step", "step_size"), 3, "step.step_size = [2, 4]"),
        ({"said": {"step": {"step_size": [2, 3]}}}, ("step", "step_size"), 2, "step.step_size = [1, 3]"),
        ({"training": {"l1": [1e-4, 1e-3]}}, (ALL_OWNERS, "l1"), 1e-3, "l1 = [0.0001, 0.01]"),
        ({"training": {"warmup": [0.0, 0.2]}}, (ALL_OWNERS, "warmup"), 0.2, "warmup = [0, 0.4]"),
        ({"groups": {"fc*": [0.1, 10]}}, (ALL_OWNERS, "lr of fc*"), 10.0, 'groups."fc*" = [0.1, 100]'),
    ],
)
def test_a_value_at_an_end_is_told_with_the_line_that_widens_its_range(
    said: Mapping[str, Any], place: tuple[str, str], value: float, line: str
) -> None:
    (edge,) = edges(space(**said), "adam", "step", {place: value})
    assert edge.line == line
    assert edge.value == value
    assert edge.value_range.contains(value)
    # the line can be pasted: what it says is allowed, and the value lies well inside of it
    key = from_text([line])
    settings = StudySettings.model_validate({"optimizers": ("adam",), "epochs": EPOCHS, **key})
    owned = {(owner, name): value_range for owner, name, value_range in settings.space().owned()}
    assert owned[place].contains(value)
    assert not edges(settings.space(), "adam", "step", {place: value})


@pytest.mark.parametrize(
    ("said", "place", "value"),
    [
        ({}, ("adam", "lr"), 1e-3),
        ({}, ("step", "gamma"), 1.0),
        ({}, ("step", "gamma"), 0.1),
        ({}, ("step", "step_size"), 1),
        ({"said": {"step": {"gamma": [0.4, 1.0]}}}, ("step", "gamma"), 1.0),
        ({"said": {"step": {"step_size": [1, 3]}}}, ("step", "step_size"), 1),
        ({"said": {"adam": {"lr": 0.01}}}, ("adam", "lr"), 0.01),
        ({"training": {"warmup": [0.0, 0.2]}}, (ALL_OWNERS, "warmup"), 0.0),
        ({"training": {"label_smoothing": [0.0, 0.2]}}, (ALL_OWNERS, "label_smoothing"), 0.0),
        ({"training": {"batch_size": [16, 32]}}, (ALL_OWNERS, "batch_size"), 32),
        ({}, ("sgd", "momentum"), 0.0),
        ({}, ("adam", "no such"), 0.0),
    ],
)
def test_a_value_inside_or_at_a_natural_limit_is_not_told(
    said: Mapping[str, Any], place: tuple[str, str], value: float
) -> None:
    assert edges(space(**said), place[0] if place[0] in OPTIMIZERS else "adam", "step", {place: value}) == []


def test_the_ends_of_the_other_competitors_are_not_told() -> None:
    found = space(("sgd", "adam"), ("step", "exponential"), {ALL_OWNERS: {"gamma": [0.4, 0.6]}})
    values = {("sgd", "lr"): 0.5, ("adam", "lr"): 0.01, ("exponential", "gamma"): 0.4, ("step", "gamma"): 0.4}
    assert [edge.key for edge in edges(found, "adam", "step", values)] == ["adam.lr", "step.gamma"]


def test_every_known_good_setting_lies_away_from_the_ends_that_are_open() -> None:
    """Or the first trial of a search would ask for wider ranges."""
    for row in OPTIMIZERS.values():
        for schedule in SCHEDULES.values():
            found = space((row.name,), (schedule.name,))
            values = {(row.name, name): value for name, value in row.known_good[0].items()}
            values |= {(schedule.name, name): value for name, value in schedule.known_good(EPOCHS).items()}
            told = [edge.key for edge in edges(found, row.name, schedule.name, values)]
            assert not told, told


def test_a_fixed_value_has_no_ends() -> None:
    found = space(("rprop",))
    assert isinstance(found.optimizers["rprop"]["step_size_min"], Fixed)
    assert edges(found, "rprop", "step", {("rprop", "step_size_min"): 1e-6}) == []
