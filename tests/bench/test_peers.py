"""What searches of other packages are told of our space, and what is made of their answers; none is needed here."""

import logging
import random
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial
from replay_worlds import SMALL, settings, small_world

from optitune.sampling.parameters import suggest
from optitune.space.search_space import LR_FACTOR
from scripts.bench.quality.own_space import own_space
from scripts.bench.quality.peer_space import Axis, Space, at_place, quiet, seed_all
from scripts.bench.quality.peers import PEERS, Tell, cmaes, whole_trainings
from scripts.bench.quality.strategies import STRATEGIES, Step
from scripts.bench.quality.worlds import Parameters, Replayed


def space(*optimizers: str, by_range: bool = False) -> Space:
    """Of these optimizers, or of all that were recorded."""
    found = settings().model_copy(update={"optimizers": optimizers or settings().optimizers})
    world = SimpleNamespace(optimizers=found.optimizers, suggest=lambda trial, way: own_space(trial, found, way))
    return Space(world, by_range)  # type: ignore[arg-type]


def middle(of: Space, optimizer: str) -> dict[str, Any]:
    """What a peer says that chooses the middle, or the first, of everything."""
    told: dict[str, Any] = {"optimizer": optimizer}
    for key, axis in of.axes.items():
        told[key] = str(axis.options[0]) if axis.options else axis.low if axis.whole else 0.5
    return told


def test_places_lie_along_the_scale_of_the_range() -> None:
    assert [at_place(place, 2.0, 4.0, False) for place in (0.0, 0.25, 1.0)] == [2.0, 2.5, 4.0]
    assert [at_place(place, 1e-4, 1.0, True) for place in (0.0, 0.5, 1.0)] == pytest.approx([1e-4, 1e-2, 1.0])


@given(st.floats(1e-12, 1e3), st.floats(1.0, 1e6), st.floats(0, 1), st.booleans())
def test_no_place_is_outside_its_range(low: float, ratio: float, place: float, log: bool) -> None:
    assert low <= at_place(place, low, low * ratio, log) <= low * ratio


def test_a_real_number_is_one_place_for_all_optimizers_that_have_it() -> None:
    found = space()
    assert found.owners[LR_FACTOR] == list(settings().optimizers)
    assert found.owners["weight_decay"] == ["sgd", "adamw", "muon"]
    assert all((axis.low, axis.high, axis.log) == (0.0, 1.0, False) for axis in found.axes.values() if axis.real)
    assert found.axes["step_size"] == Axis(1, 5, whole=True)
    assert found.axes["nesterov"] == Axis(options=(False, True))


def test_a_peer_that_knows_conditions_is_told_of_every_range_once() -> None:
    found = space(by_range=True)
    assert found.axes[LR_FACTOR] == Axis(0.1, 10.0, log=True)
    decays = {key: owners for key, owners in found.owners.items() if key.startswith("weight_decay")}
    assert decays == {f"weight_decay.{name}": [name] for name in ("sgd", "adamw", "muon")}
    # one range, but for what rounding makes of it
    assert found.owners["one_minus_beta2"] == ["adam", "adamw", "nadam"]
    assert found.owners["eps.adam"] == ["adam", "adamw", "nadam", "rmsprop"]


@pytest.mark.parametrize("by_range", [False, True])
@given(data=st.data())
def test_all_that_a_peer_can_say_is_a_configuration_of_our_space(by_range: bool, data: st.DataObject) -> None:
    of = space(by_range=by_range)
    told = dict(data.draw(st.tuples(*(st.tuples(st.just(key), values) for key, values in described(of))), label="told"))
    found = of.parameters(told)
    assert found["optimizer"] == told["optimizer"]
    # warns, which is an error here, of what is outside its range
    suggest(FixedTrial(found), settings(), settings().space())


def described(of: Space) -> list[tuple[str, st.SearchStrategy[Any]]]:
    return of.described(
        lambda key: (key, st.floats(0, 1)),
        lambda key, low, high: (key, st.integers(low, high)),
        lambda key, options: (key, st.sampled_from(options)),
    )


def test_the_optimizer_is_told_first_and_only_where_several_compete() -> None:
    assert next(key for key, _ in described(space(*SMALL))) == "optimizer"
    alone = space("sgd")
    assert "optimizer" not in dict(described(alone))
    told = middle(alone, "sgd")
    del told["optimizer"]
    assert alone.parameters(told)["optimizer"] == "sgd"


