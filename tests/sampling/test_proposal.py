"""What is proposed next: near what is good, within its range, and the same from the same trials."""

from math import log10
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from optitune.sampling.model import Axis, Observed
from optitune.sampling.proposal import RANKED, Proposals

SPACE: dict[str, BaseDistribution] = {
    "lr_factor": FloatDistribution(1e-3, 1e3, log=True),
    "step_size": IntDistribution(1, 5),
    "nesterov": CategoricalDistribution((False, True)),
}
CENTRE = {"lr_factor": 1.0, "step_size": 4, "nesterov": False}
AXES = {name: {key: Axis(one, CENTRE[key]) for key, one in SPACE.items()} for name in ("sgd", "adam")}
AXES["adam"] = {key: axis for key, axis in AXES["adam"].items() if key != "nesterov"}


def trial(optimizer: str, at: float, best: float = -1.5) -> Observed:
    parameters: dict[str, Any] = {key: CENTRE[key] for key in AXES[optimizer]}
    return Observed(optimizer, {**parameters, "lr_factor": 10**at}, -abs(at - best))


def proposed(optimizer: str, trials: list[Observed], seed: int = 0, overall: bool = False) -> tuple[float, list[Any]]:
    return Proposals(AXES, trials, [], np.random.default_rng(seed)).of(optimizer, overall)


TRIALS = [*(trial("sgd", at) for at in (-3.0, -1.0, 0.0, 1.0)), trial("adam", 0.0)]


def test_candidates_lie_in_the_ranges_and_are_whole_where_those_are() -> None:
    for optimizer, axes in AXES.items():
        _, points = proposed(optimizer, TRIALS)
        assert len(points) == RANKED
        for point in points:
            assert point.keys() == axes.keys()
            assert all(SPACE[key]._contains(SPACE[key].to_internal_repr(value)) for key, value in point.items())
            assert type(point["step_size"]) is int


def test_the_first_lies_where_the_trials_of_another_optimizer_were_good() -> None:
    _, points = proposed("adam", [*(trial("sgd", at) for at in np.linspace(-3, 2, 11)), trial("adam", 0.0)])
    assert -2.5 < log10(points[0]["lr_factor"]) < -0.4


def test_what_leads_by_far_promises_most_overall() -> None:
    worse = [Observed(each.optimizer, each.parameters, each.score - 10) for each in TRIALS if each.optimizer == "sgd"]
    better = [trial("adam", at) for at in (-1.0, 0.0, 1.0)]
    found = {name: proposed(name, [*worse, *better], overall=True)[0] for name in AXES}
    assert found["adam"] > found["sgd"]


def test_the_same_trials_and_seed_give_the_same_proposals() -> None:
    assert proposed("sgd", TRIALS, 3) == proposed("sgd", TRIALS, 3)
    assert proposed("sgd", TRIALS, 3) != proposed("sgd", TRIALS, 4)
