"""The objective for an Optuna study of one's own."""

from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from optitune.api.functions import _parted, _plain
from optitune.common.files import data_folder
from optitune.common.schema import validated
from optitune.errors import UsageError
from optitune.sampling.factory import pruner_of, sampler_of
from optitune.searching import costs, loops
from optitune.searching import run as searching
from optitune.searching.objective import Result as TrialResult
from optitune.searching.objective import run_trial
from optitune.storage import trials as storage_trials
from optitune.study.custom_optimizers import find_modules
from optitune.study.settings import StudySettings
from optitune.tasks import loading, splits
from optitune.tasks.task import Task
from optitune.training.device import resolve_device
from optitune.training.optimizer_classes import with_rows
from optitune.training.preflight import check


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
        found = own or loading.find(source, data_folder(None if data_dir is None else Path(data_dir)))
        self._device: torch.device = resolve_device(device)
        said = validated(StudySettings, {**with_rows(_plain(settings), Path()), "task": source}, "Objective")
        find_modules(said.own_paths(), Path())
        found = loading.judged(found, said.metric)
        self.settings = searching.completed(said, found, self._device, "Objective")
        self.task = loops.tried(found, self.settings, self._device)
        data = splits.search_data(self.task, self.settings.train_examples)
        check(self.task, data.train, self.settings)
        self._data = splits.SearchData(data.train.to(self._device), data.validation.to(self._device), data.checksum)

    @property
    def direction(self) -> str:
        """`maximize` or `minimize`, for `optuna.create_study`."""
        return self.task.judge.direction

    @property
    def sampler(self) -> BaseSampler:
        """That of the settings, for `optuna.create_study`: known-good settings first, then a model of all trials."""
        return sampler_of(self.settings, self.task.judge, costs=self.costs)

    @cached_property
    def costs(self) -> dict[str, float] | None:
        """The relative cost of an epoch by optimizer, measured when first asked for; None with `budget_in="epochs"`.

        To go on with a study exactly as it began, hand those of its beginning to `FairSampler(costs=...)`, or count
        epochs.
        """
        if not costs.counted(self.settings):
            return None
        return dict(costs.estimate(self.settings, self.task, self._data, self._device).costs)

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
