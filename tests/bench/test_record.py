"""The record of real trainings, and what is trained for it."""

from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import FixedTrial
from replay_worlds import RECORDS, curve, recorded, settings

from optitune.sampling.parameters import suggest
from optitune.space.search_space import LR_FACTOR
from scripts.bench.quality.make_record import (
    BEST_OF_EACH,
    BEYOND,
    FRESH_SEEDS,
    OPTIMIZERS,
    OUTER,
    SEED,
    SOBOL,
    Todo,
    again,
    kept,
    sample,
)
from scripts.bench.quality.record import path
from scripts.bench.quality.record import read as read_record
from scripts.bench.quality.record import write as write_record


@pytest.fixture(scope="module")
def sampled() -> list[Todo]:
    return sample(settings())


def test_a_record_reads_back_as_it_was_written_and_twice_the_same_bytes(tmp_path: Path) -> None:
    about, _ = recorded("mnist-net")
    curves = [curve(), curve(number=1, diverged=7), curve("adam", 2, seed=3, origin="again")]
    for name in ("one", "two"):
        write_record(tmp_path / name, about, curves)
    assert read_record(tmp_path / "one") == (about, curves)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    # the time in the head of a gzip file, which would differ a second later
    assert (tmp_path / "one").read_bytes()[4:8] == bytes(4)


def test_a_training_that_diverged_comes_to_nothing() -> None:
    assert curve(final=0.8).final == 0.8
    assert curve(final=0.8, diverged=3).final == 0.0


@pytest.mark.parametrize("task", RECORDS)
def test_the_records_are_small_and_hold_enough_of_every_optimizer(task: str) -> None:
    about, curves = recorded(task)
    assert path(task).stat().st_size < 2_000_000
    assert about.task == task
    names = set(about.settings["optimizers"])
    assert len(names) >= 8
    sobol = Counter(each.optimizer for each in curves if each.origin == "sobol")
    assert sobol.keys() == names
    assert len(set(sobol.values())) == 1
    assert {each.optimizer for each in curves if each.origin == "known-good"} == names
    assert len({each.key for each in curves}) == len(curves)
    assert len({(each.optimizer, each.number) for each in curves}) >= 600
    seeds = Counter((each.optimizer, each.number) for each in curves if each.origin == "again")
    assert sum(number == 5 for number in seeds.values()) >= 20
    # World.known_good takes the first of each optimizer for known-good
    assert all(each.origin == "known-good" for each in curves if each.number == 0 and each.seed == 0)


@pytest.mark.parametrize("task", RECORDS)
def test_a_repeated_training_has_the_parameters_of_the_first_and_whole_curves_have_all_values(task: str) -> None:
    about, curves = recorded(task)
    first = {(each.optimizer, each.number): each.parameters for each in curves if each.origin != "again"}
    assert all(each.parameters == first[each.optimizer, each.number] for each in curves)
    whole = about.evaluations * about.settings["epochs"]
    for each in curves:
        assert len(each.values) == len(each.losses) == len(each.seconds)
        assert len(each.values) == whole or (each.diverged is not None and len(each.values) < whole)


def test_the_sample_takes_optimizers_in_turn_with_equal_numbers_and_is_the_same_again(sampled: list[Todo]) -> None:
    assert sampled == sample(settings())
    assert tuple(name for name, *_ in sampled[: len(OPTIMIZERS)]) == OPTIMIZERS
    assert [number for _, number, *_ in sampled] == sorted(number for _, number, *_ in sampled)
    counts = Counter((name, origin) for name, _, origin, _, _ in sampled)
    assert all(counts[name, "sobol"] == SOBOL and counts[name, "outer"] == OUTER for name in OPTIMIZERS)
    assert all(counts[name, "known-good"] >= 1 for name in OPTIMIZERS)
    assert all(parameters["optimizer"] == name and seed == SEED for name, _, _, parameters, seed in sampled)


def test_sampled_configurations_lie_within_the_ranges_but_for_outer_learning_rates(sampled: list[Todo]) -> None:
    space = settings().space()
    for _, _, origin, parameters, _ in sampled:
        if origin == "outer":
            factor = parameters[LR_FACTOR]
            assert any(low <= factor <= high for low, high in BEYOND)
        within = {**parameters, LR_FACTOR: 1.0} if origin == "outer" else parameters
        # warns, which is an error here, of what is outside its range
        suggest(FixedTrial(within), settings(), space)


def test_outer_learning_rates_are_outside_the_ranges(sampled: list[Todo]) -> None:
    outer = next(parameters for _, _, origin, parameters, _ in sampled if origin == "outer")
    with pytest.warns(UserWarning, match=LR_FACTOR):
        suggest(FixedTrial(outer), settings(), settings().space())


def test_the_best_of_all_and_of_each_optimizer_are_trained_again() -> None:
    plural = [curve("adam", number, 0.9 + number / 1_000) for number in range(30)]
    few = [curve("sgd", number, 0.6 + number / 1_000) for number in range(10)]
    luck = [curve("sgd", 0, 0.99, seed=1, origin="again")]
    todo = again(few + plural + luck)
    assert {(name, number) for name, number, *_ in todo if name == "adam"} == {("adam", each) for each in range(10, 30)}
    assert {number for name, number, *_ in todo if name == "sgd"} == set(range(10 - BEST_OF_EACH, 10))
    assert len(todo) == (20 + BEST_OF_EACH) * FRESH_SEEDS
    assert {seed for *_, seed in todo} == set(range(1, FRESH_SEEDS + 1))
    assert all(origin == "again" for _, _, origin, _, _ in todo)


def test_a_torn_last_line_of_the_log_is_cut_off_and_the_rest_kept(tmp_path: Path) -> None:
    log_file = tmp_path / "log.jsonl"
    assert kept(log_file) == []
    curves = [curve(), curve("adam", 1)]
    whole = "".join(each.model_dump_json() + "\n" for each in curves)
    log_file.write_text(whole + curves[0].model_dump_json()[:20])
    assert kept(log_file) == curves
    assert log_file.read_text() == whole
    assert kept(log_file) == curves
