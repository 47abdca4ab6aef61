"""Tasks: data, model, loss and metric under one name, built in or the user's own."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.data import Dataset

from optitune.errors import UsageError
from optitune.space import losses
from optitune.tasks import metrics, models
from optitune.tasks.data import Examples, Transform
from optitune.tasks.metrics import Metric

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
