"""Steps and evaluations of an epoch, and the steps at which trials of several batch sizes are compared."""

from collections.abc import Iterable

from optitune.common.text import plural
from optitune.space import search_space
from optitune.space.configuration import TrainingSettings
from optitune.space.search_space import TRAINING_SETTINGS
from optitune.study.records import TrialRecord
from optitune.study.settings import StudySettings

EVALUATIONS_PER_EPOCH = 4
"""Upper bound of the evaluations in an epoch."""

EVALUATION_SHARE = 0.05
"""What share of the training's time evaluations within it may take, an example judged counting as a third of one
trained on: it goes forward only."""

QUICK_EXAMPLES = 1_000
"""How many examples an evaluation before the last one judges on: enough to see what is hopeless."""

UNKNOWN_EXAMPLES = 1
"""What stands for the number of examples of a training loop of the user's own that has data of its own."""


def examples_text(number: int) -> str:
    """A number of examples in words."""
    return "the loop's own examples" if number == UNKNOWN_EXAMPLES else plural(number, "example")


def batches(examples: int, batch_size: int) -> int:
    """The number of batches of an epoch, without a last one of a single example, which batch norm cannot take."""
    whole, rest = divmod(examples, batch_size)
    return max(1, whole + (rest > 1 or (rest == 1 and batch_size == 1)))


def steps_per_epoch(examples: int, training: TrainingSettings) -> int:
    """The number of optimizer steps of an epoch."""
    return -(-batches(examples, training.batch_size) // training.accumulation)


def evaluations_per_epoch(train_examples: int, validation_examples: int, quick: int = QUICK_EXAMPLES) -> int:
    """The number of evaluations in an epoch: fewer on few examples, so that they take little of the time.

    Args:
        train_examples: of an epoch.
        validation_examples: that are available.
        quick: upper bound of the examples of an evaluation within a training; default 1,000.
    """
    judged = min(quick, validation_examples)
    return max(1, min(EVALUATIONS_PER_EPOCH, round(3 * EVALUATION_SHARE * train_examples / judged)))


def usual_steps(settings: StudySettings, examples: int) -> int:
    """The optimizer steps of an epoch, by which trials are compared: of several batch sizes, those of the first."""
    training = settings.space().training
    first = {
        name: search_space.start(training[name], TRAINING_SETTINGS[name].start)
        for name in ("batch_size", "accumulation")
    }
    return steps_per_epoch(examples, TrainingSettings(**first))


def own_steps(records: Iterable[TrialRecord], examples: int | None) -> dict[int, float]:
    """Factors from a trial's reported steps to its own optimizer steps, by the trial's number.

    Args:
        records: trials of a study.
        examples: training examples of every trial; None where unknown.

    Returns:
        1 for all trials of one batch size; empty where several have been used and the factors are unknown.
    """
    rows = [row for row in records if row.configuration is not None]
    training = {row.number: row.configuration.training for row in rows if row.configuration is not None}
    if len({(each.batch_size, each.accumulation) for each in training.values()}) < 2:
        return dict.fromkeys(training, 1.0)
    usual = reported_epoch(rows)
    if usual is None or examples is None:
        return {}
    return {number: steps_per_epoch(examples, each) / usual for number, each in training.items()}


def compared_step(epoch: float, evaluations: int, usual: int) -> int | None:
    """The step at which an evaluation is reported: the same for every batch size.

    Args:
        epoch: epochs so far, with a fraction.
        evaluations: per epoch.
        usual: steps of an epoch, by which trials are compared.

    Returns:
        None where a later evaluation has the same step, since each step is reported once.
    """

    def step(point: int) -> int:
        whole, within = divmod(point, evaluations)
        return whole * usual + (max(1, round(usual * within / evaluations)) if within else 0)

    point = round(epoch * evaluations)
    later = step(point + 1) if point % evaluations else None
    return None if step(point) == later else step(point)


def reported_epoch(trials: Iterable[TrialRecord]) -> float | None:
    """The number of reported steps per epoch, from an ended trial; None where there is none."""
    ended = [row for row in trials if row.curve and row.epochs and row.outcome in ("complete", "pruned")]
    ended.sort(key=lambda row: row.outcome != "complete")
    return ended[0].curve[-1][0] / ended[0].epochs if ended else None
