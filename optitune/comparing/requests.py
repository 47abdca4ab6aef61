"""What a comparison is asked for."""

from dataclasses import dataclass
from math import isfinite
from typing import get_args

from optitune.errors import UsageError
from optitune.statistics.runs import PREFER, UNTIL, Prefer, Until
from optitune.storage.request import StageRequest

MOST_RUNS = 100
"""How many runs a comparison may take if nothing else is said."""

SENSITIVITY = 2
"""In how many rounds other settings are trained too if nothing else is said."""


@dataclass(frozen=True, kw_only=True)
class CompareRequest(StageRequest):
    """To compare the optimizers of a study.

    Attributes:
        optimizers: whom to compare; None for all that have a complete trial.
        epochs: of a run; None for the search's.
        max_runs: how many runs of finalists there may be in all.
        timeout: seconds after which no further run is begun; None for never.
        epsilon: what difference does not matter; None for the metric's usual one.
        target: value of the metric, the time to which is measured; None for what the weakest that is not out reaches.
        sensitivity: in how many rounds other settings are trained too.
        until: what ends it before its runs are spent.
        prefer: by what one is taken of those that are as good as the best.
        seed: another seed, other runs.
    """

    optimizers: tuple[str, ...] | None = None
    epochs: int | None = None
    max_runs: int = MOST_RUNS
    timeout: float | None = None
    epsilon: float | None = None
    target: float | None = None
    sensitivity: int = SENSITIVITY
    until: Until = UNTIL
    prefer: Prefer = PREFER
    seed: int = 0


def check(request: CompareRequest) -> None:
    """Hold a request against what is allowed.

    Raises:
        UsageError: something is not.
    """
    for name, value in (("epsilon", request.epsilon), ("timeout", request.timeout)):
        if value is not None and not (isfinite(value) and value >= 0):
            raise UsageError(f"{name} = {value}: must be a number of at least 0")
    for name, word, words in (("until", request.until, get_args(Until)), ("prefer", request.prefer, get_args(Prefer))):
        if word not in words:
            raise UsageError(f"{name} = {word!r}: must be one of {', '.join(words)}")
    if request.target is not None and not isfinite(request.target):
        raise UsageError(f"target = {request.target}: must be a finite number, in the metric's unit")
    for name, number, least in (
        ("epochs", request.epochs, 1),
        ("max_runs", request.max_runs, 1),
        ("sensitivity", request.sensitivity, 0),
    ):
        if number is not None and number < least:
            raise UsageError(f"{name} = {number}: must be at least {least}")
