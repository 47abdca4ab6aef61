"""Which optimizer should I train this model with, with which settings, and how sure are we?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optitune.api.functions import compare, load, retrain, search
    from optitune.api.judge import JudgeResult, judge
    from optitune.api.objective import Objective
    from optitune.api.results import ComparisonResult, SearchResult
    from optitune.api.retrain_result import RetrainResult
    from optitune.errors import Interrupted, OptituneError, UsageError
    from optitune.sampling.pruner import ForecastPruner
    from optitune.sampling.sampler import FairSampler
    from optitune.space.optimizer_rows import Optimizer
    from optitune.space.ranges import Choice, Fixed, Float, Int
    from optitune.space.schedules import Schedule
    from optitune.tasks.metrics import Metric
    from optitune.tasks.task import Task
    from optitune.training.run import Run

__all__ = [
    "Choice",
    "ComparisonResult",
    "FairSampler",
    "Fixed",
    "Float",
    "ForecastPruner",
    "Int",
    "Interrupted",
    "JudgeResult",
    "Metric",
    "Objective",
    "Optimizer",
    "OptituneError",
    "RetrainResult",
    "Run",
    "Schedule",
    "SearchResult",
    "Task",
    "UsageError",
    "compare",
    "judge",
    "load",
    "retrain",
    "search",
]

_PLACES = {
    "Choice": "optitune.space.ranges",
    "ComparisonResult": "optitune.api.results",
    "FairSampler": "optitune.sampling.sampler",
    "Fixed": "optitune.space.ranges",
    "Float": "optitune.space.ranges",
    "ForecastPruner": "optitune.sampling.pruner",
    "Int": "optitune.space.ranges",
    "Interrupted": "optitune.errors",
    "JudgeResult": "optitune.api.judge",
    "Metric": "optitune.tasks.metrics",
    "Objective": "optitune.api.objective",
    "Optimizer": "optitune.space.optimizer_rows",
    "OptituneError": "optitune.errors",
    "RetrainResult": "optitune.api.retrain_result",
    "Run": "optitune.training.run",
    "Schedule": "optitune.space.schedules",
    "SearchResult": "optitune.api.results",
    "Task": "optitune.tasks.task",
    "UsageError": "optitune.errors",
    "compare": "optitune.api.functions",
    "judge": "optitune.api.judge",
    "load": "optitune.api.functions",
    "retrain": "optitune.api.functions",
    "search": "optitune.api.functions",
}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that `optitune --help` need not wait for torch."""
    if name not in _PLACES:
        raise AttributeError(f"module 'optitune' has no attribute '{name}'")
    from importlib import import_module
    from warnings import catch_warnings, filterwarnings

    with catch_warnings():
        # a notebook without widgets is warned by Optuna of a progress bar that is never shown
        filterwarnings("ignore", "IProgress not found")
        return getattr(import_module(_PLACES[name]), name)
