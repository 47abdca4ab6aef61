"""Runs of a comparison that nobody trained, for several test files."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optitune.statistics.runs import TUNED, Point, Run, RunId

DIVERGED = "loss nan"


def made_up(number: int, name: str, value: float | str, variant: str = TUNED, **fields: Any) -> Run:
    """A run with this value, or with this reason for having none."""
    known: dict[str, Any] = {
        "diverged": value if isinstance(value, str) else "",
        "value": 0.0 if isinstance(value, str) else value,
        "loss": 0.1,
        "seconds": 10.0,
        "state_bytes": 200,
        "weight_bytes": 100,
        "curve": (),
    }
    return Run(RunId(number, name, variant), **{**known, **fields})


def runs(values: Mapping[str, Sequence[float | str | None]]) -> list[Run]:
    """By optimizer the values of its rounds; None where it has no run."""
    return [
        made_up(number, name, value)
        for name, own in values.items()
        for number, value in enumerate(own)
        if value is not None
    ]


def noisy(means: Mapping[str, float], rounds: int, spread: float = 0.001, seed: int = 0) -> dict[str, list[float]]:
    """Values about these means; a round is easy or hard for all alike."""
    generator = np.random.default_rng(seed)
    hard = 10 * spread * generator.standard_normal(rounds)
    return {name: (mean + hard + spread * generator.standard_normal(rounds)).tolist() for name, mean in means.items()}


def curve(*values: float) -> tuple[Point, ...]:
    """An evaluation every half epoch, which takes a second."""
    return tuple(Point((i + 1) / 2, float(i + 1), value, 0.1) for i, value in enumerate(values))
