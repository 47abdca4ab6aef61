"""What a full training keeps: a row for each epoch, and a result for each seed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a full training; loss and metric are means over its examples, as they were met.

    `train_loss` is None where a loop of the user's own does not say it, `train_value` where the metric is no mean over
    examples or the loop is the user's own; `validation_value`, of the metric at the epoch's
    end, where nothing is held out to validate on.
    """

    epoch: int
    lr: float
    train_loss: float | None
    train_value: float | None
    validation_value: float | None = None


@dataclass(frozen=True)
class SeedResult:
    """One full training and its one evaluation on the test set.

    Attributes:
        seed: of the initial weights and the order of examples.
        test_value: the task's metric on the test set.
        test_loss: on the test set; None where a loop of the user's own does not say it.
        seconds: of training.
        kept_epoch: whose weights were kept and tested, from 1; None where that is always the last.
        confusion_matrix: counts; rows are the true classes, columns the answers; empty where there are no classes.
    """

    seed: int
    test_value: float
    test_loss: float | None
    seconds: float
    epochs: tuple[EpochRecord, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    kept_epoch: int | None = None
