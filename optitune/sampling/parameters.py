"""Conversion between a study's search space and Optuna's parameters."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from optitune.sampling.forecast import OPTIMIZER
from optitune.space import schedules, search_space
from optitune.space.configuration import (
    JOINED,
    Configuration,
    OptimizerSettings,
    ScheduleSettings,
    TrainingSettings,
    flat,
)
from optitune.space.edges import Edge, edges
from optitune.space.first_tries import LEARNED, Try, first_tries
from optitune.space.optimizers import Optimizer
from optitune.space.ranges import Choice, Fixed, Float, Range, lies_in
from optitune.space.search_space import ALL_OWNERS, LR_FACTOR, TRAINING_SETTINGS, InitialPoint, SearchSpace, group
from optitune.study.records import TrialRecord
from optitune.study.settings import StudySettings

SCHEDULE = "schedule"
"""The parameter that names a trial's schedule."""

NEAR = 1e-6
"""Relative difference up to which a number is another one that was converted: 1 - beta loses that many digits."""


def _suggest(trial: optuna.Trial, parameter: str, value_range: Range, unit: float = 1.0) -> Any:
    """Draw a value from a range; the parameter is a multiple of `unit`."""
    if isinstance(value_range, Fixed):
        return value_range.value
    if isinstance(value_range, Choice):
        return trial.suggest_categorical(parameter, value_range.options)
    if isinstance(value_range, Float):
        low, high = value_range.low, value_range.high
        if value_range.scale == "complement":
            drawn = 1 - trial.suggest_float(parameter, 1 - high, 1 - low, log=True)
            # 1 - (1 - x) may leave the range by a rounding error
            return min(max(drawn, low), high)
        return unit * trial.suggest_float(parameter, low / unit, high / unit, log=value_range.scale == "log")
    return trial.suggest_int(parameter, value_range.low, value_range.high)


def _unit(row: Optimizer, parameter: str) -> float:
    """The unit of a parameter: of learning rates, the optimizer's known-good one."""
    return row.lr if parameter == LR_FACTOR else 1.0


def suggest(trial: optuna.Trial, settings: StudySettings, space: SearchSpace) -> Configuration:
    """Draw a configuration: optimizer, its learning rate and other settings, schedule, training settings, groups.

    Args:
        trial: whose parameters are suggested.
        settings: of the study.
        space: of the study, `settings.space()`.
    """
    name = trial.suggest_categorical(OPTIMIZER, settings.optimizers)
    row, ranges = space.rows[name], space.optimizers[name]

    def drawn(owner: str, key: str, value_range: Range) -> Any:
        parameter = space.parameters.get((owner, key), "")
        return _suggest(trial, parameter, value_range, unit=_unit(row, parameter))

    values: dict[str, Any] = {}
    # lr first; last those that depend on another one
    for key in sorted(ranges, key=lambda each: (each in row.needs, each != "lr")):
        if key not in row.needs or values[row.needs[key]] > 0:
            values[key] = drawn(name, key, ranges[key])
    several = len(settings.schedules) > 1
    schedule = schedules.find(
        trial.suggest_categorical(SCHEDULE, settings.schedules) if several else settings.schedules[0]
    )
    shape = {key: drawn(schedule.name, key, each) for key, each in space.schedules[schedule.name].items()}
    training_values = {
        key: drawn(ALL_OWNERS, key, each)
        for key, each in space.training.items()
        if key != "warmup" or not schedule.warms_up
    }
    own = any(each.name == name for each in settings.optimizer)
    return Configuration(
        optimizer=OptimizerSettings(
            name=name,
            settings=row.arguments(values),
            path=row.path if own else "",
            traits=row.traits if own else (),
        ),
        schedule=ScheduleSettings(
            name=schedule.name, settings=schedule.arguments(shape), warmup=training_values.pop("warmup", 0.0)
        ),
        training=TrainingSettings(
            loss=settings.loss or "cross-entropy",
            decay_biases=settings.decay_biases,
            groups={pattern: drawn(ALL_OWNERS, group(pattern), each) for pattern, each in space.groups.items()},
            **training_values,
        ),
    )