def test_a_place_means_another_value_where_the_optimizer_has_another_range() -> None:
    of = space()
    decays = {name: of.parameters(middle(of, name))["weight_decay"] for name in ("sgd", "adamw")}
    assert decays == pytest.approx({"sgd": 1e-4, "adamw": 1e-2})


def test_what_a_peer_says_of_other_optimizers_is_left_out() -> None:
    of = space(by_range=True)
    found = of.parameters({**middle(of, "adagrad"), "eps.adam": 0.0, "eps.adadelta": 1.0})
    assert found.keys() == {"optimizer", LR_FACTOR, "eps", "step_size", "gamma"}
    assert found["eps"] == pytest.approx(1e-8)


def test_nothing_but_errors_is_said_where_it_is_quiet_and_as_before_after_it(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("a peer")

    def work() -> None:
        warnings.warn("of the peer", stacklevel=1)
        log.warning("a warning")
        log.error("an error")
        raise RuntimeError("its end")

    with pytest.raises(RuntimeError, match="its end"), quiet():
        work()
    log.warning("after it")
    assert caplog.messages == ["an error", "after it"]
    with pytest.warns(UserWarning, match="of ours"):
        warnings.warn("of ours", stacklevel=1)


def test_global_generators_follow_from_the_seed_and_the_trial() -> None:
    def draws(seed: int, number: int) -> tuple[float, float, float]:
        seed_all(seed, number)
        return random.gauss(0, 1), float(np.random.random()), float(torch.rand(()))

    found = draws(1, 2)
    draws(1, 3)
    assert draws(1, 2) == found
    for other in (draws(1, 3), draws(2, 2), draws(2, 1)):
        assert all(one != another for one, another in zip(found, other, strict=True))


CURVES = Replayed((0.5, 0.6, 0.7, 0.8), False), Replayed((0.1,), True), Replayed((0.3, 0.4, 0.5, 0.9), False)
"""Of two epochs with two evaluations each."""


class MadeUp:
    """A world in which trainings come out one after the other as given."""

    def __init__(self) -> None:
        self.evaluations, self.maximize, self.ideal, self.worst = 2, True, 1.0, 0.0
        self._curves = iter(CURVES)

    def train(self, parameters: Parameters, generator: np.random.Generator) -> Replayed:
        return next(self._curves)


def test_a_search_that_prunes_nothing_is_given_the_error_of_every_training_and_the_worst_where_it_diverged() -> None:
    told: list[tuple[int, float]] = []

    def ask() -> tuple[Parameters, Tell]:
        number = len(told)
        return {"x": number}, lambda value: told.append((number, value))

    steps = list(whole_trainings(MadeUp(), 4.5, 0, ask))  # type: ignore[arg-type]
    assert steps == [Step(2.0, {"x": 0}, 0.8), Step(3.0, {"x": 1}, None), Step(5.0, {"x": 2}, 0.9)]
    assert told == [(0, pytest.approx(0.2)), (1, 1.0), (2, pytest.approx(0.1))]


def test_a_peers_answers_can_be_replayed_in_a_world() -> None:
    world = small_world("nearest")
    of, generator = Space(world), np.random.default_rng(0)

    def ask() -> tuple[Parameters, Tell]:
        told = of.described(
            lambda key: (key, generator.random()),
            lambda key, low, high: (key, generator.integers(low, high + 1)),
            lambda key, options: (key, generator.choice(options)),
        )
        return of.parameters(dict(told)), lambda value: None

    steps = list(whole_trainings(world, 40.0, 0, ask))
    assert {each.parameters["optimizer"] for each in steps} == set(SMALL)
    assert 40.0 <= steps[-1].epochs <= 45.0
    assert len({each.value for each in steps}) > 3


def test_cma_es_refuses_several_optimizers_before_it_begins() -> None:
    with pytest.raises(ValueError, match="one optimizer's space, not sgd, adagrad"):
        cmaes(small_world("nearest"), 10.0, 0)


def test_no_peer_has_the_name_of_a_search_of_ours() -> None:
    assert not PEERS.keys() & STRATEGIES.keys()
