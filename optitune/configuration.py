"""What one training is told: an optimizer and a schedule, with the settings that torch is given."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from optitune import optimizers, schedules
from optitune.errors import UsageError, unknown
from optitune.validation import Strict

Limits = Mapping[str, tuple[str, Callable[[Any], bool]]]


def _one_cause(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Validate one setting, with one complaint where pydantic would have one per possible type."""
    try:
        return handler(value)
    except ValidationError:
        raise ValueError("must be a finite number, true or false, or a list of finite numbers") from None


Setting = Annotated[bool | int | float | list[float], WrapValidator(_one_cause)]

LARGEST = 1e30
"""No setting is larger: beyond it, arithmetic on settings would overflow before any training does."""


def _check(settings: Mapping[str, Any], expected: Mapping[str, Any], limits: Limits, owner: str) -> None:
    """Hold `settings` against the names in `expected` and what `limits` allows of them.

    Raises:
        ValueError: a name is missing or not expected, or a value is not allowed.
    """
    for name, value in settings.items():
        if name not in expected:
            try:
                raise unknown(f"setting of {owner}", name, expected)
            except UsageError as error:
                raise ValueError(f"settings.{name} = {value!r}: {error}") from None
        wanted = expected[name]
        if isinstance(wanted, list):
            kind, places, parts = f"{len(wanted)} numbers", wanted, optimizers.JOINED.get(name, (name,) * len(wanted))
        else:
            kind, places, parts = "true or false" if isinstance(wanted, bool) else "a number", [wanted], (name,)
        values = value if isinstance(value, list) else [value]
        if isinstance(value, list) != isinstance(wanted, list) or len(values) != len(places):
            raise ValueError(f"settings.{name} = {value!r}: must be {kind}")
        for part, place, number in zip(parts, places, values, strict=True):
            if isinstance(place, bool) != isinstance(number, bool):
                raise ValueError(f"settings.{name} = {value!r}: must be {kind}")
            if abs(number) > LARGEST:
                raise ValueError(f"settings.{name} = {value!r}: must be at most {LARGEST:g} in size")
            if part in limits and not limits[part][1](number):
                raise ValueError(f"settings.{name} = {value!r}: {part} must be {limits[part][0]}")
    for name in expected:
        if name not in settings:
            raise ValueError(f"settings.{name} is missing")


class OptimizerSettings(Strict):
    """An optimizer by name, with the arguments of its torch constructor."""

    name: str
    settings: dict[str, Setting]

    @model_validator(mode="after")
    def _known(self) -> "OptimizerSettings":
        try:
            row = optimizers.find(self.name)
        except UsageError as error:
            raise ValueError(f"name = {self.name!r}: {error}") from None
        expected = row.arguments(row.known_good[0])
        settings = dict(self.settings)
        for name, other in row.needs.items():
            # torch refuses the one without the other, so a configuration may leave it out
            if not settings.get(other) and name not in settings:
                settings[name] = expected[name]
            elif settings.get(name) and other in settings and not settings[other]:
                raise ValueError(f"settings.{name} = {settings[name]!r}: needs {other} above 0")
        _check(settings, expected, optimizers.LIMITS, self.name)
        return self


class ScheduleSettings(Strict):
    """A schedule by name, with the arguments of its torch constructor."""

    name: str
    settings: dict[str, Setting]

    @model_validator(mode="after")
    def _known(self) -> "ScheduleSettings":
        try:
            row = schedules.find(self.name)
        except UsageError as error:
            raise ValueError(f"name = {self.name!r}: {error}") from None
        _check(self.settings, {**row.fixed(1), **row.known_good(1)}, schedules.LIMITS, self.name)
        return self


class Configuration(Strict):
    """What is compared: an optimizer and a schedule with all their settings."""

    optimizer: OptimizerSettings
    schedule: ScheduleSettings

    @property
    def lr(self) -> float:
        """The learning rate before any schedule."""
        lr = self.optimizer.settings["lr"]
        assert isinstance(lr, int | float)
        return float(lr)

    def stretched(self, ratio: float) -> "Configuration":
        """The same with its schedule stretched over `ratio` times as many epochs."""
        row = schedules.find(self.schedule.name)
        settings = row.stretched(dict(self.schedule.settings), ratio)
        return self.model_copy(update={"schedule": ScheduleSettings(name=row.name, settings=settings)})


def known_good(
    epochs: int, optimizer_names: tuple[str, ...], schedule_name: str
) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The settings to try first: each optimizer's own, then the variants some of them have.

    Returns:
        (optimizer, values of its hyperparameters, values of the schedule's) in the order of trial.
    """
    rows = [optimizers.find(name) for name in optimizer_names]
    schedule = schedules.find(schedule_name).known_good(epochs)
    first = [(row.name, dict(row.known_good[0]), schedule) for row in rows]
    variants = [(row.name, dict(values), schedule) for row in rows for values in row.known_good[1:]]
    return first + variants
