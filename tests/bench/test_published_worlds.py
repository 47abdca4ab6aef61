"""Worlds made of published records: made-up ones here, in the form in which the real ones lie."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FixedTrial

from scripts.bench.quality.algoperf import AlgoPerf
from scripts.bench.quality.deepobs import DeepObs
from scripts.bench.quality.peer_space import Space
from scripts.bench.quality.published import worlds
from scripts.bench.quality.published_world import EPOCHS, thinned
from scripts.bench.quality.run import main
from scripts.bench.quality.strategies import STRATEGIES
from scripts.bench.quality.taskset import TaskSet
from scripts.bench.quality.worlds import Parameters, Way, World, error, regret, rungs, unit

# records


def hyperparameters(generator: np.random.Generator, lr: float) -> dict[str, float]:
    free = {name: 10.0 ** generator.uniform(-8, 0) for name in ("epsilon", "l1", "l2")}
    decays = {"linear_decay": 10.0 ** generator.uniform(-7, -4), "exponential_decay": 10.0 ** generator.uniform(-6, -3)}
    betas = {name: 1 - 10.0 ** generator.uniform(-4, -0.1) for name in ("beta1", "beta2")}
    return {"learning_rate": lr, **betas, **free, **decays}


def task_set(file: Path, rows: int = 60) -> None:
    """Losses that are the lower, the nearer the learning rate is to 0.01; those above 1 diverge."""
    generator = np.random.default_rng(0)
    found = []
    for lr in np.logspace(-6, 1, rows):
        end = 0.3 + 0.1 * abs(np.log10(lr / 1e-2))
        losses = [1.0, *np.linspace(1.0, end, 50)]
        if lr > 1:
            losses[30:] = [nan] * 21
        found.append({"hp": hyperparameters(generator, float(lr)), "valid": {"loss": [float(each) for each in losses]}})
    file.parent.mkdir()
    file.write_bytes(gzip.compress(json.dumps(found).encode()))


def written(file: Path, rows: Iterator[dict[str, Any]]) -> None:
    first = next(rows)
    with gzip.open(file, "wt", newline="") as lines:
        table = csv.DictWriter(lines, list(first))
        table.writeheader()
        table.writerow(first)
        table.writerows(rows)


LRS = [10.0**power for power in range(-5, 2)]


def accuracy_at(lr: float, epoch: int) -> float:
    return (0.9 - 0.1 * abs(np.log10(lr / 1e-3))) * epoch / 40


def deep_obs() -> Iterator[dict[str, Any]]:
    """Accuracy is best at 1e-3, which has three seeds; at 1 and above, the loss is infinite from the 10th epoch on."""
    for optimizer, lr in product(DeepObs.LR, LRS):
        for seed in (42, 43, 44) if lr == LRS[2] else (42,):
            for epoch in range(41):
                loss = inf if lr >= 1 and epoch >= 10 else 1.0
                accuracy = accuracy_at(lr, epoch) + 0.001 * (seed - 42)
                yield {
                    "problem": "cifar",
                    "optimizer": optimizer,
                    "lr": lr,
                    "seed": seed,
                    "epoch": epoch,
                    "test_loss": loss,
                    "test_accuracy": accuracy,
                }


def algo_perf() -> Iterator[dict[str, Any]]:
    """Of two algorithms; the second setting ends at the target, the third breaks off, `self` had more time."""
    for algorithm, setting, seed in product(("adam", "sgd"), range(1, 6), range(5)):
        late = {2: 500, 3: 300}.get(setting, 1000)
        for seconds in range(100, late + 1, 100):
            value = seconds / late * (0.30 if setting == 2 else 0.20 + 0.01 * setting + 0.001 * seed)
            run = {"algorithm": algorithm, "workload": "ogbg", "trial": f"trial_{setting}", "study": f"study_{seed}"}
            yield {"ruleset": "external_tuning", **run, "seconds": seconds, "value": value}
    yield {"ruleset": "external_tuning", **run, "algorithm": "few", "seconds": 1000, "value": 1.0}
    yield {"ruleset": "self_tuning", **run, "algorithm": "self", "seconds": 9000, "value": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("records")
    task_set(found / "taskset" / "made_up.json.gz")
    written(found / "deepobs.csv.gz", deep_obs())
    written(found / "algoperf.csv.gz", algo_perf())
    return found


NAMES = "taskset-made_up", "deepobs-cifar", "algoperf-ogbg"


@pytest.fixture(scope="module")
def made(folder: Path) -> Mapping[str, World]:
    return {name: make() for name, make in worlds(folder).items()}


@pytest.fixture
def world(made: Mapping[str, World], request: pytest.FixtureRequest) -> World:
    return made[request.param]


every_world = pytest.mark.parametrize("world", NAMES, indirect=True)


class Random:
    """A trial that draws evenly."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.params: Parameters = {}
        self._generator = generator

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[self._generator.integers(len(choices))]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        at = self._generator.random()
        return float(low ** (1 - at) * high**at if log else low + at * (high - low))


