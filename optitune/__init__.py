"""Which optimizer should I train this model with, with which settings, and how sure are we?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optitune.api import Objective, compare, retrain, search
    from optitune.metrics import Metric
    from optitune.pruner import ForecastPruner
    from optitune.sampler import FairSampler
    from optitune.tasks import Task

__all__ = ["FairSampler", "ForecastPruner", "Metric", "Objective", "Task", "compare", "retrain", "search"]

_PLACES = {
    "FairSampler": "optitune.sampler",
    "ForecastPruner": "optitune.pruner",
    "Metric": "optitune.metrics",
    "Objective": "optitune.api",
    "Task": "optitune.tasks",
    "compare": "optitune.api",
    "retrain": "optitune.api",
    "search": "optitune.api",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that `optitune --help` need not wait for torch."""
    if name not in _PLACES:
        raise AttributeError(f"module 'optitune' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
