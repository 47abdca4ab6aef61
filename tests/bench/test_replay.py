"""Worlds made of recorded trainings: what a configuration would have come to there."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from replay_worlds import SMALL, curve, recorded, settings, small_world

from optitune.tasks.metrics import find
from scripts.bench.quality.fit import Model, Places, Share
from scripts.bench.quality.make_record import MNIST
from scripts.bench.quality.points import drawn
from scripts.bench.quality.record import Curve, write
from scripts.bench.quality.replay import Kind, World
from scripts.bench.quality.scale import Scale
from scripts.bench.quality.worlds import Replayed, rungs

FAILED = 0.5


@pytest.mark.parametrize(
    ("metric", "chance", "finals", "scores"),
    [
        ("accuracy", 0.1, [0.9, 0.99], [1.0, 2.0]),
        ("mse", 1.0, [0.1, 0.01], [1.0, 2.0]),
        ("r2", 0.0, [0.9, -0.5], [1.0, -0.17609]),
    ],
)
def test_a_scale_goes_up_by_one_with_a_tenth_of_the_error_and_back(
    metric: str, chance: float, finals: list[float], scores: list[float]
) -> None:
    scale = Scale(find(metric), chance, [curve(final=each) for each in finals])
    assert scale.scores(finals) == pytest.approx(scores, abs=1e-4)
    assert scale.values(scale.scores(finals)) == pytest.approx(finals)


def test_a_scale_without_an_ideal_has_its_unit_from_the_better_half_and_ends_below_chance() -> None:
    scale = Scale(find("loss"), 3.0, [curve(final=each) for each in (1.0, 1.2, 2.9, 2.8, 50.0)])
    assert np.diff(scale.scores([1.2, 1.0])) == pytest.approx([0.2])
    assert scale.values(scale.scores([1.0, 2.0])) == pytest.approx([1.0, 2.0])
    assert scale.scores([np.nan, np.inf]) == pytest.approx(scale.scores([1e9, 1e9]))
    assert scale.scores([1e9]) == pytest.approx(scale.scores([3.0]) - 1)


@pytest.mark.parametrize(("metric", "chance", "good", "bad"), [("accuracy", 0.5, 0.6, 0.4), ("mse", 0.5, 0.4, 0.6)])
def test_what_ends_worse_than_chance_or_diverged_failed(metric: str, chance: float, good: float, bad: float) -> None:
    scale = Scale(find(metric), chance, [curve(final=good)])
    assert not scale.failed(curve(final=good))
    assert scale.failed(curve(final=bad))
    assert scale.failed(curve(final=good, diverged=3))


def test_an_optimizer_of_which_few_learned_does_what_the_nearest_did() -> None:
    _, curves = recorded("mnist-net")
    sgd = [each for each in curves if each.optimizer == "sgd" and each.origin == "sobol"][:12]
    flat = [each.model_copy(update={"values": (0.1,) * len(each.values)}) for each in sgd[3:]]
    scale = Scale(find("accuracy"), 0.5, sgd)
    model = Model(Places(settings(), "sgd"), sgd[:3] + flat, scale, 20)
    assert model.fails(model.x).tolist() == [scale.failed(each) for each in sgd[:3] + flat]
    assert model.expected(model.x[0]) == pytest.approx(scale.scores(sgd[0].values))
    assert not len(model.held_out()[0])


def learned(world: World) -> list[Curve]:
    """The recorded configurations that learned."""
    return [each for each in world._curves if each.origin != "again" and each.final >= FAILED]


def test_the_nearest_world_tells_of_a_recorded_configuration_its_recorded_mean() -> None:
    world = small_world("nearest")
    runs: dict[tuple[str, int], list[float]] = {}
    for each in world._curves:
        runs.setdefault((each.optimizer, each.number), []).append(each.final)
    for each in learned(world):
        of_it = runs[each.optimizer, each.number]
        expected = float(world._scale.values(world._scale.scores(of_it).mean()))
        assert world.truth(each.parameters) == pytest.approx(expected, abs=1e-9)
        assert expected == pytest.approx(np.mean(of_it), abs=2e-3)
    assert max(len(each) for each in runs.values()) == 1 + MNIST.fresh_seeds


@pytest.mark.parametrize("kind", ["fitted", "nearest"])
def test_a_replayed_training_has_all_its_values_and_is_the_same_for_the_same_generator(kind: Kind) -> None:
    world = small_world(kind)
    best = max(learned(world), key=lambda each: each.final).parameters

    def runs(seed: int) -> list[Replayed]:
        generator = np.random.default_rng(seed)
        return [world.train(best, generator) for _ in range(20)]

    assert runs(1) == runs(1)
    # what differs from run to run is drawn
    assert len({each.values[-1] for each in runs(1)}) > 5
    assert all(len(each.values) == rungs(world) == 20 and not each.diverged for each in runs(1))
    mean = np.mean([each.values[-1] for each in runs(1) + runs(2)])
    assert mean == pytest.approx(world.truth(best), abs=4 * world.spread)


@pytest.mark.parametrize("kind", ["fitted", "nearest"])
def test_no_configuration_within_the_ranges_is_truly_better_than_the_best(kind: Kind) -> None:
    world = small_world(kind)
    generator = np.random.default_rng(0)
    for name in SMALL:
        points = drawn(world.settings, name, generator.random((300, 8)).tolist())
        inner = [each.parameters for each in learned(world) if each.optimizer == name and each.origin != "outer"]
        truths = [world.truth(parameters) for parameters in points + inner]
        # the best of the fitted world is searched for, not known: two hundredths of a percent are nothing
        assert max(truths) <= world.best[name] + 2e-4
        assert world.best[name] >= world.unsearched(name)
        assert len(set(truths)) > 20


@pytest.mark.parametrize("kind", ["fitted", "nearest"])
def test_what_failed_in_the_record_fails_again(kind: Kind) -> None:
    world = small_world(kind)
    failed = [each for each in world._curves if each.origin != "again" and not each.final >= FAILED]
    assert failed
    # the fitted world tells failures by three neighbours, of which a lone one may have other kinds
    told = [world.truth(each.parameters) < FAILED for each in failed]
    assert np.mean(told) >= (1.0 if kind == "nearest" else 0.5)
    for each in (each for each, fails in zip(failed, told, strict=True) if fails):
        replayed = world.train(each.parameters, np.random.default_rng(0))
        assert replayed.diverged or replayed.values[-1] < FAILED
        if kind == "nearest":
            assert (replayed.values, replayed.diverged) == (each.values, each.diverged is not None)


def test_an_optimizer_left_out_does_not_compete() -> None:
    without = small_world("nearest", ("adagrad",))
    assert without.settings.optimizers == ("sgd",)
    assert without.best.keys() == {"sgd"}


def test_the_fit_tells_apart_the_good_and_the_bad_that_it_was_not_shown() -> None:
    errors = small_world("fitted").errors()
    assert errors["rank"] > 0.5
    assert errors["explained"] > 0.3
    assert errors["failing"] > 0.7
    assert errors["median"] <= errors["rms"] < 0.2


@cache
def few() -> World:
    """A world of a tenth of the perceptron's record, as of a record with few points of each optimizer."""
    about, curves = recorded("mnist-net")
    names = ["sgd", "adagrad", "adam"]
    about = about.model_copy(update={"settings": {**about.settings, "optimizers": names}, "lr_prior": (1.0, 3.0)})
    kept = [each for each in curves if each.optimizer in names and each.number % 10 == 0]
    with TemporaryDirectory() as folder:
        write(Path(folder) / "few", about, kept)
        return World(Path(folder) / "few", "fitted")


