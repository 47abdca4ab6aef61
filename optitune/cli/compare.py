"""`optitune compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optitune.cli.main import print_json, show_dry_run
from optitune.cli.options import AtLeast, Duration, Names, data_place, dry_run, log, machine, output, study_places

if TYPE_CHECKING:
    from optitune.comparing.requests import CompareRequest


@click.command()
@click.argument("study", required=False)
@click.option("--optimizers", type=Names(), help="Whom to compare.  [default: all with a complete trial]")
@click.option(
    "--epochs", type=AtLeast(1), help="Length of a run, its schedule stretched to it.  [default: the search's]"
)
@click.option(
    "--max-runs",
    type=AtLeast(1),
    default=100,
    show_default=True,
    help="Runs of finalists in all; a comparison that goes on counts those it has.",
)
@click.option(
    "--epsilon",
    type=float,
    help="What difference does not matter.  [default: 0.001 of accuracy and r2; else a tenth of how far the median of "
    "tuned and known-good settings was behind the best in the search, at most 1 % of the best]",
)
@click.option(
    "--until",
    type=click.Choice(["good-enough", "clear"]),
    default="good-enough",
    show_default=True,
    help="What ends it: one whose choice can cost no more than epsilon, or only one that is better than all others or "
    "equal to all that are left.",
)
@click.option(
    "--prefer",
    type=click.Choice(["value", "time", "memory"]),
    default="value",
    show_default=True,
    help="Which to take of those that are as good as the best (worse by no more than epsilon): the one that can lose "
    "least, or the one whose training takes the least time, or memory.",
)
@click.option("--timeout", type=Duration(), help="Begin no further run after this time, such as 90s, 10m or 2h.")
@click.option(
    "--target",
    type=float,
    help="A value of the metric: how soon is it reached?  [default: that of the weakest still in]",
)
@click.option(
    "--sensitivity",
    type=AtLeast(0),
    default=2,
    show_default=True,
    help="In how many rounds those still in are also trained with half the lr, twice the lr and their known-good "
    "settings. Not counted by --max-runs.",
)
@study_places
@data_place
@machine
@click.option("--seed", type=AtLeast(0), default=0, show_default=True, help="Another seed, other runs.")
@dry_run
@log
@output
def compare(
    study: str | None,
    studies_dir: Path,
    storage: str | None,
    dry_run: bool,
    log: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    **asked: Any,
) -> None:
    """Which optimizer, and how sure: train the best of each again on fresh seeds.

    Goes on in rounds. A round trains every optimizer that may still be best from one new seed and judges it on
    examples that neither its training nor the search has used. It ends when one is better than all others, when those
    left are equal for practical purposes, when the choice of one can cost no more than --epsilon, or when --max-runs or
    --timeout is spent. Stopped half-way, the same command goes on; with a higher --max-runs or --until clear, a
    finished one does. Writes studies/STUDY/compare/.
    """
    if not dry_run:
        from optitune.workers.pool import WORKER_MODULES, warm_up

        warm_up(*WORKER_MODULES)
    from optitune.comparing.requests import CompareRequest
    from optitune.storage.listing import choose_study

    request = CompareRequest(home=choose_study(study, studies_dir, storage), **asked)
    if dry_run:
        from optitune.api import stages

        show_dry_run(stages.dry_compare(request), as_json)
        return
    document = run_compare(request, studies_dir, storage, as_json, quiet, log)
    if as_json:
        print_json(document)


def run_compare(
    request: "CompareRequest",
    studies_dir: Path,
    storage: str | None,
    as_json: bool,
    quiet: bool,
    log: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Compare, print the result unless it is to be JSON, and return that JSON.

    Args:
        request: what is to be compared.
        studies_dir: the folder of all studies, as it was typed.
        storage: the URL of the storage, as it was typed; None for the study's own file.
        as_json: whether `--json` was given: nothing but the object goes to standard output.
        quiet: whether no progress is to be shown.
        log: values of `--log`.
    """
    from optitune.api import stages
    from optitune.terminal.compare import compare_view, print_comparison

    def note(text: str) -> None:
        click.echo(f"note: {text}", err=True)

    result = stages.compare(request, compare_view(quiet=quiet or as_json), log, note)
    if result.unwritten:
        click.echo(f"note: {result.unwritten}", err=True)
    if result.other_data:
        click.echo(
            "note: the data are not those that the configurations were found on (their checksums differ)", err=True
        )
    if not as_json:
        print_comparison(result, studies_dir, storage, request.data_dir, request.ranks)
    return result.document()
