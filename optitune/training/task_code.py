"""A record of a task's code, by which changes are noticed that leave all shapes as they are.

Of functions and classes it holds digests of the compiled code, without comments, docstrings and line numbers, and of
all that they refer to: constants, tensors, the user's other functions and classes. Libraries count by name, since their
versions are kept with the study, and data are left out, since they have a checksum.
"""

import dis
import functools
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optitune.common.renamed_modules import current_path
from optitune.errors import OptituneError
from optitune.tasks.builtin import TASKS
from optitune.tasks.loading import Source
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.metrics import Metric
from optitune.tasks.task import Task
from optitune.tasks.user_code import of_a_library
from optitune.training.preflight import fresh_model

SHOWN = 80
"""Characters up to which a constant is kept as it is written; of a longer one, and of any text, a digest is kept."""

HASHED_BYTES = 2**26
"""Bytes up to which a tensor counts by its numbers; a larger one by its shape."""

MOST_PARTS = 1_000
MOST_ITEMS = 100
MOST_LINES = 2_000
MOST_NAMED = 4
"""How many changes a message names."""

KEY = "code"
"""What the record is called among what workers are given with their data."""

CODE = "code "
"""What the digest of compiled code begins with, which holds for one version of Python."""

IGNORED = {
    "__annotations__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__orig_bases__", "__parameters__",
    "__qualname__", "__slots__", "__static_attributes__", "__weakref__", "_abc_impl", "__abstractmethods__",
    "__dataclass_params__", "__match_args__", "__hash__",
}  # fmt: skip
"""What stands in a class beside what its author wrote."""

HAS_DOCSTRING = 0x4000000
"""The flag of code objects with a docstring, from Python 3.13 on."""

Record = Mapping[str, Any]


def record(task: Task, model: nn.Module, source: str) -> dict[str, Any]:
    """The record of a task's code, as JSON; empty for a built-in task.

    Args:
        task: whose model, loss, metric and transform are recorded, with all that they refer to.
        model: a network of the task.
        source: what a user types to name the task.

    Returns:
        The versions that it holds for, the `network` as printed, `parts` by name, and the digest of all as `id`.
    """
    if source in TASKS:
        return {}
    walk = _Walk()
    for name in ("train",) if isinstance(task, LoopTask) else ("model", "loss", "metric", "transform", "ignore_index"):
        given = getattr(task, name, None)
        # a name of the package's own is among the settings
        if given is not None and not isinstance(given, str):
            walk.look(name, given.function if isinstance(given, Metric) else given)
    lines = re.sub(r"0x[0-9a-f]+", "0x", repr(model)).splitlines()
    network = lines if len(lines) <= MOST_LINES else [_digest("\n".join(lines))]
    found = {"network": network, "parts": walk.parts}
    return {
        "id": "sha256:" + hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest(),
        "python": sys.implementation.cache_tag,
        "torch": torch.__version__,
        **found,
    }


def changes(before: Record, now: Record) -> list[str]:
    """The changes of a task's code, a few words each, without those that another version of Python or torch may cause.

    Args:
        before: record from when the study was made; empty where none was kept.
        now: present record.
    """
    if not before or not now:
        return []
    found = []
    if before["torch"] == now["torch"]:
        found += list(_changed_lines(before["network"], now["network"]))
    parts: Mapping[str, str] = now["parts"]
    earlier = {current_path(name): value for name, value in before["parts"].items()}
    for name in [*parts, *(name for name in earlier if name not in parts)]:
        value, was = parts.get(name), earlier.get(name)
        if value == was or (before["python"] != now["python"] and _is_code(value, was)):
            continue
        if was is None:
            found.append(f"{name} is new")
        elif value is None:
            found.append(f"{name} is gone")
        elif " " in value or " " in was:
            found.append(f"{name} was changed")
        else:
            found.append(f"{name} is {value} (was {was})")
    return found


