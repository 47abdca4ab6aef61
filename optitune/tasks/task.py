"""Tasks: data, model, loss and metric under one name, built in or the user's own."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Literal

import cloudpickle
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Dataset

from optitune.common.beside import hiding, importable_with_note
from optitune.common.randomness import seed_everything
from optitune.errors import UsageError, unknown
from optitune.space import losses
from optitune.tasks import metrics, models
from optitune.tasks.data import Examples, Transform
from optitune.tasks.datasets import DATASETS, load_train
from optitune.tasks.datasets import load_test as load_test_of
from optitune.tasks.metrics import Metric
from optitune.tasks.user_code import script
from optitune.tasks.user_code import theirs as theirs

Loss = Callable[[Tensor, Tensor], Tensor]

Data = Examples | Dataset[Any] | tuple[Any, Any]
"""Examples: inputs and targets as tensors or arrays, or a torch data set of (input, target)."""


@dataclass(frozen=True)
class Task:
    """What is trained, on what, and how it is judged.

    Attributes:
        model: builds a fresh network; its initial weights come from torch's global generator. Lazy layers, such as
            `nn.LazyLinear`, take their shapes from a batch before anything else looks at them.
        data: everything but the test set, or a function without arguments that gives it: a pair of tensors or arrays
            (inputs, targets), or a torch data set of such pairs.
        test: the test set likewise; without one, a fifth of `data` is sealed away from every search.
        loss: a name in `losses.LOSSES`, or a function (outputs, targets) -> mean loss, (), over what counts. A torch
            module is copied for every trial, and a class of modules built for each; its parameters are trained with
            the network, and called `loss.NAME` in parameter groups. torch's losses that compare numbers one by one
            get outputs in the shape of the targets where the two differ by axes of one.
        metric: a name in `metrics.METRICS`, or a `Metric`.
        ignore_index: the label of places that do not count, such as padding or the border of an object: the loss
            'cross-entropy', accuracy and all means leave them out. Without it, it is the one that the loss itself
            leaves out, -100 for 'cross-entropy'.
        validation: what a search judges on: a share of the data, or a number of examples, that it holds out; or data
            of its own, given as `data` is, which nothing trains on.
        transform: applied to each training input alone (a float tensor without the batch's dimension, of which it
            gives one of the same shape), anew in every epoch: augmentation. What is judged, in search, comparison
            and test, is left as it is. Draw from torch's global generator, which is seeded in every epoch.
        scale_targets: train on targets brought to mean 0 and standard deviation 1, each output by itself, by those of
            the examples trained on. Outputs are brought back before loss and metric judge them, so that both are in
            the targets' own unit; the loss of the training itself is that of scaled targets. The weights that are
            kept give scaled outputs: `metrics.json` has mean and deviation.
        name: what tables and files call it.
        about: data and network in a few words.
        in_memory: whether a torch data set is read into memory once; None to decide by its size, and by whether its
            examples are the same when read again.
        channels_last: whether weights of convolutions lie channels last in memory, which is faster; a network
            that calls `view` on their outputs then fails.
        precision: what `auto` means for this task: `fp32`, or `auto` for bfloat16 where the hardware is fast at it.

    Raises:
        UsageError: something is not of its kind.
    """

    _: KW_ONLY
    model: models.ModelFactory
    data: Data | Callable[[], Data] | None
    test: Data | Callable[[], Data] | None = None
    loss: str | Loss = "cross-entropy"
    metric: str | Metric = "accuracy"
    ignore_index: int | None = None
    validation: int | float | Data | Callable[[], Data] = 0.2
    transform: Transform | None = None
    scale_targets: bool = False
    name: str = ""
    about: str = ""
    in_memory: bool | None = None
    channels_last: bool = False
    precision: Literal["fp32", "auto"] = "fp32"

    def __post_init__(self) -> None:
        if isinstance(self.model, nn.Module) or not callable(self.model):
            raise UsageError(
                f"Task(model=...): is {kind(self.model)}, but must be a function that builds a fresh network, "
                "since every trial trains one of its own: write model=lambda: Net()"
            )
        if isinstance(self.loss, str):
            losses.find(self.loss)
        elif not callable(self.loss):
            raise UsageError(f"Task(loss=...): is {kind(self.loss)}, but must be a name or a function")
        if isinstance(self.metric, str):
            metrics.find(self.metric)
        elif not isinstance(self.metric, Metric):
            raise UsageError(f"Task(metric=...): is {kind(self.metric)}, but must be a name or a Metric")
        if type(self.ignore_index) not in (int, type(None)):
            raise UsageError(f"Task(ignore_index={self.ignore_index!r}): must be a whole number, or None")
        held = self.validation
        wrong = isinstance(held, bool | str) or held is None
        if wrong or (isinstance(held, int | float) and not (held >= 1 if isinstance(held, int) else 0 < held < 1)):
            raise UsageError(
                f"Task(validation={held!r}): must be a share between 0 and 1, a number of examples, or data of its own"
            )
        if self.transform is not None and not callable(self.transform):
            raise UsageError(
                f"Task(transform=...): is {kind(self.transform)}, but must be a function of one input that gives one"
            )
        for field, value, allowed in (
            ("precision", self.precision, ("fp32", "auto")),
            ("in_memory", self.in_memory, (None, True, False)),
            ("scale_targets", self.scale_targets, (True, False)),
        ):
            if value not in allowed:
                raise UsageError(f"Task({field}={value!r}): must be one of {', '.join(map(repr, allowed))}")

    @property
    def own_validation(self) -> bool:
        """Whether validation data are given, and not held out."""
        return not isinstance(self.validation, int | float)

    @property
    def judge(self) -> Metric:
        """The metric itself."""
        return metrics.find(self.metric) if isinstance(self.metric, str) else self.metric

    @property
    def own_loss(self) -> Loss | None:
        """The loss where it is a function of the task's own."""
        return None if isinstance(self.loss, str) else self.loss

    @property
    def loss_name(self) -> str:
        """The loss as a study's settings call it."""
        return self.loss if isinstance(self.loss, str) else losses.OF_TASK


