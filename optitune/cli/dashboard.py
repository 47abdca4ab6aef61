"""`optitune dashboard`."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optitune.cli.options import AtLeast, study_places

if TYPE_CHECKING:
    from optitune.dashboard.server import Place


@click.command()
@click.argument("name", metavar="[STUDY]", required=False)
@click.option("--study", metavar="NAME", help="The study.  [default: mnist-cnn, or the only one there is]")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="HOST",
    help="Where to listen; optuna-dashboard has no login, so any other shows it to whoever reaches it.",
)
@click.option("--port", type=AtLeast(0), default=8080, show_default=True, help="Port; 0 for any that is free.")
@study_places
def dashboard(
    name: str | None, study: str | None, host: str, port: int, studies_dir: Path, storage: str | None
) -> None:
    """Open a study in optuna-dashboard.

    Serves it at 127.0.0.1, or at --host, until Ctrl-C, also while a search runs.
    """
    from optitune.dashboard.server import plain_command, serve
    from optitune.storage.listing import choose_study

    if name is not None and study is not None and name != study:
        raise click.UsageError(f"'{name}' and --study {study} are two studies: name one")
    home = choose_study(name or study, studies_dir, storage)
    opened = home.open()

    def say(place: "Place") -> None:
        if place.exposed:
            click.echo(
                f"warning: optuna-dashboard has no login: everyone who reaches {place.address} can read and change "
                "every study of this storage; for yourself alone, leave --host out and type where your browser is: "
                f"ssh -L {place.port}:127.0.0.1:{place.port} {socket.gethostname()}",
                err=True,
            )
        click.echo(f"study '{home.name}': {place.address}/dashboard/studies/{opened._study_id}")
        without_us = plain_command(home)
        if without_us:
            click.echo(f"the same without optitune: {without_us}")
        click.echo("Ctrl-C ends it")

    serve(home, studies_dir, host, port, say)
