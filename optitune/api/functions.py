"""optitune from Python: the same searches and full trainings, without the shell.

    import optitune

    found = optitune.search(make_task(), study="wine", trials=20, epochs=10)
    found.standings, found.trials, found.curves  # pandas' DataFrames
    found.figure()
    verdict = optitune.compare(make_task(), study="wine")
    print(verdict.sentence, verdict.advice)
    full = optitune.retrain(make_task(), study="wine")
    found = optitune.load("wine")  # also a study that the command line made

A task may be an object, the name of a built-in one, or `FILE.py:FUNCTION`. Workers are processes of their own;
they take the task's functions along, wherever those were defined.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from optitune.api import results
from optitune.api.results import ComparisonResult, RetrainResult, SearchResult
from optitune.common.files import data_folder
from optitune.common.schema import validated
from optitune.comparing import run as comparing
from optitune.errors import UsageError
from optitune.retraining import run as retraining
from optitune.retraining.choose import choose
from optitune.sampling.factory import pruner_of, sampler_of
from optitune.searching import run as searching
from optitune.searching.objective import Result as TrialResult
from optitune.searching.objective import run_trial
from optitune.storage import studies
from optitune.storage import trials as storage_trials
from optitune.storage.listing import choose_study
from optitune.storage.urls import open_storage
from optitune.study.settings import StudySettings, checked_study_name
from optitune.tasks import loading
from optitune.tasks import splits as task_data
from optitune.tasks import task as tasks
from optitune.tasks.task import Task
from optitune.terminal.compare import compare_view
from optitune.terminal.retrain import retrain_view
from optitune.terminal.search import search_view
from optitune.training.device import resolve_device
from optitune.training.preflight import check
from optitune.workers.pool import WORKER_MODULES, warm_up


def _parted(task: Task | str, study: str | None) -> tuple[Task | None, str, str]:
    """A task as an object, its name, and the name of its study.

    Raises:
        UsageError: it is neither a task nor a name.
    """
    if not isinstance(task, Task | str):
        raise UsageError(
            f"task: is {tasks.kind(task)}, but must be a Task or a name; of a function, give what it returns"
        )
    if isinstance(task, Task):
        name = task.name or study or "task"
        return replace(task, name=name), loading.FROM_PYTHON + name, checked_study_name(study or loading.study_of(name))
    return None, task, checked_study_name(study or loading.study_of(task))


def _begin(workers: int | None) -> None:
    """Let worker processes import what they need while the rest is looked at.

    Raises:
        UsageError: there are to be none.
    """
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise UsageError(f"workers = {workers!r}: must be at least 1, or None for one per core")
    warm_up(*WORKER_MODULES)


def search(
    task: Task | str,
    *,
    study: str | None = None,
    trials: int | None = None,
    timeout: float | None = None,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
    data_dir: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    trial_timeout: float | None = None,
    accept_changes: bool = False,
    progress: bool = True,
    **settings: Any,
) -> SearchResult:
    """Search until the study has so many finished trials, as `optitune search` does.

    Args:
        task: what to train.
        study: its name; the task's by default.
        trials: how many finished trials the study is to have; None for what its file says, or 50.
        timeout: seconds after which no further trial is begun.
        workers: how many processes; None for one per core.
        trial_timeout: seconds after which a trial that hangs is given up.
        accept_changes: go on with a study although the code of its task has changed, since the change makes no
            difference to a training.
        progress: whether to show it on stderr.
        settings: anything that a study's file can say: `optimizers=("sgd", "adam")`, `epochs=10`,
            `lr=[1e-4, 0.1]`, `adam={"beta2": 0.999}`, `groups={"fc*": 10.0}`.

    Raises:
        UsageError: a setting is not allowed, or task, data and settings do not fit each other.
        OptituneError: data or storage cannot be had, or training keeps failing.
        Interrupted: the user stopped it; everything finished is kept.
    """
    own, source, name = _parted(task, study)
    _begin(workers)
    home = studies.home(Path(studies_dir), name, storage)
    request = searching.Request(
        home=home,
        studies_dir=Path(studies_dir),
        said={**_plain(settings), "task": source},
        trials=trials,
        timeout=timeout,
        data_dir=data_folder(None if data_dir is None else Path(data_dir)),
        workers=workers,
        device=device,
        task=own,
        trial_timeout=trial_timeout,
        accept_changes=accept_changes,
    )
    return results.searched(home, searching.search(request, search_view(quiet=not progress)))


def load(study: str | None = None, *, studies_dir: str | Path = "studies", storage: str | None = None) -> SearchResult:
    """Open a study that is there, whoever made it, as what `search` gives; nothing is trained.

    Its comparison and its full training are there as well, as `comparison` and `tested`.

    Args:
        study: its name; None for the default task's, or the only one there is.

    Raises:
        UsageError: there is no such study, or it was not made by optitune.
        OptituneError: the storage cannot be opened.
    """
    return results.opened(choose_study(study, Path(studies_dir), storage))


def retrain(
    task: Task | str,
    *,
    what: str = "best",
    study: str | None = None,
    epochs: int | None = None,
    seeds: int = 3,
    seed: int = 0,
    precision: str = "auto",
    studies_dir: str | Path = "studies",
    storage: str | None = None,
    data_dir: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> RetrainResult:
    """Train a configuration in full and test it once on the sealed test set, as `optitune retrain` does.

    Args:
        task: what to train; the same as that of the study.
        what: `best`, a trial's number, or the path of a `best.toml`.

    Raises:
        UsageError: there is no such study or configuration.
        OptituneError: the data cannot be had, a training diverges, or the results cannot be written.
        Interrupted: the user stopped it; the epochs done are kept and taken up by the same call.
    """
    own, source, name = _parted(task, study)
    _begin(workers)
    chosen = choose(what, name, Path(studies_dir), storage)
    _fits(name, chosen.config.task, source)
    request = retraining.Request(
        name=chosen.name,
        config=chosen.config,
        home=chosen.home,
        epochs=epochs,
        seeds=seeds,
        seed=seed,
        data_dir=data_folder(None if data_dir is None else Path(data_dir)),
        workers=workers,
        device=device,
        precision=precision,
        task=own,
    )
    return results.retrained(retraining.retrain(request, retrain_view(quiet=not progress)))


def compare(
    task: Task | str,
    *,
    study: str | None = None,
    optimizers: Sequence[str] | None = None,
    epochs: int | None = None,
    max_runs: int = comparing.MOST_RUNS,
    timeout: float | None = None,
    epsilon: float | None = None,
    target: float | None = None,
    sensitivity: int = comparing.SENSITIVITY,
    seed: int = 0,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
    data_dir: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> ComparisonResult:
    """Train the best configuration of each optimizer again on fresh seeds, as `optitune compare` does.

    Args:
        task: what to train; the same as that of the study.
        optimizers: whom to compare; None for all that have a complete trial.
        epochs: of a run; None for the search's.
        max_runs: how many runs there may be in all.
        timeout: seconds after which no further run is begun.
        epsilon: what difference of the metric does not matter.
        target: of the metric, whose time is told.
        sensitivity: in how many rounds those still in are trained with other settings too.

    Raises:
        UsageError: there is no such study, or task, data and configurations do not fit each other.
        OptituneError: there is nothing to compare, every finalist diverges, or data or files cannot be had.
        Interrupted: the user stopped it; finished runs are kept.
    """
    own, source, name = _parted(task, study)
    _begin(workers)
    home = choose_study(name, Path(studies_dir), storage)
    opened = studies.find(open_storage(home.url, create=False), home.name)
    _fits(name, studies.stored_settings(opened)["task"], source)
    request = comparing.Request(
        home=home,
        data_dir=data_folder(None if data_dir is None else Path(data_dir)),
        workers=workers,
        device=device,
        optimizers=None if optimizers is None else tuple(optimizers),
        epochs=epochs,
        max_runs=max_runs,
        timeout=timeout,
        epsilon=epsilon,
        target=target,
        sensitivity=sensitivity,
        seed=seed,
        task=own,
    )
    return results.compared(comparing.compare(request, compare_view(quiet=not progress)), opened)


def _fits(study: str, trained: str, source: str) -> None:
    """Hold a task against the one that a study trains.

    Raises:
        UsageError: it is another one.
    """
    if trained != source:
        raise UsageError(
            f"study '{study}' trains '{trained}', not '{source}': give its own task, or name another study"
        )


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a study's file would have them: no tuples."""
    return {
        key: list(value) if isinstance(value, tuple) else _plain(value) if isinstance(value, Mapping) else value
        for key, value in settings.items()
    }


