"""The bench of real searches: what it asks for, and that nothing is done twice."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from scripts.bench.quality import real_searches as bench


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that were run, each answered with made-up results."""
    commands: list[tuple[str, ...]] = []

    def answer(*words: Any) -> dict[str, Any]:
        commands.append(tuple(str(word) for word in words))
        best = {"optimizer": "muon", "value": 0.99}
        trials = {"finished": 50, "complete": 11}
        found = {"best": best, "trials": trials, "allocation": {"epochs": {"sgd": 8.5, "muon": 9.0}}, "wall_s": 123.4}
        return {**found, "test_value": {"mean": 0.9912, "sd": 0.0004}}

    monkeypatch.setattr(bench, "optitune", answer)
    return commands


def options(folder: Path) -> argparse.Namespace:
    return argparse.Namespace(
        keep=folder, data_dir=Path("data"), trials=50, epochs=2, retrainings=3, train_examples=None
    )


def said(command: tuple[str, ...], flag: str) -> str:
    return command[command.index(flag) + 1]


def test_the_other_search_has_as_many_seconds_as_ours_took(asked: list, tmp_path: Path) -> None:
    bench.searched(options(tmp_path), 3)
    ours, _, other, _ = asked
    assert (said(ours, "--trials"), said(ours, "--seed"), said(other, "--seed")) == ("50", "3", "3")
    assert "--sampler" not in ours
    assert (said(other, "--sampler"), said(other, "--pruner"), said(other, "--timeout")) == ("tpe", "median", "123.4")


def test_winners_are_trained_anew_from_seeds_that_no_search_has(asked: list, tmp_path: Path) -> None:
    bench.searched(options(tmp_path), 0)
    for retrain in (asked[1], asked[3]):
        assert retrain[0] == "retrain"
        assert (said(retrain, "--seed"), said(retrain, "--seeds")) == (str(bench.FRESH_SEEDS), "3")


def test_what_is_done_is_not_done_again(asked: list, tmp_path: Path) -> None:
    first = bench.searched(options(tmp_path), 0)
    assert len(asked) == 4
    assert bench.searched(options(tmp_path), 0) == first
    assert len(asked) == 4
    bench.searched(options(tmp_path), 1)
    assert len(asked) == 8


def test_a_row_says_what_was_found(asked: list, tmp_path: Path) -> None:
    ours, _ = bench.searched(options(tmp_path), 0)
    assert bench.row(0, "ours", ours) == "| 0 | ours | 123 | 50 (11) | 18 | muon | 99.00 | 99.120 ± 0.040 |"


def test_the_error_of_a_mean_is_that_of_independent_values() -> None:
    mean, error = bench.mean_and_error([0.5, 0.7])
    assert (mean, error) == (pytest.approx(0.6), pytest.approx(0.1))
