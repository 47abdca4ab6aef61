"""A study as tables, a row per trial, evaluation, optimizer or run: what notebooks look at and what is exported."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from optitune.comparing.results import Comparison
from optitune.report.comparison_tables import finalists
from optitune.report.data import confusion_counts
from optitune.retraining.records import SeedResult
from optitune.space.configuration import Configuration, flat
from optitune.statistics.runs import TUNED
from optitune.study.records import TrialRecord
from optitune.study.records import standings as standing_of
from optitune.study.steps import own_steps, reported_epoch

if TYPE_CHECKING:
    from pandas import DataFrame

Row = dict[str, Any]

TRIAL = {
    "trial": int,
    "optimizer": str,
    "outcome": str,
    "value": float,
    "epochs": float,
    "seconds": float,
    "began": datetime,
    "ended": datetime,
    "reason": str,
    "same_as": int,
    "run": int,
    "repeats": int,
    "from_study": str,
    "from_trial": int,
    "lr": float,
}
"""What every table of trials has, by name and kind; after it, each setting that its trials have."""


def trials(records: Iterable[TrialRecord]) -> "DataFrame":
    """A row per trial, with every setting; the learning rate is the absolute one."""
    rows = [
        {
            "trial": row.number,
            "optimizer": row.optimizer,
            "outcome": row.outcome,
            "value": row.value,
            "epochs": row.epochs,
            "seconds": row.seconds,
            "began": row.began,
            "ended": row.ended,
            "reason": row.reason,
            "same_as": row.same_as,
            "run": row.run,
            "repeats": row.repeats,
            "from_study": row.from_study,
            "from_trial": row.from_trial,
            **(settings(row.configuration) if row.configuration else {}),
        }
        for row in records
    ]
    return frame(rows, TRIAL)


def settings(configuration: Configuration) -> Row:
    """All settings by name, without those that have another column in a table of trials."""
    return flat(configuration, reserved=TRIAL.keys() - {"lr"})


def curves(records: Sequence[TrialRecord], examples: int | None = None) -> "DataFrame":
    """A row per evaluation of every trial; a trial that diverged ends with the worst value there is.

    `step` counts the steps of the trial's own optimizer, `epoch` is the axis along which trials are compared.

    Args:
        examples: that every trial trains on; without it, no step is known where batch sizes differ.
    """
    an_epoch, times = reported_epoch(records), own_steps(records, examples)
    rows = [
        {
            "trial": row.number,
            "optimizer": row.optimizer,
            "step": round(step * times[row.number]) if row.number in times else None,
            "epoch": step / an_epoch if an_epoch else None,
            "value": value,
        }
        for row in records
        for step, value in row.curve
    ]
    return frame(rows, {"trial": int, "optimizer": str, "step": int, "epoch": float, "value": float})


def standings(records: Iterable[TrialRecord], optimizers: Iterable[str]) -> "DataFrame":
    """A row per optimizer, the best first: its best complete trial, and what it had of the budget."""
    rows = [_scalars(row, "best") for row in standing_of(records, optimizers)]
    return frame(rows, {"optimizer": str, "value": float, "lr": float, "trial": int})


MEASURED = (
    "value", "low", "high", "regret", "difference", "difference_low", "difference_high", "loss", "epoch_seconds",
    "target_seconds", "target_epochs", "memory",
)  # fmt: skip
"""What of a finalist may not be known."""


def comparison(found: Comparison) -> "DataFrame":
    """A row per finalist, the leader first: its value, how it differs from the leader, and what it costs.

    `low` and `high` bound its value with 95 %, the leader's too; `difference_low` and `difference_high` bound by how
    much it is better than the leader, however often one looks.
    """
    rows = [_scalars(row, "cost") for row in finalists(found)]
    return frame(rows, dict.fromkeys(MEASURED, float))


def _scalars(row: Any, other: str) -> Row:
    """The fields of a row of data, without the one that is no column."""
    return {name: value for name, value in vars(row).items() if name != other}


def runs(found: Comparison) -> "DataFrame":
    """A row per run of a comparison, those with other settings included."""
    rows = [
        {
            "optimizer": run.key.optimizer,
            "round": run.key.round,
            "variant": run.key.variant,
            "value": None if run.diverged else run.value,
            "loss": None if run.diverged or not isfinite(run.loss) else run.loss,
            "seconds": run.seconds,
            "reason": run.diverged,
        }
        for run in found.runs
    ]
    return frame(rows, {"value": float, "loss": float})


def run_curves(found: Comparison) -> "DataFrame":
    """A row per evaluation of every finalist's run."""
    rows = [
        {"optimizer": run.key.optimizer, "round": run.key.round, **point._asdict()}
        for run in found.runs
        if run.key.variant == TUNED
        for point in run.curve
    ]
    return frame(rows)


def epochs(seeds: Iterable[SeedResult]) -> "DataFrame":
    """A row per epoch of every full training."""
    rows = [{"seed": seed.seed, **vars(epoch)} for seed in seeds for epoch in seed.epochs]
    if all(row["validation_value"] is None for row in rows):
        rows = [{name: value for name, value in row.items() if name != "validation_value"} for row in rows]
    return frame(rows, {"train_value": float})


def tests(seeds: Iterable[SeedResult]) -> "DataFrame":
    """A row per full training: its one test."""
    names = ("seed", "test_value", "test_loss", "seconds")
    return frame([{name: getattr(seed, name) for name in names} for seed in seeds])


def confusion(seeds: Sequence[SeedResult]) -> "DataFrame | None":
    """Counts over all seeds together, a row per true class and a column per answer; None where there are no classes."""
    import pandas

    counts = confusion_counts(seeds)
    if not counts:
        return None
    labels = range(len(counts))
    return pandas.DataFrame(
        counts, index=pandas.Index(labels, name="true class"), columns=pandas.Index(labels, name="answered")
    )


def frame(rows: Sequence[Row], kinds: Mapping[str, type] = MappingProxyType({})) -> "DataFrame":
    """Rows as a table whose columns have one kind of value each, whatever is missing.

    Args:
        kinds: of columns that it has even where no row does.
    """
    import pandas

    names = dict.fromkeys([*(name for row in rows for name in row), *kinds])
    return pandas.DataFrame({name: _column([row.get(name) for row in rows], kinds.get(name)) for name in names})


def _column(values: list[Any], kind: type | None) -> Any:
    """Values as a column: whole numbers and truths stay what they are where some are missing."""
    import pandas

    kinds = {type(value) for value in values if value is not None} | ({kind} if kind else set())
    whole = None not in values
    if kinds == {bool}:
        return pandas.Series(values, dtype="bool" if whole else "boolean")
    if kinds == {int}:
        return pandas.Series(values, dtype="int64" if whole else "Int64")
    if kinds and kinds <= {int, float}:
        return pandas.Series(values, dtype="float64")
    if kinds == {datetime}:
        return pandas.Series(values, dtype="datetime64[us]")
    # what several optimizers call alike and mean otherwise becomes text: a file's column has one type
    return pandas.Series([value if value is None else str(value) for value in values], dtype="object")
