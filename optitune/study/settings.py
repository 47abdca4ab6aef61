"""The settings of a study: flags and `studies/NAME.toml` become one frozen, validated `StudySettings`."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from optitune.common.schema import Strict, differences_table, toml_key, validated
from optitune.errors import UsageError, unknown
from optitune.space import losses, optimizers, schedules
from optitune.space.optimizers import Optimizer
from optitune.space.ranges import Fixed
from optitune.space.search_space import ALL_OWNERS, BY_THE_STUDY, TRAINING_SETTINGS, SearchSpace, build
from optitune.study.custom_optimizers import OwnOptimizer

Sampler = Literal["optitune", "tpe", "tpe-group", "random", "qmc", "gp", "nsgaii"]
Pruner = Literal["optitune", "none", "median", "percentile", "successive-halving", "hyperband"]


def study_name(name: str) -> str:
    """`name`, after a check that it can name a folder on every system.

    Raises:
        ValueError: it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            f"'{name}' cannot be a study's name: use up to 100 letters, digits, '.', '_' and '-', "
            "starting with a letter or digit"
        )
    return name


def task_name(name: str) -> str:
    """The name of a task, its file in the shortest form: `./mine.py:make_task` is `mine.py:make_task`."""
    place, _, function = name.rpartition(":")
    return f"{Path(place).as_posix()}:{function}" if place.endswith(".py") else name


TaskName = Annotated[str, AfterValidator(task_name)]


def checked_study_name(name: str) -> str:
    """`name`, after a check that it can be a study's.

    Raises:
        UsageError: it cannot.
    """
    try:
        return study_name(name)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("a name stands twice")
    return names