class Objective:
    """optitune's objective for an Optuna study of one's own.

        objective = Objective(make_task(), optimizers=("sgd", "adam"), epochs=5)
        study = optuna.create_study(
            direction=objective.direction, sampler=objective.sampler, pruner=objective.pruner
        )
        study.optimize(objective, n_trials=20)

    Samples optimizer, settings and schedule, trains in this process, reports at every evaluation, and prunes as
    the study's own pruner says, be it ours or another. The whole configuration is in the trial's user attribute
    `configuration`.

    Args:
        task: what to train.
        data_dir: where torchvision's files lie.
        device: `auto`, or as torch names it.
        settings: anything that a study's file can say of the trials.

    Raises:
        UsageError: a setting is not allowed, or task, data and settings do not fit each other.
    """

    def __init__(
        self, task: Task | str, *, data_dir: str | Path | None = None, device: str = "auto", **settings: Any
    ) -> None:
        own, source, _ = _parted(task, None)
        self.task = own or loading.find(source, data_folder(None if data_dir is None else Path(data_dir)))
        self._device: torch.device = resolve_device(device)
        said = validated(StudySettings, {**_plain(settings), "task": source}, "Objective")
        self.settings = searching.completed(said, self.task, self._device, "Objective")
        data = task_data.search_data(self.task, self.settings.train_examples)
        check(self.task, data.train, self.settings)
        self._data = task_data.SearchData(data.train.to(self._device), data.validation.to(self._device), data.checksum)

    @property
    def direction(self) -> str:
        """`maximize` or `minimize`, for `optuna.create_study`."""
        return self.task.judge.direction

    @property
    def sampler(self) -> BaseSampler:
        """That of the settings, for `optuna.create_study`: known-good settings first, then fair to every optimizer."""
        return sampler_of(self.settings, self.task.judge)

    @property
    def pruner(self) -> BasePruner:
        """That of the settings, for `optuna.create_study`."""
        return pruner_of(self.settings, self.task.judge, len(self._data.train))

    def __call__(self, trial: optuna.Trial) -> float:
        """Train one trial; its metric on the validation examples.

        Raises:
            UsageError: the study goes the other way.
            optuna.TrialPruned: it was pruned, made no progress, or diverged.
        """
        if trial.study.direction.name.lower() != self.direction:
            raise UsageError(
                f"the study is to {trial.study.direction.name.lower()}, but the metric '{self.task.judge.name}' to "
                f"{self.direction}: create it with optuna.create_study(direction=objective.direction)"
            )
        result: TrialResult = run_trial(
            trial, self.settings, self.task, self._data, self._device, (), lambda *_: None, lambda: False
        )
        trial.set_user_attr(storage_trials.OUTCOME, result.outcome)
        if result.value is None:
            raise optuna.TrialPruned(result.reason)
        return result.value
