"""What a worker process of a search does: take trials one by one, train them, report how they ended."""

import gc
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError

from optitune.errors import OptituneError
from optitune.sampling.factory import pruner_of, sampler_of
from optitune.searching.events import Note, TrialFailed, TrialFinished, TrialLeft, TrialProgress, TrialStarted
from optitune.searching.notes import TrialEnds
from optitune.searching.objective import ReturnedToQueue, run_trial
from optitune.searching.trial_checkpoint import path_of, remove
from optitune.searching.trial_queue import TrialQueue
from optitune.space.configuration import Configuration
from optitune.storage import studies, trials
from optitune.storage.retry import RetryPolicy
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import STORAGE_ERRORS, explained_storage
from optitune.study.custom_optimizers import find_modules
from optitune.study.records import Outcome
from optitune.study.settings import StudySettings
from optitune.study.steps import usual_steps
from optitune.tasks import loading, splits
from optitune.tasks.metrics import Metric
from optitune.tasks.user_code import kept, raised_from, whole
from optitune.training import task_code
from optitune.training.progress import Progress
from optitune.training.run_facts import files_of
from optitune.workers.events import Retired
from optitune.workers.leases import Owner
from optitune.workers.pool import Channel
from optitune.workers.process import configure_worker_process
from optitune.workers.ranked_loop import RankJob, with_ranks

FAILURES_IN_A_ROW = 3
"""How many trials in a row may fail before a worker gives up: the fault is then not the configuration's."""

MORE_OF_ONE = 3
"""How many times as many that may be where all are one optimizer's, and others compete."""

IDLE_S = 0.3


class LeaseLost(Exception):
    """The trial is no longer this worker's."""


@dataclass(frozen=True)
class Job:
    """What a search hands to its workers, whole; it pickles, and is small.

    Attributes:
        home: where the study lives.
        settings: with every `auto` resolved.
        task: where the task comes from.
        data_dir: where torchvision's files lie.
        device: as torch names it.
        target: how many finished trials the study is to have; None for as many as the study itself says.
        trial_ends: describes a trial that is about to end.
        data: the file that `splits.save` wrote.
        deadline: when no further trial is begun, as `time.monotonic` counts; None for never.
        code: of the task, as the study keeps it; empty for a built-in task.
        ranks: how many processes train each trial together.
    """

    home: StudyLocation
    settings: StudySettings
    task: loading.Source
    data_dir: Path
    device: str
    target: int | None
    trial_ends: TrialEnds
    data: Path = Path()
    deadline: float | None = None
    code: task_code.Record = field(default_factory=dict)
    ranks: int = 1


def open_study(
    home: StudyLocation, settings: StudySettings, metric: Metric, patience: RetryPolicy | None = None
) -> optuna.Study:
    """Open a study with its sampler and pruner.

    Args:
        home: where the study lives.
        settings: of the study, with every `auto` decided.
        metric: of the task.
        patience: how a storage that does not answer is waited for; None not to wait.
    """
    opened = home.open(patience)
    taken = [trial.params for trial in trials.taken(opened)]
    opened.sampler = sampler_of(settings, metric, taken, studies.costs(opened))
    opened.pruner = pruner_of(settings, metric, opened.user_attrs[studies.DATA]["train_examples"])
    return opened


def work(channel: Channel, job: Job) -> None:
    """Train trials until the study has enough.

    Raises:
        OptituneError: trial after trial fails, or the storage does.
    """
    configure_worker_process()
    # what was imported is never garbage; to look at it would copy the memory that workers share
    gc.freeze()
    owner = Owner(job.home.folder / "workers")
    try:
        with explained_storage(job.home.url):
            Worker(channel, job, owner).run()
    finally:
        owner.release()


