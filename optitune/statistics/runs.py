"""Plain rows of a comparison: its plan, and its runs on fresh seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PlainValidator,
    field_validator,
)

from optitune.common.schema import Strict
from optitune.space.configuration import Configuration, Precision
from optitune.study.settings import TaskName

TUNED = "tuned settings"
"""The variant that is the finalist itself; version 0.1 called it `itself`."""

HALF, TWICE, KNOWN_GOOD = "half the lr", "twice the lr", "known-good settings"

VARIANTS = (HALF, TWICE, KNOWN_GOOD)
"""Variants of a finalist that are trained to measure its sensitivity."""

Until = Literal["good-enough", "clear"]
"""What ends a comparison: a choice that can cost no more than epsilon, or one optimizer that is clear of all others or
tied with all that are left."""

UNTIL: Until = "good-enough"
"""What ends a comparison if nothing else is said."""

Prefer = Literal["value", "time", "memory"]
"""By what one is taken of those that are as good as the best: the smallest possible loss, or the least time or memory
of a training."""

PREFER: Prefer = "value"
"""By what one is taken if nothing else is said."""


class Finalist(Strict):
    """An optimizer's best configuration, which takes part in a comparison.

    Attributes:
        trial: number of the trial of the search that found it.
        value: of that trial; biased, as the best of many.
        configuration: with its schedule stretched to the comparison's epochs.
        known_good: its optimizer's known-good configuration, stretched in the same way.
    """

    trial: Annotated[int, Field(ge=0)]
    value: float
    configuration: Configuration
    known_good: Configuration

    @property
    def optimizer(self) -> str:
        return self.configuration.optimizer.name

    @property
    def untuned(self) -> bool:
        """Whether no trial was better than the known-good settings."""
        return self.configuration == self.known_good

    def variant(self, name: str) -> Configuration:
        """The configuration of a variant."""
        if name == KNOWN_GOOD:
            return self.known_good
        factor = {TUNED: 1.0, HALF: 0.5, TWICE: 2.0}[name]
        return self.configuration if factor == 1 else self.configuration.with_lr(factor * self.configuration.lr)


class Plan(Strict):
    """The plan of a comparison: two comparisons of equal plan have equal runs.

    Attributes:
        task: its name.
        finalists: at least two, of different optimizers.
        epochs: of a run.
        precision: of the trainings.
        seed: that all runs' seeds follow from.
        data_checksum: of the task's data.
        network: its fingerprint.
        metric: its name.
        train_examples: training examples of a run.
        held_out: examples on which a run is evaluated.
        rounds: upper bound.
        evaluations: per epoch.
        code: digest of the task's code; empty for a built-in task.
        validation: checksum of the task's own validation data, which serve all rounds; empty where each round holds
            out other examples.
        scale_targets: as in `Task`.
        split: how its examples are split: at `random`, by `groups` or by `time`.
    """

    task: TaskName
    finalists: tuple[Finalist, ...]
    epochs: Annotated[int, Field(ge=1)]
    precision: Precision
    seed: Annotated[int, Field(ge=0)]
    data_checksum: str
    network: str
    metric: str
    train_examples: Annotated[int, Field(ge=1)]
    held_out: Annotated[int, Field(ge=1)]
    rounds: Annotated[int, Field(ge=1)]
    evaluations: Annotated[int, Field(ge=1)]
    code: str = ""
    validation: str = ""
    scale_targets: bool = False
    split: Literal["random", "groups", "time"] = "random"

    @field_validator("finalists")
    @classmethod
    def _differ(cls, finalists: tuple[Finalist, ...]) -> tuple[Finalist, ...]:
        names = {each.optimizer for each in finalists}
        if len(names) < len(finalists) or len(names) < 2:
            raise ValueError("must be several optimizers")
        return finalists

    def finalist(self, optimizer: str) -> Finalist:
        return next(each for each in self.finalists if each.optimizer == optimizer)

    @property
    def optimizers(self) -> tuple[str, ...]:
        return tuple(each.optimizer for each in self.finalists)


class Point(NamedTuple):
    """An evaluation of a run.

    Attributes:
        epoch: epochs so far, with a fraction.
        seconds: of training and evaluation so far.
        value: metric on the held-out examples.
        loss: on the same examples.
    """

    epoch: float
    seconds: float
    value: float
    loss: float


@dataclass(frozen=True, order=True)
class RunId:
    """The identity of a run. All runs of a round share one seed and one set of held-out examples.

    Attributes:
        round: its number, from 0.
        optimizer: its name.
        variant: `TUNED` or one of `VARIANTS`.
    """

    round: NonNegativeInt
    optimizer: str
    variant: Annotated[str, AfterValidator(lambda stored: TUNED if stored == "itself" else stored)] = TUNED


def _numbers(each: object) -> NDArray[np.float32] | None:
    """An array of float32, of what a file holds: a tensor, or None.

    Raises:
        ValueError: it is no array of some numbers.
    """
    numbers = None if each is None else np.asarray(each)
    if numbers is not None and (numbers.ndim != 1 or numbers.dtype != np.float32 or not len(numbers)):
        raise ValueError("must be some numbers")
    return numbers


@dataclass(frozen=True)
class Run:
    """One training of a comparison.

    Attributes:
        key: identity of the run.
        diverged: the reason why there is no value, in words; empty where there is one.
        value: metric on the held-out examples, after the last epoch.
        loss: on the same examples.
        seconds: of training and evaluation.
        state_bytes: size of the optimizer's state.
        weight_bytes: size of the weights.
        curve: evaluations in their order.
        each: metric of each held-out example, (n,) float32; None where the metric is not a mean over examples.
    """

    key: RunId
    diverged: str
    value: FiniteFloat
    loss: float
    seconds: NonNegativeFloat
    state_bytes: NonNegativeInt
    weight_bytes: NonNegativeInt
    curve: tuple[Point, ...]
    each: Annotated[NDArray[np.float32] | None, PlainValidator(_numbers)] = None


def finalists_runs(runs: Iterable[Run], optimizer: str, variant: str = TUNED) -> list[Run]:
    """The runs of one optimizer, in the order of their rounds.

    Args:
        runs: of a comparison.
        optimizer: its name.
        variant: by default the finalist itself.
    """
    own = [run for run in runs if run.key.optimizer == optimizer and run.key.variant == variant]
    return sorted(own, key=lambda run: run.key)


def paired(runs: Sequence[Run], one: str, other: str) -> list[tuple[Run, Run]]:
    """Pairs of runs of two optimizers in the rounds that both finished.

    Args:
        runs: of a comparison.
        one: name of an optimizer.
        other: name of another one.
    """
    others = {run.key.round: run for run in finalists_runs(runs, other) if not run.diverged}
    own = [run for run in finalists_runs(runs, one) if not run.diverged]
    return [(run, others[run.key.round]) for run in own if run.key.round in others]
