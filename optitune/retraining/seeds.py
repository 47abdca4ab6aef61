"""The trainings of a plan in worker processes: those that are not done yet, each judged once in the end."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from optitune.common.text import Unit, plural
from optitune.errors import Interrupted, OptituneError, UsageError
from optitune.retraining.records import SeedResult
from optitune.retraining.results import FullPlan, seed_result
from optitune.retraining.sentences import Judged
from optitune.retraining.worker import JUDGED, TEST, TRAIN, work
from optitune.storage.request import StageRequest
from optitune.tasks import loading, splits, user_code
from optitune.tasks.data import Part, Streamed, share, shared
from optitune.tasks.given_data import same_again
from optitune.tasks.task import Task
from optitune.training import task_code
from optitune.training.device import devices
from optitune.workers.events import Event
from optitune.workers.pool import Pool, auto


class View(Protocol):
    """Where a running full training shows itself."""

    def begin(
        self, plan: FullPlan, unit: Unit, workers: int, done: Collection[int] = (), judged: Judged = "test"
    ) -> None:
        """Training is about to begin.

        Args:
            plan: of the full training.
            unit: how the metric is written.
            workers: how many processes train at once.
            done: numbers of the seeds that were finished before.
            judged: the data that each is judged on in the end: `validation` where the length is looked for.
        """

    def note(self, text: str) -> None:
        """Something was found out."""

    def show(self, event: Event) -> None:
        """A worker reported something."""

    def tick(self) -> None:
        """A moment passed."""

    def end(self) -> None:
        """No more will come."""


@dataclass(frozen=True)
class Trainer:
    """How the seeds of a plan are trained: for whom, of what task, where, with what code, and seen where."""

    request: StageRequest
    task: Task
    device: torch.device
    code: task_code.Record
    view: View

    def seeds(
        self,
        plan: FullPlan,
        partial: Path,
        train: Part,
        read_test: Callable[[], Part],
        validation: Part | None,
        remarks: list[str],
        judged: Judged = "test",
    ) -> list[SeedResult]:
        """Train and test the seeds that are not done yet; the results of all.

        Args:
            plan: of the trainings.
            partial: the folder of the unfinished trainings.
            train: to train on.
            read_test: gives what to judge on once, in the end.
            validation: to judge every epoch on; None for nothing.
            remarks: to which is added what a user should know of the data.
            judged: what that is.

        Raises:
            Interrupted: the user stopped it.
            OptituneError: a training diverges, or its worker dies again and again.
        """
        request, task = self.request, self.task
        missing = [number for number in range(len(plan.seeds)) if seed_result(partial, plan, number) is None]
        if missing:
            spread = devices(self.device)
            gpus = len(spread) * (self.device.type != "cpu")
            workers = auto(request.workers, gpus, len(missing), request.ranks)
            test = _shared(task, read_test(), partial / TEST)
            if isinstance(test, Streamed) and judged == "test" and not same_again(test):
                remarks.append("the test set differs at every reading, so that augmented examples are tested on")
            if judged == "test":
                remarks += splits.equal_to_trained(train, test, "test")
            parts = {"train": train} | ({} if validation is None else {"validation": validation})
            about = {task_code.KEY: json.dumps(self.code), JUDGED: judged, **loading.about(task)}
            share(parts, partial / TRAIN, about)
            source: loading.Source = plan.task if request.task is not None else request.located(plan.task)
            if request.task is not None:
                source = loading.packed(splits.without_data(task, test, *parts.values()))
            jobs = [
                (
                    plan,
                    missing[worker::workers],
                    partial,
                    source,
                    request.data_folder,
                    str(spread[worker % len(spread)]),
                    request.ranks,
                )
                for worker in range(workers)
            ]
            self.view.begin(plan, task.judge.unit, workers, set(range(len(plan.seeds))) - set(missing), judged)
            try:
                Pool(work, jobs, self.view.show, self.view.tick).run()
            except Interrupted:
                if any(seed_result(partial, plan, number) is None for number in missing):
                    raise Interrupted(
                        "stopped; the epochs done are kept, run the same command again to go on"
                    ) from None
            finally:
                self.view.end()
        found = [seed_result(partial, plan, number) for number in range(len(plan.seeds))]
        complete = [result for result in found if result is not None]
        if len(complete) < len(found):
            of = plural(len(found), "training")
            raise OptituneError(f"only {len(complete)} of {of} ended: run the same command again")
        return complete


def _shared(task: Task, test: Part, path: Path) -> Part:
    """The test set, written to `path` for all workers, who open it after their training.

    Raises:
        UsageError: it is another one than that of the seeds tested before.
    """
    with user_code.calling(task.name, "reading the test set"):
        checksum = test.checksum()
    if path.exists() and shared(path)[1].get("checksum") != checksum:
        raise UsageError(
            f"task '{task.name}': the test set is another one than that of the seeds tested before: "
            f"if it was changed, remove {path.parent} to train anew; if not, {splits.DIFFER}"
        )
    share({"test": test}, path, {"checksum": checksum})
    return test
