"""What an epoch of each optimizer costs, measured once for a study by real steps at known-good settings."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import optuna
import torch

from optitune.errors import Interrupted, OptituneError
from optitune.sampling.allocation import relative_costs
from optitune.sampling.parameters import known_good
from optitune.searching.objective import trial_plan
from optitune.searching.worker import Job
from optitune.storage import studies
from optitune.study.custom_optimizers import find_modules
from optitune.study.settings import StudySettings
from optitune.study.steps import steps_per_epoch
from optitune.tasks import loading, splits
from optitune.tasks.splits import SearchData
from optitune.tasks.task import Task
from optitune.training import timing
from optitune.workers.events import Event
from optitune.workers.pool import Channel, Pool
from optitune.workers.process import configure_worker_process

LIMIT_S = 60.0
"""After how long a measurement is given up."""


@dataclass(frozen=True)
class CostsMeasured(Event):
    """The relative cost of an epoch by optimizer."""

    costs: dict[str, float]


def counted(settings: StudySettings) -> bool:
    """Whether a study shares out time, so that costs matter."""
    return settings.sampler == "optitune" and settings.budget_in == "seconds" and len(settings.optimizers) > 1


@dataclass(frozen=True)
class Estimate:
    """How long trainings with known-good settings take.

    Attributes:
        seconds: of a whole training, by optimizer.
        costs: of an epoch, by optimizer; see `optitune.sampling.allocation.relative_costs`.
        state: bytes of the largest checkpoint.
    """

    seconds: Mapping[str, float]
    costs: Mapping[str, float]
    state: int


def estimate(settings: StudySettings, task: Task, data: SearchData, device: torch.device) -> Estimate:
    """Time about a second of real steps, at the known-good settings of every optimizer.

    Args:
        settings: of the study, without `auto`.
        task: to train.
        data: to train and judge on.
        device: to train on.
    """
    start = known_good(settings)
    plans = [trial_plan(each, settings, task, data) for each in start.values()]
    paces = timing.paces(task, plans, data.train, data.validation, device)
    # what is judged takes as long whatever the optimizer
    judged = median(pace.judged for pace in paces)

    def of_all(paces: Sequence[timing.Pace]) -> dict[str, float]:
        return {
            name: pace.seconds(plan, steps_per_epoch(len(data.train), configuration.training), len(data.validation))
            for (name, configuration), plan, pace in zip(start.items(), plans, paces, strict=True)
        }

    fastest = of_all([replace(pace, step=pace.fastest, judged=judged) for pace in paces])
    return Estimate(of_all(paces), relative_costs(fastest), max(pace.state for pace in paces))


def settle(opened: optuna.Study, job: Job, on_tick: Callable[[], None], limit_s: float | None = None) -> str:
    """Measure the costs of a study that shares out time and has none, in a process of its own, and store them.

    Args:
        opened: the study.
        job: as workers get it, with the file of the data.
        on_tick: called a few times a second.
        limit_s: seconds that it may take; None for `LIMIT_S`.

    Returns:
        Why every epoch counts the same, in words, where nothing could be measured; else empty.

    Raises:
        Interrupted: the user stopped it.
    """
    if not counted(job.settings) or studies.costs(opened) is not None:
        return ""
    if job.ranks > 1:
        opened.set_user_attr(studies.COSTS, {})
        return "what an epoch of each optimizer costs is not measured with several ranks: all epochs count the same"
    found: list[Event] = []
    until = time.monotonic() + min(LIMIT_S, limit_s or LIMIT_S)

    def tick() -> None:
        if time.monotonic() > until:
            pool.kill(0)
        on_tick()

    pool = Pool(measure, [(job,)], found.append, tick)
    why = ""
    try:
        pool.run()
    except Interrupted:
        raise
    except OptituneError:
        why = "what an epoch of each optimizer costs could not be measured, so that all epochs count the same"
    costs = next((event.costs for event in found if isinstance(event, CostsMeasured)), {})
    # another process may have begun the same study
    if studies.costs(opened) is None:
        opened.set_user_attr(studies.COSTS, costs)
    return why


def measure(channel: Channel, job: Job) -> None:
    """Measure in a process of its own, lest a training that dies takes the search along.

    Args:
        channel: to the parent process.
        job: of the search.

    Raises:
        UsageError: the task cannot be found.
    """
    configure_worker_process()
    task = loading.judged(loading.find(job.task, job.data_dir), job.settings.metric)
    find_modules(job.settings.own_paths(), job.home.folder.parent)
    data = splits.load(job.data, task)
    found = estimate(job.settings, task, data, torch.device(job.device))
    channel.send(CostsMeasured(channel.worker, dict(found.costs)))
