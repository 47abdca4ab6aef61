"""The registry of optimizers: which there are, which are installed, and what their settings may be; no torch at import.

The rows are those of `optimizer_rows`, and those that other packages bring by an entry point.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from optitune.errors import UsageError, unknown
from optitune.space.optimizer_rows import JOINED, LR_FACTOR, ROWS, Optimizer, Trait

__all__ = [
    "DEFAULT_OPTIMIZERS",
    "ENTRY_POINTS",
    "JOINED",
    "LIMITS",
    "LR_FACTOR",
    "OPTIMIZERS",
    "ROWS",
    "Optimizer",
    "Trait",
    "available",
    "check_installed",
    "find",
    "is_module",
    "known",
]

OPTIMIZERS: Mapping[str, Optimizer] = MappingProxyType({row.name: row for row in ROWS})

DEFAULT_OPTIMIZERS = ("sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad", "adadelta", "muon")


def _whole_number(least: int) -> tuple[str, Callable[[Any], bool]]:
    return f"a whole number of at least {least}", lambda value: isinstance(value, int) and value >= least


LIMITS: Mapping[str, tuple[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "lr": ("above 0", lambda value: value > 0),
        "momentum": ("at least 0 and below 1", lambda value: 0 <= value < 1),
        "beta1": ("at least 0 and below 1", lambda value: 0 <= value < 1),
        "beta2": ("at least 0 and below 1", lambda value: 0 <= value < 1),
        "alpha": ("between 0 and 1", lambda value: 0 <= value <= 1),
        "rho": ("between 0 and 1", lambda value: 0 <= value <= 1),
        "eps": ("at least 0", lambda value: value >= 0),
        "weight_decay": ("at least 0", lambda value: value >= 0),
        "lambd": ("at least 0", lambda value: value >= 0),
        "beta2_decay": ("at most 0", lambda value: value <= 0),
        "d": ("at least 1", lambda value: value >= 1),
        "dampening": ("between 0 and 1", lambda value: 0 <= value <= 1),
        "momentum_decay": ("at least 0", lambda value: value >= 0),
        "lr_decay": ("at least 0", lambda value: value >= 0),
        "initial_accumulator_value": ("at least 0", lambda value: value >= 0),
        "t0": ("at least 0", lambda value: value >= 0),
        "eta1": ("above 0 and below 1", lambda value: 0 < value < 1),
        "eta2": ("above 1", lambda value: value > 1),
        "step_size_min": ("at least 0", lambda value: value >= 0),
        "step_size_max": ("above 0", lambda value: value > 0),
        "max_iter": _whole_number(1),
        "history_size": _whole_number(1),
        "tolerance_grad": ("at least 0", lambda value: value >= 0),
        "tolerance_change": ("at least 0", lambda value: value >= 0),
        "warmup_steps": _whole_number(0),
        "r": ("at least 0", lambda value: value >= 0),
        "weight_lr_power": ("at least 0", lambda value: value >= 0),
    }
)
"""What a hyperparameter may be at all, wider than where a search looks: for settings edited by hand."""

ENTRY_POINTS = "optitune.optimizers"
"""The group of entry points by which other packages bring optimizers: each is an `Optimizer`, or several."""


@cache
def _brought() -> Mapping[str, Optimizer]:
    """The rows of other packages, by name.

    Raises:
        UsageError: an entry point cannot be loaded, is no row, or has the name of another.
    """
    rows: dict[str, Optimizer] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            loaded = entry.load()
            found = list(loaded) if isinstance(loaded, Iterable) else [loaded]
        except Exception as error:
            raise UsageError(f"{_place(entry)} cannot be loaded: {type(error).__name__}: {error}") from error
        for row in found:
            if not isinstance(row, Optimizer):
                raise UsageError(f"{_place(entry)} gives something of type {type(row).__name__}, no optimizer's row")
            if row.name in OPTIMIZERS or row.name in rows:
                raise UsageError(f"{_place(entry)} brings an optimizer '{row.name}', but there is one of that name")
            rows[row.name] = row
    return rows


def _place(entry: EntryPoint) -> str:
    package = f" of the package {entry.dist.name}" if entry.dist else ""
    return f"the entry point {entry.name} = {entry.value}{package}"


def known() -> dict[str, Optimizer]:
    """All rows by name: those of this package, and those that other packages bring.

    Raises:
        UsageError: an entry point cannot be loaded, is no row, or has the name of another.
    """
    return {**OPTIMIZERS, **_brought()}


def find(name: str) -> Optimizer:
    """The row called `name`. What other packages bring is looked at for a name that is not built in.

    Raises:
        UsageError: there is none; the message has the nearest names.
    """
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    rows = known()
    if name in rows:
        return rows[name]
    raise unknown("optimizer", name, rows, "(see 'optitune optimizers')")


def available() -> tuple[str, ...]:
    """What `all` means: the names of all rows whose package is installed, and that fit a network of any kind.

    Raises:
        UsageError: an entry point cannot be loaded, is no row, or has the name of another.
    """
    return tuple(name for name, row in known().items() if "sparse" not in row.traits and is_module(_package(row)))


def check_installed(row: Optimizer) -> None:
    """Hold a row against what is installed.

    Raises:
        UsageError: its package is not; the message has the command that installs it.
    """
    if not is_module(_package(row)):
        remedy = f"'optitune[{row.extra}]'" if row.extra else _package(row)
        raise UsageError(f"optimizer '{row.name}' needs the package {_package(row)}: pip install {remedy}")


def _package(row: Optimizer) -> str:
    return row.path.partition(":")[0].partition(".")[0]


def is_module(name: str) -> bool:
    """Whether there is a module of this name without a dot, as Python looks for it; it is not imported."""
    try:
        return find_spec(name) is not None
    except ValueError:  # a module that runs as a script, or was made by hand, is there but has no spec
        return True
