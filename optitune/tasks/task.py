"""Tasks: network, data, loss and metric under one name."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.data import Dataset

from optitune.errors import UsageError
from optitune.space import losses
from optitune.tasks import metrics, models
from optitune.tasks.data import Examples, Transform
from optitune.tasks.grouping import Order, SplitBy, check_order
from optitune.tasks.metrics import Metric

Loss = Callable[[Tensor, Tensor], Tensor]

Data = Examples | Dataset[Any] | tuple[Any, Any]
"""Examples: inputs and targets as tensors or arrays, or a torch data set of (input, target)."""


@dataclass(frozen=True)
class Task:
    """A task: network, data, loss and metric.

    Attributes:
        model: function without arguments that builds a new network. Initial weights come from torch's global generator;
            lazy layers, such as `nn.LazyLinear`, take their shapes from a batch.
        data: all data but the test set: a pair (inputs, targets) of tensors or arrays, (n, ...) each, or a torch data
            set of such pairs; or a function without arguments that gives either.
        test: test set, in the form of `data`. Without one, a fifth of `data` is set apart as test set, which no search
            uses.
        loss: a name in `losses.LOSSES`, or a function (outputs, targets) -> mean loss, (). A torch module is copied for
            every trial, and a class of modules is built for each; its parameters are trained with the network, and
            are called `loss.NAME` in parameter groups. torch's elementwise losses get outputs in the shape of the
            targets where the two differ by axes of length 1.
        metric: a name in `metrics.METRICS`, or a `Metric`.
        ignore_index: label of targets that do not count, such as padding: the loss 'cross-entropy', accuracy and all
            means leave them out. Default: the label that the loss itself ignores, -100 for 'cross-entropy'.
        validation: validation set of a search: a share of the data between 0 and 1, a number of examples, or data in
            the form of `data`, on which nothing trains.
        groups: an id of any kind for each example of `data`, such as a patient's: an array, tensor, list or column of
            pandas, (n,), or a function without arguments that gives it. Examples of one group stay together in every
            split: test set, validation set and the rounds of a comparison.
        split: `random`, or `time` where the examples of `data` are in order of time: the last fifth is the test set,
            the last of the others are the validation set, and each round of a comparison judges on a later block than
            it trains on. Nothing that trains is later than what it is judged on.
        transform: augmentation: applied to each training input, a float tensor without batch dimension, anew in every
            epoch; gives a tensor of the same shape. Validation and test inputs are not transformed. It should draw
            from torch's global generator, which is seeded in every epoch.
        scale_targets: whether to train on targets of mean 0 and standard deviation 1, each output by itself, over the
            training examples. Loss and metric of evaluations are in the targets' own unit, the training loss is that
            of scaled targets. Saved weights give scaled outputs; `metrics.json` has mean and standard deviation.
        name: of the task in tables and files.
        about: data and network in a few words.
        in_memory: whether a torch data set is read into memory once; None to decide by its size, and by whether its
            examples are the same when read again.
        channels_last: whether weights of convolutions lie channels last in memory, which is faster; a network that
            calls `view` on their outputs then fails.
        precision: meaning of `auto` for this task: `fp32`, or `auto` for bfloat16 where the hardware is fast at it.

    Raises:
        UsageError: an argument is of the wrong type or out of range.

    Example:
        >>> inputs = torch.randn(200, 4)
        >>> task = optitune.Task(
        ...     model=lambda: torch.nn.Linear(4, 1),
        ...     data=(inputs, inputs.sum(1, keepdim=True)),
        ...     loss="mse",
        ...     metric="r2",
        ... )
        >>> result = optitune.search(task, trials=8)
    """

    _: KW_ONLY
    model: models.ModelFactory
    data: Data | Callable[[], Data] | None
    test: Data | Callable[[], Data] | None = None
    loss: str | Loss = "cross-entropy"
    metric: str | Metric = "accuracy"
    ignore_index: int | None = None
    validation: int | float | Data | Callable[[], Data] = 0.2
    groups: Any = None
    split: Order = "random"
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
        check_order(self.split, self.groups, "Task")
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
        """Whether validation data are given, rather than held out."""
        return not isinstance(self.validation, int | float)

    @property
    def split_by(self) -> SplitBy:
        """How its examples are split."""
        return "groups" if self.groups is not None else self.split

    @property
    def judge(self) -> Metric:
        """The metric as a `Metric`."""
        return metrics.find(self.metric) if isinstance(self.metric, str) else self.metric

    @property
    def own_loss(self) -> Loss | None:
        """The loss where it is the task's own function; None for a loss by name."""
        return None if isinstance(self.loss, str) else self.loss

    @property
    def loss_name(self) -> str:
        """The name of the loss in a study's settings."""
        return self.loss if isinstance(self.loss, str) else losses.OF_TASK


def kind(value: Any, before: str = "") -> str:
    return "None" if value is None else f"{before}of type {type(value).__name__}"
