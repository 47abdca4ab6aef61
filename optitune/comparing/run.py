"""`optitune compare`: each optimizer's best configuration again, on fresh seeds and examples, until it is clear.

Runs are in `worker`, what they say in `verdict`; here is which runs there are to be.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from optitune.common.files import clear, exclusive_lock
from optitune.common.text import Unit
from optitune.comparing.folder import RUN, place, tidy
from optitune.comparing.kept_runs import load_runs, run_path
from optitune.comparing.plan import Epsilon, finalists, make_plan, opening, practical, step
from optitune.comparing.requests import CompareRequest, check
from optitune.comparing.results import (
    FOLDER,
    Comparison,
    conclude,
    save_verdict,
)
from optitune.comparing.search_on import search_words
from optitune.comparing.stored_verdict import CompareOptions
from optitune.comparing.worker import DATA, work
from optitune.errors import Interrupted, OptituneError, UsageError
from optitune.statistics.runs import KNOWN_GOOD, TUNED, VARIANTS, Plan, RunId
from optitune.storage import studies, study_checks, trials
from optitune.study.custom_optimizers import find_modules
from optitune.study.records import TrialRecord
from optitune.study.settings import StudySettings
from optitune.tasks import loading, split_checks, splits
from optitune.tasks.data import share
from optitune.tasks.task import Task
from optitune.training import task_code
from optitune.training.device import devices, resolve_device
from optitune.training.preflight import check_configuration, fresh_model
from optitune.workers.events import Event
from optitune.workers.loop_probe import FirstCall, tried_apart
from optitune.workers.pool import Pool, auto
from optitune.workers.ranks import check_ranks

Ending = Literal["decided", "runs", "timeout", "rounds"]


@dataclass(frozen=True)
class CompareOutcome:
    """What a comparison left.

    Attributes:
        ending: why no more was trained.
        left_out: optimizers of the study without a complete trial.
        trained: how many runs this call trained.
        set_aside: where a comparison of other configurations that lay here is kept now.
        other_data: whether the data differ from those that the configurations were found on.
        search_on: words of the command that searches on, where an optimizer is not tuned to the end.
        unwritten: why the note for optuna-dashboard could not be written; empty where it was.
    """

    study: str
    comparison: Comparison
    ending: Ending
    left_out: tuple[str, ...]
    folder: Path
    trained: int
    seconds: float
    set_aside: Path | None
    other_data: bool
    search_on: tuple[str, ...] = ()
    unwritten: str = ""

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "study": self.study,
            "task": self.comparison.plan.task,
            **self.comparison.document(),
            "ending": self.ending,
            "left_out": list(self.left_out),
            "folder": str(self.folder),
            "seconds": self.seconds,
        }


class View(Protocol):
    """Where a running comparison shows itself."""

    def begin(self, name: str, plan: Plan, unit: Unit, workers: int, most: int) -> None:
        """Training is about to begin.

        Args:
            name: of the study.
            plan: of the comparison.
            unit: how the metric is written.
            workers: how many processes train at once.
            most: how many runs of finalists there may be.
        """

    def judged(self, found: Comparison | None, done: int) -> None:
        """What so many runs say so far."""

    def others(self, runs: int) -> None:
        """The finalists' runs are done; so many of other settings follow."""

    def show(self, event: Event) -> None:
        """A worker reported something."""

    def tick(self) -> None:
        """A moment passed."""

    def end(self) -> None:
        """No more will come."""


@dataclass(frozen=True)
class Prepared:
    """A comparison that is known to be right, before anything is written.

    Attributes:
        plan: of the comparison.
        device: to train on.
        task: to train.
        data: to train and judge on.
        code: of the task.
        records: the study's trials.
        without: optimizers of the study without a complete trial.
        other_data: whether the data differ from those that the configurations were found on.
        folder: of the comparison.
        settings: of the study.
        epsilon: what difference does not matter.
    """

    plan: Plan
    device: torch.device
    task: Task
    data: splits.SearchData
    code: task_code.Record
    records: list[TrialRecord]
    without: tuple[str, ...]
    other_data: bool
    folder: Path
    settings: StudySettings
    epsilon: Epsilon


