"""`optitune watch`."""

from pathlib import Path

import click

from optitune.cli.main import print_json
from optitune.cli.options import output, study_places


@click.command()
@click.argument("study", required=False)
@study_places
@output
def watch(study: str | None, studies_dir: Path, storage: str | None, as_json: bool, quiet: bool) -> None:
    """Follow a study that is trained elsewhere.

    In another terminal, or on other machines through --storage: standings, what every worker does, and the time left,
    as the search itself shows them. Writes nothing to the study. Ends when the study has all its trials; Ctrl-C ends
    the watching alone.
    """
    from optitune.common.commands import place
    from optitune.searching.watch import watch as follow
    from optitune.storage.listing import choose_study
    from optitune.terminal.search import search_view
    from optitune.terminal.study import print_watched

    home = choose_study(study, studies_dir, storage)
    result = follow(home, search_view(quiet=quiet or as_json), where=place(studies_dir, storage))
    if as_json:
        print_json(result.document())
    else:
        print_watched(result, studies_dir, storage)
