"""Best values at an end of their search range, where a better one may lie outside."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optitune.space import optimizers, schedules
from optitune.space.ranges import Float, Int, Limit
from optitune.space.search_space import ALL_OWNERS, TRAINING_SETTINGS, SearchSpace, group

EDGE = 0.02
"""Distance from an end, as a share of the range, within which a value counts as lying there."""


@dataclass(frozen=True)
class Edge:
    """A value at an end of its range.

    Attributes:
        key: of the hyperparameter in a study's file.
        value: of the best configuration.
        value_range: that was searched.
        line: of a study's file, which widens the range by about a factor of ten.
    """

    key: str
    value: float
    value_range: Float | Int
    line: str


def edges(space: SearchSpace, optimizer: str, schedule: str, values: Mapping[tuple[str, str], Any]) -> list[Edge]:
    """Find the values of a best configuration that lie at an end of their ranges.

    Args:
        space: search space of the study.
        optimizer: name of the configuration's optimizer.
        schedule: name of its schedule.
        values: of its hyperparameters, by owner and name.
    """
    limits = {
        **optimizers.LIMITS,
        **schedules.LIMITS,
        **{name: row.limit for name, row in TRAINING_SETTINGS.items()},
    }
    found = []
    for owner, name, value_range in space.owned():
        value = values.get((owner, name))
        if owner not in (optimizer, schedule, ALL_OWNERS) or value is None:
            continue
        if not isinstance(value_range, Float | Int) or value_range.closed:
            continue
        wider = _wider(value_range, value, limits.get(name))
        if wider is not None:
            key = f"{owner}.{name}" if owner else name
            if name.startswith(group("")):
                key = f'groups."{name.removeprefix(group(""))}"'
            found.append(Edge(key, value, value_range, f"{key} = [{wider[0]:.12g}, {wider[1]:.12g}]"))
    return found


def _wider(value_range: Float | Int, value: float, limit: Limit | None) -> tuple[float, float] | None:
    """The ends of a range widened at the end where `value` lies; None if it lies at neither end, or at a limit."""
    low, high = value_range.low, value_range.high
    if isinstance(value_range, Int):
        at_low, at_high = value == low, value == high
    else:
        at_low, at_high = value_range.place(value) < EDGE, value_range.place(value) > 1 - EDGE
    if at_low == at_high:
        return None
    end = low if at_low else high
    scale = value_range.scale if isinstance(value_range, Float) else "linear"
    # less far where what lies beyond is not allowed
    for share in (1.0, 0.5, 0.2, 0.1):
        if scale == "complement":
            further = 1 - (1 - end) * (10 if at_low else 0.1) ** share
        elif scale == "log":
            further = end * (0.1 if at_low else 10) ** share
        else:
            further = end + (high - low) * (-share if at_low else share)
        further = round(further, 12) if scale != "log" else further
        if limit is None or limit[1](int(further) if isinstance(value_range, Int) else further):
            break
    else:
        return None
    if isinstance(value_range, Int):
        further = int(further)
    elif scale == "log":
        further = float(f"{further:.6g}")
    if further == end:
        return None
    return (further, high) if at_low else (low, further)