def first_parameters(settings: StudySettings, learned: Sequence[Try] = LEARNED) -> list[dict[str, Any]]:
    """The configurations that a search tries first, as Optuna's parameters by name, in their order.

    Args:
        settings: of the study.
        learned: the list that is tried beside the known-good settings.
    """
    space = settings.space()
    return [_parameters_of(each, space) for each in first_tries(space, settings.epochs, learned)]


def known_good_parameters(settings: StudySettings) -> list[dict[str, Any]]:
    """Known-good settings as Optuna's parameters by name: those of every optimizer, then further ones of some."""
    space = settings.space()
    return [_parameters_of(each, space) for each in search_space.known_good(space, settings.epochs)]


def _parameters_of(point: InitialPoint, space: SearchSpace) -> dict[str, Any]:
    owned = {(point.optimizer, name): value for name, value in point.values.items()}
    owned |= {(point.schedule, name): value for name, value in point.shape.items()}
    owned |= {(ALL_OWNERS, name): value for name, value in point.training.items()}
    owned |= {(ALL_OWNERS, group(pattern)): value for pattern, value in point.groups.items()}
    ranges = {(owner, name): value_range for owner, name, value_range in space.owned()}
    drawn = {OPTIMIZER: point.optimizer, SCHEDULE: point.schedule}
    for place, value in owned.items():
        if place in space.parameters:
            parameter = space.parameters[place]
            drawn[parameter] = _encoded(value, ranges[place], _unit(space.rows[point.optimizer], parameter))
    return drawn


def is_first(first: Mapping[str, Any], drawn: Mapping[str, Any]) -> bool:
    """Whether a trial's parameters are those of `first`, which may have more."""
    return all(name in first and first[name] == value for name, value in drawn.items())


def known_good(settings: StudySettings) -> dict[str, Configuration]:
    """The first known-good configuration of each optimizer."""
    found: dict[str, Configuration] = {}
    for parameters in known_good_parameters(settings):
        with warnings.catch_warnings():
            # of a range that was narrowed, known-good settings may lie outside
            warnings.simplefilter("ignore")
            configuration = suggest(FixedTrial(parameters), settings, settings.space())  # type: ignore[arg-type]
        found.setdefault(configuration.optimizer.name, configuration)
    return found


class _Recorder:
    """A stand-in for a trial that records every parameter that it is asked for, with its distribution.

    What is not given is answered with values above 0, so that hyperparameters that depend on another one are suggested
    too.

    Args:
        given: values by parameter.

    Attributes:
        distributions: by parameter.
        values: the answers by parameter, moved into their distribution where rounding had put them beside it.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.distributions: dict[str, BaseDistribution] = {}
        self.values: dict[str, Any] = {}
        self._given = given

    def _answer(self, name: str, distribution: BaseDistribution, usual: Any) -> Any:
        self.distributions[name] = distribution
        self.values[name] = self._given.get(name, usual)
        return self.values[name]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._answer(name, CategoricalDistribution(choices), choices[-1])

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        value = self._answer(name, FloatDistribution(low, high, log), (low + high) / 2)
        self.values[name] = min(max(value, low), high)
        return float(self.values[name])

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return int(self._answer(name, IntDistribution(low, high), high))


def spaces(settings: StudySettings) -> dict[str, dict[str, BaseDistribution]]:
    """The distributions of all parameters that an optimizer's trials may have, by optimizer and parameter."""
    space = settings.space()
    found: dict[str, dict[str, BaseDistribution]] = {}
    for optimizer in settings.optimizers:
        own = found.setdefault(optimizer, {})
        for schedule in settings.schedules:
            recorder = _Recorder({OPTIMIZER: optimizer, SCHEDULE: schedule})
            suggest(recorder, settings, space)  # type: ignore[arg-type]
            own.update(recorder.distributions)
        del own[OPTIMIZER]
    return found