class Worker:
    """Training loop of one worker process: it claims trials, trains them, and reports their results."""

    def __init__(self, channel: Channel, job: Job, owner: Owner) -> None:
        self._channel = channel
        self._job = job
        self._device = torch.device(job.device)
        self._task = loading.judged(loading.find(job.task, job.data_dir), job.settings.metric)
        find_modules(job.settings.own_paths(), job.home.folder.parent)
        task_code.check_unchanged(self._task, job.task, job.code)
        paths, metric = job.settings.own_paths(), job.settings.metric or ""
        ranked = RankJob(job.task, metric, job.data_dir, paths, job.home.folder.parent, job.code)
        self._task = with_ranks(self._task, ranked, job.ranks, self._device, channel)
        data = splits.load(job.data, self._task)
        self._data = replace(data, train=data.train.to(self._device), validation=data.validation.to(self._device))
        patience = RetryPolicy(lambda text: channel.send(Note(channel.worker, text)), channel.stopping)
        opened = open_study(job.home, job.settings, self._task.judge, patience)
        self._queue = TrialQueue(opened, job.target, owner, job.home.folder, job.home.url.is_sqlite)
        self._succeeded = 0

    def run(self) -> None:
        """Take trials while there are any to take and nobody says to stop; to be called once."""
        try:
            self._run()
        finally:
            self._queue.close()

    def _run(self) -> None:
        failed: list[str] = []
        while not self._over():
            taken = self._queue.claim()
            if taken is None:
                if self._queue.is_complete():
                    return
                # others train the last ones; if they die, somebody must take over
                time.sleep(IDLE_S)
                continue
            outcome = self._train(*taken)
            if outcome == "retired":
                return
            failed = [*failed, self._optimizer] if outcome == "failed" else []
            # one that always fails is given no more trials; the others go on
            alone = len({*failed}) == 1 < len(self._job.settings.optimizers)
            if len(failed) >= FAILURES_IN_A_ROW * (MORE_OF_ONE if alone else 1):
                error = OptituneError(
                    f"{len(failed)} trials in a row failed, the last with {self._reason}; "
                    f"see all reasons with: optitune show {self._job.home.name}"
                )
                raise raised_from(error, self._traceback)

    def _over(self) -> bool:
        late = self._job.deadline is not None and time.monotonic() >= self._job.deadline
        return self._channel.stopping() or late

    def _train(self, trial: optuna.Trial, frozen: optuna.trial.FrozenTrial) -> str:
        """Train one trial and report how it ended; the outcome, or why there is none."""
        job, number, worker = self._job, frozen.number, self._channel.worker
        checkpoint = path_of(job.home.folder, number)

        about: dict[str, object] = {"versions": studies.versions(), "device": job.device}
        self._optimizer = ""

        def on_progress(configuration: Configuration, progress: Progress | None) -> None:
            about["settings"], self._optimizer = configuration.model_dump_json(), configuration.optimizer.name
            if not self._queue.is_ours(trial):
                raise LeaseLost
            trained = (worker, number, configuration.optimizer.name, configuration.lr)
            if progress is None:
                self._channel.send(TrialStarted(*trained))
            else:
                value = progress.validation.value if progress.validation else None
                self._channel.send(TrialProgress(*trained, progress.epoch, value, step=progress.step))

        try:
            result = run_trial(
                trial,
                job.settings,
                self._task,
                self._data,
                self._device,
                frozen.intermediate_values,
                on_progress,
                self._channel.stopping,
                checkpoint,
                files_of(job.home.folder, f"trial-{number}"),
            )
        except ReturnedToQueue:
            self._queue.give_back(trial)
            return "given back"
        except (LeaseLost, UpdateFinishedTrialError):
            # given up for dead by another machine, which trains it now, or ended for taking too long
            self._channel.send(TrialLeft(worker, number))
            return "lost"
        except (OptituneError, *STORAGE_ERRORS):
            raise
        except (Exception, SystemExit) as error:
            # a task's own code may fail in any way
            if self._succeeded:
                # perhaps only since this process has leaked, or its GPU has: a fresh one shall try
                self._queue.give_back(trial)
                self._channel.send(Retired(worker))
                return "retired"
            reason = kept(error, job.home.folder, f"trial-{number}", about)
            # as text: the error itself would keep the network and its memory
            self._reason, self._traceback = reason, whole(error)
            self._describe(trial, "failed", None, reason)
            if self._queue.report(trial, "failed", None, reason, 0.0):
                self._channel.send(TrialFailed(worker, number, reason))
            return "failed"
        self._describe(trial, result.outcome, result.value, result.reason)
        ours = self._queue.report(trial, result.outcome, result.value, result.reason, result.seconds, result.epochs)
        if ours:
            remove(checkpoint)
        self._succeeded += 1
        self._channel.send(TrialFinished(worker, number) if ours else TrialLeft(worker, number))
        return result.outcome

    def _describe(self, trial: optuna.Trial, outcome: Outcome, value: float | None, reason: str) -> None:
        """Describe a trial for the dashboard; Optuna takes that until the trial has ended."""
        settings = self._job.settings
        an_epoch = usual_steps(settings, len(self._data.train))
        # ended meanwhile, for taking too long, or by another machine that describes it
        with suppress(UpdateFinishedTrialError):
            problem = self._job.trial_ends(
                trial, outcome, value, reason, settings.epochs, an_epoch, self._job.home.folder
            )
            if problem:
                self._channel.send(Note(self._channel.worker, problem))
