"""The search space of a study: the ranges of its optimizers and schedules, with the study's own overrides.

An override of a hyperparameter is one value, which fixes it, or a list: the two ends of a range, or the options of a
choice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from optitune.errors import UsageError, unknown
from optitune.space import optimizers, schedules
from optitune.space.optimizers import Optimizer
from optitune.space.ranges import Choice, Fixed, Float, Int, Limit, Range, numbers

ALL_OWNERS = ""
"""In place of an optimizer's name: every optimizer and schedule that has the hyperparameter, or the training."""

Override = bool | int | float | str | Sequence[bool | int | float | str]

BY_THE_STUDY = "set by the study"

LR_FACTOR = "lr_factor"


@dataclass(frozen=True)
class TrainingSetting:
    """A training setting that a study may fix or search.

    Attributes:
        usual: default value.
        start: tried first where the study gives a range.
        like: kind and scale of the range that a list of two ends means; None where a list means options.
        limit: valid values, in words and as a test.
    """

    usual: int | float
    start: float
    like: Float | Int | None
    limit: Limit


def _options(least: int) -> Limit:
    return (
        f"a whole number from {least} to 65536",
        lambda value: isinstance(value, int) and least <= value <= 65_536,
    )


_POSITIVE = Float(1e-6, 1.0, "log")
_SHARE = Float(0.0, 0.5, "linear")
_BELOW_ONE = ("at least 0 and below 1", lambda value: 0 <= value < 1)
_NOT_NEGATIVE = ("at least 0", lambda value: value >= 0)

TRAINING_SETTINGS: Mapping[str, TrainingSetting] = MappingProxyType(
    {
        "batch_size": TrainingSetting(64, 64, None, _options(1)),
        "accumulation": TrainingSetting(1, 1, None, _options(1)),
        "clip_norm": TrainingSetting(0.0, 1.0, _POSITIVE, _NOT_NEGATIVE),
        "l1": TrainingSetting(0.0, 0.0, _POSITIVE, _NOT_NEGATIVE),
        "label_smoothing": TrainingSetting(0.0, 0.0, _SHARE, _BELOW_ONE),
        "warmup": TrainingSetting(0.0, 0.0, _SHARE, _BELOW_ONE),
    }
)
"""The training settings that can be searched. Adding one is adding a row."""

GROUP_LIMIT = ("above 0", lambda value: value > 0)


def group(pattern: str) -> str:
    """The name of the hyperparameter that multiplies the learning rate of the parameters matching `pattern`."""
    return f"lr of {pattern}"


