"""What a comparison would train, how long that would take, and what it would write: nothing of it is done."""

import time
from statistics import median

from optitune.comparing.folder import kept_of
from optitune.comparing.kept_runs import load_run
from optitune.comparing.plan import opening
from optitune.comparing.requests import CompareRequest
from optitune.comparing.run import prepare
from optitune.errors import UsageError
from optitune.space.configuration import configuration_text
from optitune.statistics.runs import TUNED, VARIANTS
from optitune.study.steps import steps_per_epoch
from optitune.tasks import splits
from optitune.tasks.builtin import TASKS
from optitune.training import timing
from optitune.training.device import devices
from optitune.training.dry_run import DryRun, free, mean, until
from optitune.training.plan import training_plan
from optitune.workers.pool import auto

RUN = 6_000
"""Bytes of a run beside its value for each example."""


def dry_run(request: CompareRequest) -> DryRun:
    """Check a comparison as far as can be without training, and estimate it; nothing is written.

    Raises:
        UsageError: what a comparison would raise.
        OptituneError: the same; or data cannot be had.
    """
    if request.ranks > 1:
        raise UsageError("--dry-run: times a single process: leave out --ranks")
    began = time.monotonic()
    found = prepare(request, write=False)
    plan, task, data = found.plan, found.task, found.data
    there, kept = kept_of(found.folder, plan)
    runs = {run.key for run in map(load_run, kept)}
    done = {key for key in runs if key.variant == TUNED}
    least = len(opening(plan.optimizers, done, plan.rounds))
    most = max(least, min(request.max_runs, plan.rounds * len(plan.finalists)) - len(done))
    variants = min(request.sensitivity, plan.rounds) * len(VARIANTS) * len(plan.finalists)
    variants = max(0, variants - (len(runs) - len(done)))
    plans = [
        training_plan(
            each.configuration,
            task,
            plan.epochs,
            plan.seed,
            plan.precision,
            plan.evaluations,
            max_eval_examples=plan.held_out,
        )
        for each in plan.finalists
    ]
    spread = devices(found.device)
    workers = auto(request.workers, len(spread) * (found.device.type != "cpu"), 1_000_000)
    before = time.monotonic() - began
    train = data.train.take(slice(0, plan.train_examples))
    paces = timing.paces(task, plans, train, data.validation, found.device)
    each = [
        pace.seconds(how, steps_per_epoch(plan.train_examples, how.configuration.training), plan.held_out)
        for how, pace in zip(plans, paces, strict=True)
    ]
    # which optimizers go on and which are out by then is not known
    seconds = until(least * mean(each) / workers, (most + variants) * mean(each) / workers, before)
    notes = [f"{name} has no complete trial, and is left out" for name in found.without]
    if there is not None and there != plan:
        notes.append(f"another comparison lies in {found.folder}; it would be kept beside the new one")
    if found.other_data:
        notes.append("the data are not those that the configurations were found on (their checksums differ)")
    if request.timeout is not None and seconds[1] > request.timeout:
        notes.append(f"no run begins after {request.timeout:g} s, so that not all may be trained")
    parts = [data.train, data.validation] if task.own_validation else [data.train]
    state = median(pace.state for pace in paces)
    test = splits.test_size(task, data, plan.task in TASKS)
    return DryRun(
        stage="compare",
        study=request.home.name,
        new=there is None,
        task=plan.task,
        done=len(runs),
        trainings=(least, most + variants),
        epochs=plan.epochs,
        optimizers={one.optimizer: {"best": configuration_text(one.configuration)} for one in plan.finalists},
        schedules={},
        training={},
        examples={"train": plan.train_examples, "validation": plan.held_out, "test": test},
        workers=workers,
        device=str(found.device),
        precision=plan.precision,
        each={one.optimizer: round(value, 3) for one, value in zip(plan.finalists, each, strict=True)},
        seconds=seconds,
        disk=(most + variants) * (RUN + 4 * plan.held_out),
        scratch=timing.shared_bytes(*parts) + round(2 * workers * state),
        free=free(request.home.folder),
        notes=tuple(notes),
    )
