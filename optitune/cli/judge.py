"""`optitune judge`."""

from pathlib import Path
from typing import Any

import click

from optitune.cli.main import print_json
from optitune.cli.options import AtLeast, output
from optitune.errors import UsageError


@click.command()
@click.argument("runs")
@click.option("--arm", metavar="COLUMN[,COLUMN]", help="What is compared.  [default: optimizer, method, ...]")
@click.option(
    "--seed",
    metavar="COLUMN",
    help="What runs share that are to be compared with each other.  [default: seed, round, fold]",
)
@click.option("--metric", metavar="COLUMN", help="What is judged.  [default: the only column of numbers that is left]")
@click.option("--task", metavar="COLUMN", help="On what a run was trained, if on several.  [default: task, ...]")
@click.option(
    "--higher-is-better/--lower-is-better",
    "higher",
    default=None,
    help="Which values are better.  [default: as the metric's name says, such as accuracy or loss]",
)
@click.option(
    "--epsilon",
    type=float,
    help="What difference does not matter, in the metric's unit.  [default: 0.001 of an accuracy; else a tenth of what "
    "the arms differ, or half of what another seed changes, if that is more]",
)
@click.option(
    "--rounds",
    type=AtLeast(2),
    help="How many runs of each were planned before any was looked at, 100 at most: less evidence is enough then.  "
    "[default: any number; look as often as you like]",
)
@click.option(
    "--prefer",
    type=click.Choice(["value", "time"]),
    default="value",
    show_default=True,
    help="Which to take of those that are as good as the best (worse by no more than epsilon): the one that can lose "
    "least, or the one whose runs take the fewest seconds.",
)
@click.option(
    "--paired/--unpaired",
    default=None,
    help="Compare runs of one seed with each other.  [default: if they share seeds]",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="[TASK=]VALUE",
    help="Judge the time until the metric has this value, of curves with a row for each epoch; may be given for each "
    "task.",
)
@click.option("--diverged", is_flag=True, help="A run whose value is nan or missing diverged, so that its arm is out.")
@click.option("--study", metavar="NAME", help="The study in an Optuna storage.  [default: the only one]")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write a page of HTML too.")
@output
def judge(
    runs: str,
    arm: str | None,
    seed: str | None,
    metric: str | None,
    task: str | None,
    targets: tuple[str, ...],
    report: Path | None,
    as_json: bool,
    quiet: bool,
    **asked: Any,
) -> None:
    """Judge runs that were trained elsewhere: which one, and how sure.

    RUNS is a CSV or Parquet file with a row for each run; a folder of metrics.json, of MLflow's runs (mlruns), or of
    TensorBoard's CSV or event files; or the URL or file of an Optuna storage. It needs a column that names what is
    compared, such as optimizer, and the metric; a seed makes pairs. Several tasks are judged one by one and together.
    Nothing is trained.
    """
    from optitune.judging.columns import Asked
    from optitune.judging.judge import judge_source
    from optitune.judging.request import JudgeRequest

    found = judge_source(JudgeRequest(runs, Asked(arm, seed, metric, task), target=_target(targets), **asked))
    page = None
    if report is not None:
        from optitune.report.judged import write_page

        page = write_page(found, report)
    if as_json:
        print_json(found.document() | ({"report": str(page)} if page else {}))
        return
    from optitune.terminal.judge import print_judged

    print_judged(found, page, quiet)


def _target(given: tuple[str, ...]) -> float | dict[str, float] | None:
    """The value of all tasks, or one for each by its name; None where none was given."""
    found: dict[str, float] = {}
    for text in given:
        task, _, value = text.rpartition("=")
        try:
            found[task] = float(value)
        except ValueError:
            raise UsageError(f"target = '{text}': must be a number, or TASK=NUMBER") from None
    if len(found) < len(given) or ("" in found and len(found) > 1):
        raise UsageError(f"target = {', '.join(given)}: give one number, or one for each task as TASK=NUMBER")
    return found.get("", found or None)
