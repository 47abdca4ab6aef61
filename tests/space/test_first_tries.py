"""What a search tries first: each optimizer's known-good settings, and a list of other learning rates."""

import pytest

from optitune.space.first_tries import FURTHER, LEARNED, Try, first_tries
from optitune.space.optimizers import find
from optitune.study.settings import StudySettings

COMPETING = StudySettings().optimizers


def tried(**settings: object) -> list[tuple[str, float]]:
    """Optimizers with the multiple of their known-good learning rate, in the order in which they are tried."""
    found = first_tries(StudySettings.model_validate({"epochs": 5, **settings}).space(), 5)
    return [(each.optimizer, round(each.values["lr"] / find(each.optimizer).lr, 6)) for each in found]


def test_known_good_settings_come_first_in_the_order_of_the_list_and_other_learning_rates_follow() -> None:
    found = tried()
    known = [name for name, factor in found if factor == 1.0]
    assert known[:5] == ["muon", "adagrad", "nadam", "adam", "adadelta"]
    assert set(known) == set(COMPETING)
    further = [(each.optimizer, each.lr_factor) for each in LEARNED if each.lr_factor != 1.0]
    assert found[-FURTHER:] == further[:FURTHER]


def test_every_optimizer_of_the_list_competes_and_is_named_once_with_a_factor() -> None:
    assert len(set(LEARNED)) == len(LEARNED)
    assert {each.optimizer for each in LEARNED} <= set(COMPETING)


def test_of_optimizers_that_do_not_compete_nothing_is_tried() -> None:
    assert tried(optimizers=["adamw", "rmsprop"]) == [("adamw", 1.0), ("rmsprop", 1.0)]


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"lr_reach": 1.0}, [1.0, 10.0]),
        ({"nadam": {"lr": [1e-4, 1e-2]}}, [1.0]),
        ({"nadam": {"lr": 0.01}}, []),
        ({}, [1.0, 10.0]),
    ],
)
def test_learning_rates_outside_a_range_are_left_out(settings: dict[str, object], left: list[float]) -> None:
    points = first_tries(StudySettings.model_validate({"optimizers": ["nadam"], "epochs": 5, **settings}).space(), 5)
    lrs = [each.values["lr"] for each in points]
    assert lrs == pytest.approx([2e-3 * factor for factor in left] or [0.01])


def test_a_list_may_be_given() -> None:
    space = StudySettings(epochs=5, optimizers=("adam", "sgd")).space()
    found = first_tries(space, 5, [Try("sgd", 0.5), Try("muon", 3.0)])
    lrs = [(each.optimizer, each.values["lr"]) for each in found]
    assert lrs == [("sgd", 0.05), ("sgd", 0.05), ("sgd", 0.1), ("adam", 0.001), ("sgd", 0.025)]
