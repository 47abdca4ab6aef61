"""`optitune report`."""

from pathlib import Path

import click

from optitune.cli.main import print_json
from optitune.cli.options import output, study_places


@click.command()
@click.argument("study", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "png"]),
    default="html",
    show_default=True,
    help="One page, or the figures alone.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where to write.  [default: studies/STUDY/report]")
@click.option("--open", "opening", is_flag=True, help="Open it in the browser.")
@study_places
@output
def report(
    study: str | None,
    form: str,
    out: Path | None,
    opening: bool,
    studies_dir: Path,
    storage: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a page: which optimizer, how sure, and why.

    The page is one file that needs no other: verdict, standings, learning curves, learning rates, the budget, which
    settings matter, the test, and all that is needed to repeat it. It shows what is known by then: after a search,
    after a comparison, after a full training.
    """
    from optitune.common.commands import line, place
    from optitune.report import page as reports
    from optitune.storage.listing import choose_study

    home = choose_study(study, studies_dir, storage)
    opened = home.open()
    subject = reports.gather(home, opened, place(studies_dir, storage))
    folder = out or home.folder / reports.FOLDER
    paths = [reports.write_page(subject, folder)] if form == "html" else reports.write_pictures(subject, folder)
    if as_json:
        print_json({"report": str(paths[0])} if form == "html" else {"figures": [str(path) for path in paths]})
    else:
        for path in paths:
            click.echo(path)
        if not paths:
            click.echo("note: there is nothing to draw yet", err=True)
        elif subject.comparison is None and not quiet:
            command = line(["compare", home.name, *place(studies_dir, storage)])
            click.echo(f"note: the optimizers are not compared yet, so nothing is sure: {command}", err=True)
    if opening and paths:
        import webbrowser

        webbrowser.open((paths[0] if form == "html" else folder).resolve().as_uri())