def some(world: World, way: Way, number: int = 50) -> list[Parameters]:
    generator = np.random.default_rng(1)
    return [world.suggest(Random(generator), way) for _ in range(number)]


# all of them


def test_a_folder_is_a_world_for_every_task_and_says_what_it_lacks(folder: Path, tmp_path: Path) -> None:
    assert tuple(worlds(folder)) == NAMES
    with pytest.raises(FileNotFoundError, match="has no taskset"):
        worlds(tmp_path)


@pytest.mark.parametrize(
    "text",
    [b"not zipped", gzip.compress(b"[]"), gzip.compress(b'[{"hp": {}}]'), gzip.compress(b"[" * 1000)[:-20]],
    ids=["plain", "empty", "no losses", "cut off"],
)
def test_a_task_that_cannot_be_read_is_named(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "taskset").mkdir()
    (tmp_path / "taskset" / "lstm.json.gz").write_bytes(text)
    with pytest.raises(ValueError, match=r"lstm\.json\.gz is no gzipped JSON list"):
        worlds(tmp_path)


@pytest.mark.parametrize("wrong", ["nowhere", "empty", "broken"])
def test_a_wrong_folder_of_records_is_named_in_one_line(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "deepobs.csv.gz").write_text("problem,lr")
    monkeypatch.setattr("sys.argv", ["run", "random", "--records", str(tmp_path / wrong), "--keep", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"--records: {tmp_path / wrong}" in said
    assert "deepobs.csv.gz" in said


@every_world
@pytest.mark.parametrize("way", ["ours", "theirs", "wide"])
def test_whatever_is_drawn_is_trained_to_its_end_or_diverges_and_is_no_better_than_the_best(
    world: World, way: Way
) -> None:
    generator = np.random.default_rng(0)
    for parameters in some(world, way):
        replayed = world.train(parameters, generator)
        assert replayed.diverged == (len(replayed.values) < rungs(world)) or not replayed.diverged
        assert len(replayed.values) == rungs(world) == EPOCHS or replayed.diverged
        assert np.isfinite(replayed.values).all()
        assert regret(world, world.truth(parameters)) >= -1e-9


@every_world
def test_a_world_says_all_that_a_search_and_its_judge_ask_for(world: World) -> None:
    assert set(world.best) == set(world.seconds) == set(world.spaces) == set(world.optimizers)
    assert {each["optimizer"] for each in world.known_good} == set(world.optimizers)
    assert unit(world) > 0
    assert error(world, None) >= error(world, world.median)
    for first in world.known_good:
        assert world.suggest(FixedTrial(first)) == first
        assert regret(world, world.unsearched(first["optimizer"])) >= 0


@every_world
def test_runs_follow_from_the_generator(world: World) -> None:
    first = world.known_good[0]
    runs = [[world.train(first, np.random.default_rng(seed)) for _ in range(5)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1]


@every_world
@pytest.mark.parametrize("name", ["optitune", "tpe-median"])
def test_searches_run_there(world: World, name: str) -> None:
    steps = list(STRATEGIES[name](world, 15.0 * EPOCHS, 0))
    assert 15 * EPOCHS <= steps[-1].epochs <= 16 * EPOCHS
    assert steps == list(STRATEGIES[name](world, 15.0 * EPOCHS, 0))


@every_world
def test_other_packages_are_given_places_in_the_careful_space(world: World) -> None:
    space = Space(world)
    told = space.described(lambda key: (key, 0.5), lambda key, low, high: (key, low), lambda key, one: (key, one[-1]))
    found = space.parameters(dict(told))
    assert regret(world, world.truth(found)) >= 0
    assert found.get("lr_factor", 1.0) == pytest.approx(1.0)


# each


def test_epochs_end_with_the_last_of_their_evaluations() -> None:
    assert thinned(np.arange(1, 101)).tolist() == list(range(5, 101, 5))
    assert thinned(np.arange(1, 51))[[0, -1]].tolist() == [2, 50]


@pytest.fixture
def tasks(made: Mapping[str, World]) -> TaskSet:
    found = made["taskset-made_up"]
    assert isinstance(found, TaskSet)
    return found


def recorded(world: TaskSet, row: int) -> Parameters:
    return {"optimizer": "adam", **dict(zip(world.PARAMETERS, (10 ** world.x[row]).tolist(), strict=True))}


def test_the_forest_has_what_was_recorded_where_it_was_recorded(tasks: TaskSet) -> None:
    for row in (0, 20, 40):
        assert tasks.truth(recorded(tasks, row)) == pytest.approx(10 ** tasks.y[row, -1], rel=0.02)
    assert tasks.truth(recorded(tasks, 59)) == tasks.worst
    assert tasks.train(recorded(tasks, 59), np.random.default_rng(0)).diverged
    assert tasks.best["adam"] == pytest.approx(0.3, abs=0.05)
    assert tasks.errors(trees=10)["rank"] > 0.5


def test_a_decay_is_still_ahead_at_the_start_and_over_at_the_end(tasks: TaskSet) -> None:
    ahead = tasks.lr_ahead({**tasks.known_good[0], "exponential_decay": 1e-4 * np.log(10)})
    assert ahead["1"] == pytest.approx(-0.95, abs=0.01)
    assert ahead[str(EPOCHS)] == 0


@pytest.fixture
def rates(made: Mapping[str, World]) -> Callable[[float], Parameters]:
    return lambda lr: {"optimizer": "Adam", "lr_factor": lr / 1e-3}


def test_learning_rates_between_two_are_interpolated_and_beyond_them_do_as_the_last(
    made: Mapping[str, World], rates: Callable[[float], Parameters]
) -> None:
    world = made["deepobs-cifar"]
    assert world.maximize
    assert world.truth(rates(1e-3)) == pytest.approx(0.901)
    assert world.truth(rates(1e-4)) == pytest.approx(0.8)
    assert 0.8 < world.truth(rates(3e-4)) < 0.901
    assert world.truth(rates(1e-6)) == world.truth(rates(1e-5)) == pytest.approx(0.7)
    assert world.best == {name: pytest.approx(0.901) for name in DeepObs.LR}


def test_a_training_ends_with_the_first_loss_that_is_not_finite(
    made: Mapping[str, World], rates: Callable[[float], Parameters]
) -> None:
    world = made["deepobs-cifar"]
    found = world.train(rates(1.0), np.random.default_rng(0))
    assert found.diverged
    assert len(found.values) == 4
    assert world.truth(rates(1.0)) == world.worst == 0.0


def test_the_table_of_algorithms_has_the_mean_over_seeds_and_keeps_what_reached_the_target(
    made: Mapping[str, World],
) -> None:
    world = made["algoperf-ogbg"]
    assert isinstance(world, AlgoPerf)
    assert world.optimizers == ("adam", "sgd")
    assert world.truth({"optimizer": "adam", "setting": "trial_4"}) == pytest.approx(0.242)
    early = world.train({"optimizer": "adam", "setting": "trial_2"}, np.random.default_rng(0))
    assert early.values[9:] == (0.30,) * 11
    broken = world.train({"optimizer": "adam", "setting": "trial_3"}, np.random.default_rng(0))
    assert broken.diverged
    assert len(broken.values) == 6
    assert world.best["sgd"] == pytest.approx(0.30)
    assert world.seconds == {"adam": 50.0, "sgd": 50.0}
