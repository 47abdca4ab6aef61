"""Whether the verdict is honest, in small; `scripts/bench/verdict/calibrate.py` has it in large.

All of it is drawn from fixed seeds. A rule that is broken fails here: a t-test after every step does.
"""

import contextlib
import json
import sys
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from optitune.comparing.plan import FIRST, ROUNDS
from optitune.statistics import probability_best
from scripts.bench.verdict import calibrate
from scripts.bench.verdict.worlds import (
    EPSILON,
    MOMENTS,
    OWN,
    PP,
    SEED,
    SHARED,
    MadeUp,
    Recorded,
    coarse,
    compared,
    equals,
    fixed,
    holds,
    one_better,
    outcome,
    rounds_of,
)

pytestmark = pytest.mark.wide

# the worlds


def test_the_true_values_are_what_made_up_trainings_come_to() -> None:
    world, generator = MadeUp({"a": 0.991, "b": 0.97}), np.random.default_rng(0)
    values = np.array([[run.value for run in world.round(number, generator)] for number in range(1_500)])
    errors = values.std(0, ddof=1) / sqrt(len(values))
    assert np.all(np.abs(values.mean(0) - [0.991, 0.97]) < 3 * errors)
    assert np.all(errors < 0.0001)


def test_a_value_is_the_mean_over_examples_and_examples_are_hard_for_all_alike() -> None:
    world = MadeUp(equals(2))
    one, other = world.round(3, np.random.default_rng(0))
    assert one.each is not None
    assert other.each is not None
    assert (one.key.round, one.value) == (3, pytest.approx(float(one.each.mean())))
    assert np.corrcoef(one.each, other.each)[0, 1] > 0.5
    assert all(run.each is None for run in coarse(told=False).round(0, np.random.default_rng(0)))


def test_spreads_are_those_that_were_measured() -> None:
    same, alike = calibrate.both_wrong(SHARED + OWN), calibrate.both_wrong(SHARED)
    assert sqrt(2 * (same - alike) / calibrate.IMAGES) == pytest.approx(0.058 * PP, rel=0.01)
    # without the luck with examples, which a million of them leave nothing of
    world, generator = MadeUp(equals(8), fold=1_000_000), np.random.default_rng(0)
    values = [run.value for number in range(8) for run in world.round(number, generator)]
    assert np.std(values, ddof=1) == pytest.approx(SEED, rel=0.2)


@pytest.mark.parametrize("task", ["mnist-cnn", "mnist-net"])
def test_recorded_trainings_come_to_their_means(task: str) -> None:
    world = Recorded.of(task)
    assert len(world.truths) == 8
    assert max(world.truths, key=lambda name: world.truths[name]) == "muon"
    assert "muon" not in Recorded.of(task, ["muon"]).truths
    for residuals in world.residuals.values():
        assert len(residuals) >= 15
        assert np.mean(residuals) == pytest.approx(0, abs=1e-9)


# the rules


def test_a_comparison_goes_on_as_the_command_does_until_it_is_decided_or_all_rounds_are_spent() -> None:
    decided = list(compared(MadeUp(one_better(2, 0.6 * PP)), np.random.default_rng(0)))
    assert decided[-1].status == "clear"
    assert all(each.wanted for each in decided[:-1])
    spent = list(compared(coarse(), np.random.default_rng(0)))
    assert spent[-1].status == "undecided"
    assert [rounds_of(each) for each in spent] == list(range(FIRST, ROUNDS + 1))
    assert outcome(coarse(), spent).looks.keys() == MOMENTS.keys()


def test_what_is_said_is_held_against_the_truth() -> None:
    said = list(compared(MadeUp(one_better(2, 0.6 * PP)), np.random.default_rng(0)))
    honest = outcome(MadeUp(one_better(2, 0.6 * PP)), said)
    assert (honest.ordered, honest.wrong, honest.covered) == (True, False, True)
    assert honest.told == (rounds_of(said[-1]), said[-1].runs)
    lied = outcome(MadeUp(equals(2)), said)
    assert (lied.wrong, lied.covered) == (True, False)
    assert holds(said[-1], {"o0": 0.5, "o1": 0.5}) == [False, False]


# honesty


def ever_ordered(world: MadeUp, count: int, **values: object) -> float:
    return float(np.mean([each.ordered for each in calibrate.outcomes(world, count, 0, **values)]))


