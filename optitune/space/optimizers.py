"""The registry of optimizers: the rows of `optimizer_rows`, those of other packages, and the limits of their settings.

No torch at import.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import MappingProxyType

from optitune.errors import UsageError, unknown
from optitune.space.optimizer_rows import JOINED, LR_FACTOR, ROWS, Optimizer, Trait
from optitune.space.ranges import Limit, whole_number

__all__ = [
    "DEFAULT_OPTIMIZERS",
    "ENTRY_POINTS",
    "HOW_TO_ADD",
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


LIMITS: Mapping[str, Limit] = MappingProxyType(
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
        "max_iter": whole_number(1),
        "history_size": whole_number(1),
        "tolerance_grad": ("at least 0", lambda value: value >= 0),
        "tolerance_change": ("at least 0", lambda value: value >= 0),
        "warmup_steps": whole_number(0),
        "r": ("at least 0", lambda value: value >= 0),
        "weight_lr_power": ("at least 0", lambda value: value >= 0),
    }
)
"""Valid values of each hyperparameter, in words and as a test: wider than the search ranges."""

ENTRY_POINTS = "optitune.optimizers"
"""The entry-point group by which other packages add optimizers: each is an `Optimizer`, or several."""

HOW_TO_ADD = (
    "(see 'optitune optimizers'); to add one, name its class as module:Class, such as lion_pytorch:Lion, or write a "
    f"row [[optimizer]] in the study's file; an installed package can bring one by the entry point {ENTRY_POINTS}"
)
"""What to do about an optimizer that is not known."""


@cache
def _brought() -> Mapping[str, Optimizer]:
    """The rows of other packages, by name."""
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
    """All rows by name: those of this package and those of entry points.

    Raises:
        UsageError: an entry point cannot be loaded, is not an `Optimizer`, or has a name that is in use.
    """
    return {**OPTIMIZERS, **_brought()}


def find(name: str) -> Optimizer:
    """The row called `name`; entry points are loaded only for a name that is not built in.

    Raises:
        UsageError: there is none (the message suggests similar names), or an entry point is faulty.
    """
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    rows = known()
    if name in rows:
        return rows[name]
    raise unknown("optimizer", name, rows, HOW_TO_ADD)


def available() -> tuple[str, ...]:
    """The names that `all` stands for: of the rows whose package is installed and that suit any network.

    Raises:
        UsageError: an entry point is faulty; see `known`.
    """
    return tuple(name for name, row in known().items() if "sparse" not in row.traits and is_module(_package(row)))


def check_installed(row: Optimizer) -> None:
    """Check that an optimizer's package is installed.

    Raises:
        UsageError: it is not; the message has the command that installs it.
    """
    if not is_module(_package(row)):
        remedy = f"'optitune[{row.extra}]'" if row.extra else _package(row)
        raise UsageError(f"optimizer '{row.name}' needs the package {_package(row)}: pip install {remedy}")


def _package(row: Optimizer) -> str:
    return row.path.partition(":")[0].partition(".")[0]


def is_module(name: str) -> bool:
    """Whether a top-level module of this name can be found; it is not imported."""
    try:
        return find_spec(name) is not None
    except ValueError:  # a module that runs as a script, or was made by hand, is there but has no spec
        return True
