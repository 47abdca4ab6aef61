"""`optitune worker`."""

from pathlib import Path
from typing import Any

import click

from optitune.cli.main import print_json
from optitune.cli.options import Duration, data_place, log, machine, output, study_places, trial_timeout


@click.command()
@click.option("--study", metavar="NAME", help="The study.  [default: mnist-cnn, or the only one there is]")
@study_places
@data_place
@machine
@click.option("--timeout", type=Duration(), metavar="TIME", help="Begin no trial after this time: 90, 90s, 10m, 2h.")
@trial_timeout
@log
@output
def worker(
    study: str | None,
    studies_dir: Path,
    storage: str | None,
    log: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    **asked: Any,
) -> None:
    """Train trials of a study that was begun elsewhere.

    Joins a study that 'optitune search' made in a storage which this machine reaches, too, with everything read
    from there: task, settings, ranges, how many trials. Ends when the study has them all; may come and go. A machine
    that lacks the task's file, or has other data, is refused before it takes a trial.
    """
    from optitune.workers.pool import WORKER_MODULES, warm_up

    warm_up(*WORKER_MODULES)
    from optitune.api.stages import join
    from optitune.searching.requests import JoinRequest
    from optitune.storage.listing import choose_study
    from optitune.terminal.search import print_joined, search_view

    request = JoinRequest(home=choose_study(study, studies_dir, storage), **asked)
    result = join(request, search_view(quiet=quiet or as_json), log)
    if as_json:
        print_json(result.document())
    else:
        print_joined(result)
