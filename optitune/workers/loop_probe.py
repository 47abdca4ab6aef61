"""The first call of a training loop of the user's own, in a process of its own, lest it takes the search along."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from optitune.errors import OptituneError, UsageError
from optitune.space.configuration import Configuration, Precision
from optitune.tasks import loading
from optitune.tasks.loop_task import LoopFacts, LoopTask
from optitune.tasks.task import Task
from optitune.training.probe import tried
from optitune.training.ranks import ALONE, Peers
from optitune.workers.events import Event
from optitune.workers.pool import Channel, Pool
from optitune.workers.process import configure_worker_process
from optitune.workers.ranked_loop import RankJob
from optitune.workers.ranks import on_ranks


@dataclass(frozen=True)
class LoopTried(Event):
    """A loop was called for a first time."""

    facts: LoopFacts


@dataclass(frozen=True)
class FirstCall:
    """How a loop is called for a first time; see `optitune.training.probe.tried`.

    Attributes:
        paths: `module:class` of optimizers that the study defines, by name.
        studies_dir: folder of all studies, beside which their modules lie.
        ranks: how many processes call it together, each with what `torch.distributed` needs.
    """

    configurations: Sequence[Configuration]
    epochs: int
    precision: Precision
    device: str
    paths: dict[str, str]
    studies_dir: Path
    train_examples: int | None = None
    wanted: Collection[str] = ()
    ranks: int = 1


def tried_apart(
    task: Task, source: str | None, data_dir: Path, call: FirstCall, on_tick: Callable[[], None] = lambda: None
) -> Task:
    """A loop's task with the facts of its first call, in a process of its own; any other task unchanged.

    Args:
        task: whose loop is called.
        source: where workers have it from; None for a task that was given as an object.
        data_dir: where torchvision's files lie.
        call: how.
        on_tick: called a few times a second.

    Raises:
        UsageError: the loop fails, or does something that a loop must not.
        OptituneError: its process dies.
    """
    if not isinstance(task, LoopTask):
        return task
    found: list[Event] = []

    def died(worker: int, cause: str) -> bool:
        raise UsageError(
            f"task '{task.name}': its process ended while the loop was called for a first time ({cause}); a loop must "
            "not leave by os._exit, and has to fit into memory"
        )

    given = loading.packed(task) if source is None else source
    Pool(call_first, [(given, task.metric_text, data_dir, call)], found.append, on_tick, on_death=died).run()
    facts = next((event.facts for event in found if isinstance(event, LoopTried)), None)
    if facts is None:
        raise OptituneError(f"task '{task.name}': its loop could not be called: run the same command again")
    return task.with_facts(facts)


def call_first(channel: Channel, source: loading.Source, metric: str, data_dir: Path, call: FirstCall) -> None:
    """Call a loop for a first time, in a worker process.

    Args:
        channel: to the parent process.
        source: of the task.
        metric: that the loop reports.
        data_dir: where torchvision's files lie.
        call: how.

    Raises:
        UsageError: the loop fails, or does something that a loop must not.
    """
    configure_worker_process()
    device, job = torch.device(call.device), RankJob(source, metric, data_dir, call.paths, call.studies_dir, {})
    if call.ranks > 1:
        facts = on_ranks(channel, facts_of, (job, call), call.ranks, device)
    else:
        facts = facts_of(ALONE, device, job, call)
    channel.send(LoopTried(channel.worker, facts))


def facts_of(peers: Peers, device: torch.device, job: RankJob, call: FirstCall) -> LoopFacts:
    """What a first call of a loop brings to light, as one of the processes that train together.

    Args:
        peers: those.
        device: to train on.
        job: where the task comes from.
        call: how.

    Raises:
        UsageError: the loop fails, or does something that a loop must not.
    """
    task, tries = job.task(), call.configurations
    found = tried(task, tries, call.epochs, call.precision, device, call.train_examples, call.wanted, peers)
    assert isinstance(found, LoopTask)
    return found.known
