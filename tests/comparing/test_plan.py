"""The rows of a comparison, and which runs come next."""

from collections.abc import Callable
from typing import Any

import pytest
from made_up_runs import DIVERGED, made_up, runs
from pydantic import ValidationError

from optitune.comparing.plan import FIRST, negligible, opening, practical, step
from optitune.comparing.search_on import search_words
from optitune.space.configuration import Configuration
from optitune.statistics.costs import Untuned
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
from optitune.study.records import TrialRecord
from optitune.study.settings import StudySettings
from optitune.tasks.metrics import METRICS, Metric

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


@pytest.mark.parametrize(
    ("wanted", "workers", "rounds"),
    [("ab", 1, {4}), ("ab", 2, {4}), ("ab", 4, {4, 5}), ("abc", 8, {4, 5}), ("abcdefgh", 8, {4})],
)
def test_another_round_is_begun_with_where_workers_would_wait(wanted: str, workers: int, rounds: set[int]) -> None:
    done = {RunId(number, name) for number in range(4) for name in wanted}
    found = step(tuple(wanted), done, 20, workers)
    assert {key.round for key in found} == rounds
    assert len(found) == len(set(found)) == len(wanted) * len(rounds)


def test_a_step_fills_what_one_of_them_lacks_and_ends_with_the_last_round() -> None:
    done = {RunId(number, "a") for number in range(6)} | {RunId(number, "b") for number in range(4)}
    assert step(("a", "b"), done, 20) == [RunId(4, "b")]
    assert step(("a", "b"), done, 20, workers=4) == [RunId(4, "b"), RunId(5, "b")]
    assert step(("a", "b"), done, 4) == []
    assert step((), done, 20) == []


# what difference does not matter


def record(configuration: Configuration, value: float | None, number: int = 0) -> TrialRecord:
    return TrialRecord(number, "complete" if value is not None else "pruned", configuration, value, "", (), 1.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_of_a_loss_a_share_of_what_the_search_found_does_not_matter(
    sign: int, finalist: Callable[..., Finalist], configured: Configured
) -> None:
    metric = Metric("score", "maximize" if sign > 0 else "minimize", None)
    values = {"adam": 3.28, "sgd": 3.28 - 0.004 * sign, "muon": 3.28 - 0.006 * sign}
    who = [finalist(name).model_copy(update={"value": value}) for name, value in values.items()]
    # the known-good settings of two, one of them hopeless
    records = [record(configured("adam"), 3.28 - 0.01 * sign), record(configured("sgd"), 3.28 - 3 * sign)]
    records += [record(configured("muon"), None), record(configured("adam", lr=0.5), 3.28)]
    found = practical(metric, who, records)
    assert found.value == pytest.approx(0.0006)
    assert found.origin.startswith("a tenth of how far the median")
    assert practical(metric, who).value == pytest.approx(0.0004)


def test_never_more_than_a_share_of_the_value_is_said_not_to_matter(finalist: Callable[..., Finalist]) -> None:
    loss = Metric("loss", "minimize", None)
    apart = [finalist(name).model_copy(update={"value": value}) for name, value in (("adam", 0.1), ("sgd", 9.0))]
    assert practical(loss, apart) == (pytest.approx(0.001), "1 % of the best value of the search")
    same = [finalist(name).model_copy(update={"value": 0.1}) for name in ("adam", "sgd")]
    assert practical(loss, same).value == pytest.approx(0.001)
    assert practical(METRICS["accuracy"], apart) == (0.001, "the usual one for accuracy")
    assert negligible(loss, 0.1) == pytest.approx(0.001)


# to search on


@pytest.mark.parametrize(
    ("variant", "lr", "words"),
    [
        (TWICE, 0.02, "search --study s --trials 9"),
        (KNOWN_GOOD, 0.05, "search --study s --trials 9"),
        (TWICE, 0.06, "search --study s-2 --from s --set adam.lr=[0.001, 1] --trials 3"),
        (HALF, 0.0015, "search --study s-2 --from s --set adam.lr=[0.0001, 0.1] --trials 3"),
    ],
)
def test_a_search_goes_on_where_the_better_settings_lie(
    variant: str, lr: float, words: str, finalist: Callable[..., Finalist], configured: Configured
) -> None:
    settings = StudySettings.model_validate({"optimizers": ["adam", "sgd"], "adam": {"lr": [1e-3, 0.1]}})
    records = [record(configured("adam"), 0.9, number) for number in range(6)]
    found = search_words("s", settings, records, finalist("adam", lr), Untuned("adam", variant, 0.1, 2))
    assert " ".join(found) == words
