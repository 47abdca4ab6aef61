"""The bench of searches that really train: trainings go no further than they are looked at, and tests stay sealed."""

from pathlib import Path

import pytest

from scripts.bench.quality import real_trainings as bench
from scripts.bench.quality.real_trainings import Outcome, Real, kept, table


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Real:
    return Real("tabular-classes", tmp_path_factory.mktemp("nothing"), [])


def outcome(way: str, seed: int, errors: list[float], task: str = "gru") -> Outcome:
    return Outcome(task=task, way=way, seed=seed, trials=30, optimizer="adam", parameters={}, errors=errors)


def test_a_training_goes_no_further_than_it_is_looked_at(world: Real) -> None:
    from numpy.random import default_rng

    trained = world.train(world.known_good[0], default_rng(0))
    values = iter(trained.values)
    first = next(values)
    assert len(trained.values) == 1
    assert trained.values[-1] == first
    assert not trained.diverged


def test_a_winner_is_judged_on_the_test_set_that_no_search_sees(world: Real) -> None:
    assert len(world.test) not in (0, len(world.data.validation))
    assert 0.0 < world.tested(world.known_good[0], 1_000) < 1.0
    # a run of the same seed is the same
    assert world.tested(world.known_good[0], 1_000) == world.tested(world.known_good[0], 1_000)


def test_what_diverges_has_the_worst_error(world: Real) -> None:
    sgd = next(each for each in world.known_good if each["optimizer"] == "sgd")
    assert world.tested({**sgd, "lr_factor": 1e6}, 1_000) >= bench.error(world, world.worst)


def test_the_table_has_the_mean_over_searches_of_means_over_seeds(tmp_path: Path) -> None:
    rows = [outcome("a", 0, [1.0, 3.0]), outcome("a", 1, [4.0, 4.0]), outcome("b", 0, [5.0]), outcome("b", 1, [5.0])]
    file = tmp_path / "kept.jsonl"
    file.write_text("".join(each.model_dump_json() + "\n" for each in rows) + '{"cut')
    assert kept(file) == rows
    assert table(kept(file), ("a", "b"), 5).splitlines()[-1] == "| gru | 3 ± 1 | 5 ± 0 | 2 |"
