"""The registry of learning-rate schedules: one frozen row each, no torch at import. Adding one is adding a row.

Times are in whole epochs, also where torch steps the scheduler after every optimizer step, so that a row means the
same for every batch size. A warm-up goes with any schedule: a linear ramp from almost 0 to 1 multiplies the learning
rate over the first steps (Goyal et al. 2017, arXiv:1706.02677).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from sys import float_info
from types import MappingProxyType
from typing import Any, Literal

from optitune.errors import unknown
from optitune.space.ranges import Fixed, Float, Int, Limit, Range, whole_number

Settings = dict[str, Any]

JOINED: Mapping[str, tuple[str, ...]] = MappingProxyType({"milestones": ("milestone1", "milestone2")})


def _nothing(epochs: int) -> Settings:
    return {}


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule with its default settings and search ranges: a row of the registry.

    Attributes:
        name: what a user types.
        path: `module:class` of the torch scheduler; empty for a constant learning rate.
        known_good: number of epochs -> default settings, tried first.
        ranges: number of epochs -> search range of each setting, by the same names.
        source: the paper or documentation.
        note: what it does, in a sentence.
        per: whether torch steps it after every epoch or after every optimizer step.
        in_epochs: settings in epochs; passed to torch in optimizer steps where it is stepped per step.
        covers: settings that must be at least the number of epochs of the training.
        per_epoch: settings that multiply the learning rate once an epoch.
        fixed: constructor arguments that are always passed.
        lr_argument: name of the constructor argument that takes the learning rates of the groups; empty for none.
        observes: whether its step takes the mean training loss of the epoch.
        warms_up: whether it has a warm-up of its own, so that none is added.
    """

    name: str
    path: str
    known_good: Callable[[int], Settings]
    ranges: Callable[[int], Mapping[str, Range]]
    source: str
    note: str
    per: Literal["epoch", "step"] = "epoch"
    in_epochs: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    per_epoch: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    lr_argument: str = ""
    observes: bool = False
    warms_up: bool = False

    def arguments(self, values: Mapping[str, Any]) -> Settings:
        """The settings of a configuration for these hyperparameter `values`: split ones joined, fixed ones added."""
        left = dict(values)
        joined = {
            setting: sorted(left.pop(part) for part in parts)
            for setting, parts in JOINED.items()
            if all(part in left for part in parts)
        }
        return {**self.fixed, **left, **joined}

    def stretched(self, settings: Settings, ratio: float) -> Settings:
        """Settings that give the same shape of curve over `ratio` times as many epochs."""
        longer = {name: _scaled(settings[name], ratio) for name in self.in_epochs}
        # a long curve pressed into few epochs may fall below the smallest float, but a factor stays above 0
        slower = {name: max(float_info.min, settings[name] ** (1 / ratio)) for name in self.per_epoch}
        return {**settings, **longer, **slower}

    def in_steps(self, settings: Mapping[str, Any], steps_per_epoch: int) -> Settings:
        """Settings as torch's constructor takes them, times in steps where it is stepped per step."""
        if self.per == "epoch":
            return dict(settings)
        return {**settings, **{name: settings[name] * steps_per_epoch for name in self.in_epochs}}


def _scaled(epochs: int | list[int], ratio: float) -> int | list[int]:
    """`epochs` times `ratio`, rounded; what was not 0 stays at least 1."""
    if isinstance(epochs, list):
        return [_scaled(each, ratio) for each in epochs]  # type: ignore[misc]
    return max(min(1, epochs), round(epochs * ratio))


def _to_a_tenth(epochs: int) -> float:
    """The factor per epoch by which a learning rate falls to a tenth over the whole training."""
    return float(round(max(0.1, 0.1 ** (1 / epochs)), 6))


def _whole(epochs: int) -> Fixed:
    return Fixed(epochs, "the whole training")


def _gamma(source: str) -> Float:
    return Float(0.1, 1.0, "linear", source, closed=True)


def _milestone(epochs: int) -> Int:
    return Int(1, max(1, epochs), "anywhere in the training", closed=True)


def _start(epochs: int, share: float) -> int:
    return max(1, round(share * epochs))


