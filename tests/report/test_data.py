"""What a report's figures show: rows of made-up trials and runs."""

from dataclasses import replace
from math import inf

import pytest
from report_world import EPOCHS, STEPS, comparison, configuration, trials

from optitune.common.summary import summarise
from optitune.comparing.results import searched_on
from optitune.report.data import (
    ENOUGH,
    agreement,
    bands,
    basins,
    climbs,
    common_depth,
    search_curves,
    shares,
    window,
)
from optitune.report.importance import explained, influences
from optitune.statistics.runs import TUNED, Point, Run, RunId
from optitune.study.records import TrialRecord
from optitune.tasks.metrics import METRICS

NAMES = ("sgd", "adam")


def row(
    number: int, outcome: str = "complete", value: float | None = None, lr: float = 0.1, **other: object
) -> TrialRecord:
    """A trial of sgd."""
    fields = {"seconds": 2.0, "epochs": 5.0, "curve": (), "configuration": configuration("sgd", lr), **other}
    return TrialRecord(number=number, outcome=outcome, value=value, reason="", **fields)  # type: ignore[arg-type]


def run(number: int, optimizer: str, heights: list[float], diverged: str = "") -> Run:
    curve = tuple(Point(float(epoch + 1), 1.0, height, 0.0) for epoch, height in enumerate(heights))
    return Run(RunId(number, optimizer), diverged, heights[-1], 0.0, 1.0, 0, 1, curve)


def test_an_axis_holds_what_matters_and_of_the_rest_what_does_not_squeeze_it() -> None:
    low, high = window([1.0, 2.0], [0.0, -10.0, 5.9])
    assert low < 0.0
    assert low > -10
    assert high > 5.9
    low, high = window([1.0, 2.0], [-10.0])
    assert 0.9 < low < 1.0
    assert 2.0 < high < 2.1


def test_an_axis_of_one_value_has_a_width() -> None:
    for value in (0.0, 3.0, -3.0):
        low, high = window([value])
        assert low < value < high


def test_a_band_is_the_middle_half_of_the_runs_that_did_not_diverge() -> None:
    runs = [
        run(0, "sgd", [0.1, 0.5]),
        run(1, "sgd", [0.3, 0.9]),
        run(2, "sgd", [0.2, 0.6]),
        run(3, "sgd", [9, 9], "lost"),
    ]
    (band,) = bands(runs, NAMES)
    assert (band.optimizer, band.runs, band.epochs) == ("sgd", 3, (1.0, 2.0))
    assert band.middle == (0.2, 0.6)
    assert band.low == pytest.approx((0.15, 0.55))
    assert band.high == pytest.approx((0.25, 0.75))


def test_a_band_has_no_runs_of_other_settings() -> None:
    found = comparison(trials(NAMES), NAMES, rounds=3)
    assert len([each for each in found.runs if each.key.variant != TUNED]) == 2 * 2 * 3
    assert [band.runs for band in bands(found.runs, NAMES)] == [3, 3]


def test_steps_of_a_search_become_epochs() -> None:
    told = search_curves(trials(NAMES))
    assert {each.outcome for each in told} == {"complete", "pruned"}
    complete = next(each for each in told if each.outcome == "complete")
    assert [epoch for epoch, _ in complete.points] == [(k + 1) / 2 for k in range(2 * EPOCHS)]
    assert max(epoch for each in told if each.outcome == "pruned" for epoch, _ in each.points) == 1.0


def test_curves_of_trials_that_were_given_anothers_result_are_not_told_twice() -> None:
    first = row(0, value=0.9, curve=((STEPS * 5, 0.9),))
    assert len(search_curves([first, replace(first, number=1, same_as=0, epochs=0.0)])) == 1
    assert search_curves([]) == []
    assert search_curves([row(0, "running", curve=((10, 0.5),), epochs=0.0)]) == []


def test_a_basin_tells_how_wide_it_is_where_it_is_known_what_matters() -> None:
    rows = [
        row(0, value=0.90, lr=0.1),
        row(1, value=0.895, lr=0.3),
        row(2, value=0.80, lr=1.0),
        row(3, "pruned", lr=0.01, curve=((10, 0.5),)),
        row(4, "diverged", lr=9.0, curve=((10, 0.0),)),
        row(5, "running", lr=9.0),
    ]
    (basin,) = basins(rows, NAMES, 1, 0.01)
    assert [(point.lr, point.value) for point in basin.points] == [
        (0.1, 0.9),
        (0.3, 0.895),
        (1.0, 0.8),
        (0.01, 0.5),
        (9.0, None),
    ]
    assert basin.best == 0.9
    assert basin.good == (0.1, 0.3)
    assert basins(rows, NAMES, 1)[0].good is None
    assert basins(rows, NAMES, 1, 0.0)[0].good is None  # one trial has no width