@dataclass(frozen=True)
class Point:
    """A configuration as a point of a study's search space: Optuna's values and distributions, by parameter."""

    values: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]


def point(
    configuration: Configuration, settings: StudySettings, space: SearchSpace, before: Mapping[str, Any]
) -> Point | str:
    """The point of a search space that a configuration of another study is.

    Args:
        configuration: as it was trained.
        settings: of the study that has the search space.
        space: `settings.space()`.
        before: the configuration's parameters in the other study; their exact numbers are kept where they mean the same
            here.

    Returns:
        The point; or a few words on why the configuration lies outside, such as `with adam.lr outside 0.001 to 0.1`.
    """
    optimizer, schedule = configuration.optimizer.name, configuration.schedule.name
    if optimizer not in settings.optimizers:
        return f"of {optimizer}, which does not compete"
    if schedule not in settings.schedules:
        return f"with the schedule {schedule}, which does not compete"
    ranges = {(owner, name): value_range for owner, name, value_range in space.owned()}
    given: dict[str, Any] = {OPTIMIZER: optimizer, SCHEDULE: schedule}
    for place, value in owned_values(configuration).items():
        if place not in ranges or (place == (ALL_OWNERS, "warmup") and schedules.find(schedule).warms_up):
            continue
        if not lies_in(ranges[place], value):
            owner, name = place
            return f"with {f'{owner}.{name}' if owner else name} outside {ranges[place]}"
        if parameter := space.parameters.get(place):
            encoded = _encoded(value, ranges[place], _unit(space.rows[optimizer], parameter))
            raw = before.get(parameter)
            given[parameter] = raw if _same(raw, encoded) else encoded
    recorder = _Recorder(given)
    drawn = suggest(recorder, settings, space)  # type: ignore[arg-type]
    if drawn.optimizer.path != configuration.optimizer.path:
        return f"of another {optimizer}"
    here, there = flat(drawn), flat(configuration)
    others = [key for key in {**there, **here} if not _same(here.get(key), there.get(key))]
    if not others and list(drawn.training.groups) == list(configuration.training.groups):
        return Point(recorder.values, recorder.distributions)
    return f"with another {others[0] if others else 'order of groups'}"


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same but for rounding."""
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=NEAR)
    return type(one) is type(other) and bool(one == other)


def _encoded(value: Any, value_range: Range, unit: float) -> Any:
    if isinstance(value_range, Float):
        return round(1 - value, 12) if value_range.scale == "complement" else value / unit
    return value


def owned_values(configuration: Configuration) -> dict[tuple[str, str], Any]:
    """A configuration's hyperparameters by owner and name, as in `SearchSpace.owned`, with tuples split."""
    optimizer, schedule, training = configuration.optimizer, configuration.schedule, configuration.training
    values: dict[tuple[str, str], Any] = {}
    for owner, settings in ((optimizer.name, optimizer.settings), (schedule.name, schedule.settings)):
        for name, value in settings.items():
            parts = JOINED.get(name, (name,))
            values |= zip([(owner, part) for part in parts], value if isinstance(value, list) else [value], strict=True)
    values |= {(ALL_OWNERS, name): getattr(training, name) for name in TRAINING_SETTINGS if name != "warmup"}
    values |= {(ALL_OWNERS, group(pattern)): value for pattern, value in training.groups.items()}
    return {**values, (ALL_OWNERS, "warmup"): schedule.warmup}


def edges_of(settings: StudySettings, best: TrialRecord | None) -> list[Edge]:
    """What of a study's best configuration lies at an end of its range; nothing where there is none yet."""
    found = best.configuration if best else None
    if found is None:
        return []
    return edges(settings.space(), found.optimizer.name, found.schedule.name, owned_values(found))
