"""What a full training would train, how long that would take, and what it would write: nothing of it is done."""

import time
from dataclasses import replace
from math import ceil

from optitune.errors import UsageError
from optitune.retraining.length import LONGEST
from optitune.retraining.results import finished_seeds, seed_result
from optitune.retraining.run import AUTO, RESULTS, RetrainRequest, known_length, make_plan, partial_of, prepare, test_of
from optitune.space.configuration import configuration_text
from optitune.study.steps import QUICK_EXAMPLES, steps_per_epoch
from optitune.training import timing
from optitune.training.device import devices
from optitune.training.dry_run import DryRun, free, until
from optitune.training.plan import training_plan
from optitune.workers.pool import auto

PICTURES = 300_000
"""Bytes of the results beside the weights."""


def dry_run(request: RetrainRequest) -> DryRun:
    """Check a full training as far as can be without training, and estimate it; nothing is written.

    Raises:
        UsageError: what a full training would raise.
        OptituneError: the same; or data cannot be had.
    """
    if request.ranks > 1:
        raise UsageError("--dry-run: times a single process: leave out --ranks")
    began = time.monotonic()
    found = prepare(request, write=False)
    task, data, held, folder = found.task, found.data, found.held, found.folder
    notes = [*found.remarks]
    first, lengths = request.config.epochs, (0, 0)
    if held is not None and request.epochs == AUTO:
        length = known_length(request, found.device, held, found.about, folder)
        if length is None:
            lengths = (2, LONGEST.bit_length())
            request = replace(request, epochs=LONGEST * first)
            notes.append(
                f"the number of epochs is looked for: {first}, {2 * first}, ... up to {LONGEST * first}, while longer "
                "is better; the least time is that of staying at the first"
            )
        else:
            request = replace(request, epochs=length.epochs)
    if held is not None and request.keep == "best":
        data = replace(data, train=held.train, checksum=held.checksum, digests=held.digests)
    plan = make_plan(request, found.device, data, *found.about)
    done = finished_seeds(folder / "metrics.json", plan)
    if done is None or not all((folder / name).exists() for name in RESULTS):
        partial = partial_of(folder, plan)
        done = [result for number in range(len(plan.seeds)) if (result := seed_result(partial, plan, number))]
    left = len(plan.seeds) - len(done)
    judged = 0 if held is None or plan.keep != "best" else len(held.validation)
    how = training_plan(
        plan.configuration,
        task,
        plan.epochs,
        plan.seeds[0],
        plan.precision,
        max_eval_examples=judged or QUICK_EXAMPLES,
    )
    spread = devices(found.device)
    workers = auto(request.workers, len(spread) * (found.device.type != "cpu"), max(1, left))
    test = test_of(task, data)
    before = time.monotonic() - began
    # only the time that it takes to judge them counts: training examples stand in for those of the test
    paces = timing.paces(task, [how], data.train, replace(data.train, transform=None), found.device) if left else []
    epoch = each = 0.0
    seconds = (0.0, 0.0)
    for pace in paces:
        epoch = pace.step * steps_per_epoch(len(data.train), plan.configuration.training) + pace.judged * judged
        each = epoch * plan.epochs + pace.judged * len(test)
        turns = ceil(left / workers)
        seconds = until(each * turns, each * turns, before)
        if lengths[1]:
            # lengths are tried one after the other: the first and its double, or all of them
            seconds = until(epoch * first * (3 + turns), epoch * first * (2 * LONGEST - 1) + each * turns, before)
    state = max((pace.state for pace in paces), default=0)
    return DryRun(
        stage="retrain",
        study=request.home.name,
        new=not done,
        task=plan.task,
        done=len(done),
        trainings=(left + lengths[0], left + lengths[1]),
        epochs=plan.epochs,
        optimizers={plan.configuration.optimizer.name: {"best": configuration_text(plan.configuration)}},
        schedules={},
        training={},
        examples={"train": len(data.train), "validation": judged or None, "test": len(test)},
        workers=workers,
        device=str(found.device),
        precision=plan.precision,
        each={plan.configuration.optimizer.name: round(each, 3)} if left else {},
        seconds=seconds,
        disk=state + PICTURES if left else 0,
        scratch=timing.shared_bytes(data.train, test) + (left + workers) * state if left else 0,
        free=free(request.home.folder),
        notes=tuple(notes),
    )
