"""The record of real trainings, and what is trained for it."""

import struct
from collections import Counter
from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.trial import FixedTrial
from replay_worlds import RECORDS, curve, recorded, settings

from optitune.sampling.parameters import suggest
from optitune.searching.objective import trial_plan
from optitune.space.search_space import LR_FACTOR
from optitune.tasks import splits
from optitune.tasks.splits import SearchData
from optitune.tasks.task import Task
from optitune.training import build
from optitune.training.engine import Training
from scripts.bench.quality import small_tasks
from scripts.bench.quality.make_record import (
    BEYOND,
    MNIST,
    OPTIMIZERS,
    SEED,
    Given,
    Todo,
    again,
    chance_of,
    found,
    kept,
    sample,
    sampling_of,
    set_up,
    settings_of,
    train,
)
from scripts.bench.quality.points import normal
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
    assert isnan(curve(final=0.8, diverged=3).final)
    about, _ = recorded("mnist-net")
    assert about.worst == 0.0
    assert about.model_copy(update={"metric": {"name": "mse"}, "chance": 2.5}).worst == 2.5


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


def test_the_records_of_small_tasks_are_small_and_have_known_good_settings_first_and_some_repeated() -> None:
    assert sum(path(task).stat().st_size for task in small_tasks.ROWS) < 4_000_000
    for task in small_tasks.ROWS:
        about, curves = recorded(task)
        assert about.task == task
        assert about.lr_prior == sampling_of(task).lr_prior
        assert about.about == small_tasks.ROWS[task].about
        assert tuple(about.settings["optimizers"]) == OPTIMIZERS
        assert len({each.key for each in curves}) == len(curves)
        assert {each.optimizer for each in curves if each.number == 0} == set(OPTIMIZERS)
        assert all(each.origin == "known-good" for each in curves if each.number == 0 and each.seed == 0)
        sobol = Counter(each.optimizer for each in curves if each.origin == "sobol")
        assert min(sobol.values()) >= sampling_of(task).sobol
        assert sum(each.origin == "again" for each in curves) >= 10


@pytest.mark.parametrize("task", [*RECORDS, *small_tasks.ROWS])
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
    assert all(counts[name, "sobol"] == MNIST.sobol and counts[name, "outer"] == MNIST.outer for name in OPTIMIZERS)
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


def test_the_best_of_all_and_of_each_optimizer_are_trained_again() -> None:
    plural = [curve("adam", number, 0.9 + number / 1_000) for number in range(30)]
    few = [curve("sgd", number, 0.6 + number / 1_000) for number in range(10)]
    luck = [curve("sgd", 0, 0.99, seed=1, origin="again")]
    todo = again(few + plural + luck, MNIST)
    assert {(name, number) for name, number, *_ in todo if name == "adam"} == {("adam", each) for each in range(10, 30)}
    assert {number for name, number, *_ in todo if name == "sgd"} == set(range(10 - MNIST.best_of_each, 10))
    assert len(todo) == (20 + MNIST.best_of_each) * MNIST.fresh_seeds
    assert {seed for *_, seed in todo} == set(range(1, MNIST.fresh_seeds + 1))
    assert all(origin == "again" for _, _, origin, _, _ in todo)
    least = again(few + plural, MNIST, sign=-1)
    assert {number for name, number, *_ in least if name == "sgd"} == set(range(10))


def test_a_torn_last_line_of_the_log_is_cut_off_and_the_rest_kept(tmp_path: Path) -> None:
    log_file = tmp_path / "log.jsonl"
    assert kept(log_file) == []
    curves = [curve(), curve("adam", 1)]
    whole = "".join(each.model_dump_json() + "\n" for each in curves)
    log_file.write_text(whole + curves[0].model_dump_json()[:20])
    assert kept(log_file) == curves
    assert log_file.read_text() == whole
    assert kept(log_file) == curves


def generated(name: str) -> tuple[Task, SearchData]:
    """A small task whose data are drawn from a seed."""
    task = found(name, Path("nowhere"))
    return task, splits.search_data(task, 200)


