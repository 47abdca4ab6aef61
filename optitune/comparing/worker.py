"""What a worker process of a comparison does: train runs one by one and keep what each came to."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from optitune.comparing.events import RunFinished, RunProgress
from optitune.comparing.kept_runs import run_path, save_run
from optitune.statistics.runs import Plan, Point, Run, RunId
from optitune.storage.studies import versions
from optitune.study.custom_optimizers import find_modules
from optitune.tasks import loading, splits
from optitune.tasks.dividing import Share
from optitune.tasks.grouping import Fold, places_of
from optitune.tasks.user_code import keeping
from optitune.training import plan as training_plans
from optitune.training import task_code
from optitune.training.engine import Training
from optitune.training.loops import Loop, begin, used
from optitune.training.progress import Diverged, Progress
from optitune.training.run import Run as TrainingRun
from optitune.training.run_facts import files_of
from optitune.workers.pool import Channel
from optitune.workers.process import configure_worker_process
from optitune.workers.ranked_loop import RankJob, with_ranks

CHECKPOINT_S = 30
"""Seconds of a run that a kill may lose."""

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
    ranks: int = 1,
) -> None:
    """Train these runs in a worker process, one after the other, as far as they are not done.

    Args:
        channel: to the parent process.
        plan: of the comparison.
        keys: which runs.
        folder: of the comparison; each finished run becomes a file in it.
        source: where the task comes from.
        data_dir: where torchvision's files lie.
        device_name: as torch names it.
        deadline: when no further run is begun, as `time.monotonic` counts; None for never.
        ranks: how many processes train each run together.

    Raises:
        OptituneError: the data cannot be had, or a file not be written.
    """
    configure_worker_process()
    device = torch.device(device_name)
    paths = {each.optimizer: each.configuration.optimizer.path for each in plan.finalists}
    find_modules(paths, folder.parent.parent)
    task = loading.find(source, data_dir)
    parts, about = splits.opened(folder / DATA, task)
    task = loading.judged(task, about.get(loading.METRIC))
    code = json.loads(about.get(task_code.KEY, "{}"))
    task_code.check_unchanged(task, source, code)
    ranked = RankJob(source, about.get(loading.METRIC, ""), data_dir, paths, folder.parent.parent, code)
    task = with_ranks(task, ranked, ranks, device, channel)
    data, validation = parts["train"], parts.get("validation")
    for key in keys:
        if run_path(folder, key).exists():
            continue
        if channel.stopping() or (deadline is not None and time.monotonic() >= deadline):
            return
        fold = Fold(plan.train_examples, 0 if validation else plan.held_out, key.round, plan.rounds)
        places, held = places_of(len(data), fold, plan.split, data.groups)
        configuration = plan.finalist(key.optimizer).variant(key.variant)
        seed = plan.seed + key.round
        how = training_plans.training_plan(
            configuration, task, plan.epochs, seed, plan.precision, plan.evaluations, max_eval_examples=plan.held_out
        )
        trained = {"versions": versions(), "device": device, "settings": configuration.model_dump_json()}
        name = run_path(folder, key).stem
        with keeping(folder.parent, f"compare-{name}", f"run {name} of the comparison", trained):
            judged = validation or replace(data.take(held), transform=None)
            training = begin(task, how, data.take(places), judged, device)
            share = Share("compare", fold=fold, checksum=plan.data_checksum)
            run = _train(training, how, share, device, plan, key, folder, channel)
        if run is None:
            return
        save_run(folder, run)
        channel.send(RunFinished(channel.worker, key, run.value, run.diverged))


def _train(
    training: Training | Loop,
    how: training_plans.Plan,
    share: Share,
    device: torch.device,
    plan: Plan,
    key: RunId,
    folder: Path,
    channel: Channel,
) -> Run | None:
    """Train a run, from its checkpoint if there is one; None if stopped on the way."""
    path = folder / "partial" / run_path(folder, key).name
    identity = hashlib.sha256(plan.model_dump_json().encode()).hexdigest()

    def on_report(history: list[Progress], new: bool) -> bool:
        point = _point(history[-1])
        channel.send(RunProgress(channel.worker, key, point.epoch, point.value, history[-1].step))
        return False

    run = TrainingRun(
        how,
        on_report,
        channel.stopping,
        path,
        identity,
        device=device,
        share=share,
        folder=files_of(folder.parent, f"compare-{path.stem}"),
        wait=lambda took: CHECKPOINT_S,
    )
    try:
        run.run(training)
    except Diverged as diverged:
        return _run(training, run, key, str(diverged))
    if not run.done:
        return None
    path.unlink(missing_ok=True)
    return _run(training, run, key)


def _point(progress: Progress) -> Point:
    assert progress.validation is not None
    return Point(progress.epoch, progress.seconds, progress.validation.value, progress.validation.loss)


def _run(training: Training | Loop, run: TrainingRun, key: RunId, diverged: str = "") -> Run:
    """What a training came to."""
    points = [_point(progress) for progress in run.history]
    last = run.history[-1].validation if run.history and not diverged else None
    state_bytes, weight_bytes = used(training, run)
    return Run(
        key=key,
        diverged=diverged,
        value=0.0 if diverged else points[-1].value,
        loss=0.0 if diverged else points[-1].loss,
        seconds=round(run.seconds, 3),
        state_bytes=state_bytes,
        weight_bytes=weight_bytes,
        curve=tuple(points),
        each=None if last is None or last.each is None else last.each.to("cpu", torch.float32).numpy(),
    )
