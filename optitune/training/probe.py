"""A first call of a training loop of the user's own, up to its first steps: what it trains, on how much, how fast."""

import hashlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from optitune.errors import UsageError
from optitune.space.configuration import Configuration, Precision
from optitune.study.steps import UNKNOWN_EXAMPLES
from optitune.tasks import dividing
from optitune.tasks.dividing import Share
from optitune.tasks.equal_rows import equal_rows
from optitune.tasks.loop_task import LoopFacts, LoopTask
from optitune.tasks.task import Task
from optitune.tasks.user_code import calling, code_place
from optitune.training.loop_parts import Trained, hook_steps
from optitune.training.loops import Loop
from optitune.training.plan import Plan, training_plan
from optitune.training.preflight import fingerprint, undisturbed
from optitune.training.progress import Diverged, Progress
from optitune.training.rank_run import RankRun
from optitune.training.ranks import ALONE, Peers
from optitune.training.run_facts import OF_THE_LOOP
from optitune.training.weights import bare

SEED = 97_531
"""None that a trial has: a loop that divides its data by the seed is found out at its first trial."""

STEPS = 2
"""Steps of a first call: at the second, all that follows a step was done once."""

MOST_STEPS = 200
"""Steps that are timed at most."""


class Probe(RankRun):
    """A run that ends after a few steps of its first optimizer.

    Args:
        plan: of the training.
        device: to train on.
        share: which part of the data it gets.
        limit_s: how long steps are timed; None to end after `STEPS` or a first report.
        peers: the processes that train together.

    Attributes:
        times: when each step ended.
        reports: how often the loop has reported.
    """

    def __init__(
        self, plan: Plan, device: torch.device, share: Share, limit_s: float | None = None, peers: Peers = ALONE
    ) -> None:
        super().__init__(plan, self._on_report, lambda: False, device=device, share=share, peers=peers)
        self._limit_s = limit_s
        self.times: list[float] = []
        self.reports = 0
        self.checksum = ""
        self.validation = ""
        self.equal: list[str] = []

    def keep_files_in(self, folder: Path) -> None:
        """Give the loop a folder for files of its own."""
        self._folder = folder

    def _on_report(self, history: list[Progress], new: bool) -> bool:
        self.reports += 1
        return self._limit_s is None or not self.times

    def split(self, data: Any, validation: Any = 0.2, test: Any = None, **how: Any) -> tuple[Any, Any]:
        """The parts of the data, which are looked through for examples that are in both.

        Args:
            data: as in `Run.split`.
            validation: the same.
            test: the same.
            how: groups and order of the examples.
        """
        train, judged = super().split(data, validation, test, **how)
        if not isinstance(data, int):
            self.equal = equal_rows(train, judged, "validation")
        return train, judged

    def found(self, checksum: str, validation: Any) -> None:
        """Note what `split` found."""
        self.checksum = checksum
        if validation is not None:
            self.validation = dividing.checksum(validation, dividing.length(validation, "validation"))

    def optimizer(self, trained: Trained, name: str = "") -> Optimizer:
        """The optimizer, whose steps are counted; see `Run.optimizer`."""
        made = super().optimizer(trained, name)
        if len(self.optimizers) == 1:
            hook_steps(made, after=self._stepped)
        return made

    def _stepped(self) -> None:
        self.times.append(perf_counter())
        count = len(self.times)
        if self._limit_s is None:
            late = count >= STEPS
        else:
            late = count >= MOST_STEPS or (count > STEPS and self.times[-1] - self.times[0] > self._limit_s)
        if late:
            self.stop()

    @property
    def state_bytes(self) -> int:
        """Bytes of weights and of what the optimizers keep."""
        tensors = [each for module in self.trained.values() for each in module.parameters()]
        kept = [value for each in self.optimizers.values() for own in each.state.values() for value in own.values()]
        return sum(each.nbytes for each in [*tensors, *kept] if isinstance(each, Tensor) and not each.is_sparse)


