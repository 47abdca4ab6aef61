"""`optitune.judge`: the verdict on runs that were trained elsewhere, as tables, figures and a page."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optitune.api.notebook import NotebookView
from optitune.common.tables import Table
from optitune.errors import UsageError
from optitune.judging.columns import Asked
from optitune.judging.judge import judge_source
from optitune.judging.request import JudgeRequest
from optitune.judging.results import Judged, Judgement
from optitune.report import dataframes, judged
from optitune.report.style import Picture
from optitune.statistics.runs import PREFER, Prefer

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False, eq=False)
class JudgeResult(NotebookView):
    """Which arm to take, and how sure that is: what `judge` found in runs that were trained elsewhere.

    Attributes:
        judged: all that it found, with a judgement for each task.
        judgement: what the sentence is of: all tasks together, or one.
    """

    USUAL = ("values", "differences")

    judged: Judged
    judgement: Judgement

    @property
    def sentence(self) -> str:
        """The decision, and what it can cost."""
        return self.judgement.sentence

    @property
    def advice(self) -> str:
        """What to train next."""
        return self.judgement.advice

    @property
    def recommended(self) -> str:
        """The arm to take."""
        return self.judgement.recommended

    @property
    def status(self) -> str:
        """How sure it is: clear, tied, good enough or undecided."""
        return self.judgement.verdict.status

    @property
    def next_runs(self) -> dict[str, int]:
        """How many more runs of each arm would help most; empty where none are needed."""
        more = self.judgement.next_runs
        return more.runs if more else {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What is peculiar to the runs, a sentence each."""
        return (*self.judged.notes, *self.judgement.notes)

    @property
    def tasks(self) -> "dict[str, JudgeResult]":
        """The verdict on each task by its name; empty where there is one task alone."""
        several = self.judged.tasks if len(self.judged.tasks) > 1 and self.judgement is self.judged.main else ()
        return {each.task: JudgeResult(self.judged, each) for each in several}

    @cached_property
    def standings(self) -> "DataFrame":
        """A row per arm, the leader first.

        Columns: `arm`; `value`, `low`, `high` (mean and 95 % interval over its `runs`, in the metric's unit);
        `probability_best`; `relation` to the leader (leads, equal, undecided, worse, diverged); `difference`,
        `difference_low`, `difference_high` (to the leader, positive where it is better, with bounds that hold for all
        arms together); `seconds` (mean of a run).
        """
        rows = []
        for place in self.judgement.verdict.places:
            value, apart = place.value, place.to_leader
            rows.append(
                {
                    "arm": place.optimizer,
                    "value": value.mean if value else None,
                    "low": value.low if value else None,
                    "high": value.high if value else None,
                    "runs": (len(value.each) if value else 0) + place.diverged,
                    "probability_best": place.best,
                    "relation": judged.relation(self.judgement, place),
                    "difference": apart.mean if apart else None,
                    "difference_low": apart.low if apart else None,
                    "difference_high": apart.high if apart else None,
                    "seconds": self.judgement.seconds.get(place.optimizer),
                }
            )
        names = ("value", "low", "high", "difference", "difference_low", "difference_high", "seconds")
        return dataframes.frame(rows, dict.fromkeys(names, float))

    def document(self) -> dict[str, Any]:
        """Everything as `optitune judge --json` prints it."""
        return self.judged.document()

    def write_page(self, path: str | Path) -> Path:
        """Write the page of HTML, as `optitune judge --report` does.

        Raises:
            OptituneError: the file cannot be written.
        """
        return judged.write_page(self.judged, Path(path))

    @property
    def headline(self) -> str:
        return self.sentence

    def _words(self) -> list[str]:
        return [self.advice, *self.notes]

    def _table(self) -> Table:
        return judged.judged_table(self.judgement)

    def _pictures(self) -> list[Picture]:
        return judged.pictures(self.judgement, judged.palette_of(self.judged, self.judgement))


def judge(
    runs: Any,
    *,
    arm: str | None = None,
    seed: str | None = None,
    metric: str | None = None,
    task: str | None = None,
    higher_is_better: bool | None = None,
    epsilon: float | None = None,
    rounds: int | None = None,
    prefer: Prefer = PREFER,
    paired: bool | None = None,
    target: float | Mapping[str, float] | None = None,
    diverged: bool = False,
    study: str | None = None,
) -> JudgeResult:
    """Judge runs that were trained elsewhere, as `optitune judge` does; nothing is trained.

        found = optitune.judge(frame, metric="accuracy", rounds=10)
        print(found.sentence, found.next_runs)

    Args:
        runs: a pandas DataFrame with a row for each run; or a path or a URL, as the command takes it.
        arm: name of the column that names what is compared, or several, separated by commas; None for `optimizer`,
            `method` or the like.
        seed: name of the column whose equal values mean that runs share a seed; None for `seed`, `round` or `fold`.
        metric: name of the column that is judged; None for the only one of numbers that is left.
        task: name of the column of tasks; None for `task`, `workload` or the like, where there is one.
        higher_is_better: of the metric; None for what its name says.
        epsilon: difference of the metric that does not matter, in its unit; None for 0.001 of an accuracy, else a
            tenth of what the arms differ, or half of what another seed changes, if that is more.
        rounds: how many runs of each arm were planned before any was looked at; None for any number.
        prefer: which to take of those that are as good as the best (worse by no more than epsilon): by `"value"` the
            one that can lose least, by `"time"` the one whose runs take the fewest seconds.
        paired: whether to compare runs of one seed with each other; None for wherever arms share seeds.
        target: value of the metric, or one for each task by its name; judges the time until it is reached, of curves
            with a row for each epoch.
        diverged: whether a run whose value is nan or missing diverged, so that its arm is out.
        study: name of the study in an Optuna storage; None for the only one.

    Returns:
        the verdict, over all tasks where there are several, and for each task.

    Raises:
        UsageError: a column is not there, or more has to be said.
        OptituneError: a row is wrong; the message names it and what to do.
    """
    if prefer not in ("value", "time"):
        raise UsageError(f"prefer = {prefer!r}: must be value or time")
    for name, value in (("arm", arm), ("seed", seed), ("metric", metric), ("task", task)):
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{name} = {value!r}: must be the name of a column")
    request = JudgeRequest(
        source=runs,
        asked=Asked(arm, seed, metric, task),
        higher=higher_is_better,
        epsilon=epsilon,
        rounds=rounds,
        prefer=prefer,
        paired=paired,
        target=target,
        study=study,
        diverged=diverged,
    )
    found = judge_source(request)
    return JudgeResult(found, found.main)
