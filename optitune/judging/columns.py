"""Which column of a table is the arm, the seed, the metric, the task, the time: as it was asked for, or by its name."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from optitune.common.text import listed
from optitune.errors import UsageError, unknown
from optitune.judging.run_names import parted
from optitune.judging.table import ARM, SECONDS, SEED, STEP, RawTable, empty, is_number

ARMS = (
    ARM,
    "optimizer",
    "optimiser",
    "method",
    "algorithm",
    "submission",
    "model",
    "configuration",
    "config",
    "variant",
)
SEEDS = (SEED, "round", "fold", "split")
"""Columns whose equal values mean that runs share something, so that they are paired."""
NUMBERS = ("run", "rep", "repeat", "repetition", "replicate", "trial", "study")
"""Columns that number the runs of an arm, no more."""
TASKS = ("task", "workload", "problem", "testproblem", "dataset", "benchmark", "env", "environment")
TIMES = (SECONDS, "duration", "wall_time", "walltime", "runtime", "train_seconds", "time")
STEPS = ("epoch", STEP, "epochs", "steps", "iteration", "iterations")

HIGHER = {"accuracy", "acc", "top1", "top5", "f1", "auc", "auroc", "auprc", "precision", "recall", "r2", "iou", "miou",
          "map", "bleu", "rouge", "psnr", "ssim", "ndcg", "reward", "return", "returns"}  # fmt: skip
LOWER = {"loss", "error", "err", "mse", "mae", "rmse", "perplexity", "ppl", "nll", "wer", "cer", "fid", "regret",
         "seconds", "time", "duration", "runtime", "hours", "minutes", "bpb", "bpc"}  # fmt: skip
"""Words in the name of a metric that say in which direction it is better."""

SHARES = {"accuracy", "acc", "top1", "top5", "f1", "auc", "auroc", "auprc", "precision", "recall", "iou", "miou"}
"""Words in the name of a metric that is a share, from 0 to 1 or in percent."""


@dataclass(frozen=True)
class Asked:
    """The columns that a user named; None for those to be found by name.

    Attributes:
        arm: several, separated by commas, make an arm together.
    """

    arm: str | None = None
    seed: str | None = None
    metric: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class Columns:
    """The part that each column plays.

    Attributes:
        arm: those whose values together name an arm.
        seed: of the seed or round, or of a number of the run; None without one.
        paired: whether equal values of `seed` mean that runs share a seed.
        metric: what is judged.
        task: None for a single task.
        seconds: of a run, or of a run until a step; None where it is not known.
        step: of a curve, a row for each; None where every row is a run.
    """

    arm: tuple[str, ...]
    seed: str | None
    paired: bool
    metric: str
    task: str | None
    seconds: str | None
    step: str | None


def with_names(cells: Mapping[str, Any], run: str) -> dict[str, Any]:
    """The cells of a run with the arm and the seed that its name says, where it has no columns of them."""
    arm, seed = parted(run)
    lower = {each.lower() for each in cells}
    named = {} if lower & set(ARMS) else {ARM: arm}
    if seed is not None and not lower & {*SEEDS, *NUMBERS}:
        named[SEED] = seed
    return {**named, **cells}


def words(name: str) -> set[str]:
    """The words of a column's name, lower-case: of `testAccuracy/top-1` test, accuracy, top, 1, top1."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    parts = re.findall(r"[a-zA-Z]+|\d+", spaced.lower())
    return {*parts, *(one + other for one, other in pairwise(parts))}


def find(table: RawTable, asked: Asked) -> Columns:
    """Find out which column is what.

    Raises:
        UsageError: a column is not there, or several could be meant.
    """
    taken: list[str] = []

    def named(option: str, name: str) -> str:
        lower = {each.lower(): each for each in table.columns}
        found = name if name in table.columns else lower.get(name.lower())
        if found is None:
            raise unknown("column", name, table.columns, f"(--{option}, of {table.source})")
        taken.append(found)
        return found

    def by_name(names: Sequence[str]) -> str | None:
        lower = {each.lower(): each for each in table.columns if each not in taken}
        found = next((lower[each] for each in names if each in lower), None)
        taken.extend([found] if found is not None else [])
        return found

    arm = tuple(named("arm", each.strip()) for each in asked.arm.split(",") if each.strip()) if asked.arm else ()
    seed = named("seed", asked.seed) if asked.seed else None
    metric = named("metric", asked.metric) if asked.metric else None
    task = named("task", asked.task) if asked.task else by_name(TASKS)
    arm = arm or tuple(filter(None, [by_name(ARMS)]))
    paired = seed is not None
    if seed is None:
        seed = by_name(SEEDS)
        paired = seed is not None
        seed = seed or by_name(NUMBERS)
    step, seconds = by_name(STEPS), by_name(TIMES)
    if not arm:
        arm = (_only(table, taken, text=True),)
        taken.append(arm[0])
    if metric is None:
        known = [each for each in table.columns if each.lower() in (*SEEDS, *NUMBERS)]
        left = [each for each in table.columns if each not in (*taken, *table.settings, *known)]
        if seconds is not None and not any(_numeric(table, each) for each in left):
            # a table of nothing but times is judged by them
            metric, seconds = seconds, None
        else:
            metric = _only(table, [*taken, *table.settings, *known], text=False)
    return Columns(arm, seed, paired, metric, task, seconds, step)


def _only(table: RawTable, taken: Sequence[str], text: bool) -> str:
    """The one column of texts, or of numbers, that plays no part yet."""
    left = [each for each in table.columns if each not in taken]
    found = [each for each in left if _numeric(table, each) is not text]
    if len(found) == 1:
        return found[0]
    option, what = ("arm", "names the arms, such as the optimizer") if text else ("metric", "is the metric")
    there = f"columns: {', '.join(table.columns)}"
    if found:
        raise UsageError(f"{table.source}: which column {what}? It may be {_either(found)}: say --{option} COLUMN")
    wide = "; where each arm has a column of its own, pandas' melt makes rows of them" if text and len(left) > 1 else ""
    raise UsageError(f"{table.source}: no column {what} ({there}): say --{option} COLUMN, or add one{wide}")


def _either(names: Sequence[str]) -> str:
    return listed(names[:8]).replace(" and ", " or ") if len(names) <= 8 else f"one of {', '.join(names[:8])}, ..."


def _numeric(table: RawTable, column: str) -> bool:
    """Whether most cells of a column are numbers, so that one that is none is a mistake."""
    cells = [row[column] for row in table.rows if column in row and not empty(row[column])]
    return 2 * sum(map(is_number, cells)) > len(cells)


def direction(table: RawTable, metric: str, higher: bool | None) -> tuple[int, str]:
    """1 where more of the metric is better, -1 where less is; and how that is known, in words.

    Args:
        table: that was read.
        metric: name of its column.
        higher: as it was asked for; None for what the source or the name says.

    Raises:
        UsageError: nothing says it.
    """
    if higher is not None:
        return (1 if higher else -1), "as asked for"
    if table.sign is not None:
        return table.sign, f"as {table.source} says"
    found = words(metric)
    if bool(found & HIGHER) != bool(found & LOWER):
        return (1 if found & HIGHER else -1), f"by the name of '{metric}'"
    raise UsageError(
        f"the name of '{metric}' does not say which values are better: say --higher-is-better or --lower-is-better"
    )
