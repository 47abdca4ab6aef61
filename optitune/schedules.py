"""The learning-rate schedules: one frozen row each, no torch at import.

Every schedule is stepped once an epoch. Adding a schedule is adding a row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from sys import float_info
from types import MappingProxyType
from typing import Any

from optitune.errors import unknown
from optitune.space import Float, Int, Range

Settings = dict[str, Any]


@dataclass(frozen=True)
class Schedule:
    """One learning-rate schedule.

    Attributes:
        name: what a user types.
        path: `module:class` of the torch scheduler; empty where the lr never changes.
        known_good: settings tried first, for a training of so many epochs.
        ranges: where a search looks, for a training of so many epochs.
        fixed: settings that follow from the number of epochs.
        stretched: the same shape of curve over `ratio` times as many epochs.
        source: the paper or documentation.
        note: what it does, in a sentence.
    """

    name: str
    path: str
    known_good: Callable[[int], Settings]
    ranges: Callable[[int], Mapping[str, Range]]
    fixed: Callable[[int], Settings]
    stretched: Callable[[Settings, float], Settings]
    source: str
    note: str


def _nothing(epochs: int) -> Settings:
    return {}


def _to_a_tenth(epochs: int) -> float:
    """The factor per epoch with which a learning rate falls to a tenth over the whole training."""
    return float(round(max(0.1, 0.1 ** (1 / epochs)), 6))


ROWS = (
    Schedule(
        name="step",
        path="torch.optim.lr_scheduler:StepLR",
        known_good=lambda epochs: {"step_size": 1, "gamma": _to_a_tenth(epochs)},
        ranges=lambda epochs: {
            "step_size": Int(1, max(1, epochs), "once an epoch to never within the training"),
            "gamma": Float(0.1, 1.0, "linear", "torch's default of 0.1 to 1, the constant schedule"),
        },
        fixed=_nothing,
        stretched=lambda settings, ratio: {**settings, "step_size": max(1, round(settings["step_size"] * ratio))},
        source="torch documentation, StepLR; PyTorch's MNIST example (step_size 1); gamma: to a tenth in all",
        note="lr * gamma after every step_size epochs; gamma 1 is a constant lr.",
    ),
    Schedule(
        name="constant",
        path="",
        known_good=_nothing,
        ranges=_nothing,
        fixed=_nothing,
        stretched=lambda settings, ratio: settings,
        source="torch documentation",
        note="The lr never changes.",
    ),
    Schedule(
        name="exponential",
        path="torch.optim.lr_scheduler:ExponentialLR",
        known_good=lambda epochs: {"gamma": _to_a_tenth(epochs)},
        ranges=lambda epochs: {"gamma": Float(0.1, 1.0, "linear", "a tenth after one epoch, to constant")},
        fixed=_nothing,
        stretched=lambda settings, ratio: {
            **settings,
            # a long curve pressed into few epochs may fall below the smallest float, but gamma stays above 0
            "gamma": max(float_info.min, settings["gamma"] ** (1 / ratio)),
        },
        source="torch documentation, ExponentialLR; gamma: to a tenth in all",
        note="lr * gamma after every epoch.",
    ),
    Schedule(
        name="cosine",
        path="torch.optim.lr_scheduler:CosineAnnealingLR",
        known_good=_nothing,
        ranges=_nothing,
        fixed=lambda epochs: {"T_max": epochs},
        stretched=lambda settings, ratio: {**settings, "T_max": max(1, round(settings["T_max"] * ratio))},
        source="Loshchilov & Hutter 2017, arXiv:1608.03983; torch documentation, CosineAnnealingLR",
        note="Half a cosine from lr down to zero over the whole training.",
    ),
)

SCHEDULES: Mapping[str, Schedule] = MappingProxyType({row.name: row for row in ROWS})

DEFAULT_SCHEDULES = ("step",)

LIMITS: Mapping[str, tuple[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "step_size": ("a whole number of at least 1", lambda value: isinstance(value, int) and value >= 1),
        "gamma": ("above 0 and at most 1", lambda value: 0 < value <= 1),
        "T_max": ("a whole number of at least 1", lambda value: isinstance(value, int) and value >= 1),
    }
)
"""What a setting may be at all, wider than where a search looks: for settings edited by hand."""


def find(name: str) -> Schedule:
    """The row called `name`.

    Raises:
        UsageError: there is none; the message has the nearest names.
    """
    try:
        return SCHEDULES[name]
    except KeyError:
        raise unknown("schedule", name, SCHEDULES) from None