ROWS = (
    Schedule(
        name="step",
        path="torch.optim.lr_scheduler:StepLR",
        known_good=lambda epochs: {"step_size": max(1, int(0.8 * epochs)), "gamma": 0.1},
        ranges=lambda epochs: {
            "step_size": Int(1, max(1, epochs), "once an epoch to never within the training", closed=True),
            "gamma": _gamma("torch's default of 0.1 to 1, the constant schedule"),
        },
        source="torch documentation, StepLR (gamma 0.1); one late drop: the cooldown over the last fifth of "
        "Hägele et al. 2024, arXiv:2405.18392; against an even fall to a tenth: docs/search-quality.md",
        note="lr * gamma after every step_size epochs; gamma 1 is a constant lr.",
        in_epochs=("step_size",),
    ),
    Schedule(
        name="constant",
        path="",
        known_good=_nothing,
        ranges=_nothing,
        source="torch documentation",
        note="The lr never changes.",
    ),
    Schedule(
        name="multistep",
        path="torch.optim.lr_scheduler:MultiStepLR",
        known_good=lambda epochs: {
            "milestone1": _start(epochs, 0.5),
            "milestone2": _start(epochs, 0.75),
            "gamma": 0.1,
        },
        ranges=lambda epochs: {
            "milestone1": _milestone(epochs),
            "milestone2": _milestone(epochs),
            "gamma": _gamma("torch's default of 0.1 to 1, the constant schedule"),
        },
        source="He et al. 2016, arXiv:1512.03385 (a tenth at half and three quarters); torch documentation",
        note="lr * gamma after each of two milestones, counted in epochs.",
        in_epochs=("milestones",),
    ),
    Schedule(
        name="exponential",
        path="torch.optim.lr_scheduler:ExponentialLR",
        known_good=lambda epochs: {"gamma": _to_a_tenth(epochs)},
        ranges=lambda epochs: {"gamma": _gamma("a tenth after one epoch, to constant")},
        source="torch documentation, ExponentialLR; gamma: to a tenth in all",
        note="lr * gamma after every epoch.",
        per_epoch=("gamma",),
    ),
    Schedule(
        name="cosine",
        path="torch.optim.lr_scheduler:CosineAnnealingLR",
        known_good=lambda epochs: {"T_max": epochs},
        ranges=lambda epochs: {"T_max": _whole(epochs)},
        source="Loshchilov & Hutter 2017, arXiv:1608.03983; torch documentation, CosineAnnealingLR",
        note="Half a cosine from lr down to zero over the whole training, step by step.",
        per="step",
        in_epochs=("T_max",),
    ),
    Schedule(
        name="linear",
        path="torch.optim.lr_scheduler:LinearLR",
        known_good=lambda epochs: {"total_iters": epochs},
        ranges=lambda epochs: {"total_iters": _whole(epochs)},
        source="Defazio et al. 2023, arXiv:2310.07831; torch documentation, LinearLR",
        note="A straight line from lr down to zero over the whole training, step by step.",
        per="step",
        in_epochs=("total_iters",),
        fixed={"start_factor": 1.0, "end_factor": 0.0},
    ),
    Schedule(
        name="polynomial",
        path="torch.optim.lr_scheduler:PolynomialLR",
        known_good=lambda epochs: {"total_iters": epochs, "power": 0.9},
        ranges=lambda epochs: {
            "total_iters": _whole(epochs),
            "power": Float(0.5, 3.0, "log", "around 0.9 of Chen et al. 2018, arXiv:1606.00915, and 2"),
        },
        source="Chen et al. 2018, arXiv:1606.00915 (power 0.9); torch documentation, PolynomialLR",
        note="lr * (1 - time) ** power down to zero over the whole training, step by step.",
        per="step",
        in_epochs=("total_iters",),
    ),
    Schedule(
        name="one-cycle",
        path="torch.optim.lr_scheduler:OneCycleLR",
        known_good=lambda epochs: {"total_steps": epochs, "pct_start": 0.3},
        ranges=lambda epochs: {
            "total_steps": _whole(epochs),
            "pct_start": Float(0.1, 0.5, "linear", "around torch's default of 0.3"),
        },
        source="Smith & Topin 2018, arXiv:1708.07120; torch documentation, OneCycleLR",
        note="Up from lr / 25 to lr over the first pct_start of the steps, then down to almost zero; momentum stays.",
        per="step",
        in_epochs=("total_steps",),
        covers=("total_steps",),
        # not every optimizer has a momentum to cycle
        fixed={"cycle_momentum": False},
        lr_argument="max_lr",
        warms_up=True,
    ),
    Schedule(
        name="reduce-on-plateau",
        path="torch.optim.lr_scheduler:ReduceLROnPlateau",
        known_good=lambda epochs: {"factor": 0.1, "patience": min(10, epochs // 5)},
        ranges=lambda epochs: {
            "factor": Float(0.05, 0.8, "log", "around torch's default of 0.1, and gentler"),
            "patience": Int(0, max(1, epochs // 2), "torch's default of 10 is for long trainings", closed=True),
        },
        source="torch documentation, ReduceLROnPlateau",
        note="lr * factor when the training loss of an epoch has not fallen for more than patience epochs.",
        in_epochs=("patience",),
        observes=True,
    ),
)

SCHEDULES: Mapping[str, Schedule] = MappingProxyType({row.name: row for row in ROWS})

DEFAULT_SCHEDULES = ("step",)

LIMITS: Mapping[str, Limit] = MappingProxyType(
    {
        "step_size": whole_number(1),
        "milestone1": whole_number(1),
        "milestone2": whole_number(1),
        "T_max": whole_number(1),
        "total_iters": whole_number(1),
        "total_steps": whole_number(1),
        "patience": whole_number(0),
        "gamma": ("above 0 and at most 1", lambda value: 0 < value <= 1),
        "factor": ("above 0 and below 1", lambda value: 0 < value < 1),
        "pct_start": ("above 0 and below 1", lambda value: 0 < value < 1),
        "power": ("above 0", lambda value: value > 0),
        "start_factor": ("above 0 and at most 1", lambda value: 0 < value <= 1),
        "end_factor": ("between 0 and 1", lambda value: 0 <= value <= 1),
    }
)
"""Valid values of each setting, in words and as a test: wider than the search ranges."""


def find(name: str) -> Schedule:
    """The row called `name`.

    Raises:
        UsageError: there is none; the message suggests similar names.
    """
    try:
        return SCHEDULES[name]
    except KeyError:
        raise unknown("schedule", name, SCHEDULES, "(see 'optitune schedules')") from None
