"""`optitune export`."""

from pathlib import Path

import click

from optitune.cli.options import study_places


@click.command()
@click.argument("what", default="best", metavar="[best|TRIAL_NUMBER|FILE]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["python", "toml", "json"]),
    default="python",
    show_default=True,
    help="What to print.",
)
@click.option("--study", metavar="NAME", help="The study.  [default: mnist-cnn, or the only one there is]")
@study_places
def export(what: str, form: str, study: str | None, studies_dir: Path, storage: str | None) -> None:
    """Print a configuration as Python, TOML or JSON.

    The Python is a function train(model, loader) that trains with torch alone just as the search did: optimizer,
    schedule, parameter groups, clipping, accumulation and loss.
    """
    from optitune.cli.choose import choose
    from optitune.export import export as exported

    chosen = choose(what, study, studies_dir, storage)
    if chosen.note:
        click.echo(f"note: {chosen.note}", err=True)
    click.echo(exported(chosen.config, form))