@dataclass(frozen=True)
class SearchSpace:
    """The search space of a study. Build it with `build`.

    Attributes:
        rows: the competing optimizers, by name.
        optimizers: ranges of their hyperparameters, by optimizer and name.
        schedules: ranges of the settings of the competing schedules, by schedule and name.
        training: ranges of the training settings in `TRAINING_SETTINGS`.
        groups: ranges of the learning-rate factors, by pattern.
        parameters: names of Optuna's parameters, by owner and name of the hyperparameter.
    """

    rows: Mapping[str, Optimizer]
    optimizers: Mapping[str, Mapping[str, Range]]
    schedules: Mapping[str, Mapping[str, Range]]
    training: Mapping[str, Range]
    groups: Mapping[str, Range]
    parameters: Mapping[tuple[str, str], str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", MappingProxyType(_named(self.owned())))

    def owned(self) -> Iterator[tuple[str, str, Range]]:
        """Every hyperparameter as (owner, name, range); the owner of training settings is `ALL_OWNERS`."""
        for table in (self.optimizers, self.schedules):
            for owner, ranges in table.items():
                for name, value_range in ranges.items():
                    yield owner, name, value_range
        for name, value_range in self.training.items():
            yield ALL_OWNERS, name, value_range
        for pattern, value_range in self.groups.items():
            yield ALL_OWNERS, group(pattern), value_range

    def kept(self, form: Callable[[Range], Any] = numbers) -> dict[str, dict[str, Any]]:
        """All ranges as a study stores them, by owner and name; settings fixed at their default are left out.

        Args:
            form: converts a range to what is stored.
        """
        kept_ranges: dict[str, dict[str, Any]] = {}
        for owner, name, value_range in self.owned():
            usual = TRAINING_SETTINGS[name].usual if name in TRAINING_SETTINGS else 1.0
            if owner != ALL_OWNERS or not isinstance(value_range, Fixed) or value_range.value != usual:
                kept_ranges.setdefault(owner or "training", {})[name] = form(value_range)
        return kept_ranges


def build(
    rows: Sequence[Optimizer],
    schedule_names: Sequence[str],
    epochs: int,
    overrides: Mapping[str, Mapping[str, Override]],
    training: Mapping[str, Override],
    groups: Mapping[str, Override],
    lr_reach: float = 1.0,
) -> SearchSpace:
    """Build the search space of a study.

    Args:
        rows: the competing optimizers.
        schedule_names: the competing schedules.
        epochs: of a trial.
        overrides: of hyperparameters, by owner and name; owner `ALL_OWNERS` for every optimizer that has the name.
        training: overrides of training settings, by name.
        groups: learning-rate factors or their ranges, by pattern.
        lr_reach: factor by which learning rates may lie beyond both ends of their usual range.

    Raises:
        ValueError: an owner or a name is unknown, or a value is not allowed; the message begins with the key.
    """
    of_optimizers = {
        row.name: {
            name: each.widened(lr_reach) if isinstance(each, Float) and each.usual and lr_reach > 1 else each
            for name, each in row.ranges.items()
        }
        for row in rows
    }
    further = {row.name: dict(row.also) for row in rows}
    of_schedules = {name: {**schedules.find(name).ranges(epochs)} for name in schedule_names}
    limits = {**optimizers.LIMITS, **schedules.LIMITS}
    for owner, values in overrides.items():
        competing = {**of_optimizers, **of_schedules}
        if owner != ALL_OWNERS and owner not in competing:
            raise ValueError(f"{owner}: is not among the optimizers and schedules that compete; add it there")
        for name, value in values.items():
            key = f"{owner}.{name}" if owner else name
            owners = (
                [owner]
                if owner
                else [each for each in competing if name in {**competing[each], **further.get(each, {})}]
            )
            for each in owners:
                usual = competing[each].get(name)
                if usual is None and name in further.get(each, {}):
                    usual = like(name, further[each][name])
                if usual is None:
                    _raise_unknown(key, value, name, owner, [*competing[each], *further.get(each, {})])
                # an override for this owner goes before one for all
                if owner or name not in overrides.get(each, {}):
                    covers = each in of_schedules and name in schedules.find(each).covers
                    limit = _all_epochs(epochs) if covers else limits.get(name)
                    competing[each][name] = narrowed(key, value, usual, limit)
            if not owners:
                _raise_unknown(key, value, name, "any competitor", {n for ranges in competing.values() for n in ranges})
    return SearchSpace(
        rows={row.name: row for row in rows},
        optimizers=of_optimizers,
        schedules=of_schedules,
        training={
            name: narrowed(name, training.get(name, setting.usual), setting.like, setting.limit)
            for name, setting in TRAINING_SETTINGS.items()
        },
        groups={
            pattern: narrowed(f'groups."{pattern}"', value, _POSITIVE, GROUP_LIMIT) for pattern, value in groups.items()
        },
    )


def _all_epochs(epochs: int) -> Limit:
    words = f"a whole number of at least {epochs}, the epochs of a trial"
    return words, lambda value: isinstance(value, int) and value >= epochs


def _raise_unknown(key: str, value: Any, name: str, owner: str, known: Sequence[str] | set[str]) -> None:
    try:
        raise unknown(f"setting of {owner}", name, known)
    except UsageError as error:
        raise ValueError(f"{key} = {value!r}: {error}") from None


def like(name: str, usual: bool | int | float) -> Range:
    """Kind and scale of the range that a list means for an optional argument: another optimizer's of that name."""
    if isinstance(usual, bool):
        return Choice((False, True))
    others = [row.ranges[name] for row in optimizers.ROWS if name in row.ranges]
    like = next((each for each in others if isinstance(each, Float) == isinstance(usual, float)), None)
    return like or (Int(0, 1) if isinstance(usual, int) else Float(0.0, 1.0))


def narrowed(key: str, override: Override, usual: Range | None, limit: Limit | None) -> Range:
    """The range that an override of one hyperparameter means.

    Args:
        key: of the hyperparameter, for messages.
        override: a value, the two ends of a range, or options.
        usual: default range, which gives kind and scale; None where a list means options.
        limit: valid values, in words and as a test.

    Raises:
        ValueError: a value is not allowed; the message says which are.
    """
    values: list[Any] = list(override) if isinstance(override, list | tuple) else [override]
    for value in values:
        _check(key, override, value, usual, limit)
    if not isinstance(override, list | tuple):
        return Fixed(_typed(override, usual), BY_THE_STUDY)
    ends = isinstance(usual, Float | Int) or (isinstance(usual, Fixed) and not isinstance(usual.value, bool | str))
    if not ends:
        if not values or len(set(values)) != len(values):
            raise ValueError(f"{key} = {override!r}: must be a value, or a list of some, all different")
        return Fixed(values[0], BY_THE_STUDY) if len(values) == 1 else Choice(tuple(values), BY_THE_STUDY)
    if len(values) != 2 or not values[0] < values[1]:
        raise ValueError(f"{key} = {override!r}: must be a value, or the two ends of a range, the lower first")
    if isinstance(usual, Int) or (isinstance(usual, Fixed) and isinstance(usual.value, int)):
        return Int(values[0], values[1], BY_THE_STUDY)
    scale = usual.scale if isinstance(usual, Float) else "linear"
    low, high = float(values[0]), float(values[1])
    try:
        return Float(low, high, scale, BY_THE_STUDY)
    except ValueError as error:
        raise ValueError(f"{key} = {override!r}: {error}") from None


def _typed(value: Any, usual: Range | None) -> Any:
    """A whole number as a real one where the range is real: TOML allows `lr = 1`."""
    real = isinstance(usual, Float) or (isinstance(usual, Fixed) and isinstance(usual.value, float))
    return float(value) if real and isinstance(value, int) and not isinstance(value, bool) else value


def _check(key: str, override: Override, value: Any, usual: Range | None, limit: Limit | None) -> None:
    """Check one value of an override against the kind of `usual` and the `limit`."""
    if isinstance(usual, Choice):
        if not usual.contains(value):
            raise ValueError(f"{key} = {override!r}: must be {usual}")
        return
    if isinstance(value, bool | str) or not isinstance(value, int | float):
        raise ValueError(f"{key} = {override!r}: must be a number, or a list of them")
    whole = isinstance(usual, Int) or (isinstance(usual, Fixed) and isinstance(usual.value, int))
    if whole and not isinstance(value, int):
        raise ValueError(f"{key} = {override!r}: must be a whole number, or a list of them")
    if not abs(value) <= 1e30:
        raise ValueError(f"{key} = {override!r}: must be finite, and at most 1e30 in size")
    if limit is not None and not limit[1](value):
        raise ValueError(f"{key} = {override!r}: must be {limit[0]}")


def _named(owned: Iterator[tuple[str, str, Range]]) -> dict[tuple[str, str], str]:
    """Names of Optuna's parameters, by owner and name of the hyperparameter.

    Owners share a parameter, so that the dashboard's plots show them together, unless kind, scale or options differ.
    """
    kinds: dict[str, Any] = {}
    names = {}
    for owner, name, value_range in owned:
        if isinstance(value_range, Fixed):
            continue
        kind: Any = type(value_range)
        shared = name
        if isinstance(value_range, Float):
            if value_range.scale == "complement":
                shared = f"one_minus_{name}"
            kind = (kind, value_range.scale == "linear")
        elif isinstance(value_range, Choice):
            kind = (kind, value_range.options)
        if owner and name == "lr" and isinstance(value_range, Float) and value_range.scale == "log":
            shared = LR_FACTOR
        elif kinds.setdefault(shared, kind) != kind:
            shared = f"{owner}.{shared}"
        names[owner, name] = shared
    return names


def start(value_range: Range, value: Any) -> Any:
    """The value of the range that is nearest to `value`."""
    if isinstance(value_range, Fixed):
        return value_range.value
    if value_range.contains(value):
        return value
    if isinstance(value_range, Choice):
        return value_range.options[0]
    return min(max(value, value_range.low), value_range.high)


@dataclass(frozen=True)
class InitialPoint:
    """A configuration to try first.

    Attributes:
        optimizer: its name.
        schedule: its name.
        values: of the optimizer's hyperparameters.
        shape: settings of the schedule.
        training: training settings.
        groups: learning-rate factors by pattern.
    """

    optimizer: str
    schedule: str
    values: Mapping[str, Any]
    shape: Mapping[str, Any]
    training: Mapping[str, Any]
    groups: Mapping[str, Any]


def known_good(space: SearchSpace, epochs: int) -> list[InitialPoint]:
    """Each optimizer's known-good settings with the first schedule, then the further variants that some have.

    Values outside the study's ranges are moved to the nearest end.
    """
    schedule = schedules.find(next(iter(space.schedules)))
    shape = {
        name: start(space.schedules[schedule.name][name], value) for name, value in schedule.known_good(epochs).items()
    }
    training = {name: start(value_range, TRAINING_SETTINGS[name].start) for name, value_range in space.training.items()}
    groups = {pattern: start(value_range, 1.0) for pattern, value_range in space.groups.items()}

    def first(row: Optimizer, values: Mapping[str, Any]) -> InitialPoint:
        moved = {
            name: start(value_range, {**row.also, **values}[name])
            for name, value_range in space.optimizers[row.name].items()
        }
        return InitialPoint(row.name, schedule.name, moved, shape, training, groups)

    rows = list(space.rows.values())
    variants = [first(row, values) for row in rows for values in row.known_good[1:]]
    return [first(row, row.known_good[0]) for row in rows] + variants
