"""What a search tries first: each optimizer's known-good settings, and a list of other learning rates."""

import pytest

from optitune.space.first_tries import AHEAD, LEARNED, Try, first_tries
from optitune.space.optimizers import find
from optitune.study.settings import StudySettings

COMPETING = StudySettings().optimizers


def tried(**settings: object) -> list[tuple[str, float]]:
    """Optimizers with the multiple of their known-good learning rate, in the order in which they are tried."""
    found = first_tries(StudySettings.model_validate({"epochs": 5, **settings}).space(), 5)
    return [(each.optimizer, round(each.values["lr"] / find(each.optimizer).lr, 6)) for each in found]


def test_the_list_comes_first_and_every_optimizers_known_good_settings_follow() -> None:
    found = tried()
    assert found[:AHEAD] == [(each.optimizer, each.lr_factor) for each in LEARNED[:AHEAD]]
    assert found[-len(LEARNED) + AHEAD :] == [(each.optimizer, each.lr_factor) for each in LEARNED[AHEAD:]]
    assert {name for name, factor in found if factor == 1.0} == set(COMPETING)
    assert found.count(("muon", 1.0)) == 1


def test_every_optimizer_of_the_list_competes_and_is_named_once_with_a_factor() -> None:
    assert len(set(LEARNED)) == len(LEARNED)
    assert {each.optimizer for each in LEARNED} <= set(COMPETING)


def test_of_optimizers_that_do_not_compete_nothing_is_tried() -> None:
    assert tried(optimizers=["adamw", "rmsprop"]) == [("adamw", 1.0), ("rmsprop", 1.0)]


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"lr_reach": 1.0}, [1.0]),
        ({"adam": {"lr": [1e-4, 1e-2]}}, [1.0]),
        ({"adam": {"lr": 0.01}}, []),
        ({}, [1.0, 30.0]),
    ],
)
def test_learning_rates_outside_a_range_are_left_out(settings: dict[str, object], left: list[float]) -> None:
    points = first_tries(StudySettings.model_validate({"optimizers": ["adam"], "epochs": 5, **settings}).space(), 5)
    lrs = [each.values["lr"] for each in points]
    assert lrs == pytest.approx([1e-3 * factor for factor in left] or [0.01])


def test_a_list_may_be_given() -> None:
    space = StudySettings(epochs=5, optimizers=("adam", "sgd")).space()
    found = first_tries(space, 5, [Try("sgd", 0.5), Try("muon", 3.0)])
    assert [(each.optimizer, each.values["lr"]) for each in found[:3]] == [
        ("sgd", 0.025),
        ("adam", 0.001),
        ("sgd", 0.05),
    ]
