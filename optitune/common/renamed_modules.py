"""New names of modules that studies on disk name by their old ones."""

from collections.abc import Mapping
from types import MappingProxyType

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "optitune.data": "optitune.tasks.data",
        "optitune.datasets": "optitune.tasks.datasets",
        "optitune.metrics": "optitune.tasks.metrics",
        "optitune.models": "optitune.tasks.models",
        "optitune.muon": "optitune.training.muon",
        "optitune.pooling": "optitune.tasks.pooling",
        "optitune.sparse_adam": "optitune.training.sparse_adam",
    }
)
"""Before version 0.2 all modules were in one folder."""


def current_path(path: str) -> str:
    """The present form of a dotted path or `module:name`."""
    for before, now in RENAMED.items():
        if path.startswith((f"{before}:", f"{before}.")):
            return now + path[len(before) :]
    return path