def check_unchanged(task: Task, source: Source, before: Record) -> None:
    """Check that a task's file was not edited since the search or retraining began; a task given as an object is not.

    Network and compiled code are compared, but not constants, which may differ by process, such as a rank or the time.

    Args:
        task: as loaded in this process.
        source: that it was loaded from.
        before: record of its code when the work began; empty to skip the check.

    Raises:
        OptituneError: it was.
    """
    if not before or not isinstance(source, str):
        return
    now = record(task, fresh_model(task), source)
    then, here = (
        {**each, "parts": {name: value for name, value in each["parts"].items() if _is_code(value)}}
        for each in (before, now)
    )
    if found := changes(then, here):
        raise OptituneError(
            f"task '{source}' was changed while this ran: {listed(found)}; what is finished is kept. Put it back and "
            "run the same command again"
        )


def listed(found: list[str]) -> str:
    """The first few changes as a list."""
    more = len(found) - MOST_NAMED
    return ", ".join(found[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _is_code(*values: str | None) -> bool:
    return any(value is not None and value.startswith(CODE) for value in values)


def _changed_lines(before: list[str], now: list[str]) -> Iterator[str]:
    for kind, low, high, start, end in SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        were = " ".join(line.strip() for line in before[low:high])
        are = " ".join(line.strip() for line in now[start:end])
        yield f"the network has {_short(are) or 'no more'} (had {_short(were) or 'not'})"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _digest(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


def _is_library(module: str) -> bool:
    """Whether a module belongs to Python or to an installed package."""
    if module in ("", "__main__"):
        return False
    if module.partition(".")[0] in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and of_a_library(file)


class _Walk:
    """Goes through all that an object refers to, and keeps of each part what changes when its author changes it."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        # the objects themselves, since the id of one that is gone may be another's
        self._seen: dict[int, Any] = {}

    def look(self, name: str, value: Any) -> None:
        """Keep what `value` is, under `name`, and go on with what it refers to."""
        if value is None or isinstance(value, bool | int | float | complex):
            self._keep(name, repr(value).replace(" ", ""))
            return
        if isinstance(value, str | bytes):
            # perhaps a password
            self._keep(name, f"text {_digest(value)}")
            return
        if id(value) in self._seen or len(self.parts) >= MOST_PARTS:
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            self._keep(name, _numbers(value.detach().cpu()))
        elif isinstance(value, np.ndarray | np.generic):
            numbers = b"" if value.dtype.hasobject else value.tobytes()
            self._keep(name, f"array {_digest(repr((value.dtype, value.shape)).encode() + numbers)}")
        elif isinstance(value, functools.partial):
            self.look(name, value.func)
            self._items(name, value.args)
            self._named(name, value.keywords)
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, MethodType):
            self.look(name, value.__func__)
            self.look(name, value.__self__)
        elif isinstance(value, staticmethod | classmethod | functools.cached_property | property):
            for each in ("__func__", "func", "fget"):
                if (inner := getattr(value, each, None)) is not None:
                    self.look(name, inner)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, list | tuple):
            self._items(name, value)
        elif isinstance(value, set | frozenset):
            self._items(name, sorted(value, key=repr))
        elif isinstance(value, Mapping):
            self._named(name, {str(key): each for key, each in value.items()})
        elif not isinstance(value, ModuleType):
            self._instance(name, value)

    def _keep(self, name: str, value: str) -> None:
        number, key = 1, name
        while self.parts.get(key, value) != value:
            number += 1
            key = f"{name} ({number})"
        self.parts[key] = value

    def _items(self, name: str, values: Iterable[Any]) -> None:
        there = list(values)
        simple = all(each is None or isinstance(each, bool | int | float) for each in there)
        if simple and len(text := repr(there).replace(" ", "")) <= SHOWN:
            self._keep(name, text)
        elif simple:
            self._keep(name, f"list {_digest(repr(there))}")
        else:
            self._keep(f"the length of {name}", str(len(there)))
            for number, each in enumerate(there[:MOST_ITEMS]):
                self.look(f"{name}[{number}]", each)

    def _named(self, name: str, values: Mapping[str, Any]) -> None:
        for key, each in list(values.items())[:MOST_ITEMS]:
            self.look(f"{name}.{key}", each)

    def _function(self, function: FunctionType) -> None:
        if (inner := getattr(function, "__wrapped__", None)) is not None:
            self.look(function.__qualname__, inner)
        if _is_library(function.__module__ or ""):
            self._keep(f"{function.__module__}.{function.__qualname__}", "library")
            return
        name = function.__qualname__.replace("<locals>.", "")
        self._keep(name, CODE + _code_digest(function.__code__))
        if defaults := [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]:
            self._items(f"defaults of {name}", defaults)
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                self.look(f"{variable} of {name}", cell.cell_contents)
            except ValueError:  # not assigned yet
                continue
        # a counter, say, is where the run has brought it and not what its author wrote
        names = set(_names(function.__code__)) - _assigned(function.__globals__)
        for variable in sorted(names & set(function.__globals__)):
            value = function.__globals__[variable]
            if not isinstance(value, ModuleType):
                self.look(variable, value)
            elif not _is_library(value.__name__):
                for inner_name in sorted(names & set(vars(value))):
                    self.look(f"{variable}.{inner_name}", vars(value)[inner_name])

    def _class(self, class_: type) -> None:
        if _is_library(class_.__module__):
            self._keep(f"{class_.__module__}.{class_.__qualname__}", "library")
            return
        name = class_.__qualname__.replace("<locals>.", "")
        for base in class_.__bases__:
            self.look(f"base of {name}", base)
        for key, value in vars(class_).items():
            if key not in IGNORED:
                self.look(f"{name}.{key}", value)

    def _instance(self, name: str, value: Any) -> None:
        self.look(name, type(value))
        if isinstance(value, nn.Module):
            self._keep(name, f"module {_digest(re.sub(r'0x[0-9a-f]+', '', repr(value)))}")
            for key, each in value.state_dict().items():
                if isinstance(each, Tensor):
                    self.look(f"{name}.{key}", each)
        if not _is_library(type(value).__module__):
            own = getattr(value, "__dict__", {})
            internal = vars(nn.Module()) if isinstance(value, nn.Module) else {}
            self._named(name, {key: each for key, each in own.items() if key not in internal})
        elif callable(inner := getattr(value, "__wrapped__", None)):
            self.look(name, inner)


def _numbers(tensor: Tensor) -> str:
    about = f"{tensor.dtype} {tuple(tensor.shape)}"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.nbytes > HASHED_BYTES:
        return f"tensor {_digest(about)}"
    return f"tensor {_digest(about.encode() + tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())}"


def _names(code: CodeType) -> Iterator[str]:
    """The names of globals and attributes in a function and all within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _assigned(names: Mapping[str, Any]) -> set[str]:
    """The globals of a module that functions of its own assign while they run."""
    own = [each for each in names.values() if getattr(each, "__module__", None) == names.get("__name__")]
    inner = [each for class_ in own if isinstance(class_, type) for each in vars(class_).values()]
    return {
        step.argval
        for each in [*own, *inner]
        if isinstance(each, FunctionType)
        for step in dis.get_instructions(each.__code__)
        if step.opname == "STORE_GLOBAL"
    }


def _code_digest(code: CodeType) -> str:
    """A digest of all that a function does."""
    constants = code.co_consts
    documented = (
        bool(code.co_flags & HAS_DOCSTRING) if sys.version_info >= (3, 13) else not code.co_name.startswith("<")
    )
    if documented and constants and isinstance(constants[0], str):
        # the docstring; its place stays, since the code counts places
        constants = ("", *constants[1:])
    parts = [
        code.co_code.hex(),
        *code.co_names,
        *code.co_varnames,
        *code.co_freevars,
        str((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)),
        *(_constant(each) for each in constants),
    ]
    return _digest("\n".join(parts))


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _code_digest(value)
    if isinstance(value, frozenset):
        return repr(sorted(map(_constant, value)))
    if isinstance(value, tuple):
        return repr([_constant(each) for each in value])
    return repr(value)
