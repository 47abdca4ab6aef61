"""Plain rows about a comparison: what was trained again on fresh seeds, and what came of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from optitune.common.schema import Strict
from optitune.space.configuration import Configuration, Precision

TUNED = "itself"
"""The finalist as it is."""

HALF, TWICE, KNOWN_GOOD = "half the lr", "twice the lr", "known-good settings"

VARIANTS = (HALF, TWICE, KNOWN_GOOD)
"""What else of a finalist is trained, to tell how much it hangs on its settings."""


class Finalist(Strict):
    """An optimizer's best configuration.

    Attributes:
        trial: of the search that found it.
        value: what that trial came to: the luckiest of many, so no estimate of anything.
        configuration: as it is compared, its schedule stretched to the comparison's epochs.
        known_good: its optimizer's known-good settings, likewise.
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
        """What is trained under this name."""
        if name == KNOWN_GOOD:
            return self.known_good
        factor = {TUNED: 1.0, HALF: 0.5, TWICE: 2.0}[name]
        return self.configuration if factor == 1 else self.configuration.with_lr(factor * self.configuration.lr)


class Plan(Strict):
    """What a comparison is: two of equal plan have equal runs.

    Attributes:
        train_examples: that each run trains on.
        held_out: that each run is judged on.
        rounds: how many there are at most.
        metric: its name.
        evaluations: of an epoch.
        code: the digest of the task's code; empty for a built-in task.
        validation: the checksum of validation data of the task's own, on which all rounds are judged; empty where each
            round holds out others.
        scale_targets: as in `Task`.
    """

    task: str
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


@dataclass(frozen=True)
class Point:
    """Where a run stood at an evaluation.

    Attributes:
        epoch: epochs done, a fraction within one.
        seconds: of training and evaluating so far.
        value: of the metric on the examples held out.
        loss: likewise.
    """

    epoch: float
    seconds: float
    value: float
    loss: float


@dataclass(frozen=True, order=True)
class RunId:
    """Which run: all runs of a round have one seed and one part of the data held out."""

    round: int
    optimizer: str
    variant: str = TUNED


@dataclass(frozen=True)
class Run:
    """One training of a comparison.

    Attributes:
        diverged: why there is no value, in words; empty where there is one.
        value: of the metric on the examples held out, after the last epoch.
        loss: likewise.
        seconds: of training and evaluating.
        state_bytes: what the optimizer keeps beside weights and gradients.
        weight_bytes: of the weights.
        each: the metric of each example held out, (n,) float32; None where it is no mean over examples.
    """

    key: RunId
    diverged: str
    value: float
    loss: float
    seconds: float
    state_bytes: int
    weight_bytes: int
    curve: tuple[Point, ...]
    each: NDArray[np.float32] | None = None


def finalists_runs(runs: Iterable[Run], optimizer: str, variant: str = TUNED) -> list[Run]:
    """The runs of one optimizer, by round."""
    own = [run for run in runs if run.key.optimizer == optimizer and run.key.variant == variant]
    return sorted(own, key=lambda run: run.key)


def paired(runs: Sequence[Run], one: str, other: str) -> list[tuple[Run, Run]]:
    """The runs of two optimizers in the rounds that both finished."""
    others = {run.key.round: run for run in finalists_runs(runs, other) if not run.diverged}
    own = [run for run in finalists_runs(runs, one) if not run.diverged]
    return [(run, others[run.key.round]) for run in own if run.key.round in others]
