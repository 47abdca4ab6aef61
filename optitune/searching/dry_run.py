"""What a search would train, how long that would take, and what it would write: nothing of it is done."""

import time
from math import ceil

from optitune.errors import UsageError
from optitune.searching.costs import Estimate, counted, estimate
from optitune.searching.requests import SearchRequest
from optitune.searching.run import existing_study, prepare
from optitune.searching.supervisor import View
from optitune.space.ranges import Fixed
from optitune.space.search_space import ALL_OWNERS, TRAINING_SETTINGS, SearchSpace
from optitune.storage import studies, study_checks, trials
from optitune.storage.urls import explained_storage
from optitune.tasks import splits
from optitune.tasks.builtin import TASKS
from optitune.training import timing
from optitune.training.device import devices
from optitune.training.dry_run import DryRun, free, mean, until
from optitune.workers.pool import auto

PRUNED = 0.5
"""Share of the epochs that is left at the least where a pruner ends trials early."""

BESIDE_S = 0.3
"""Seconds that a trial takes besides its training, for its picture and its rows in the storage."""

EMPTY, TRIAL = 200_000, 25_000
"""Bytes of a study without trials, and of a trial: its rows in the storage, its picture."""


def dry_run(request: SearchRequest, view: View) -> DryRun:
    """Check a search as far as can be without training, and estimate it; nothing is written.

    Raises:
        UsageError: what a search would raise; or a cluster is named, whose machines cannot be timed from here.
        OptituneError: data or storage cannot be had.
    """
    if request.cluster is not None:
        raise UsageError("--dry-run: times this machine, not a cluster: leave out --cluster")
    if request.ranks > 1:
        raise UsageError("--dry-run: times a single process: leave out --ranks")
    began = time.monotonic()
    with explained_storage(request.home.url):
        found = prepare(request, view, None, write=False)
        existing = existing_study(request.home, write=False)
        settings, task, data = found.settings, found.task, found.data
        if existing is not None:
            accepted = request.accept_changes
            study_checks.same_as_made(existing, settings, found.facts, task.judge, found.code, accepted, write=False)
        origin = studies.origin(existing) if existing is not None else None
        done = trials.finished(existing) if existing is not None else 0
    notes = list(found.remarks)
    if found.taking is not None:
        origin, done = found.taking.origin, len(found.taking.trials)
        notes.append(f"it begins with {origin.sentence()}")
    left = max(0, found.budget.trials + (len(origin.trials) if origin else 0) - done)
    spread = devices(found.device)
    workers = auto(request.workers or None, len(spread) * (found.device.type != "cpu"), max(1, left))
    if request.workers == 0:
        notes.append("the training is left to 'optitune worker' elsewhere; times are those of this machine")
    before = time.monotonic() - began
    timed = estimate(settings, task, data, found.device) if left else Estimate({}, {}, 0)
    each = timed.seconds
    known = studies.costs(existing) if existing is not None else None
    costs = (timed.costs if known is None else known) if counted(settings) else {}
    whole = mean([*each.values()])
    share = 1.0 if settings.pruner == "none" else PRUNED
    turns = ceil(left / workers)
    seconds = until(share * whole * left / workers, (whole + BESIDE_S) * turns, before) if left else (0.0, 0.0)
    if found.budget.timeout is not None and seconds[1] > found.budget.timeout:
        notes.append(f"no trial begins after {found.budget.timeout:g} s, so that not all may be trained")
    space = settings.space()
    test = splits.test_size(task, data, settings.task in TASKS)
    return DryRun(
        stage="search",
        study=request.home.name,
        new=found.new,
        task=settings.task,
        done=done,
        trainings=(left, left),
        epochs=settings.epochs,
        optimizers={name: {key: str(one) for key, one in ranges.items()} for name, ranges in space.optimizers.items()},
        schedules={name: {key: str(one) for key, one in ranges.items()} for name, ranges in space.schedules.items()},
        training=_training(space),
        examples={"train": len(data.train), "validation": len(data.validation), "test": test},
        workers=workers,
        device=str(found.device),
        precision=settings.precision,
        budget_in=settings.budget_in,
        costs=costs,
        each={name: round(value, 3) for name, value in each.items()},
        seconds=seconds,
        disk=left * TRIAL + EMPTY * found.new,
        scratch=(timing.shared_bytes(data.train, data.validation) + 2 * workers * timed.state) if left else 0,
        free=free(request.home.folder),
        notes=tuple(notes),
    )


def _training(space: SearchSpace) -> dict[str, str]:
    """The batch size, and what else of the training is searched or not off."""
    named = {name: one for owner, name, one in space.owned() if owner == ALL_OWNERS}
    usual = {name: setting.usual for name, setting in TRAINING_SETTINGS.items() if name != "batch_size"}
    return {
        name: str(one)
        for name, one in named.items()
        if not (isinstance(one, Fixed) and name in usual and one.value == usual[name])
    }