def test_identical_optimizers_are_told_apart_in_5_percent_at_most_and_by_a_repeated_t_test_in_many_more() -> None:
    world = MadeUp(equals(2))
    assert ever_ordered(world, 150) <= 0.05
    assert ever_ordered(world, 150, constant=calibrate.naive) > 0.07


@pytest.mark.parametrize("world", [coarse(), MadeUp(equals(4))], ids=["of few examples", "four"])
def test_nor_are_more_of_them_or_those_with_few_examples(world: MadeUp) -> None:
    assert ever_ordered(world, 30) <= 0.05


def test_a_difference_of_a_fifth_of_a_percentage_point_is_told_and_intervals_hold() -> None:
    world = MadeUp(one_better(2, 0.2 * PP))
    found = calibrate.outcomes(world, 100, 1)
    assert np.mean([each.told is not None and each.told[0] <= calibrate.SOON for each in found]) > 0.75
    assert np.mean([each.wrong for each in found]) <= 0.05
    assert np.mean([each.covered for each in found]) >= 0.95


@pytest.mark.parametrize("rounds", [4, 8])
def test_intervals_of_values_hold_in_95_of_100_when_the_number_of_rounds_was_fixed(rounds: int) -> None:
    world, generator = MadeUp(one_better(2, 0.2 * PP)), np.random.default_rng(0)
    hits = [hit for _ in range(100) for hit in holds(fixed(world, rounds, generator), world.truths)]
    assert 0.9 < np.mean(hits) <= 0.995


def test_a_probability_of_being_best_is_as_often_so() -> None:
    generator, told = np.random.default_rng(0), []
    for _ in range(150):
        world = MadeUp({f"o{number}": 0.98 + 0.1 * PP * generator.standard_normal() for number in range(3)})
        first = fixed(world, FIRST, generator).places[0]
        told.append((first.best, world.truths[first.optimizer] == max(world.truths.values())))
    said, so = np.array(told, dtype=float).T
    error = sqrt(float(np.mean(said * (1 - said))) / len(said))
    # so few runs leave the noise open: rather too low than too high
    assert -2.5 * error < float(np.mean(so - said)) < 0.12
    # the surer ones are right more often
    assert so[said > np.median(said)].mean() > so[said <= np.median(said)].mean() + 0.1


def test_fresh_images_see_what_the_same_ones_cannot() -> None:
    few, plural = calibrate.folds(200, 0)
    same, fresh = (next(key for key in few if key.startswith(f"seen on {word}")) for word in ("the same", "fresh"))
    assert plural[fresh] > 95 > plural[same] + 5
    assert plural[fresh] - few[fresh] > plural[same] - few[same]


# the script


def test_the_script_prints_tables_and_one_line_of_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["calibrate", "--comparisons", "40", "--quick", "--plot", str(tmp_path / "p.png")])
    calibrate.main()
    *tables, last = capsys.readouterr().out.strip().splitlines()
    found = json.loads(last)
    assert (found["comparisons"], found["seed"]) == (2, 0)
    assert sum(line.startswith("### ") for line in tables) == 7
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_patched_is_as_before() -> None:
    usual = probability_best.DRAWS
    with contextlib.suppress(ZeroDivisionError), calibrate.patched(DRAWS=3):
        assert probability_best.DRAWS == 3
        calibrate.share([1 / 0 > 1])
    assert probability_best.DRAWS == usual > 3


def test_an_accuracy_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"o1 = 1\.001"):
        MadeUp(one_better(2, 1 * PP))


def test_a_single_t_test_needs_as_many_rounds_as_its_power_says() -> None:
    n = calibrate.plain_rounds(0.2, 0.126, 2)
    draws = 0.2 + 0.126 * np.random.default_rng(0).standard_normal((20_000, n))
    width = stats.t.isf(0.025, n - 1) * draws.std(1, ddof=1) / np.sqrt(n)
    assert 0.89 < (draws.mean(1) > width).mean() < 0.97


def test_bins_hold_what_was_told_in_them() -> None:
    found = calibrate.binned([(0.0, False), (0.01, False), (0.6, True), (0.65, False), (1.0, True)])
    assert found == [(0.005, 0.0, 2), (pytest.approx(0.625), 0.5, 2), (1.0, 1.0, 1)]
    assert EPSILON == 0.1 * PP