@pytest.mark.parametrize("name", ["gru", "transformer", "tabular-classes", "tabular-regression", "factors"])
def test_generated_tasks_have_the_same_data_again_and_a_chance_that_a_new_network_does_not_beat(name: str) -> None:
    task, data = generated(name)
    assert data.checksum == generated(name)[1].checksum
    chance = chance_of(task.judge, data.validation)
    settings = settings_of(task)
    untrained = Given({**sample(settings)[0][3], LR_FACTOR: 1e-6})
    configuration = suggest(untrained, settings, settings.space())  # type: ignore[arg-type]
    plan = replace(trial_plan(configuration, settings, task, data), epochs=1, evaluations=1)
    training = Training(build.build(task, 0, torch.device("cpu")), plan, data.train, data.validation)
    first = next(training.run()).validation
    assert first is not None
    assert task.judge.score(first.value) < task.judge.score(chance) + 0.2 * abs(chance)


def test_learning_rates_of_small_tasks_are_normal_over_six_powers_of_ten_and_all_else_lies_within_its_range() -> None:
    settings = settings_of(generated("factors")[0])
    sampled = [each for each in sample(settings) if each[2] == "sobol"]
    decades = np.log10([parameters[LR_FACTOR] for _, _, _, parameters, _ in sampled])
    assert abs(decades.mean()) < 0.2
    assert 0.8 < decades.std() < 1.2
    assert np.abs(decades).max() <= 3
    assert normal(1.0, 3.0)(0.5) == 1.0
    assert (normal(1.0, 3.0)(0.0), normal(1.0, 3.0)(1.0)) == pytest.approx((1e-3, 1e3))
    for _, _, _, parameters, _ in sampled:
        suggest(FixedTrial({**parameters, LR_FACTOR: 1.0}), settings, settings.space())  # type: ignore[arg-type]


def test_a_training_is_recorded_with_rounded_values_and_one_that_diverges_ends_there(tmp_path: Path) -> None:
    name = "factors"
    task, data = generated(name)
    splits.save(data, tmp_path / "data.safetensors")
    threads = torch.get_num_threads()
    try:
        set_up(name, tmp_path, tmp_path / "data.safetensors")
        known = next(each for each in sample(settings_of(task)) if each[0] == "sgd")
        whole = train(known)
        assert whole == train(known).model_copy(update={"seconds": whole.seconds})
        assert len(whole.values) == sampling_of(name).epochs * sampling_of(name).evaluations
        assert whole.diverged is None
        assert all(float(f"{each:.5g}") == each for each in whole.values)
        assert list(whole.seconds) == sorted(whole.seconds)
        wild = train((known[0], 1, "sobol", {**known[3], LR_FACTOR: 1e3}, 0))
        assert wild.diverged
        assert np.isfinite(wild.values).all()
        assert len(wild.values) < len(whole.values)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def pixels(tmp_path: Path) -> Path:
    """A folder with some images in the form of MNIST's."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for half in ("train", "t10k"):
        images = draws.integers(0, 256, (100, 28, 28), dtype=np.uint8)
        head = struct.pack(">IIII", 2051, *images.shape)
        (folder / f"{half}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        labels = np.arange(100, dtype=np.uint8) % 10
        (folder / f"{half}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 100) + labels.tobytes())
    return tmp_path


def test_images_are_halved_and_a_pretrained_network_has_the_same_weights_again(pixels: Path) -> None:
    inputs, labels = small_tasks.images(pixels, 20, 60)
    assert inputs.shape == (40, 1, 14, 14)
    assert 0 <= float(inputs.min()) < float(inputs.max()) <= 1
    assert labels.tolist() == [number % 10 for number in range(20, 60)]
    state = torch.get_rng_state()
    weights = [small_tasks.pretrained.__wrapped__(pixels, 0, 40) for _ in range(2)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert torch.equal(torch.get_rng_state(), state)
