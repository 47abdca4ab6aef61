"""What `retrain` gives: full trainings, each tested once."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from optitune.api.notebook import NotebookView, subject
from optitune.common.summary import Summary
from optitune.common.tables import Table
from optitune.common.text import Unit, duration
from optitune.errors import OptituneError
from optitune.report import dataframes, retrain_figures
from optitune.report import page as report
from optitune.report import tables as report_tables
from optitune.report.style import Picture
from optitune.retraining import code
from optitune.retraining import results as retrain_results
from optitune.retraining.mistakes import MISTAKES, load_mistakes
from optitune.retraining.results import FoundLength, FullPlan, Tested
from optitune.retraining.run import RetrainOutcome
from optitune.retraining.sentences import about_training
from optitune.space.configuration import configuration_text

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False, eq=False)
class RetrainResult(NotebookView):
    """Full trainings, each tested once: what `retrain` left.

    Attributes:
        name: of its folder: `best`, `trial-7`.
        tested: plan and results of every seed.
        folder: where weights, pictures and results lie.
        run: what this call did; None where the trainings were only opened.
    """

    USUAL = ("training",)

    name: str
    tested: Tested
    folder: Path
    run: RetrainOutcome | None

    @property
    def plan(self) -> FullPlan:
        """What was trained."""
        return self.tested.plan

    @property
    def metric(self) -> str:
        return self.tested.metric

    @property
    def test_value(self) -> Summary:
        """The metric on the test set: mean, interval, and each seed's."""
        return self.tested.test_value

    @property
    def test_loss(self) -> Summary | None:
        return self.tested.test_loss

    @property
    def length(self) -> FoundLength | None:
        """How the number of epochs was found, and what other lengths came to; None where it was given."""
        return self.tested.length

    @property
    def kept_epochs(self) -> tuple[int | None, ...]:
        """The epoch of each seed whose weights were kept; None for the last one."""
        return self.tested.kept

    @property
    def trained(self) -> bool:
        """Whether this call trained anything."""
        return self.run is not None and self.run.trained

    @property
    def other_data(self) -> bool:
        """Whether the data differ from those that the configuration was found on, as far as this call knows."""
        return self.run is not None and self.run.other_data

    @cached_property
    def seeds(self) -> "DataFrame":
        """A row per training: `seed`, `test_value` (in the metric's unit), `test_loss`, and `seconds` trained."""
        return dataframes.tests(self.tested.runs)

    @cached_property
    def curves(self) -> "DataFrame":
        """A row per epoch of every training: `seed`, `epoch`, `lr`, `train_loss`, `train_value` (the metric).

        Where a validation part was held out, also `validation_value`.
        """
        return dataframes.epochs(self.tested.runs)

    @cached_property
    def confusion(self) -> "DataFrame | None":
        """Counts over all seeds: a row per true class, a column per answer; None where there are no classes."""
        return dataframes.confusion(self.tested.runs)

    def code(self, epochs: int | None = None) -> str:
        """Python, `train(model, loader)`, that trains with torch alone as the full training did.

        Args:
            epochs: default of `train`, at least 1; None for those of the full training. For any number, the schedule
                is stretched.

        Raises:
            OptituneError: an older version left no code.
        """
        return code.python_of(code.load(self.folder), self.tested, epochs)

    @property
    def _unit(self) -> Unit:
        return self.tested.judge.unit

    @property
    def headline(self) -> str:
        return report_tables.tested(self.tested, None, self._unit, 1)[0]

    def _words(self) -> list[str]:
        return [
            f"{configuration_text(self.plan.configuration)}.",
            *(f"{line}." for line in about_training(self.plan, self.length, self.kept_epochs, self._unit)),
            f"Weights and results are in {self.folder}.",
        ]

    def _table(self) -> Table:
        rows = tuple(
            (
                str(seed.seed),
                self._unit.value(seed.test_value),
                "" if seed.test_loss is None else f"{seed.test_loss:.4g}",
                duration(seed.seconds),
            )
            for seed in self.tested.runs
        )
        return Table.of("", ("seed", f"test {self.metric}", "test loss", "trained"), rows)

    def _pictures(self) -> list[Picture]:
        configuration = self.plan.configuration
        training = retrain_figures.training(self.tested)
        mistakes = load_mistakes(self.folder / MISTAKES)
        about = subject(
            self.name, self.tested.judge, (configuration.optimizer.name,), tested=self.tested, mistakes=mistakes
        )
        return [training, *report.pictures(about)]


def retrain_result(found: RetrainOutcome) -> RetrainResult:
    """What full trainings left.

    Raises:
        OptituneError: it cannot be read.
    """
    tested = retrain_results.load(found.folder)
    if tested is None:
        raise OptituneError(f"{found.folder} holds no results any more: run the same again")
    return RetrainResult(found.name, tested, found.folder, found)
