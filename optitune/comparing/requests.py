"""What a comparison is asked for."""

from dataclasses import dataclass

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