def compare(request: CompareRequest, view: View) -> CompareOutcome:
    """Train each optimizer's best configuration again, round by round, until the verdict is clear.

    Raises:
        UsageError: task, data and configurations do not fit each other.
        OptituneError: there is nothing to compare, every finalist diverges, or data or files cannot be had.
        Interrupted: the user stopped it; finished runs are kept and the same call goes on after them.
    """
    began = time.monotonic()
    found = prepare(request)
    deadline = None if request.timeout is None else began + request.timeout
    plan, task, data, folder = found.plan, found.task, found.data, found.folder
    with exclusive_lock(folder):
        set_aside = place(folder, plan)
        tidy(folder)
        parts = {"train": data.train, **({"validation": data.validation} if task.own_validation else {})}
        source = (
            request.located(plan.task)
            if request.task is None
            else loading.packed(splits.without_data(task, *parts.values()))
        )
        rounds = Rounds(request, plan, task.judge.unit, folder, source, found.device, view, deadline)
        before = len(load_runs(folder))

        def judged() -> Comparison | None:
            return conclude(
                plan,
                load_runs(folder),
                found.records,
                task.judge,
                found.epsilon.value,
                request.target,
                request.until,
                request.prefer,
                found.epsilon.origin,
                rounds.workers,
            )

        try:
            share(parts, folder / DATA, {task_code.KEY: json.dumps(found.code), **loading.about(task)})
            ending = rounds.run(judged)
        finally:
            view.end()
            (folder / DATA).unlink(missing_ok=True)
        result = judged()
        if result is None:
            raise OptituneError("the time was over before the first run ended: give more of it (timeout)")
        asked = {key: getattr(request, key) for key in CompareOptions.model_fields}
        result = replace(result, asked=CompareOptions.model_validate(asked))
        save_verdict(folder, result)
        clear(folder / "partial", RUN, r"\.safetensors")
    return CompareOutcome(
        study=request.home.name,
        comparison=result,
        ending=ending,
        left_out=found.without,
        folder=folder,
        trained=len(result.runs) - before,
        seconds=round(time.monotonic() - began, 3),
        set_aside=set_aside,
        other_data=found.other_data,
        search_on=_search_on(request, found, result),
    )


def _search_on(request: CompareRequest, found: Prepared, result: Comparison) -> tuple[str, ...]:
    if not result.untuned or request.task is not None:
        return ()
    first = result.untuned[0]
    return tuple(
        search_words(request.home.name, found.settings, found.records, found.plan.finalist(first.optimizer), first)
    )


def prepare(request: CompareRequest, write: bool = True) -> Prepared:
    """Check all that a comparison needs.

    Args:
        request: as the user made it.
        write: whether a study that does not know its task's code yet keeps it.

    Raises:
        UsageError: task, data and configurations do not fit each other.
        OptituneError: there is nothing to compare, or data or storage cannot be had.
    """
    check(request)
    opened = request.home.open()
    settings = studies.settings_of(opened)
    records = trials.records(opened)
    epochs = request.epochs or settings.epochs
    who, without = finalists(records, settings, request.optimizers, epochs)
    if request.max_runs < len(who):
        raise UsageError(f"max_runs = {request.max_runs}: a first round of all finalists takes {len(who)}; give more")
    device = resolve_device(request.device)
    named = settings.task if request.task is not None else request.located(settings.task)
    task = request.task or loading.find(named, request.data_folder)
    find_modules(settings.own_paths(), request.home.folder.parent)
    known = opened.user_attrs[studies.DATA]
    task = loading.judged(task, settings.metric)
    study_checks.same_metric(opened, task.judge)
    assert settings.precision != "auto"
    tries, studies_dir = tuple(each.configuration for each in who), request.home.folder.parent
    check_ranks(request.ranks, task, device)
    paths = settings.own_paths()
    call = FirstCall(tries, epochs, settings.precision, str(device), paths, studies_dir, ranks=request.ranks)
    task = tried_apart(task, None if request.task is not None else named, request.data_folder, call)
    # everything but the test set and the examples that the search chose by
    data = splits.search_data(task, None)
    other_data = split_checks.differs(known, data)
    if why := split_checks.split_change(known, {**data.digests, "validation_examples": len(data.validation)}):
        raise UsageError(f"study '{request.home.name}': {why}")
    for each in who:
        network = check_configuration(task, data.train, each.configuration)
    code = task_code.record(task, fresh_model(task), settings.task)
    made_with = study_checks.same_code(opened, settings.task, code, network, write=write)
    study_checks.same_scaling(task, known.get("scaling", {}))
    facts: dict[str, Any] = {"data_checksum": data.checksum, "network": network, "code": made_with}
    facts |= {"scale_targets": task.scale_targets, "split": task.split_by}
    if task.own_validation:
        facts["validation"] = data.digests["validation"]
    own = len(data.validation) if task.own_validation else None
    plan = make_plan(settings, who, task.judge, len(data.train), epochs, request.seed, facts, own, data.train.groups)
    epsilon = (
        practical(task.judge, who, records, epochs / settings.epochs)
        if request.epsilon is None
        else Epsilon(request.epsilon, "as asked for")
    )
    folder = request.home.folder / FOLDER
    return Prepared(plan, device, task, data, code, records, without, other_data, folder, settings, epsilon)


