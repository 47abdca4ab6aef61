"""`optitune dashboard`."""

from pathlib import Path

import click

from optitune.cli.options import AtLeast, study_places


@click.command()
@click.option("--study", metavar="NAME", help="The study.  [default: mnist-cnn, or the only one there is]")
@click.option(
    "--port", type=AtLeast(0), default=8080, show_default=True, help="Port on 127.0.0.1; 0 for any that is free."
)
@study_places
def dashboard(study: str | None, port: int, studies_dir: Path, storage: str | None) -> None:
    """Open a study in optuna-dashboard.

    Serves it at 127.0.0.1 until Ctrl-C, also while a search runs.
    """
    from optitune.cli.choose import choose_study
    from optitune.dashboard import plain_command, serve
    from optitune.storage import open_storage
    from optitune.study import find

    home = choose_study(study, studies_dir, storage)
    opened = find(open_storage(home.url, create=False), home.name)

    def say(address: str) -> None:
        click.echo(f"study '{home.name}': {address}/dashboard/studies/{opened._study_id}")
        click.echo(f"the same without optitune: {plain_command(home.url)}")
        click.echo("Ctrl-C ends it")

    serve(home.url, port, say)
