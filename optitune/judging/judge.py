"""Runs of a table judged as those of a comparison are: a verdict for each task, and one over all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from optitune.common.text import few
from optitune.errors import OptituneError, UsageError, unknown
from optitune.judging import columns as column_names
from optitune.judging.all_tasks import over_all
from optitune.judging.columns import Columns
from optitune.judging.one_task import judged
from optitune.judging.readers import read
from optitune.judging.request import JudgeRequest, check
from optitune.judging.results import Judged
from optitune.judging.rows import TrainedRun, by_task, checked
from optitune.judging.table import ARM, RawTable


def judge_source(request: JudgeRequest) -> Judged:
    """Read runs and judge them.

    Raises:
        UsageError: an option is wrong, or more has to be said.
        OptituneError: the source cannot be read, or a row is wrong.
    """
    check(request)
    table = read(request.source, request.study)
    columns = column_names.find(table, request.asked)
    sign, sign_from = column_names.direction(table, columns.metric, request.higher)
    trained = checked(table, columns, request.diverged)
    metric, notes = columns.metric, [*table.notes]
    arms = "" if columns.arm == (ARM,) else f"; the arms are in {_named(columns)}"
    notes.insert(0, f"Judged by '{metric}', {'higher' if sign == 1 else 'lower'} is better ({sign_from}){arms}.")
    if drawn := [each for each in table.drawn if each not in (*columns.arm, columns.seed)]:
        notes.append(
            f"The runs differ in {few(drawn)} too: what is compared is how good an arm is over the settings that a "
            "sampler drew one after another, not how good it is at its best."
        )
    if request.target is not None:
        trained, metric = _times(trained, request.target, metric, sign, table, columns)
        sign, sign_from = -1, "a time"
    tasks = by_task(trained)
    for task, runs in tasks.items():
        if len({run.arm for run in runs}) == 1:
            raise OptituneError(f"{runs[0].place}: task {task} has one arm only, {runs[0].arm}: remove its rows")
    found = tuple(
        judged(task, runs, metric, sign, request, columns, percent=table.percent) for task, runs in tasks.items()
    )
    overall = None
    if len(found) > 1:
        overall = over_all(tasks, metric, sign)
        if overall is None:
            notes.append(f"{len(found)} tasks are too few for a verdict over all of them: it takes at least 3.")
    return Judged(table.source, metric, sign, sign_from, found, overall, tuple(notes))


def _named(columns: Columns) -> str:
    return "column " + " and ".join(f"'{each}'" for each in columns.arm)


def _times(
    trained: Sequence[TrainedRun],
    target: float | Mapping[str, float],
    metric: str,
    sign: int,
    table: RawTable,
    columns: Columns,
) -> tuple[list[TrainedRun], str]:
    """The same runs with the time until their curve reaches a target as their value; one that never does diverged."""
    if columns.step is None or not any(len(run.curve) > 1 for run in trained):
        raise UsageError(
            f"{table.source}: has no curves, a row for each epoch or step of a run: --target needs a column such as "
            "epoch or step"
        )
    tasks = list(dict.fromkeys(run.task for run in trained))
    goals = target if isinstance(target, Mapping) else dict.fromkeys(tasks, target)
    if others := [task for task in goals if task not in tasks]:
        raise unknown("task", others[0], tasks, "(--target)")
    if lacking := [task for task in tasks if task not in goals]:
        raise UsageError(f"no target for task {few(lacking)}: say --target {lacking[0]}=VALUE too")
    timed = columns.seconds is not None and all(run.seconds is not None for run in trained)
    runs = []
    for run in trained:
        there = next((point for point in run.curve if sign * (point.value - goals[run.task]) >= 0), None)
        value = None if there is None else there.seconds if timed else there.epoch
        runs.append(replace(run, value=value))
    for task, goal in goals.items():
        if all(run.value is None for run in runs if run.task == task):
            where = f" on {task}" if task else ""
            raise UsageError(f"target = {goal:g}: no run reaches it{where}: name another value of {metric}")
    return (
        runs,
        f"{'seconds' if timed else columns.step} to {'the target' if isinstance(target, Mapping) else f'{target:g}'}",
    )
