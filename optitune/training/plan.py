"""What one training is to do."""

from dataclasses import dataclass

from optitune.space.configuration import Configuration, Precision
from optitune.study.steps import QUICK_EXAMPLES
from optitune.tasks.metrics import Metric
from optitune.tasks.task import Loss


@dataclass(frozen=True)
class Plan:
    """How long and how exactly to train.

    Attributes:
        loss: what is minimised.
        judge: the loss that evaluations tell, where that is another one, such as without label smoothing.
        metric: what evaluations tell beside the loss.
        evaluations: how often an epoch is interrupted to evaluate, its end included.
        quick: how many examples evaluations before the last one judge on.
        scale_targets: train on targets of mean 0 and standard deviation 1; judge outputs in the targets' own unit.
    """

    configuration: Configuration
    loss: Loss
    metric: Metric
    epochs: int
    seed: int
    precision: Precision
    evaluations: int = 1
    judge: Loss | None = None
    quick: int = QUICK_EXAMPLES
    scale_targets: bool = False
