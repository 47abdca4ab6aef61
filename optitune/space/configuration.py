"""What one training is told: an optimizer, a schedule and how batches become steps, with all settings."""

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from optitune.common.moved import present
from optitune.common.schema import Strict
from optitune.common.text import setting
from optitune.errors import UsageError, unknown
from optitune.space import losses, optimizers, schedules

Precision = Literal["fp32", "bf16"]


Limits = Mapping[str, tuple[str, Callable[[Any], bool]]]


def _one_cause(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Validate one setting, with one complaint where pydantic would have one per possible type."""
    try:
        return handler(value)
    except ValidationError:
        raise ValueError("must be a finite number, true or false, a word, or a list of finite numbers") from None


Setting = Annotated[bool | int | float | str | list[int] | list[float], WrapValidator(_one_cause)]

LARGEST = 1e30
"""No setting is larger: beyond it, arithmetic on settings would overflow before any training does."""


JOINED = {**optimizers.JOINED, **schedules.JOINED}


def _check(
    settings: Mapping[str, Any], expected: Mapping[str, Any], limits: Limits, owner: str, also: Mapping[str, Any]
) -> None:
    """Hold `settings` against the names in `expected` and what `limits` allows of them; those in `also` may be there.

    Raises:
        ValueError: a name is missing or not expected, or a value is not allowed.
    """
    possible = {**also, **expected}
    for name, value in settings.items():
        if name not in possible:
            try:
                raise unknown(f"setting of {owner}", name, possible)
            except UsageError as error:
                raise ValueError(f"settings.{name} = {value!r}: {error}") from None
        wanted = possible[name]
        if isinstance(wanted, str):
            if value != wanted:
                raise ValueError(f"settings.{name} = {value!r}: must be {wanted!r}")
            continue
        if isinstance(wanted, list):
            kind, places, parts = f"{len(wanted)} numbers", wanted, JOINED.get(name, (name,) * len(wanted))
        else:
            kind, places, parts = "true or false" if isinstance(wanted, bool) else "a number", [wanted], (name,)
        values = value if isinstance(value, list) else [value]
        if any(isinstance(each, str) for each in values):
            raise ValueError(f"settings.{name} = {value!r}: must be {kind}")
        if isinstance(value, list) != isinstance(wanted, list) or len(values) != len(places):
            raise ValueError(f"settings.{name} = {value!r}: must be {kind}")
        _check_size(name, value)
        for part, place, number in zip(parts, places, values, strict=True):
            if isinstance(place, bool) != isinstance(number, bool):
                raise ValueError(f"settings.{name} = {value!r}: must be {kind}")
            if part in limits and not limits[part][1](number):
                raise ValueError(f"settings.{name} = {value!r}: {part} must be {limits[part][0]}")
    for name in expected:
        if name not in settings:
            raise ValueError(f"settings.{name} is missing")


def _check_size(name: str, value: Any) -> None:
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, str) and abs(each) > LARGEST:
            raise ValueError(f"settings.{name} = {value!r}: must be at most {LARGEST:g} in size")


class OptimizerSettings(Strict):
    """An optimizer by name, with the arguments of its torch constructor.

    `path` and `traits` are those of a study's own row (`optimizers.Optimizer`), so that its best configuration can be
    trained without the study; for all other optimizers they are left to the registry.
    """

    name: str
    settings: dict[str, Setting]
    path: str = ""
    traits: tuple[optimizers.Trait, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _known(self) -> "OptimizerSettings":
        if self.path:
            lr = self.settings.get("lr")
            if isinstance(lr, bool) or not isinstance(lr, int | float) or not 0 < lr <= LARGEST:
                raise ValueError(f"settings.lr = {lr!r}: must be a number above 0")
            for name, value in self.settings.items():
                _check_size(name, value)
            return self
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
        for name, other in row.unless.items():
            if settings.get(name) and settings.get(other):
                raise ValueError(f"settings.{name} = {settings[name]!r}: must be 0 with {other}")
        _check(settings, expected, optimizers.LIMITS, self.name, row.arguments({**row.known_good[0], **row.also}))
        return self

    @property
    def how(self) -> tuple[str, tuple[optimizers.Trait, ...]]:
        """`module:class`, and what is peculiar to it."""
        if self.path:
            return present(self.path), self.traits
        row = optimizers.find(self.name)
        return row.path, row.traits


class ScheduleSettings(Strict):
    """A schedule by name, with the arguments of its torch constructor, times counted in epochs.

    `warmup` is the share of all steps over which the lr is ramped up.
    """

    name: str
    settings: dict[str, Setting]
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _known(self) -> "ScheduleSettings":
        try:
            row = schedules.find(self.name)
        except UsageError as error:
            raise ValueError(f"name = {self.name!r}: {error}") from None
        _check(self.settings, row.arguments(row.known_good(1)), schedules.LIMITS, self.name, {})
        if row.warms_up and self.warmup:
            raise ValueError(f"warmup = {self.warmup!r}: {self.name} has a warm-up of its own; leave it 0")
        return self


class TrainingSettings(Strict):
    """How batches become gradients, and gradients steps.

    Attributes:
        batch_size: examples in a batch.
        accumulation: batches whose gradients make one optimizer step.
        clip_norm: the largest norm that the gradients of a step may have together; 0 for any.
        l1: factor of the sum of absolute weights that is added to the loss.
        loss: a row of `losses`, or `task` for the task's own.
        label_smoothing: of cross-entropy (Szegedy et al. 2016, arXiv:1512.00567).
        decay_biases: whether weight decay and `l1` pull at biases and normalisation too, not at weights alone.
        groups: factors of the learning rate for parameters by the pattern of their names; the first that fits holds.
    """

    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 64
    accumulation: Annotated[int, Field(ge=1, le=65_536)] = 1
    clip_norm: Annotated[float, Field(ge=0, le=LARGEST)] = 0.0
    l1: Annotated[float, Field(ge=0, le=LARGEST)] = 0.0
    loss: str = "cross-entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    decay_biases: bool = False
    groups: dict[str, Annotated[float, Field(gt=0, le=LARGEST)]] = Field(default_factory=dict)

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, name: str) -> str:
        if name != losses.OF_TASK:
            try:
                losses.find(name)
            except UsageError as error:
                raise ValueError(str(error)) from None
        return name

    @model_validator(mode="after")
    def _fits(self) -> "TrainingSettings":
        if self.label_smoothing and self.loss != "cross-entropy":
            raise ValueError(
                f"label_smoothing = {self.label_smoothing!r}: only cross-entropy has labels to smooth, "
                f"not the loss '{self.loss}'"
            )
        return self


class Configuration(Strict):
    """What is compared: an optimizer, a schedule and how they are fed, with all their settings."""

    optimizer: OptimizerSettings
    schedule: ScheduleSettings
    training: TrainingSettings = Field(default_factory=TrainingSettings)

    @property
    def lr(self) -> float:
        """The learning rate before any schedule."""
        lr = self.optimizer.settings["lr"]
        assert isinstance(lr, int | float)
        return float(lr)

    def stretched(self, ratio: float) -> "Configuration":
        """The same with its schedule stretched over `ratio` times as many epochs."""
        settings = schedules.find(self.schedule.name).stretched(dict(self.schedule.settings), ratio)
        return self.model_copy(update={"schedule": self.schedule.model_copy(update={"settings": settings})})

    def with_lr(self, lr: float) -> "Configuration":
        """The same with another learning rate."""
        settings = {**self.optimizer.settings, "lr": lr}
        return self.model_copy(update={"optimizer": self.optimizer.model_copy(update={"settings": settings})})


def flat(configuration: Configuration, reserved: Collection[str] = ()) -> dict[str, Any]:
    """All settings of a configuration by one name each, tuples spelled out.

    Args:
        configuration: of a trial or a training.
        reserved: further names that no setting of the optimizer may have.

    Returns:
        Settings of the optimizer by their own names (`lr`, `beta1`), or as `OPTIMIZER.NAME` where the name is another
        setting's; then `schedule` and its settings as `SCHEDULE.NAME`, `warmup`, `batch_size` and the other training
        settings, and factors of the lr as `groups.PATTERN`.
    """
    optimizer, schedule, training = configuration.optimizer, configuration.schedule, configuration.training
    other = {
        "schedule": schedule.name,
        **{f"{schedule.name}.{name}": value for name, value in _spelled_out(schedule.settings).items()},
        "warmup": schedule.warmup,
        **training.model_dump(exclude={"groups"}),
        **{f"groups.{pattern}": factor for pattern, factor in training.groups.items()},
    }
    taken = {*other, *reserved}
    own = _spelled_out(optimizer.settings).items()
    return {f"{optimizer.name}.{name}" if name in taken else name: value for name, value in own} | other


def _spelled_out(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with a name for each part of a tuple."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if not isinstance(value, list):
            found[name] = value
            continue
        parts = JOINED.get(name, ())
        if len(parts) != len(value):
            parts = tuple(f"{name}{place}" for place in range(1, len(value) + 1))
        found.update(zip(parts, value, strict=True))
    return found


def settings_text(configuration: Configuration) -> str:
    """All settings in a line, but for those of the training that are off or as usual."""
    usual = TrainingSettings().model_dump(exclude={"batch_size"}) | {"warmup": 0.0}
    return ", ".join(
        f"{name} {setting(value)}" for name, value in flat(configuration).items() if usual.get(name) != value
    )


def configuration_text(configuration: Configuration) -> str:
    """The optimizer and all settings in a line."""
    return f"{configuration.optimizer.name}: {settings_text(configuration)}"