def test_a_fit_of_few_points_is_pooled_and_knows_good_from_bad() -> None:
    world = few()
    assert all(isinstance(model.fit, Share) for model in world._models.values())
    errors = world.errors()
    assert errors["rank"] > 0.3
    assert errors["explained"] > 0.2
    assert errors["failing"] > 0.7
    assert errors["median"] <= errors["rms"]


def test_a_pooled_world_replays_what_it_was_shown_and_no_more_than_its_best() -> None:
    world = few()
    for model in world._models.values():
        for row, each in enumerate(model.first):
            truth = world.truth(each.parameters)
            assert (truth < FAILED) == bool(model.failed[row])
            assert truth <= world.best[each.optimizer] + 1e-12
        good = model.first[int(np.nanargmax(model.y[:, -1]))].parameters
        replayed = world.train(good, np.random.default_rng(0))
        assert replayed == world.train(good, np.random.default_rng(0))
        assert len(replayed.values) == world.epochs * world.evaluations
        assert replayed.values[0] < replayed.values[-1]


def test_beyond_the_reach_of_a_record_all_is_as_at_its_end() -> None:
    world = few()
    known = world.known_good[0]
    assert world.truth({**known, "lr_factor": 1e9}) == world.truth({**known, "lr_factor": 1e3})
    assert set(world.seconds) == set(world.optimizers)
    assert all(0 < each < np.inf for each in world.seconds.values())
