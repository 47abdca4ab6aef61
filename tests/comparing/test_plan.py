"""The rows of a comparison, and which runs come next."""

from collections.abc import Callable
from typing import Any

import pytest
from made_up_runs import DIVERGED, made_up, runs
from pydantic import ValidationError

from optitune.comparing.plan import FIRST, opening, step
from optitune.space.configuration import Configuration
from optitune.statistics.runs import (
    HALF,
    KNOWN_GOOD,
    TUNED,
    TWICE,
    VARIANTS,
    Finalist,
    Plan,
    RunId,
    finalists_runs,
    paired,
)

Configured = Callable[..., Configuration]


@pytest.fixture
def finalist(configured: Configured) -> Callable[..., Finalist]:
    def build(name: str = "adam", lr: float = 0.004) -> Finalist:
        return Finalist(trial=3, value=0.99, configuration=configured(name, lr=lr), known_good=configured(name))

    return build


@pytest.fixture
def plan(finalist: Callable[..., Finalist]) -> Plan:
    facts: dict[str, Any] = {"data_checksum": "sha256:0", "network": "Cnn", "metric": "accuracy"}
    return Plan(
        task="digits",
        finalists=(finalist("adam"), finalist("sgd", 0.1)),
        epochs=3,
        precision="fp32",
        seed=7,
        train_examples=1000,
        held_out=57,
        rounds=20,
        evaluations=4,
        **facts,
    )


@pytest.mark.parametrize(("variant", "lr"), [(TUNED, 0.004), (HALF, 0.002), (TWICE, 0.008)])
def test_a_variant_has_another_learning_rate_and_nothing_else(
    variant: str, lr: float, finalist: Callable[..., Finalist], configured: Configured
) -> None:
    assert finalist().variant(variant) == configured("adam", lr=lr)


def test_known_good_settings_are_a_variant(finalist: Callable[..., Finalist], configured: Configured) -> None:
    assert finalist().variant(KNOWN_GOOD) == configured("adam") != finalist().configuration


def test_a_variant_of_another_name_is_refused(finalist: Callable[..., Finalist]) -> None:
    assert TUNED not in VARIANTS
    with pytest.raises(KeyError):
        finalist().variant("a third of the lr")


def test_a_plan_finds_its_finalists_and_comes_back_from_json_as_it_was(plan: Plan) -> None:
    assert plan.optimizers == ("adam", "sgd")
    assert plan.finalist("sgd").configuration.lr == 0.1
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize("change", [{"epochs": 0}, {"epochs": 2.5}, {"precision": "auto?"}, {"surplus": 1}])
def test_a_plan_that_makes_no_sense_is_refused(change: dict[str, Any], plan: Plan) -> None:
    with pytest.raises(ValidationError):
        Plan.model_validate({**plan.model_dump(), **change})


def test_runs_of_one_optimizer_are_in_the_order_of_rounds_without_variants() -> None:
    own = [made_up(number, "adam", 0.9 + number / 100) for number in (2, 0, 1)]
    others = [made_up(0, "adam", 0.5, HALF), made_up(0, "sgd", 0.8)]
    assert [run.key.round for run in finalists_runs([*own, *others], "adam")] == [0, 1, 2]
    assert [run.value for run in finalists_runs([*own, *others], "adam", HALF)] == [0.5]


def test_pairs_are_of_rounds_that_both_finished() -> None:
    all_runs = runs({"adam": [0.9, 0.8, DIVERGED, 0.7], "sgd": [0.5, None, 0.6, 0.4, 0.3]})
    found = paired([*all_runs, made_up(1, "sgd", 0.1, TWICE)], "adam", "sgd")
    assert [(one.value, other.value) for one, other in found] == [(0.9, 0.5), (0.7, 0.4)]
    assert paired(all_runs, "sgd", "adam") == [(other, one) for one, other in found]
    assert paired(all_runs, "adam", "muon") == []


def test_all_finalists_have_the_first_rounds_and_what_is_there_is_not_done_again() -> None:
    keys = opening(("a", "b"), set(), 20)
    assert keys == [RunId(number, name) for number in range(FIRST) for name in ("a", "b")]
    assert opening(("a", "b"), set(keys[:3]), 20) == keys[3:]
    assert opening(("a", "b"), set(keys), 20) == []
    assert {key.round for key in opening(("a", "b"), set(), 2)} == {0, 1}


@pytest.mark.parametrize(("wanted", "rounds"), [("ab", {4, 5}), ("abc", {4, 5}), ("abcd", {4}), ("abcdefgh", {4})])
def test_few_have_two_rounds_at_once_and_many_one(wanted: str, rounds: set[int]) -> None:
    done = {RunId(number, name) for number in range(4) for name in wanted}
    found = step(tuple(wanted), done, 20)
    assert {key.round for key in found} == rounds
    assert len(found) == len(set(found)) == len(wanted) * len(rounds)


def test_a_step_fills_what_one_of_them_lacks_and_ends_with_the_last_round() -> None:
    done = {RunId(number, "a") for number in range(6)} | {RunId(number, "b") for number in range(4)}
    assert step(("a", "b"), done, 20) == [RunId(4, "b"), RunId(5, "b")]
    assert step(("a", "b"), done, 5) == [RunId(4, "b")]
    assert step(("a", "b"), done, 4) == []
    assert step((), done, 20) == []
