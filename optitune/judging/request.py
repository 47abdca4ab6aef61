"""What is to be judged, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from optitune.errors import UsageError
from optitune.judging.columns import Asked
from optitune.statistics.runs import Prefer
from optitune.statistics.sequential_test import MOST_PLANNED


@dataclass(frozen=True)
class JudgeRequest:
    """What is to be judged, and how.

    Attributes:
        source: a path, a URL of an Optuna storage, or a DataFrame.
        asked: the columns that were named.
        higher: whether higher values are better; None for what the source or the metric's name says.
        epsilon: largest difference that does not matter, in the metric's unit; None for a usual one.
        rounds: how many runs of each arm were planned before any was looked at; None for any number.
        prefer: by what one is taken of those that are as good as the best.
        paired: whether runs of one seed are compared with each other; None for wherever arms share seeds.
        target: value of the metric, or one for each task by its name, the time to which is judged in its place; None
            for the metric itself.
        study: name of the study in an Optuna storage.
        diverged: whether a run without a finite value diverged.
    """

    source: Any
    asked: Asked = field(default_factory=Asked)
    higher: bool | None = None
    epsilon: float | None = None
    rounds: int | None = None
    prefer: Prefer = "value"
    paired: bool | None = None
    target: float | Mapping[str, float] | None = None
    study: str | None = None
    diverged: bool = False


def check(request: JudgeRequest) -> None:
    """Hold the options against what they may be.

    Raises:
        UsageError: one is wrong.
    """
    if request.epsilon is not None and not (isfinite(request.epsilon) and request.epsilon >= 0):
        raise UsageError(f"epsilon = {request.epsilon}: must be a number of at least 0")
    if request.rounds is not None and not 2 <= request.rounds <= MOST_PLANNED:
        raise UsageError(
            f"rounds = {request.rounds}: must be from 2 to {MOST_PLANNED}; for more, or any number, leave it out"
        )
    targets = request.target.values() if isinstance(request.target, Mapping) else (request.target,)
    for target in targets:
        if target is not None and not isfinite(target):
            raise UsageError(f"target = {target}: must be a finite number, in the metric's unit")
