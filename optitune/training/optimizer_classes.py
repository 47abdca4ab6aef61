"""Optimizers named by their class, as `module:Class`: rows whose ranges follow from the constructor's defaults."""

import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from optitune.errors import UsageError
from optitune.space import optimizers
from optitune.space.optimizer_rows import BETA1, BETA2, EPS, LR_FACTOR
from optitune.space.ranges import Float, around
from optitune.study.custom_optimizers import OwnOptimizer, find_modules
from optitune.study.settings import listed, reserved_names
from optitune.tasks.user_code import reason, script
from optitune.training.build import at

USUAL_LR = 1e-3
"""Known-good learning rate of a class whose constructor has no default for it."""

DECAY_FACTOR = 100.0
"""Weight decay is searched from the default / factor to the default * factor, as for sgd and adamw."""

FROM_CLASS = "Ranges by the defaults of its constructor."
"""Note of a row made here."""

_NOT_SEARCHED = ("foreach", "fused", "capturable", "differentiable", "maximize")
"""Arguments of torch's own optimizers that say how a step is computed."""

_SCALED = {"momentum": Float(0.0, 0.99, "complement"), "beta1": BETA1, "beta2": BETA2, "eps": EPS}


def with_rows(document: Mapping[str, Any], studies: Path, *known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings in which every `module:Class` among the optimizers is a name with a row in `optimizer`.

    Args:
        document: settings of a study by key; in `optimizers` there may be classes too.
        studies: folder of the study's file, beside which modules are looked for.
        known: further settings, such as those stored, whose rows are used where they name the same class.

    Raises:
        UsageError: a class cannot be imported, or no row can be made of it.
    """
    given = document.get("optimizers")
    names = listed(given) if isinstance(given, str) else [given] if isinstance(given, type) else given
    if not isinstance(names, list | tuple) or not any(_is_class(each) for each in names):
        return dict(document)
    tables = [_rows(each) for each in (document, *known) if each and each.get("optimizer")]
    rows = list(tables[0]) if tables else []
    found = []
    for name in names:
        if not _is_class(name):
            found.append(name)
            continue
        path = name if isinstance(name, str) else path_of(name)
        row = next((row for table in (rows, *tables) for row in table if row.get("path") == path), None)
        if row is None:
            registered = registered_row(path, studies)
            if registered is not None:
                found.append(registered.name)
                continue
            row = row_of(path, studies, {str(each.get("name")) for table in (rows, *tables) for each in table})
        if row not in rows:
            rows.append(row)
        found.append(row["name"])
    return {**document, "optimizers": found, **({"optimizer": rows} if rows else {})}


def _is_class(name: Any) -> bool:
    return isinstance(name, type) or (isinstance(name, str) and ":" in name)


def _rows(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    rows = document["optimizer"]
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list | tuple) else []


def path_of(class_: type) -> str:
    """`module:Class` of a class, from the shortest module that has it.

    Raises:
        UsageError: worker processes could not import it.
    """
    module, name = class_.__module__, class_.__qualname__
    if module == "__main__" or "." in name:
        raise UsageError(
            f"optimizers: the class {name} is defined in {'a function or class' if '.' in name else 'this script'}, "
            "where worker processes cannot import it: put it into a module of its own, and import it from there"
        )
    parts = module.split(".")
    prefixes = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return next(f"{each}:{name}" for each in prefixes if getattr(sys.modules.get(each), name, None) is class_)


def registered_row(path: str, studies: Path) -> optimizers.Optimizer | None:
    """The row of the registry for a class, which has ranges of its own; None where there is none.

    Args:
        path: `module:Class`.
        studies: folder of the study's file, beside which modules are looked for.

    Raises:
        UsageError: the class cannot be imported, or is no optimizer.
    """
    class_ = _imported(path, studies)
    alike = (row for row in optimizers.known().values() if row.path.endswith(f":{class_.__name__}"))
    return next((row for row in alike if at(row.path) is class_), None)


def row_of(path: str, studies: Path, taken: Iterable[str] = ()) -> dict[str, Any]:
    """A row for a class, as a study's file has one, by the defaults of the class's constructor.

    The learning rate is searched around its default, momenta and eps as for the built-in optimizers, and weight decay
    where its default is not 0. Everything else keeps its default, and may be set or searched by a study.

    Args:
        path: `module:Class`.
        studies: folder of the study's file, beside which modules are looked for.
        taken: names of a study's other rows.

    Raises:
        UsageError: the class cannot be imported, is no optimizer, or asks for what has no default.
    """
    class_ = _imported(path, studies)
    place = f"optimizer {path}"
    known_good, ranges, also = _hyperparameters(_parameters(class_), place)
    top, name = path.partition(".")[0].partition(":")[0], class_.__name__.lower().strip("_")
    reserved = {*reserved_names(), *optimizers.known(), *taken}
    document = {
        "name": f"{top}-{name}" if name in reserved else name,
        "path": path,
        "known_good": [known_good],
        "ranges": {
            each: {"low": value_range.low, "high": value_range.high, "scale": value_range.scale}
            for each, value_range in ranges.items()
        },
        "source": f"defaults of {path.replace(':', '.')}",
        "note": FROM_CLASS,
        "also": also,
        "traits": [trait for trait, (needed, _) in asked_traits(class_).items() if needed],
    }
    return {key: value for key, value in document.items() if value not in ({}, [])}


def row_at(path: str, studies: Path) -> optimizers.Optimizer:
    """The row that a class is searched with.

    Args:
        path: `module:Class`.
        studies: folder of the study's file, beside which modules are looked for.

    Raises:
        UsageError: as `row_of`.
    """
    return registered_row(path, studies) or OwnOptimizer.model_validate(row_of(path, studies)).row()


def _imported(path: str, studies: Path) -> type[torch.optim.Optimizer]:
    """The class at `path`.

    Raises:
        UsageError: it cannot be imported, or is no optimizer.
    """
    module, _, name = path.partition(":")
    if module.endswith(".py"):
        raise UsageError(f"optimizers: '{path}' names a file: write its module, {Path(module).stem}:{name}")
    if not module or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise UsageError(f"optimizers: '{path}' must be module:Class, such as lion_pytorch:Lion")
    find_modules({name: path}, studies)
    try:
        with script(None):
            class_ = at(path)
    except (Exception, SystemExit) as error:
        raise UsageError(f"optimizer {path}: cannot be imported: {reason(error)}") from error
    if not isinstance(class_, type) or not issubclass(class_, torch.optim.Optimizer):
        raise UsageError(f"optimizer {path}: is no torch.optim.Optimizer; name a class that is one")
    return class_


def asked_traits(class_: type[torch.optim.Optimizer]) -> dict[str, tuple[bool, bool]]:
    """Whether a class needs, and whether it can have, each trait that its methods show."""
    closure = inspect.signature(class_.step).parameters.get("closure")
    modes = callable(getattr(class_, "eval", None))
    needed = closure is not None and closure.default is inspect.Parameter.empty
    return {"closure": (needed, closure is not None), "modes": (modes, modes)}


def _parameters(class_: type) -> dict[str, Any]:
    """The arguments of a constructor after the network's parameters, with their defaults.

    Those of a base class follow where further keywords are passed on.
    """
    found: dict[str, Any] = {}
    for base in class_.__mro__:
        if base is torch.optim.Optimizer:
            break
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())
        named = [each for each in parameters[2:] if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
        found = {**{each.name: each.default for each in named}, **found}
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    return found


def _hyperparameters(
    parameters: Mapping[str, Any], place: str
) -> tuple[dict[str, Any], dict[str, Float], dict[str, Any]]:
    """Known-good settings, ranges, and optional hyperparameters with their defaults."""
    without = [name for name, default in parameters.items() if name != "lr" and default is inspect.Parameter.empty]
    if without or "lr" not in parameters:
        fault = f"asks for {', '.join(without)}, which has no default" if without else "has no argument lr"
        how = f"fixed = {{ {without[0]} = VALUE }}" if without else "lr in known_good, and its arguments"
        raise UsageError(f"{place}: its constructor {fault}: write a row [[optimizer]] in the study's file, with {how}")
    lr = parameters["lr"]
    known_good = {"lr": float(lr) if _is_number(lr) and lr > 0 else USUAL_LR}
    ranges, also = {"lr": around(known_good["lr"], LR_FACTOR)}, {}
    for name, default in parameters.items():
        parts = optimizers.JOINED.get(name, (name,))
        values = default if isinstance(default, list | tuple) else (default,)
        if name == "lr" or name in _NOT_SEARCHED or len(parts) != len(values):
            continue
        for part, value in zip(parts, values, strict=True):
            if part == "weight_decay" and _is_number(value) and value > 0:
                ranges[part] = around(value, DECAY_FACTOR)
            elif part in _SCALED and _is_number(value) and (value > 0 or part == "momentum") and value < 1:
                usual = _SCALED[part]
                ranges[part] = Float(min(usual.low, value), max(usual.high, value), usual.scale)
            else:
                if isinstance(value, bool | int | float):
                    also[part] = value
                continue
            known_good[part] = float(value)
    return known_good, ranges, also


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def in_words(row: OwnOptimizer) -> str:
    """What is searched of an optimizer whose ranges nobody has given, in a sentence."""
    ranges = "; ".join(f"{name} {value_range}" for name, value_range in row.row().ranges.items())
    return (
        f"{row.name} is {row.path.replace(':', '.')}, searched by the defaults of its constructor: {ranges}; "
        f"for another range, set {row.name}.NAME"
    )
