"""The bench of probabilities of being best, in small."""

import json
import sys

import numpy as np
import pytest

from scripts.bench.verdict import probabilities
from scripts.bench.verdict.probabilities import Normal, bounds, chances

pytestmark = pytest.mark.wide


def test_a_hopeless_one_is_far_behind_and_noisy() -> None:
    generator, world = np.random.default_rng(0), Normal(3, 4_000, hopeless=1)
    truths, values = world.drawn(generator)
    assert values.shape == (4, 4_000)
    assert values.mean(1) == pytest.approx(truths, abs=0.05)
    assert (values - values[0]).std(1)[1:] == pytest.approx([0.127, 0.127, 0.9], rel=0.05)


def test_a_noisy_hopeless_one_does_not_take_the_probability_of_the_best() -> None:
    found = chances(Normal(3, 8, hopeless=1), 100, 0)
    assert found["the leader is best, said, %"] == pytest.approx(found["the leader is best, %"], abs=10)
    assert found["the leader is best, said, %"] > 75


def test_leaders_of_many_that_are_the_same_are_held_by_their_intervals() -> None:
    found = bounds(Normal(8, 8, 0.0, difficulty=0.0), 100, 0)
    assert found["the leader's holds, %"] >= 94
    assert found["the leader's by Student, %"] < 92


def test_the_script_prints_tables_and_one_line_of_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["probabilities", "--comparisons", "40", "--quick"])
    monkeypatch.setattr(probabilities, "FEW", {"DRAWS": 40, "SPREADS": 10})
    for name in ("HOPELESS", "SPREADS", "FEW_RUNS", "LEADERS"):
        monkeypatch.setattr(probabilities, name, getattr(probabilities, name)[:2])
    probabilities.main()
    *tables, last = capsys.readouterr().out.strip().splitlines()
    found = json.loads(last)
    assert (found["comparisons"], found["seed"]) == (2, 0)
    assert sum(line.startswith("### ") for line in tables) == 4