def tried(
    task: Task,
    configurations: Sequence[Configuration],
    epochs: int,
    precision: Precision,
    device: torch.device,
    train_examples: int | None = None,
    wanted: Collection[str] = (),
    peers: Peers = ALONE,
) -> Task:
    """A loop's task with the facts of its first call; any other task unchanged.

    Args:
        task: whose loop is called once for each configuration.
        configurations: to try.
        epochs: of a training.
        precision: of the trainings.
        device: to train on.
        train_examples: as in a study's settings.
        wanted: settings of the study that do nothing unless the loop reads them, and `schedule` where that is one.
        peers: the processes that train together; each tries.

    Raises:
        UsageError: the loop fails, or does something that a loop must not.
    """
    if not isinstance(task, LoopTask):
        return task
    found: LoopFacts | None = None
    for configuration in configurations:
        plan = training_plan(configuration, task, epochs, SEED, precision)
        run = Probe(plan, device, Share("search", train_examples), peers=peers)
        called(task, run)
        _check(task, run, wanted)
        found = found or _facts(run)
    assert found is not None
    return task.with_facts(found)


def called(task: LoopTask, run: Probe) -> None:
    """Call a loop.

    Raises:
        UsageError: it fails.
    """
    name = getattr(task.train, "__name__", "train")
    doing = f"{name}(run) with {run.plan.configuration.optimizer.name}"
    with TemporaryDirectory(prefix="optitune-", ignore_cleanup_errors=True) as folder:
        run.keep_files_in(Path(folder))
        with undisturbed(), calling(task.name, doing), suppress(Diverged):
            run.run(Loop(task))


def _check(task: LoopTask, run: Probe, wanted: Collection[str]) -> None:
    """Check that the loop uses what a study decides.

    Raises:
        UsageError: it does not.
    """
    place, first = code_place(task.train), next(iter(run.optimizers.values()), None)
    if first is None and "settings" not in run.read:
        raise UsageError(
            f"task '{task.name}': the loop takes no optimizer, so that all would train alike{place}: call "
            "run.optimizer(model), or build one from run.settings"
        )
    if first is not None and not run.times:
        raise UsageError(
            f"task '{task.name}': the optimizer that run.optimizer gave takes no step before the first report{place}: "
            "call its step() in the loop"
        )
    schedule = run.schedulers.get(id(first))
    if "schedule" in wanted and "settings" not in run.read and not run.schedulers:
        raise UsageError(
            f"task '{task.name}': the loop takes no schedule, so that all would train alike{place}: call "
            "run.scheduler(optimizer, steps_per_epoch=len(loader)) and its step() after every optimizer.step(), or "
            "search with --schedules constant"
        )
    if schedule is not None and len(run.times) >= STEPS and schedule.steps_per_epoch > 1 and not schedule.last_epoch:
        raise UsageError(
            f"task '{task.name}': the scheduler that run.scheduler gave takes no step after the first one of its "
            f"optimizer{place}: call its step() after every optimizer.step(), not once an epoch"
        )
    unread = sorted(set(wanted) & set(OF_THE_LOOP) - run.read)
    if unread:
        how = "run.batch_size" if unread[0] == "batch_size" else f"run.settings['{unread[0]}']"
        raise UsageError(
            f"{unread[0]}: the study sets it, but the loop of task '{task.name}' never reads it{place}: use {how} "
            "there, or leave it out"
        )


def _facts(run: Probe) -> LoopFacts:
    found, nothing = run.division, f"sha256:{hashlib.sha256(b'').hexdigest()}"
    weights = [f"{name}: {fingerprint(bare(each))}" for name, each in sorted(run.modules.items())]
    own = found is None or found.validation is None
    lacks = []
    if found is None:
        lacks.append(
            "the loop never calls run.split: a comparison gives it fresh seeds on its own data, and a full training "
            "has no test set but what the loop judges on"
        )
    if not run.keeps:
        lacks.append("the loop keeps nothing (run.keep), so that a training that is killed begins anew")
    return LoopFacts(
        checksum=run.checksum or nothing,
        digests={**(found.digests if found else {}), **({"validation": run.validation or nothing} if own else {})},
        trained=found.trained if found else UNKNOWN_EXAMPLES,
        judged=found.validation if found and found.validation else run.judged or UNKNOWN_EXAMPLES,
        everything=len(found.kept) if found else UNKNOWN_EXAMPLES,
        sealed=found.sealed if found else None,
        own_validation=own,
        divided=found is not None,
        network=f"sha256:{hashlib.sha256('; '.join(weights).encode()).hexdigest()}",
        optimizers=tuple(run.optimizers),
        steps_per_epoch=max((each.steps_per_epoch for each in run.schedulers.values()), default=0),
        lacks=(*lacks, *run.equal),
        split_by=found.split_by if found else "random",
        groups=found.groups if found else (),
    )