class StudySettings(Strict):
    """The settings of a study: all that decides what a trial is.

    A study's file has the same keys. Values of hyperparameters (`lr = [1e-4, 0.1]`), also in a table of an optimizer or
    a schedule (`adam.beta2 = 0.999`), are kept in `hyperparameters` by owner; they, training settings and groups may be
    ranges (see `search_space`).
    """

    task: TaskName = "mnist-cnn"
    optimizers: Annotated[tuple[str, ...], Field(min_length=1, strict=False), AfterValidator(_distinct)] = (
        optimizers.DEFAULT_OPTIMIZERS
    )
    schedules: Annotated[tuple[str, ...], Field(min_length=1, strict=False), AfterValidator(_distinct)] = (
        schedules.DEFAULT_SCHEDULES
    )
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 5
    batch_size: Any = 64
    train_examples: Annotated[int, Field(ge=1)] | None = None
    loss: str | None = None
    metric: Annotated[str, Field(pattern=r"^[^:\s][^:]*(:[a-z]+)?$", max_length=100)] | None = None
    label_smoothing: Any = 0.0
    accumulation: Any = 1
    clip_norm: Any = 0.0
    l1: Any = 0.0
    decay_biases: bool = False
    warmup: Any = 0.0
    groups: dict[str, Any] = Field(default_factory=dict)
    sampler: Sampler = "optitune"
    lr_reach: Annotated[float, Field(ge=1, le=1e6)] = 100.0
    budget_in: Literal["epochs", "seconds"] = "seconds"
    pruner: Pruner = "optitune"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    optimizer: tuple[OwnOptimizer, ...] = Field(default=(), strict=False)
    hyperparameters: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        """Sort the keys of a study into its own settings and hyperparameters by owner."""
        if not isinstance(data, dict):
            return data
        rows = data.get("optimizer", ())
        if isinstance(rows, dict):
            raise ValueError("optimizer: each row is a table of a list: write [[optimizer]], with two brackets")
        own = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list | tuple) else []
        reserved = reserved_names()
        for row in own:
            if isinstance(row.get("name"), str) and row["name"] in reserved:
                raise ValueError(f"optimizer: name = {row['name']!r}: means something else in a study; choose another")
        owners, searchable = _names(own, optimizers.OPTIMIZERS)
        if any(key not in cls.model_fields and key not in owners | searchable for key in data):
            # other packages are looked at when their names may be meant, not before
            owners, searchable = _names(own, optimizers.known())
        gathered: dict[str, Any] = {}
        hyperparameters: dict[str, Any] = {}
        for key, value in data.items():
            if key in cls.model_fields and key != "hyperparameters":
                gathered[key] = value
            elif key in owners:
                if not isinstance(value, dict):
                    raise ValueError(f"{key} = {value!r}: must be a table, such as {key}.NAME = VALUE")
                hyperparameters[key] = value
            elif key in searchable:
                if isinstance(value, dict):
                    raise ValueError(f"{key} = {value!r}: must be a value, or a list of two ends or of options")
                hyperparameters.setdefault(ALL_OWNERS, {})[key] = value
            elif key == "allocation":
                raise ValueError(
                    f"allocation = {value!r}: is no setting any more: half of the trials go to the optimizer that has "
                    "cost least; leave it out, or write budget_in = 'epochs' to count epochs in place of time"
                )
            elif key in ELSEWHERE and not isinstance(value, dict):
                raise ValueError(
                    f"{key} = {value!r}: is not of the study; say it by the flag --{key.replace('_', '-')}"
                )
            else:
                settings = [name for name in cls.model_fields if name != "hyperparameters"]
                names = [*settings, "trials", "timeout", *owners, *searchable]
                raise ValueError(f"{key} = {value!r}: {unknown('key', key, names)}")
        return {**gathered, "hyperparameters": hyperparameters} if hyperparameters else gathered

    @field_validator("optimizers", "schedules", mode="before")
    @classmethod
    def _all(cls, names: Any, info: Any) -> Any:
        names = listed(names)
        if isinstance(names, list | tuple) and not names:
            raise ValueError("must name at least one")
        if names in (("all",), ["all"]):
            return optimizers.available() if info.field_name == "optimizers" else tuple(schedules.SCHEDULES)
        return names

    @field_validator("schedules")
    @classmethod
    def _known_schedules(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _found(names, schedules.find)

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, name: str | None) -> str | None:
        if name not in (None, *losses.UNNAMED):
            _found((str(name),), losses.find)
        return name

    @model_validator(mode="after")
    def _fits(self) -> "StudySettings":
        own = {row.name for row in self.optimizer}
        if len(own) != len(self.optimizer):
            raise ValueError("optimizer: a name stands twice")
        for name in self.optimizers:
            try:
                registered = name in own or name in optimizers.OPTIMIZERS
                if not registered and name not in optimizers.known():
                    raise unknown("optimizer", name, {*optimizers.known(), *own}, optimizers.HOW_TO_ADD)
                if name not in own:
                    optimizers.check_installed(optimizers.find(name))
            except UsageError as error:
                raise ValueError(f"optimizers = {list(self.optimizers)!r}: {error}") from None
        space = self.space()
        if self.loss not in (None, "cross-entropy") and space.training["label_smoothing"] != Fixed(0.0, BY_THE_STUDY):
            raise ValueError(
                f"label_smoothing = {self.label_smoothing}: only cross-entropy has labels to smooth, not {self.loss}"
            )
        return self

    def rows(self) -> list[Optimizer]:
        """The rows of the competing optimizers, the study's own included."""
        own = {row.name: row.row() for row in self.optimizer}
        return [own.get(name) or optimizers.find(name) for name in self.optimizers]

    def own_paths(self) -> dict[str, str]:
        """`module:class` of the competing optimizers that the study defines, by name."""
        return {row.name: row.path for row in self.optimizer if row.name in self.optimizers}

    def space(self) -> SearchSpace:
        """The search space of the study.

        Raises:
            ValueError: an override of a hyperparameter is not allowed.
        """
        training = {name: getattr(self, name) for name in TRAINING_SETTINGS}
        # other samplers would draw evenly from all of a wide range
        reach = self.lr_reach if self.sampler == "optitune" else 1.0
        return build(self.rows(), self.schedules, self.epochs, self.hyperparameters, training, self.groups, reach)

    def document(self) -> dict[str, Any]:
        """All settings as a study's file has them."""
        document = self.model_dump(mode="json", exclude_none=True, exclude={"hyperparameters"})
        for row in document["optimizer"]:
            row["ranges"] = {name: _without_empty(parts) for name, parts in row["ranges"].items()}
        document["optimizer"] = [_without_empty(row) for row in document["optimizer"]]
        document = _without_empty(document)
        # as a file has them: what is given from Python may be a tuple
        hyperparameters = {
            owner: {name: list(each) if isinstance(each, tuple) else each for name, each in values.items()}
            for owner, values in self.hyperparameters.items()
        }
        return {**document, **hyperparameters.pop(ALL_OWNERS, {}), **hyperparameters}


