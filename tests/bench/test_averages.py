"""Normalised regrets: how they are averaged and put into tables."""

from math import isnan
from pathlib import Path

import pytest

from scripts.bench.quality.averages import averaged, kept, overview, ratio, table
from scripts.bench.quality.repeats import Repeat


def run(seed: int, *winner: float | None, unit: float = 0.5) -> Repeat:
    return Repeat(
        seed=seed, winner=list(winner), right=[True], own=[0.0], trials=seed + 1, seconds=0.001 * (seed + 1), unit=unit
    )


WORLDS = {
    "a-one": {"ours": [run(0, 0.1), run(1, 0.3)], "tpe-median": [run(0, 0.4), run(1, 0.4)]},
    "a-two": {"ours": [run(0, None, unit=2.0), run(1, 9.0, unit=2.0)], "tpe-median": [run(0, 0.5, unit=2.0)] * 2},
    "b-three": {"others": [run(0, 0.2), run(1, 0.2)]},
}


def test_a_regret_is_in_units_and_1_at_most_and_without_a_winner() -> None:
    assert run(0, 0.25, None, 3.0).normalised == [0.5, 1.0, 1.0]


def test_worlds_count_the_same_whatever_their_unit() -> None:
    mean, error = averaged([WORLDS["a-one"], WORLDS["a-two"]], "ours", 1)
    assert mean == pytest.approx((0.4 + 1.0) / 2)
    # of the two runs of the first world; in the second they came to the same
    assert error == pytest.approx(0.2 / 2)


def test_a_ratio_has_the_error_of_both() -> None:
    assert ratio((0.5, 0.1), (1.0, 0.0)) == pytest.approx((0.5, 0.1))
    assert ratio((0.5, 0.0), (1.0, 0.2)) == pytest.approx((0.5, 0.1))
    assert all(isnan(each) for each in ratio((0.5, 0.1), (0.0, 0.0)))


def test_a_table_has_the_best_first_and_what_it_is_of_the_opponents() -> None:
    heads, _, ours, others = table("a-one", [WORLDS["a-one"]]).strip().splitlines()[2:]
    assert heads == "| search | at 1 | ratio at 1 | trials | ms a trial | n |"
    assert ours == "| `ours` | 0.400 ± 0.200 | 0.50 ± 0.25 | 2 | 1.5 | 2 |"
    assert others.startswith("| `tpe-median` | 0.800 ± 0.000 | 1 |")


def test_every_kind_of_several_worlds_is_averaged_and_each_world_shown() -> None:
    titles = [line for line in overview(WORLDS).splitlines() if line.startswith("#")]
    assert titles == ["### a, mean of 2 worlds", "### a-one", "### a-two", "### b-three"]
    mixed = {"a-one": WORLDS["a-one"], "a-three": WORLDS["b-three"]}
    assert "mean of" not in overview(mixed)


def test_repeats_are_found_by_world_and_search(tmp_path: Path) -> None:
    for name, runs in {"a-one.ours": 2, "a-one.others": 1}.items():
        lines = [run(seed, 0.1).model_dump_json() + "\n" for seed in range(runs)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    assert kept(tmp_path) == {"a-one": {"ours": [run(0, 0.1), run(1, 0.1)]}}
