"""A training loop of the user's own as a task."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from optitune.errors import UsageError
from optitune.space import losses
from optitune.tasks import metrics
from optitune.tasks.grouping import SplitBy
from optitune.tasks.metrics import Metric
from optitune.tasks.task import Task

NO_METRIC = Metric("not said", "maximize", None)


@dataclass(frozen=True)
class LoopFacts:
    """What a first call of a loop brought to light.

    Attributes:
        checksum: of the data, by some examples.
        digests: as in `SearchData`.
        trained: examples to train on in a search.
        judged: examples to judge on in a search.
        everything: examples to train on in full.
        sealed: examples set apart for the test; None where the test data are the loop's own, or there are none.
        own_validation: whether the loop has validation data of its own.
        divided: whether it called `run.split`.
        network: fingerprint of what is trained.
        optimizers: the names of its optimizers.
        steps_per_epoch: as it said to `run.scheduler`; 0 where it did not.
        lacks: what it leaves open, in words.
        split_by: how its examples are split.
        groups: how many of the examples to train on each group has, where they are split by groups.
    """

    checksum: str
    digests: Mapping[str, str]
    trained: int
    judged: int
    everything: int
    sealed: int | None
    own_validation: bool
    divided: bool
    network: str
    optimizers: tuple[str, ...] = ()
    steps_per_epoch: int = 0
    lacks: tuple[str, ...] = ()
    split_by: SplitBy = "random"
    groups: tuple[int, ...] = ()


def _no_model() -> nn.Module:
    return nn.Module()


def _no_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    raise AssertionError("the loop computes its own loss")


@dataclass(frozen=True)
class LoopTask(Task):
    """A task that is trained by a function of one `Run`; its data are placeholders of the right length.

    Attributes:
        train: the function.
        facts: what its first call brought to light; None before it.
    """

    _: KW_ONLY
    train: Callable[[Any], None]
    facts: LoopFacts | None = None
    model: Callable[[], nn.Module] = _no_model
    data: Any = None
    loss: Any = _no_loss
    metric: str | Metric = field(default=NO_METRIC)

    @property
    def own_validation(self) -> bool:
        """Whether validation data are given, rather than held out."""
        return self.known.own_validation

    @property
    def loss_name(self) -> str:
        """The name of the loss in a study's settings."""
        return losses.OF_LOOP

    @property
    def split_by(self) -> SplitBy:
        """How its examples are split."""
        return self.known.split_by

    @property
    def known(self) -> LoopFacts:
        """What its first call brought to light."""
        assert self.facts is not None
        return self.facts

    def with_facts(self, facts: LoopFacts) -> "LoopTask":
        """The task with the facts of its first call."""
        return replace(self, facts=facts)

    @property
    def metric_text(self) -> str:
        """The metric as `judged_by` takes it."""
        judge = self.judge
        return judge.name if judge.built_in else f"{judge.name}:{judge.direction}"

    def judged_by(self, metric: str | Metric | None) -> "LoopTask":
        """The task with the metric that its loop reports.

        Args:
            metric: a name, `NAME:minimize`, `NAME:maximize`, or the metric itself.

        Raises:
            UsageError: it says none, or not which direction is better.
        """
        if isinstance(metric, str):
            metric = metrics.reported(metric)
        if metric is None:
            raise UsageError(
                f"task '{self.name}' is a training loop of your own: say what it gives run.report, by --metric "
                "accuracy, or by a name of your own with its direction, --metric distance:minimize (from Python: "
                "metric=...)"
            )
        return replace(self, metric=metric)


def parameters_of(function: Callable[..., Any]) -> list[str] | None:
    """The names of the parameters that a function must be given; None where that cannot be known."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [each.name for each in found if each.default is each.empty and each.kind in plain]