def kind(value: Any) -> str:
    return f"of type {type(value).__name__}"


@dataclass(frozen=True)
class BuiltIn:
    """A task of the package.

    Attributes:
        name: what a user types.
        dataset: a name in `datasets.DATASETS`.
        model: builds a fresh network.
        about: the network in a few words.
        validation: how many examples a search holds out.
    """

    name: str
    dataset: str
    model: models.ModelFactory
    about: str
    validation: int = 5_000

    def task(self, data_dir: Path) -> Task:
        return Task(
            name=self.name,
            model=self.model,
            data=partial(load_train, self.dataset, data_dir),
            test=partial(load_test_of, self.dataset, data_dir),
            validation=self.validation,
            about=self.described(),
            channels_last=True,
            precision="auto",
        )

    def described(self) -> str:
        """Data and network in a line."""
        return f"{DATASETS[self.dataset].about}; {self.about}"


ROWS = (
    BuiltIn("mnist-cnn", "mnist", models.mnist_cnn, "2 convolutions (32, 64), linear 3136-128-10"),
    BuiltIn(
        "mnist-mlp", "mnist", models.mnist_mlp, "perceptron 784-300-200-10, ReLU after every layer, the last included"
    ),
    BuiltIn("mnist-net", "mnist", models.mnist_net, "perceptron 784-128-10"),
    BuiltIn("fashion-mnist-cnn", "fashion-mnist", models.mnist_cnn, "the network of mnist-cnn"),
    BuiltIn("kmnist-cnn", "kmnist", models.mnist_cnn, "the network of mnist-cnn"),
    BuiltIn("digits", "digits", models.digits_cnn, "2 convolutions (16, 32), linear 128-64-10", validation=287),
)

TASKS: Mapping[str, BuiltIn] = MappingProxyType({row.name: row for row in ROWS})

Source = str | bytes
"""Where a task comes from: the name of a built-in one, `module:function`, `file.py:function`, or what `packed` gave."""


def study_of(source: str) -> str:
    """The name of a study of this task, where it is given no other: the task's, or that of its file or module."""
    place = source.rpartition(":")[0] or source
    name = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2] if ":" in source else place
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("-._") or "study"


FROM_PYTHON = "python:"
"""What the name of a task begins with that was given as an object."""


def packed(task: Task) -> bytes:
    """A task for another process, its functions included.

    Raises:
        UsageError: it holds something that cannot go there.
    """
    try:
        return bytes(cloudpickle.dumps(task))
    except Exception as error:
        raise UsageError(
            f"task '{task.name}': cannot be handed to worker processes: {type(error).__name__}: {error}; "
            "make what it holds within its functions"
        ) from None


def find(source: Source, data_dir: Path) -> Task:
    """The task that `source` means.

    Raises:
        UsageError: there is none of that name, or the user's own cannot be imported or is no `Task`.
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
        with theirs(source, f"{name}()"), script(Path(place).resolve() if place.endswith(".py") else None):
            made = made()
    if not isinstance(made, Task):
        raise UsageError(f"task '{source}': {name}() gives something {kind(made)}, but must give an optitune.Task")
    return replace(made, name=made.name or source)


def _imported(source: str, place: str) -> ModuleType:
    """The module at `place`, a file or a dotted name.

    Raises:
        UsageError: there is none, or its import fails.
    """
    if not place.endswith(".py"):
        importable_with_note(Path.cwd())
        with theirs(source, f"import {place}"), script(None):
            return importlib.import_module(place)
    path = Path(place).resolve()
    if not path.is_file():
        raise UsageError(f"task '{source}': there is no file {path}; 'optitune task-template' writes one to begin with")
    importable_with_note(path.parent)
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    # others import what is called so
    taken = known is not None or path.stem in hiding(path.parent)
    name = f"optitune_task_{path.stem}" if taken else path.stem
    if taken and getattr(sys.modules.get(name), "__file__", None) == str(path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with theirs(source, f"import {place}"), script(path):
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def build(task: Task, seed: int, device: torch.device) -> nn.Module:
    """A fresh network whose initial weights follow from `seed` alone.

    Raises:
        UsageError: the task gives none.
    """
    seed_everything(seed)
    model = task.model()
    if not isinstance(model, nn.Module):
        raise UsageError(f"task '{task.name}': model() gives something {kind(model)}, but must give a torch.nn.Module")
    model = model.to(device)
    if task.channels_last and not any(map(is_lazy, model.parameters())):
        return model.to(memory_format=torch.channels_last)
    return model
