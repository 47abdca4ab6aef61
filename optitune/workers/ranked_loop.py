"""A training loop of the user's own by several ranks, to the worker as if it trained itself."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from optitune.study.custom_optimizers import find_modules
from optitune.tasks import loading
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.task import Task
from optitune.tasks.user_code import of_a_library
from optitune.training import task_code
from optitune.training.loops import Loop, used
from optitune.training.plan import Plan, training_plan
from optitune.training.progress import Progress
from optitune.training.rank_run import RankRun
from optitune.training.ranks import Elsewhere
from optitune.training.run import Run
from optitune.workers.pool import Channel
from optitune.workers.rank_peers import RankPeers
from optitune.workers.ranks import on_ranks


@dataclass(frozen=True)
class RankJob:
    """Where ranks have their task from.

    Attributes:
        source: of the task.
        metric: that the loop reports.
        data_dir: where torchvision's files lie.
        paths: `module:class` of optimizers that the study defines, by name.
        studies_dir: folder of all studies, beside which their modules lie.
        code: of the task, as the study keeps it.
    """

    source: loading.Source
    metric: str
    data_dir: Path
    paths: Mapping[str, str]
    studies_dir: Path
    code: task_code.Record

    def task(self) -> LoopTask:
        """The task, in a process of its own.

        Raises:
            UsageError: it cannot be found.
            OptituneError: its code has changed.
        """
        task = loading.find(self.source, self.data_dir)
        find_modules(self.paths, self.studies_dir)
        task_code.check_unchanged(task, self.source, self.code)
        found = loading.judged(task, self.metric)
        assert isinstance(found, LoopTask)
        return found


@dataclass(frozen=True)
class Report:
    """What rank 0 reports to its worker: its evaluations since the last report, and whether the last one is new."""

    rows: list[Progress]
    new: bool


def with_ranks(task: Task, job: RankJob, ranks: int, device: torch.device, channel: Channel) -> Task:
    """A task with a loop that ranks run; the same for one rank.

    Args:
        task: a loop's, where there are several.
        job: where ranks have it from.
        ranks: how many.
        device: to train on.
        channel: of this worker.
    """
    if ranks == 1:
        return task
    assert isinstance(task, LoopTask)
    libraries = libraries_of(task.train)

    def train(run: Run) -> None:
        how = (job, ranked_plan(run.plan), run.arguments())
        found = on_ranks(channel, train_rank, how, ranks, device, lambda report: _answer(run, report), libraries)
        if run.ended:
            run.stop()
        run.elsewhere = found

    return replace(task, train=train)


def libraries_of(function: Callable[..., None]) -> list[str]:
    """The modules of libraries that the file of a function imports from, by name."""
    given = getattr(function, "__globals__", {}).values()
    names = {str(getattr(each, "__module__", None) or getattr(each, "__name__", "")) for each in given}
    there = {name: getattr(sys.modules.get(name), "__file__", None) for name in names}
    return sorted(name for name, file in there.items() if file and of_a_library(file))


def _answer(run: Run, report: Report) -> tuple[tuple[bool, bool], bool]:
    end, stopping = run.relay(report.rows, report.new)
    return (end, stopping), end or stopping


def ranked_plan(plan: Plan) -> dict[str, Any]:
    """What a rank makes the plan of: its losses may not pickle, and are not used by a loop."""
    return {
        "configuration": plan.configuration,
        "epochs": plan.epochs,
        "seed": plan.seed,
        "precision": plan.precision,
        "evaluations": plan.evaluations,
        "max_eval_examples": plan.max_eval_examples,
    }


def train_rank(
    peers: RankPeers, device: torch.device, job: RankJob, plan: Mapping[str, Any], how: Mapping[str, Any]
) -> Elsewhere | None:
    """Run a loop as one rank.

    Args:
        peers: the ranks.
        device: of this rank.
        job: where the task comes from.
        plan: of the training, as `ranked_plan` gives it.
        how: further arguments of the `Run`.

    Returns:
        On rank 0, what it came to.

    Raises:
        Diverged: it did.
        UsageError: the loop does something that a loop must not.
    """
    task = job.task()
    before, stopping = 0, False

    def report(history: list[Progress], new: bool) -> bool:
        nonlocal before, stopping
        rows, before = history[before:], len(history)
        end, stopping = peers.ask(Report(rows, new))
        return bool(end)

    run = RankRun(training_plan(task=task, **plan), report, lambda: stopping, device=device, peers=peers, **how)
    loop = Loop(task)
    run.run(loop)
    return Elsewhere(*used(loop, run), run.last_weights) if run.rank == 0 else None