def test_where_less_is_better_a_basin_has_its_best_below() -> None:
    rows = [row(0, value=0.1, lr=0.1), row(1, value=0.11, lr=0.2), row(2, value=0.9, lr=1.0)]
    (basin,) = basins(rows, NAMES, -1, 0.05)
    assert (basin.best, basin.good) == (0.1, (0.1, 0.2))
    assert 0.01 < common_depth([basin], -1) < 1.0


def test_basins_without_a_difference_have_a_depth() -> None:
    assert common_depth(basins([row(0, value=0.5), row(1, value=0.5)], NAMES, 1), 1) > 0
    assert basins([row(0, "diverged")], NAMES, 1) == []


@pytest.mark.parametrize(("sign", "best"), [(1, (0.5, 0.5, 0.9)), (-1, (0.5, 0.5, 0.5))])
def test_a_climb_counts_trials_and_seconds_from_the_first_value_on(sign: int, best: tuple[float, ...]) -> None:
    rows = [row(0, "diverged"), row(1, value=0.5), row(2, "pruned", seconds=None), row(3, value=0.9), row(4, "running")]
    (climb,) = climbs(reversed(rows), NAMES, sign)
    assert (climb.trials, climb.seconds, climb.best) == ((2, 3, 4), (4.0, 4.0, 6.0), best)


def test_shares_count_trials_epochs_and_runs() -> None:
    found = comparison(trials(NAMES), NAMES, rounds=3)
    rows = [
        row(0, value=0.5),
        row(1, "pruned", epochs=1.5),
        row(2, "diverged", epochs=0.5),
        row(3, "failed", epochs=0.0),
    ]
    sgd, adam = shares(rows, found.runs, NAMES)
    assert (sgd.complete, sgd.pruned, sgd.diverged, sgd.epochs, sgd.seconds) == (1, 1, 1, 7.0, 8.0)
    assert (adam.complete, adam.epochs) == (0, 0)
    assert sgd.runs == adam.runs == 3 + 2 * 3


def test_what_decides_the_value_explains_it_and_what_does_not_explains_little() -> None:
    settings = [0.001 * 2**k for k in range(12)]
    peaked = [-((k - 5) ** 2) for k in range(12)]
    assert (explained(settings, peaked) or 0) > 0.9
    assert (explained(settings, [-1 * k for k in range(12)]) or 0) > 0.99
    unrelated = [3.0, 1.0, 2.0] * 4
    assert explained(unrelated, list(range(12))) == pytest.approx(0, abs=0.2)


def test_words_explain_by_their_groups() -> None:
    assert explained(["step", "cosine"] * 6, [0.0, 1.0] * 6) == pytest.approx(1)
    assert explained(["step", "cosine"] * 6, [0.0, 0.0, 1.0, 1.0] * 3) == 0


def test_divergence_counts_as_the_worst() -> None:
    assert (explained([float(k) for k in range(12)], [1.0] * 6 + [-inf] * 6) or 0) > 0.7


@pytest.mark.parametrize(
    ("setting", "scores"),
    [
        pytest.param([1.0] * 12, list(range(12)), id="always the same"),
        pytest.param([1.0, 2.0] * 6, [0.5] * 12, id="nothing to explain"),
        pytest.param([1.0, 2.0] * 2, [0.5, 0.6] * 2, id="too few"),
        pytest.param([str(k) for k in range(12)], list(range(12)), id="as many words as trials"),
    ],
)
def test_nothing_is_said_where_nothing_can_be(setting: list[float | str], scores: list[float]) -> None:
    assert explained(setting, scores) is None


def test_influences_are_told_of_enough_trials_alone() -> None:
    rows = trials(NAMES)
    told = influences(rows, NAMES, 1)
    assert [each.trials for each in told] == [14, 14]
    for each in told:
        assert set(each.shares) == {"lr", "step.gamma"}  # nothing else differs
        assert each.shares["lr"] > each.shares["step.gamma"]
    assert [each.shares for each in influences(rows[: 2 * (ENOUGH - 1)], NAMES, 1)] == [{}, {}]


def test_where_less_is_better_the_same_matters() -> None:
    less = trials(NAMES, metric=METRICS["mse"])
    assert influences(less, NAMES, -1) == influences(trials(NAMES), NAMES, 1)


def test_a_search_that_went_on_is_noticed() -> None:
    rows = trials(NAMES)
    found = comparison(rows, NAMES)
    assert searched_on(found.plan, rows) == []
    better = row(99, value=0.999, score=0.999)
    assert searched_on(found.plan, [*rows, better]) == ["sgd"]


def test_how_a_value_lies_to_an_interval() -> None:
    other = summarise([0.5, 0.6])
    assert agreement(0.55, other, 1) == "within"
    assert agreement(9.0, other, 1) == "better than"
    assert agreement(9.0, other, -1) == "worse than"
    assert agreement(0.5, summarise([0.5]), 1) == ""
