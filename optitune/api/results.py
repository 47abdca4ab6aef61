"""What `search`, `compare`, `retrain` and `load` give: tables, figures, and a few words that a notebook shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from optitune.api.notebook import NotebookView, subject
from optitune.api.retrain_result import RetrainResult
from optitune.common.tables import Table
from optitune.comparing import results as comparison_results
from optitune.comparing.results import Comparison
from optitune.comparing.run import CompareOutcome
from optitune.errors import unknown
from optitune.report import comparison_tables as tables
from optitune.report import dataframes, standings
from optitune.report import page as report
from optitune.report import tables as report_tables
from optitune.report.style import Picture
from optitune.retraining import results as retrain_results
from optitune.retraining.choose import choose_best
from optitune.sampling.parameters import edges_of
from optitune.searching.run import SearchOutcome
from optitune.space.configuration import configuration_text
from optitune.space.edges import Edge
from optitune.storage import studies, trials
from optitune.storage.studies import StudyLocation
from optitune.storage.trials import best_config
from optitune.study.records import Failing, TrialRecord, failing
from optitune.study.records import best as best_record
from optitune.study.records import standings as by_optimizer
from optitune.study.settings import StudySettings
from optitune.tasks.metrics import Metric
from optitune.training.export_code import python

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False, eq=False)
class SearchResult(NotebookView):
    """A study: what `search` left, or `load` found.

    Attributes:
        name: of the study.
        settings: of the study, with every `auto` decided.
        metric: that its trials are judged by.
        records: its trials.
        folder: where all of it lies but what a storage elsewhere has.
        run: what this call did; None where the study was only opened.
        examples: how many every trial trains on; None where it is not known.
    """

    USUAL = ("curves",)

    name: str
    settings: StudySettings
    metric: Metric
    records: Sequence[TrialRecord]
    run: SearchOutcome | None
    _home: StudyLocation
    examples: int | None = None

    @property
    def folder(self) -> Path:
        return self._home.folder

    @property
    def best(self) -> TrialRecord | None:
        """The first trial of the best configuration, its `value` the mean over its `runs`; None where none is complete.

        It is the luckiest of many, and so no estimate.
        """
        return best_record(self.records)

    @property
    def best_file(self) -> Path | None:
        """Its `best.toml`; None where there is none."""
        path = self.folder / "best.toml"
        return path if path.exists() else None

    @property
    def trained(self) -> int:
        """How many trials this call finished."""
        return self.run.trained if self.run else 0

    @cached_property
    def standings(self) -> "DataFrame":
        """A row per optimizer, the best first.

        Columns: `optimizer`; of its best configuration `value` (in the metric's unit, the mean over its `runs`),
        `runs`, `lr` and `trial` (the number of its first trial);
        how many of its trials are `finished`, `pruned`, `diverged` and `failed`; and the `epochs` that they had.
        """
        return dataframes.standings(self.records, self.settings.optimizers)

    @cached_property
    def trials(self) -> "DataFrame":
        """A row per trial, with every setting.

        Columns: `trial` (its number), `optimizer`, `outcome` (such as complete, pruned, diverged, failed), `value` (in
        the metric's unit), `epochs` and `seconds` trained, `began` and `ended` (local time), `reason` of its end,
        `same_as` (number of the equal trial whose result it has), `run` (k where it trained from the study's seed + k),
        `repeats` (number of the trial whose settings it repeats so), and a column for each setting; `lr` is the
        absolute one.
        """
        return dataframes.trials(self.records)

    @cached_property
    def curves(self) -> "DataFrame":
        """A row per evaluation of every trial.

        Columns: `trial` (its number), `optimizer`, `step` (of the trial's own optimizer), `epoch`, and `value` (in the
        metric's unit).
        """
        return dataframes.curves(self.records, self.examples)

    @property
    def failing(self) -> list[Failing]:
        """The optimizers all of whose trials failed, with the reason of the last one."""
        return failing(self.records, self.settings.optimizers)

    def edges(self) -> list[Edge]:
        """What of the best configuration lies at an end of its range, where more may be beyond."""
        return edges_of(self.settings, self.best)

    @property
    def comparison(self) -> "ComparisonResult | None":
        """What `compare` found of this study; None where it was not compared.

        Raises:
            OptituneError: a file of the comparison is damaged.
        """
        folder = self.folder / comparison_results.FOLDER
        found = comparison_results.load(folder, self.records, self.metric)
        if found is None:
            return None
        return ComparisonResult(self.name, found, self.metric, self.settings.optimizers, folder, None, self._home)

    @property
    def tested(self) -> "RetrainResult | None":
        """What `retrain best` came to; None where that was not done."""
        folder = self.folder / "retrain" / "best"
        found = retrain_results.load(folder)
        return RetrainResult("best", found, folder, None) if found else None

    def code(self, trial: int | None = None, epochs: int | None = None) -> str:
        """Python, `train(model, loader)`, that trains with torch alone as a trial did.

        Args:
            trial: its number; None for what `retrain best` trains: what the comparison says to take, or without one
                the search's best.
            epochs: default of `train`, at least 1; None for the search's. For any number, the schedule is stretched as
                `retrain` does.

        Raises:
            UsageError: there is no such trial.
            OptituneError: it is not complete.
        """
        opened = self._home.open()
        if trial is None:
            return python(choose_best(self._home, opened).config, epochs)
        return python(best_config(opened, trials.record(opened, trial)), epochs)

    @property
    def headline(self) -> str:
        compared = self.comparison
        return compared.headline if compared else report_tables.unsure(self.name, self.records, self.metric.unit)[0]

    def _words(self) -> list[str]:
        best = self.best
        failing = [each.sentence() for each in self.failing]
        if best is None or best.configuration is None:
            return failing
        beyond = [f"{edge.key} lies at an end of its range; to look beyond: {edge.line}" for edge in self.edges()]
        settings = configuration_text(best.configuration)
        return [f"Trial {best.number} of {self.name}: {settings}.", *beyond, *failing, *self._next()]

    def _next(self) -> list[str]:
        """What was found beyond the search, and what may be done next."""
        compared, tested = self.comparison, self.tested
        sure = "To know which optimizer is best, and how sure that is: optitune.compare."
        full = "To train it in full, and test it once: optitune.retrain."
        if compared is None:
            return [tested.headline, sure] if tested else [sure]
        leaders = {row.optimizer: row.trial for row in by_optimizer(self.records, self.settings.optimizers) if row.best}
        if any(leaders.get(each.optimizer) != each.trial for each in compared.comparison.plan.finalists):
            return [compared.advice, "The search has found better since. To compare anew: optitune.compare."]
        # without a number it may be of a file, or of an older version
        if tested is None or tested.tested.trial not in (None, compared.trial):
            return [compared.advice, full]
        return [compared.advice, tested.headline]

    def _table(self) -> Table:
        return standings.standings_table(self.records, self.settings.optimizers, self.metric.unit)

    def _pictures(self) -> list[Picture]:
        return report.pictures(subject(self.name, self.metric, self.settings.optimizers, self.records))


@dataclass(frozen=True, repr=False, eq=False)
class ComparisonResult(NotebookView):
    """Which optimizer to take, and what that can cost: what `compare` left.

    Attributes:
        study: its name.
        comparison: all that it says, and rests on.
        metric: that its runs are judged by.
        optimizers: of the study.
        folder: where the comparison lies.
        run: what this call did; None where the comparison was only opened.
    """

    USUAL = ("values", "differences")

    study: str
    comparison: Comparison
    metric: Metric
    optimizers: Sequence[str]
    folder: Path
    run: CompareOutcome | None
    _home: StudyLocation

    @property
    def sentence(self) -> str:
        """Which optimizer to take, and what that can cost."""
        return self.comparison.sentence

    @property
    def advice(self) -> str:
        """Whether to go on, and how."""
        return self.comparison.advice

    @property
    def status(self) -> str:
        """`clear`, `tied`, `good enough` or `undecided`."""
        return self.comparison.verdict.status

    @property
    def loss(self) -> float:
        """How much better than the one to take another may be at most, in the metric's unit; inf while unknown."""
        return self.comparison.verdict.place(self.recommended).regret

    @property
    def recommended(self) -> str:
        """The optimizer to take."""
        return self.comparison.recommendation.optimizer

    @property
    def trial(self) -> int:
        """The trial whose configuration to take."""
        return self.comparison.plan.finalist(self.recommended).trial

    @cached_property
    def standings(self) -> "DataFrame":
        """A row per optimizer, the leader first, with intervals and costs.

        Columns: `optimizer`; `value`, `low`, `high` (mean and 95 % interval over its `runs`, in the metric's unit);
        `probability_best`; `regret` (how much better another may be at most, if this one is taken); `relation` to the
        leader (leader, equal, undecided, worse); `difference`, `difference_low`, `difference_high` (to the leader,
        positive where it is better); `diverged` (runs); `loss`; `trial` and `lr` of its configuration;
        `epoch_seconds`; `target_seconds` and `target_epochs` (until the target is reached); `memory` (bytes of
        optimizer state per byte of weights).
        """
        return dataframes.comparison(self.comparison)

    @cached_property
    def runs(self) -> "DataFrame":
        """A row per run, those with other settings included.

        Columns: `optimizer`, `round` (from 0), `variant` (of its settings), `value` (in the metric's unit), `loss`,
        `seconds`, and `reason` where it diverged.
        """
        return dataframes.runs(self.comparison)

    @cached_property
    def curves(self) -> "DataFrame":
        """A row per evaluation of every optimizer's runs.

        Columns: `optimizer`, `round`, `epoch`, `seconds`, `value` (in the metric's unit), `loss`.
        """
        return dataframes.run_curves(self.comparison)

    def code(self, optimizer: str | None = None, epochs: int | None = None) -> str:
        """Python, `train(model, loader)`, that trains with torch alone as a finalist's runs did.

        Args:
            optimizer: whose; None for the one to take.
            epochs: default of `train`, at least 1; None for the search's. For any number, the schedule is stretched as
                `retrain` does.

        Raises:
            UsageError: the optimizer was not compared.
            OptituneError: the storage cannot be opened.
        """
        name, plan = optimizer or self.recommended, self.comparison.plan
        if name not in plan.optimizers:
            raise unknown("optimizer", name, plan.optimizers)
        opened = self._home.open()
        return python(best_config(opened, trials.record(opened, plan.finalist(name).trial)), epochs)

    @property
    def headline(self) -> str:
        return self.sentence

    def _words(self) -> list[str]:
        return [self.advice]

    def _table(self) -> Table:
        return tables.comparison_table(self.comparison)

    def _pictures(self) -> list[Picture]:
        return report.pictures(subject(self.study, self.metric, self.optimizers, comparison=self.comparison))


def search_result(home: StudyLocation, found: SearchOutcome) -> SearchResult:
    """What a search left."""
    return SearchResult(home.name, found.settings, found.metric, found.records, found, home, found.examples)


def opened(home: StudyLocation) -> SearchResult:
    """A study as it is by now.

    Raises:
        UsageError: there is none, or it was not made by optitune.
    """
    there = home.open()
    settings = studies.settings_of(there)
    examples = there.user_attrs.get(studies.DATA, {}).get("train_examples")
    return SearchResult(home.name, settings, studies.metric(there), trials.records(there), None, home, examples)


def comparison_result(found: CompareOutcome, there: optuna.Study, home: StudyLocation) -> ComparisonResult:
    """What a comparison left.

    Args:
        found: by the comparison.
        there: the study.
        home: where it lives.
    """
    optimizers = tuple(studies.stored_settings(there)["optimizers"])
    return ComparisonResult(found.study, found.comparison, studies.metric(there), optimizers, found.folder, found, home)