def _without_empty(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table without the keys that are empty or not set."""
    return {key: value for key, value in table.items() if value not in (None, {}, [])}


def _names(own: Sequence[Mapping[str, Any]], registry: Mapping[str, Optimizer]) -> tuple[set[str], set[str]]:
    """The names of all optimizers and schedules, the study's own included, and those of all their hyperparameters."""
    ranges = [{**row.ranges, **row.also} for row in registry.values()]
    ranges += [dict(row.ranges(1)) for row in schedules.SCHEDULES.values()]
    brought = [row.get(table) for row in own for table in ("ranges", "also")]
    owners = {*(str(row.get("name")) for row in own), *registry, *schedules.SCHEDULES}
    return owners, {name for each in [*ranges, *brought] if isinstance(each, dict) for name in each}


def reserved_names() -> set[str]:
    """Names that mean something else in a study's file, and can be no optimizer's."""
    return {
        *StudySettings.model_fields,
        "trials",
        "timeout",
        *schedules.SCHEDULES,
        *_names((), optimizers.OPTIMIZERS)[1],
    }


def listed(names: Any) -> Any:
    """Names separated by commas as a tuple; any other value unchanged."""
    if not isinstance(names, str):
        return names
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _found(names: tuple[str, ...], find: Callable[[str], Any]) -> tuple[str, ...]:
    """`names`, after a check that `find` finds each.

    Raises:
        ValueError: it does not.
    """
    for name in names:
        try:
            find(name)
        except UsageError as error:
            raise ValueError(str(error)) from None
    return names


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both documents merged, table by table; values of `over` go before those of `under`."""
    both = dict(under)
    for key, value in over.items():
        known = both.get(key)
        both[key] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return both


ELSEWHERE = (
    "workers", "device", "trial_timeout", "storage", "studies_dir", "data_dir", "study", "from", "from_storage",
    "dry_run", "json", "quiet",
)  # fmt: skip
"""Flags of a search that are no settings of the study."""

ORDER = "order of groups"
"""Key under which the order of groups is compared."""


SAME = ("epochs", "loss", "decay_biases", "precision", "seed")
"""Settings in which trials of two studies must agree for their values to be comparable, besides task and data."""


def another(study: str, differences: Collection[str]) -> str:
    """How to begin another study, from the trials of this one where they would be comparable."""
    ways = f"to start another, add --study {study}-2"
    if {"task", "train_examples", "data", *SAME}.isdisjoint(differences):
        ways += f", with --from {study} to begin with those of its trials that lie in the new space"
    return ways


def resolve(
    given: Mapping[str, Any],
    file: Mapping[str, Any],
    stored: Mapping[str, Any] | None,
    study: str,
    older: Mapping[str, Any] | None = None,
) -> StudySettings:
    """Resolve the settings of a study: those given go before its file's, then its stored ones, then the defaults.

    Args:
        given: settings from flags or arguments, by key.
        file: settings in the study's file, by key.
        stored: settings that an existing study was made with; None for a new one.
        study: its name, for messages.
        older: of another study, in place of the defaults of a new one.

    Raises:
        UsageError: a value is not allowed, or differs from what the study was made with.
    """
    requested = merged(file, given)
    base = stored or older
    if base is None:
        return validated(StudySettings, requested, f"study '{study}'")
    made = validated(StudySettings, dict(base), f"study '{study}' as stored")
    kept = made.document()
    for owner in set(made.hyperparameters) - {ALL_OWNERS} - _competing(requested, made):
        # a setting of one that no longer competes is a difference, not an error
        del kept[owner]
    wanted = validated(StudySettings, merged(kept, requested), f"study '{study}'")
    if stored is None:
        return wanted
    if wanted.precision == "auto":
        wanted = wanted.model_copy(update={"precision": made.precision})
    now, then = _compared(wanted), _compared(made)
    differences = differing(now, then)
    if any(key.startswith("groups.") for key in differences):
        differences.pop(ORDER, None)
    if differences:
        raise UsageError(
            f"study '{study}' was made with other settings:\n{differences_table(differences)}\n"
            f"To go on with it, use what was; {another(study, differences)}"
        )
    return made


def _competing(requested: Mapping[str, Any], made: StudySettings) -> set[str]:
    """The names of the optimizers and schedules requested now, before they are validated."""
    names: set[str] = set()
    for key, before in (("optimizers", made.optimizers), ("schedules", made.schedules)):
        names_now = listed(requested.get(key, before))
        names |= {str(name) for name in names_now} if isinstance(names_now, list | tuple) else set()
    return names | (set(made.hyperparameters) if "all" in names else set())


def _compared(settings: StudySettings) -> dict[str, Any]:
    """Settings by dotted key; own optimizers by name, and the order of groups, which matters."""
    document = settings.document()
    rows = {row["name"]: row for row in document.pop("optimizer", [])}
    order = {ORDER: list(settings.groups)} if len(settings.groups) > 1 else {}
    return flat({**document, **({"optimizer": rows} if rows else {})}) | order


def flat(document: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A nested document as values by dotted key."""
    flattened: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{above}.{toml_key(key)}" if above else toml_key(key)
        flattened |= flat(value, name) if isinstance(value, Mapping) else {name: value}
    return flattened


def differing(now: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The values (now, made) of the keys whose values differ."""
    keys = list(made) + [key for key in now if key not in made]
    return {key: (now.get(key), made.get(key)) for key in keys if now.get(key) != made.get(key)}
