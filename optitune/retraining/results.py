"""What a full training leaves: its plan, the result of every seed, and the files of its folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from optitune.common import checkpoint
from optitune.common.files import clear, explained, replacing, write_text
from optitune.common.schema import Strict
from optitune.common.summary import Summary, summarise
from optitune.common.text import plural
from optitune.errors import OptituneError
from optitune.retraining.curves import training_curves
from optitune.retraining.records import SeedResult
from optitune.space.configuration import Configuration, Precision
from optitune.storage import studies
from optitune.tasks.data import SAFETENSORS_SCRATCH, Examples, Part
from optitune.tasks.metrics import Direction, Metric, kept, restored
from optitune.training.evaluation import fed, numbers_of

MISTAKES = "mistakes.safetensors"
"""The worst mistakes of the first seed's network, beside its results."""

MOST_MISTAKES = 16


class FullPlan(Strict):
    """What a full training is; two of equal plan and seed give the same network."""

    task: str
    configuration: Configuration
    epochs: Annotated[int, Field(ge=1)]
    precision: Precision
    seeds: tuple[int, ...]
    data_checksum: str
    network: str
    code: str = ""
    data_digests: dict[str, str] = Field(default_factory=dict)
    scale_targets: bool = False


class Runs(BaseModel):
    """What of a file of results is read back, whatever else stands in it."""

    model_config = ConfigDict(frozen=True, strict=True)

    plan: FullPlan
    runs: tuple[SeedResult, ...]

    @field_validator("runs")
    @classmethod
    def _square(cls, runs: tuple[SeedResult, ...]) -> tuple[SeedResult, ...]:
        for matrix in (run.confusion_matrix for run in runs):
            if any(len(row) != len(matrix) or min(row) < 0 for row in matrix):
                raise ValueError("a confusion matrix must have as many counts in each row as rows")
        return runs


def _runs(path: Path, plan: FullPlan) -> tuple[SeedResult, ...]:
    """The results in a file, if it is there, whole, and of this very plan."""
    try:
        found = Runs.model_validate_json(path.read_bytes())
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
    """The result of one seed of a plan that is being trained."""
    runs = _runs(partial / f"seed-{number}.json", plan)
    return next((run for run in runs if run.seed == plan.seeds[number]), None)


def confusion(test: Part, answers: Tensor | None, ignored: int | None = None) -> tuple[tuple[int, ...], ...]:
    """Counts of true class by answered class; nothing where there are no classes, or they are not known at once."""
    if answers is None or test.targets is None:
        return ()
    labels = test.targets.to(answers.device)
    if ignored is not None:
        labels, answers = labels[labels != ignored], answers[labels != ignored]
    if not len(labels):
        return ()
    classes = int(max(labels.max(), answers.max())) + 1
    matrix = torch.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, classes)
    return tuple(tuple(int(count) for count in row) for row in matrix)


@dataclass(frozen=True)
class Mistakes:
    """Images that a network answered wrong, the most confident mistake first.

    Attributes:
        images: (n, channels, height, width), bytes.
        max_pixel: the value of a full pixel.
        truths: their classes.
        answers: what they were taken for.
    """

    images: Tensor
    max_pixel: float
    truths: tuple[int, ...]
    answers: tuple[int, ...]


@torch.no_grad()
def worst_mistakes(
    model: nn.Module, test: Part, answers: Tensor | None, precision: Precision, ignored: int | None = None
) -> Mistakes | None:
    """The mistakes whose answer is furthest above the true class; None where the examples are no images, or all right.

    Args:
        model: judges, on the device of `test`.
        answers: the class that it answered for each example.
        ignored: the label of examples that do not count.
    """
    if answers is None or not isinstance(test, Examples) or test.max_pixel is None or test.inputs.ndim != 4:
        return None
    counts = torch.ones_like(answers, dtype=torch.bool) if ignored is None else test.targets != ignored
    wrong = ((answers != test.targets) & counts).nonzero().flatten()
    if not len(wrong):
        return None
    apart, kind = [], numbers_of(model)
    for places in torch.split(wrong, 250):
        inputs, truths = fed(test.batch(places), kind)
        with torch.autocast(places.device.type, torch.bfloat16, enabled=precision == "bf16"):
            outputs = model(inputs)
        rows = torch.arange(len(places), device=places.device)
        apart.append(outputs[rows, answers[places]].float() - outputs[rows, truths].float())
    worst = wrong[torch.cat(apart).argsort(descending=True, stable=True)[:MOST_MISTAKES]]
    shown = test.take(worst)
    return Mistakes(shown.inputs, test.max_pixel, tuple(shown.targets.tolist()), tuple(answers[worst].tolist()))


def save_mistakes(found: Mistakes, path: Path) -> None:
    """Write them, all of them or nothing.

    Raises:
        OptituneError: the file cannot be written.
    """
    checkpoint.save(vars(found), path)


