"""The configuration of a training: optimizer, schedule and training settings, validated."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from optitune.common.renamed_modules import current_path
from optitune.common.schema import Strict
from optitune.common.text import setting
from optitune.errors import UsageError, unknown
from optitune.space import losses, optimizers, schedules
from optitune.space.ranges import Limit

Precision = Literal["fp32", "bf16"]


def _one_cause(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Validate one setting with a single error, where pydantic would give one per possible type."""
    try:
        return handler(value)
    except ValidationError:
        raise ValueError("must be a finite number, true or false, a word, or a list of finite numbers") from None


Setting = Annotated[bool | int | float | str | list[int] | list[float], WrapValidator(_one_cause)]

LARGEST = 1e30
"""The largest absolute value of a setting: beyond it, arithmetic on settings overflows before any training does."""

JOINED = {**optimizers.JOINED, **schedules.JOINED}


def _check(
    settings: Mapping[str, Any],
    expected: Mapping[str, Any],
    limits: Mapping[str, Limit],
    owner: str,
    also: Mapping[str, Any],
) -> None:
    """Check the names and values of `settings`: all of `expected`, perhaps some of `also`, within `limits`.

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

    Attributes:
        name: of a row of the registry, or of the study's own.
        settings: arguments of the constructor.
        path: `module:class` of an optimizer that the study defines itself; empty for one of the registry.
        traits: as in `optimizers.Optimizer`, where `path` is given.
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
        """`module:class` of the optimizer, and its traits."""
        if self.path:
            return current_path(self.path), self.traits
        row = optimizers.find(self.name)
        return row.path, row.traits


class ScheduleSettings(Strict):
    """A learning-rate schedule by name.

    Attributes:
        name: of a row of `schedules`.
        settings: arguments of its torch constructor, times in epochs.
        warmup: share of all steps over which the learning rate rises from almost 0, from 0 to below 1.
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
    """Batch size, loss, regularisation and parameter groups of a training.

    Attributes:
        batch_size: examples per batch, 1 to 65,536.
        accumulation: batches per optimizer step, 1 to 65,536; their gradients are averaged.
        clip_norm: upper bound of the norm of all gradients of a step; 0 for none.
        l1: factor of the L1 penalty, the sum of absolute weights, in the loss.
        loss: name of a row of `losses`, `task` for the task's own function, or `loop` for a training loop's own.
        label_smoothing: of cross-entropy, from 0 to below 1 (Szegedy et al. 2016, arXiv:1512.00567).
        decay_biases: whether weight decay and `l1` apply to biases and normalisation layers too.
        groups: learning-rate factors by glob pattern of parameter names; the first pattern that matches holds.
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
        if name not in losses.UNNAMED:
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
    """All hyperparameters of a training: optimizer, schedule and training settings."""

    optimizer: OptimizerSettings
    schedule: ScheduleSettings
    training: TrainingSettings = Field(default_factory=TrainingSettings)

    @property
    def lr(self) -> float:
        """The base learning rate, before schedule and groups."""
        lr = self.optimizer.settings["lr"]
        assert isinstance(lr, int | float)
        return float(lr)

    def stretched(self, ratio: float) -> "Configuration":
        """A copy with its schedule stretched over `ratio` times as many epochs."""
        settings = schedules.find(self.schedule.name).stretched(dict(self.schedule.settings), ratio)
        return self.model_copy(update={"schedule": self.schedule.model_copy(update={"settings": settings})})

    def with_lr(self, lr: float) -> "Configuration":
        """A copy with another learning rate."""
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
    loop = configuration.training.loss == losses.OF_LOOP
    # a loop of the user's own need not read the batch size
    usual = TrainingSettings().model_dump(exclude=set() if loop else {"batch_size"}) | {"warmup": 0.0}
    usual |= {"loss": losses.OF_LOOP} if loop else {}
    return ", ".join(
        "the task's own loss" if (name, value) == ("loss", losses.OF_TASK) else f"{name} {setting(value)}"
        for name, value in flat(configuration).items()
        if usual.get(name) != value
    )


def configuration_text(configuration: Configuration) -> str:
    """The optimizer and all settings in a line."""
    return f"{configuration.optimizer.name}: {settings_text(configuration)}"
