"""The plan of a full training and the result of every seed, read back; no torch, so that `show` needs none."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
)

from optitune.common.schema import Strict
from optitune.common.summary import Summary, summarise
from optitune.retraining.records import SeedResult
from optitune.space.configuration import Configuration, Precision
from optitune.study.settings import TaskName
from optitune.tasks.metrics import Metric, StoredMetric, restored

Keep = Literal["last", "best"]
"""Which epoch's weights are kept: the last one's, or those with the best value on a held-out validation part."""


class FullPlan(Strict):
    """What a full training is; two of equal plan and seed give the same network."""

    task: TaskName
    configuration: Configuration
    epochs: Annotated[int, Field(ge=1)]
    precision: Precision
    seeds: tuple[int, ...]
    data_checksum: str
    network: str
    code: str = ""
    data_digests: dict[str, str] = Field(default_factory=dict)
    scale_targets: bool = False
    keep: Keep = "last"

    @model_serializer(mode="wrap")
    def _without_what_is_usual(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # the plan decides which checkpoints are taken up, those of older versions included
        return {key: value for key, value in written(self).items() if key != "keep" or value != "last"}


class TriedLength(Strict):
    """A training of so many epochs, judged on held-out data; `value` is None where it diverged."""

    epochs: Annotated[int, Field(ge=1)]
    value: float | None
    seconds: float


class FoundLength(Strict):
    """How the number of epochs was found, see `length.find`.

    Attributes:
        tried: trainings of several lengths; the last one's is the found one.
        made_with: digest of all that decides their numbers.
    """

    tried: tuple[TriedLength, ...]
    made_with: str

    @property
    def epochs(self) -> int:
        return self.tried[-1].epochs

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "epochs": self.epochs,
            "tried": [each.model_dump() for each in sorted(self.tried, key=lambda each: each.epochs)],
        }


def _square(runs: tuple[SeedResult, ...]) -> tuple[SeedResult, ...]:
    for matrix in (run.confusion_matrix for run in runs):
        if any(len(row) != len(matrix) or min(row) < 0 for row in matrix):
            raise ValueError("a confusion matrix must have as many counts in each row as rows")
    return runs


@dataclass(frozen=True)
class Runs:
    """The results of some seeds of a plan, whatever else their file holds."""

    plan: FullPlan
    runs: Annotated[tuple[SeedResult, ...], AfterValidator(_square)]


RUNS = TypeAdapter(Runs)


def _runs(path: Path, plan: FullPlan) -> tuple[SeedResult, ...]:
    """The results in a file, if it is there, whole, and of this very plan."""
    try:
        found = RUNS.validate_json(path.read_bytes(), strict=True)
    except (OSError, ValueError):
        return ()
    kept, here = found.plan.data_digests, plan.data_digests
    # an older version wrote fewer digests, and inputs that differ at every reading have none
    if any(kept[key] != here[key] for key in set(kept) & set(here)):
        return ()
    return found.runs if found.plan == plan.model_copy(update={"data_digests": kept}) else ()


def finished_seeds(path: Path, plan: FullPlan) -> list[SeedResult] | None:
    """The results in a `metrics.json`, if it is there and of this very plan and all its seeds."""
    runs = _runs(path, plan)
    return list(runs) if tuple(run.seed for run in runs) == plan.seeds else None


def seed_result(partial: Path, plan: FullPlan, number: int) -> SeedResult | None:
    """Read the result of one seed of a plan that is being trained; None where it is not done.

    Args:
        partial: folder of the unfinished trainings.
        plan: of the full training.
        number: of the seed, from 0.
    """
    runs = _runs(partial / f"seed-{number}.json", plan)
    return next((run for run in runs if run.seed == plan.seeds[number]), None)


@dataclass(frozen=True)
class Tested(Runs):
    """What is in a folder of results.

    Attributes:
        test_value: the metric, over the seeds.
        test_loss: over the seeds; None where a loop of the user's own does not say it.
        versions: of Python and the packages.
        stored_metric: what they were tested by; its name alone in a file of an older version.
        trial: of the search that the configuration comes from.
        length: how the number of epochs was found; None where it was given.
    """

    test_value: Summary
    test_loss: Summary | None
    versions: dict[str, str]
    stored_metric: Annotated[StoredMetric | str, Field(validation_alias=AliasChoices("judge", "metric"))]
    trial: int | None = None
    length: FoundLength | None = None

    @cached_property
    def judge(self) -> Metric:
        """What they were tested by; one of a user's own without its function."""
        stored = self.stored_metric
        return restored({"name": stored} if isinstance(stored, str) else asdict(stored))

    @property
    def metric(self) -> str:
        return self.judge.name

    @property
    def kept(self) -> tuple[int | None, ...]:
        """The epoch of each seed whose weights were kept; None for the last one."""
        return tuple(seed.kept_epoch for seed in self.runs)


TESTED = TypeAdapter(Tested)


def load(folder: Path) -> Tested | None:
    """The results in a folder; None where there are none, or none of this version."""
    try:
        found = TESTED.validate_json((folder / "metrics.json").read_bytes(), strict=True)
    except (OSError, ValueError):
        return None
    return found if tuple(run.seed for run in found.runs) == found.plan.seeds else None


def summaries(seeds: list[SeedResult], metric: Metric) -> tuple[Summary, Summary | None]:
    """Test metric and test loss over the seeds; no loss where a loop of the user's own does not say it."""
    value = summarise([seed.test_value for seed in seeds], metric.lowest, metric.highest)
    losses = [seed.test_loss for seed in seeds if seed.test_loss is not None]
    return value, summarise(losses) if losses else None
