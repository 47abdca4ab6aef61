"""The plan of one training, and the one place that makes it for all stages."""

from dataclasses import dataclass

from optitune.space.configuration import Configuration, Precision
from optitune.study.steps import QUICK_EXAMPLES
from optitune.tasks.metrics import Metric
from optitune.tasks.task import Loss, Task
from optitune.training.build import build_loss


@dataclass(frozen=True)
class Plan:
    """How long and how exactly to train.

    Attributes:
        loss: minimised by the training.
        metric: computed beside the loss.
        epochs: how many.
        seed: of the order of examples and of dropout.
        evaluations: how often an epoch is interrupted to evaluate, its end included.
        eval_loss: the loss of evaluations, such as the one without label smoothing; None for `loss`.
        max_eval_examples: how many validation examples every evaluation but the last one uses at most.
        scale_targets: train on targets of mean 0 and standard deviation 1; evaluate in the targets' own unit.
    """

    configuration: Configuration
    loss: Loss
    metric: Metric
    epochs: int
    seed: int
    precision: Precision
    evaluations: int = 1
    eval_loss: Loss | None = None
    max_eval_examples: int = QUICK_EXAMPLES
    scale_targets: bool = False


def training_plan(
    configuration: Configuration,
    task: Task,
    epochs: int,
    seed: int,
    precision: Precision,
    evaluations: int = 1,
    max_eval_examples: int = QUICK_EXAMPLES,
) -> Plan:
    """The plan of a training of one of a task's configurations.

    Args:
        configuration: what is trained.
        task: gives the metric, its own loss if it has one, the label that does not count, and whether targets are
            scaled.
        epochs: at least 1.
        seed: of the order of examples and of dropout.
        precision: `fp32` or `bf16`.
        evaluations: of an epoch, its end included; default 1.
        max_eval_examples: of every evaluation but the last one; default 1,000.

    Returns:
        The plan; its evaluations are without label smoothing.

    Raises:
        UsageError: the configuration says the task's own loss, and it has none.
    """
    training = configuration.training
    plain = training.model_copy(update={"label_smoothing": 0.0})
    return Plan(
        configuration,
        build_loss(training, task.own_loss, task.ignore_index),
        task.judge,
        epochs,
        seed,
        precision,
        evaluations,
        build_loss(plain, task.own_loss, task.ignore_index),
        max_eval_examples,
        task.scale_targets,
    )
