"""The folder that a full training leaves: weights, curves, the worst mistakes, and last the metrics."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_bytes
from torch import Tensor

from optitune.common import checkpoint
from optitune.common.files import clear, explained, replacing, write_text
from optitune.common.text import plural
from optitune.retraining.curves import training_curves
from optitune.retraining.mistakes import MISTAKES
from optitune.retraining.records import SeedResult
from optitune.retraining.results import FoundLength, FullPlan, summaries
from optitune.retraining.worker import weights_file
from optitune.storage import studies
from optitune.tasks.data import SAFETENSORS_SCRATCH
from optitune.tasks.metrics import Metric, kept

FILES = r"train|test|seed-\d+(-best|-diverged|-weights)?|mistakes"
"""The files in a folder of unfinished trainings, without suffix."""


def _weights_file(state: Mapping[str, Any], about: dict[str, str]) -> bytes:
    """Tensors under their names; what else `get_extra_state` gave as JSON by name, in the metadata's `extra_state`."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    extra = {name: value for name, value in state.items() if name not in tensors}
    if extra:
        about = about | {"extra_state": json.dumps(extra, default=lambda value: value.tolist())}
    return to_bytes(tensors, about)


def write(
    folder: Path,
    partial: Path,
    about: dict[str, Any],
    plan: FullPlan,
    metric: Metric,
    seeds: list[SeedResult],
    length: FoundLength | None = None,
) -> None:
    """Write weights, pictures, and last the metrics, whose presence says that the results are complete.

    Args:
        folder: of the results.
        partial: folder of the unfinished trainings, with the first seed's last checkpoint.
        about: of the results: the study's and the trial's name, the scaling of targets.
        plan: of the full training.
        metric: of the task.
        seeds: a result for each seed.
        length: how the number of epochs was found; None where it was given.
    """
    last = checkpoint.load(weights_file(partial, plan, 0))
    trained = last["training"]
    # an older version kept no names
    names = [f".{name}".replace("._orig_mod.", ".")[1:] for name in last.get("names", trained["model"])]
    trained["model"] = dict(zip(names, trained["model"].values(), strict=True))
    metadata = {"task": plan.task, "seed": str(plan.seeds[0]), "plan": plan.model_dump_json()}
    if "scaling" in about:
        metadata["scaling"] = json.dumps(about["scaling"])
    for name, state in (("model", trained["model"]), ("loss", trained.get("loss"))):
        # a file of its own: the network's is loaded as it is
        if state or name == "model":
            with replacing(folder / f"{name}.safetensors") as scratch:
                scratch.write_bytes(_weights_file(state, metadata))
    optimizer = plan.configuration.optimizer.name
    value, loss = summaries(seeds, metric)
    runs = plural(len(seeds), "seed")
    tested = f"test {metric.name} {metric.unit.value(value.mean)}"
    title = f"{plan.task}: {optimizer}, {plural(plan.epochs, 'epoch')}, {runs}; {tested}"
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
        "test_loss": loss and asdict(loss),
        "interval": "95 %, Student's t over the runs; none for a single run",
        "runs": [asdict(seed) for seed in seeds],
        **({"length": length.model_dump(mode="json")} if length else {}),
        "versions": studies.versions(),
    }
    write_text(folder / "metrics.json", json.dumps(metrics, indent=1))
    clear(partial, FILES, r"\.safetensors|\.json", SAFETENSORS_SCRATCH)


def add_length(folder: Path, length: FoundLength) -> None:
    """Write how the number of epochs was found into results that were trained for just so many before."""
    found = json.loads((folder / "metrics.json").read_bytes())
    if "length" not in found:
        write_text(folder / "metrics.json", json.dumps({**found, "length": length.model_dump(mode="json")}, indent=1))
