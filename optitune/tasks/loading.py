"""Loading of tasks: built-in ones by name, functions in a file or module, and objects from Python."""

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from optitune.common.files import expanded
from optitune.common.user_modules import hiding, importable_with_note
from optitune.errors import UsageError, unknown
from optitune.tasks.builtin import TASKS
from optitune.tasks.loop_task import NO_METRIC, LoopTask, parameters_of
from optitune.tasks.task import Task, kind
from optitune.tasks.user_code import calling, code_place, script

Source = str | bytes
"""The source of a task: a built-in name, `module:function`, `file.py:function`, or the bytes that `packed` gave."""


def study_of(source: str) -> str:
    """The default name of a task's study: the task's, or that of its file or module."""
    place = source.rpartition(":")[0] or source
    name = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2] if ":" in source else place
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("-._") or "study"


TEMPLATE = "'optitune task-template' writes one to begin with"

METRIC = "metric"
"""What the metric of a loop is called among what workers are given with their data."""

FROM_PYTHON = "python:"
"""Prefix of the name of a task that was given as an object."""


def packed(task: Task) -> bytes:
    """A task as bytes for another process, its functions included.

    Raises:
        UsageError: it holds something that cannot be pickled.
    """
    try:
        return bytes(cloudpickle.dumps(task))
    except Exception as error:
        raise UsageError(
            f"task '{task.name}': cannot be handed to worker processes: {type(error).__name__}: {error}; "
            "make what it holds within its functions"
        ) from None


def located(source: str, studies_dir: Path, typed: bool = False) -> str:
    """A task's name with its file as it is found: where the studies lie, in the folder above, or where we are.

    Args:
        source: the name of a task, as a study keeps it or as it was typed.
        studies_dir: the folder of all studies.
        typed: whether it was typed just now, so that it is looked for where we are first.

    Returns:
        `source`, or the same with an absolute path where its file is not there from where we are.

    Raises:
        UsageError: its file is nowhere.
    """
    place, _, name = source.rpartition(":")
    if not place.endswith(".py") or Path(place).is_absolute():
        return source
    if place.startswith("~"):
        return f"{expanded(Path(place))}:{name}"
    here, beside, above = (folder.resolve() / place for folder in (Path(), studies_dir, studies_dir.resolve().parent))
    order = (here, beside, above) if typed else (beside, above, here)
    found = next((path for path in order if path.is_file()), None)
    if found is None:
        places = " nor ".join(dict.fromkeys(str(path) for path in (here, beside, above)))
        raise UsageError(f"task '{source}': there is no file {places}; {TEMPLATE}")
    return source if here.is_file() and found.samefile(here) else f"{found}:{name}"


def find(source: Source, data_dir: Path) -> Task:
    """Load the task that `source` names; a training loop of the user's own without its metric, see `judged`.

    Raises:
        UsageError: there is none, or the user's own cannot be imported or gives no `Task`.
    """
    if isinstance(source, bytes):
        task: Task = cloudpickle.loads(source)
        return task
    if source in TASKS:
        return TASKS[source].task(data_dir)
    if source.startswith(FROM_PYTHON):
        raise UsageError(
            f"task '{source}' was given as an object from Python: go on there, with optitune.search and "
            "optitune.retrain, or put it into a file and name that as FILE.py:FUNCTION"
        )
    if source.endswith(".py"):
        raise UsageError(f"task '{source}': name the function in it that gives the task: {source}:make_task")
    if ":" not in source:
        raise unknown("task", source, TASKS, "(see 'optitune tasks'; your own is FILE.py:FUNCTION)")
    place, _, name = source.rpartition(":")
    module = _imported(source, place)
    made = getattr(module, name, None)
    if made is None:
        near = [key for key, each in vars(module).items() if getattr(each, "__module__", "") == module.__name__]
        raise unknown(f"function in {place}", name, near)
    if not isinstance(made, Task):
        if not callable(made):
            raise UsageError(f"task '{source}': {name} is {kind(made)}, but must be a function that gives a Task")
        if (loop := loop_of(made, source)) is not None:
            return loop
        with calling(source, f"{name}()"), script(Path(place).resolve() if place.endswith(".py") else None):
            made = made()
    if not isinstance(made, Task):
        raise UsageError(f"task '{source}': {name}() gives {kind(made, 'something ')}, but must give an optitune.Task")
    return replace(made, name=made.name or source)


def about(task: Task) -> dict[str, str]:
    """What workers are given with their data of the metric that a loop of the user's own reports."""
    return {METRIC: task.metric_text} if isinstance(task, LoopTask) else {}


def judged(task: Task, metric: str | None) -> Task:
    """The task with the metric that a study says for a training loop of the user's own.

    Raises:
        UsageError: a loop is given none, or another task one.
    """
    if isinstance(task, LoopTask):
        return task if metric is None and task.metric is not NO_METRIC else task.judged_by(metric)
    if metric is not None:
        raise UsageError(
            f"metric = '{metric}': task '{task.name}' says its metric itself (Task(metric=...)); a study says it for a "
            "function that trains by itself"
        )
    return task


def loop_of(function: Callable[..., Any], name: str) -> LoopTask | None:
    """The task of a function that takes a run and trains by itself; None for one without parameters.

    Raises:
        UsageError: it takes several.
    """
    wanted = [] if isinstance(function, type) else parameters_of(function) or []
    if len(wanted) > 1:
        place = code_place(function)
        raise UsageError(
            f"task '{name}': {getattr(function, '__name__', 'the function')}({', '.join(wanted)}) takes {len(wanted)} "
            f"parameters{place}: a training loop takes one, the run, and a function that gives a Task none; give the "
            "others a default"
        )
    return LoopTask(train=function, name=name) if wanted else None


def _imported(source: str, place: str) -> ModuleType:
    """Import the module at `place`, a file or a dotted name."""
    if not place.endswith(".py"):
        importable_with_note(Path.cwd())
        with calling(source, f"import {place}"), script(None):
            return importlib.import_module(place)
    path = Path(place).resolve()
    if not path.is_file():
        raise UsageError(f"task '{source}': there is no file {path}; {TEMPLATE}")
    importable_with_note(path.parent)
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    # others import what is called so
    in_use = known is not None or path.stem in hiding(path.parent)
    name = f"optitune_task_{path.stem}" if in_use else path.stem
    if in_use and getattr(sys.modules.get(name), "__file__", None) == str(path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with calling(source, f"import {place}"), script(path):
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module