class Rounds:
    """The rounds of a comparison: who trains next, and the workers that do."""

    def __init__(
        self,
        request: CompareRequest,
        plan: Plan,
        unit: Unit,
        folder: Path,
        source: loading.Source,
        device: torch.device,
        view: View,
        deadline: float | None,
    ) -> None:
        self._request = request
        self._plan = plan
        self._unit = unit
        self._folder = folder
        self._source = source
        self._spread = devices(device)
        self._gpus = len(self._spread) * (device.type != "cpu")
        self._view = view
        self._deadline = deadline
        self.workers = auto(request.workers, self._gpus, 1_000_000, request.ranks)

    def run(self, judged: Callable[[], Comparison | None]) -> Ending:
        """Train until the verdict is clear, or something is spent.

        Raises:
            Interrupted: the user stopped it.
        """
        plan, most = self._plan, self._request.max_runs
        self._view.begin(self._request.home.name, plan, self._unit, self.workers, most)
        while True:
            done = self._done()
            found = judged()
            self._view.judged(found, len(done))
            keys = opening(plan.optimizers, done, plan.rounds)
            if not keys:
                assert found is not None
                wanted = found.verdict.wanted
                keys = step(wanted, done, plan.rounds, self.workers)
                if not keys:
                    return self._others(found, "rounds" if wanted else "decided")
            # whole rounds alone: half of one decides nothing
            keys = [key for key in keys if len(done) + sum(other.round <= key.round for other in keys) <= most]
            if not keys:
                assert found is not None
                return self._others(found, "runs")
            self._train(keys)
            if self._late():
                return "timeout"

    def _others(self, found: Comparison, ending: Ending) -> Ending:
        """Train other settings of those that are not out."""
        plan = self._plan
        keys = [
            RunId(number, name, variant)
            for name in found.verdict.contenders
            for variant in VARIANTS
            for number in range(min(self._request.sensitivity, plan.rounds))
            if not (variant == KNOWN_GOOD and plan.finalist(name).untuned)
        ]
        missing = [key for key in keys if not run_path(self._folder, key).exists()]
        if missing and not self._late():
            self._view.others(len(missing))
        self._train(missing)
        return ending

    def _done(self) -> set[RunId]:
        """The finalists' runs there are."""
        return {run.key for run in load_runs(self._folder) if run.key.variant == TUNED}

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _train(self, keys: list[RunId]) -> None:
        """Let workers train these runs.

        Raises:
            Interrupted: the user stopped it.
            OptituneError: workers keep dying, or data or files cannot be had.
        """
        if not keys or self._late():
            return
        workers = auto(self._request.workers, self._gpus, len(keys), self._request.ranks)
        jobs = [
            (
                self._plan,
                keys[worker::workers],
                self._folder,
                self._source,
                self._request.data_folder,
                str(self._spread[worker % len(self._spread)]),
                self._deadline,
                self._request.ranks,
            )
            for worker in range(workers)
        ]
        try:
            Pool(work, jobs, self._view.show, self._view.tick).run()
        except Interrupted:
            raise Interrupted(
                "stopped; finished runs are kept, run the same command again to go on after them"
            ) from None
