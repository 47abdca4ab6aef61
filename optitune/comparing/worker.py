"""What a worker process of a comparison does: train runs one by one and keep what each came to."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial as bound
from pathlib import Path

import torch

from optitune.common import checkpoint
from optitune.comparing.results import run_path, save_run
from optitune.statistics.runs import Plan, Point, Run, RunId
from optitune.storage.studies import versions
from optitune.study.custom_optimizers import find_modules
from optitune.tasks import loading, splits
from optitune.tasks.data import rotated
from optitune.tasks.task import Task
from optitune.tasks.user_code import keeping
from optitune.training import build, task_code
from optitune.training.build import build_loss
from optitune.training.engine import Diverged, Training
from optitune.training.plan import Plan as TrainingPlan
from optitune.workers.pool import Channel
from optitune.workers.process import configure_worker_process

CHECKPOINT_S = 30
"""How much of a run may be lost."""

DATA = "data.safetensors"
"""What all rounds share out among training and judging, within the folder of the comparison."""


def work(
    channel: Channel,
    plan: Plan,
    keys: Sequence[RunId],
    folder: Path,
    source: loading.Source,
    data_dir: Path,
    device_name: str,
    deadline: float | None,
) -> None:
    """A worker process: train these runs, one after the other, as far as they are not there.

    Raises:
        OptituneError: the data cannot be had, or a file not be written.
    """
    configure_worker_process()
    device = torch.device(device_name)
    task = loading.find(source, data_dir)
    paths = {each.optimizer: each.configuration.optimizer.path for each in plan.finalists}
    find_modules(paths, folder.parent.parent)
    parts, about = splits.opened(folder / DATA, task)
    task_code.check_unchanged(task, source, json.loads(about.get(task_code.KEY, "{}")))
    data, validation = parts["train"], parts.get("validation")
    for key in keys:
        if run_path(folder, key).exists():
            continue
        if channel.stopping() or (deadline is not None and time.monotonic() >= deadline):
            return
        places, held = rotated(len(data), plan.train_examples, 0 if validation else plan.held_out, key.round)
        how = training_plan(plan, key, task)
        trained = {"versions": versions(), "device": device, "settings": how.configuration.model_dump_json()}
        name = run_path(folder, key).stem
        with keeping(folder.parent, f"compare-{name}", f"run {name} of the comparison", trained):
            training = Training(
                build.build(task, plan.seed + key.round, device),
                how,
                data.take(places).to(device),
                (validation or replace(data.take(held), transform=None)).to(device),
            )
            run = _train(training, plan, key, folder, bound(_tell, channel, key), channel.stopping)
        if run is None:
            return
        save_run(folder, run)
        channel.send("finished", key=key, value=run.value, diverged=run.diverged)


def training_plan(plan: Plan, key: RunId, task: Task) -> TrainingPlan:
    """How a run is trained."""
    configuration = plan.finalist(key.optimizer).variant(key.variant)
    fed = configuration.training
    return TrainingPlan(
        configuration,
        build_loss(fed, task.own_loss, task.ignore_index),
        task.judge,
        plan.epochs,
        plan.seed + key.round,
        plan.precision,
        evaluations=plan.evaluations,
        judge=build_loss(fed.model_copy(update={"label_smoothing": 0.0}), task.own_loss, task.ignore_index),
        quick=plan.held_out,
        scale_targets=task.scale_targets,
    )


def _tell(channel: Channel, key: RunId, point: Point) -> None:
    channel.send("progress", key=key, epoch=point.epoch, value=point.value)


def _train(
    training: Training,
    plan: Plan,
    key: RunId,
    folder: Path,
    on_point: Callable[[Point], None],
    stopping: Callable[[], bool],
) -> Run | None:
    """Train a run, from its checkpoint if there is one; None if stopped on the way."""
    path = folder / "partial" / run_path(folder, key).name
    identity = hashlib.sha256(plan.model_dump_json().encode()).hexdigest()
    points: list[Point] = []
    if path.exists():
        kept = checkpoint.load(path)
        if isinstance(kept, dict) and kept.get("plan") == identity:
            training.load_state_dict(kept["training"])
            points = [Point(*row) for row in kept["points"]]
    saved, each = training.seconds, None
    try:
        for progress in training.run():
            assert progress.validation is not None
            found = progress.validation
            points.append(Point(progress.epoch, progress.seconds, found.value, found.loss))
            each = found.each
            on_point(points[-1])
            if progress.epoch == training.epoch < plan.epochs and training.seconds - saved >= CHECKPOINT_S:
                rows = [list(vars(point).values()) for point in points]
                checkpoint.save({"plan": identity, "points": rows, "training": training.state_dict()}, path)
                saved = training.seconds
            if progress.epoch < plan.epochs and stopping():
                return None
    except Diverged as diverged:
        return _run(training, key, points, None, str(diverged))
    path.unlink(missing_ok=True)
    return _run(training, key, points, each)


def _run(training: Training, key: RunId, points: Sequence[Point], each: torch.Tensor | None, diverged: str = "") -> Run:
    """What a training came to."""
    state = [value for own in training.optimizer.state.values() for value in own.values()]
    tensors = [value for value in state if isinstance(value, torch.Tensor)]
    return Run(
        key=key,
        diverged=diverged,
        value=0.0 if diverged else points[-1].value,
        loss=0.0 if diverged else points[-1].loss,
        seconds=round(training.seconds, 3),
        state_bytes=sum(_nbytes(tensor) for tensor in tensors),
        weight_bytes=sum(parameter.nbytes for parameter in training.parameters),
        curve=tuple(points),
        each=None if each is None else each.to("cpu", torch.float32).numpy(),
    )


def _nbytes(tensor: torch.Tensor) -> int:
    parts = (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,)
    return sum(part.nbytes for part in parts)
