"""Checks that a task's data, and what is sealed away and held out of them, are those of an earlier time."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from optitune.errors import UsageError
from optitune.tasks.splits import DIFFER, FullData, SearchData
from optitune.tasks.task import Task


def unchanged() -> str:
    """The reasons why data may differ though nobody has changed them, for messages."""
    splitter = f"another version of scikit-learn (here {version('scikit-learn')}) parts them otherwise"
    return f"if nothing was changed, {DIFFER}; or {splitter}"


def differs(found: Mapping[str, Any], data: SearchData | FullData) -> bool:
    """Whether data differ from those whose checksum and digests are `found`."""
    here = {"checksum": data.checksum, **data.digests}
    return any(key in found and key in here and found[key] != here[key] for key in ("checksum", "inputs"))


def regrouped(found: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """An explanation where data are split by other groups than when the digests were `found`, or by time; or empty."""
    if found.get("split") == now.get("split"):
        return ""
    return (
        "the examples are split by other groups than before, or by time where they were not (groups and split of Task "
        "and run.split): bring back what the study was made with, or begin another study with --study NAME"
    )


def split_change(found: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """An explanation where data are split differently than when the digests were `found`; empty where they are not.

    Only digests in both are compared: older versions wrote fewer.
    """
    if why := regrouped(found, now):
        return why
    held_out = found.get("validation_examples") == now.get("validation_examples")
    for key, what in (("sealed", "sealed away for the test"), *[("held_out", "held out for validation")] * held_out):
        if key in found and key in now and found[key] != now[key]:
            return (
                f"other examples are {what} than before: the data are others, or another version of scikit-learn "
                f"(here {version('scikit-learn')}) parts them otherwise; bring back what the study was made with, or "
                "begin another study with --study NAME"
            )
    return ""


def others(task: Task, data: FullData, found: Mapping[str, Any]) -> bool:
    """Whether the data of a full training differ from those of the search, where the test set stays unseen.

    Args:
        task: that the data belong to.
        data: of the full training.
        found: checksum and digests of the data of the search.

    Raises:
        UsageError: the test set may differ, so that the search may have seen a part of it.
    """
    if why := regrouped(found, data.digests):
        raise UsageError(f"task '{task.name}': {why}")
    other = differs(found, data)
    if other and data.sealed is not None:
        raise UsageError(
            f"task '{task.name}': the data are not those of the search (their checksums differ), so that examples "
            "that the search has seen would be sealed away for the test: bring back the same data, or search again "
            f"with --study NAME; {unchanged()}"
        )
    if not other and (why := split_change(found, data.digests)):
        raise UsageError(f"task '{task.name}': {why}")
    return other