def load_mistakes(path: Path) -> Mistakes | None:
    """What `save_mistakes` wrote; None where there is nothing that can be read."""
    try:
        if not path.exists():
            return None
        state = checkpoint.load(path)
        if "white" in state:  # as files of before named it
            state["max_pixel"] = state.pop("white")
        found = Mistakes(**state)
        if found.images.ndim != 4 or not isinstance(found.max_pixel, int | float) or not found.max_pixel > 0:
            return None
        return found if len(found.images) == len(found.truths) == len(found.answers) else None
    except (OptituneError, TypeError, AttributeError):
        return None


class Judge(BaseModel):
    """A metric as `metrics.kept` writes it."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: str
    direction: Direction
    lowest: float | None
    highest: float | None
    built_in: bool


class Metrics(Runs):
    """What is read of a `metrics.json`."""

    trial: int | None = None
    metric: str
    judge: Judge | None = None
    test_value: Summary
    test_loss: Summary
    versions: dict[str, str]


@dataclass(frozen=True)
class Tested:
    """What is in a folder of results.

    Attributes:
        trial: of the search that the configuration comes from.
        judge: what they were tested by; one of a user's own without its function.
    """

    plan: FullPlan
    trial: int | None
    judge: Metric
    value: Summary
    loss: Summary
    seeds: tuple[SeedResult, ...]
    versions: dict[str, str]

    @property
    def metric(self) -> str:
        return self.judge.name


def load(folder: Path) -> Tested | None:
    """The results in a folder; None where there are none, or none of this version."""
    try:
        found = Metrics.model_validate_json((folder / "metrics.json").read_bytes())
        judge = restored(found.judge.model_dump() if found.judge else {"name": found.metric})
    except (OSError, ValueError):
        return None
    if tuple(run.seed for run in found.runs) != found.plan.seeds:
        return None
    return Tested(found.plan, found.trial, judge, found.test_value, found.test_loss, found.runs, found.versions)


def summaries(seeds: list[SeedResult], metric: Metric) -> tuple[Summary, Summary]:
    """Test metric and test loss over the seeds."""
    value = summarise([seed.test_value for seed in seeds], metric.lowest, metric.highest)
    return value, summarise([seed.test_loss for seed in seeds])


def _weights_file(state: Mapping[str, Any], about: dict[str, str]) -> bytes:
    """Tensors under their names; what else `get_extra_state` gave as JSON by name, in the metadata's `extra_state`."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    extra = {name: value for name, value in state.items() if name not in tensors}
    if extra:
        about = about | {"extra_state": json.dumps(extra, default=lambda value: value.tolist())}
    return to_bytes(tensors, about)


def write(
    folder: Path, partial: Path, about: dict[str, Any], plan: FullPlan, metric: Metric, seeds: list[SeedResult]
) -> None:
    """Weights, pictures, and last the metrics, whose presence says that all is there."""
    last = checkpoint.load(partial / "seed-0.safetensors")
    trained = last["training"]
    # an older version kept no names
    names = [f".{name}".replace("._orig_mod.", ".")[1:] for name in last.get("names", trained["model"])]
    trained["model"] = dict(zip(names, trained["model"].values(), strict=True))
    told = {"task": plan.task, "seed": str(plan.seeds[0]), "plan": plan.model_dump_json()}
    if "scaling" in about:
        told["scaling"] = json.dumps(about["scaling"])
    for name, state in (("model", trained["model"]), ("loss", trained.get("loss"))):
        # a file of its own: the network's is loaded as it is
        if state or name == "model":
            with replacing(folder / f"{name}.safetensors") as scratch:
                scratch.write_bytes(_weights_file(state, told))
    optimizer = plan.configuration.optimizer.name
    value, loss = summaries(seeds, metric)
    runs = plural(len(seeds), "seed")
    title = f"{plan.task}: {optimizer}, {plan.epochs} epochs, {runs}; test {metric.name} {value.mean:.4g}"
    training_curves(
        [seed.epochs for seed in seeds], plan.configuration.training.loss, metric.name, title, folder / "curves.png"
    )
    if (partial / MISTAKES).exists():
        with explained(folder / MISTAKES):
            (partial / MISTAKES).replace(folder / MISTAKES)
    metrics = {
        **about,
        "plan": plan.model_dump(mode="json"),
        "metric": metric.name,
        "judge": kept(metric),
        "test_value": asdict(value),
        "test_loss": asdict(loss),
        "interval": "95 %, Student's t over the runs; none for a single run",
        "runs": [asdict(seed) for seed in seeds],
        "versions": studies.versions(),
    }
    write_text(folder / "metrics.json", json.dumps(metrics, indent=1))
    clear(partial, r"train|test|seed-\d+|mistakes", r"\.safetensors|\.json", SAFETENSORS_SCRATCH)
