"""`optitune show`, `studies`, `optimizers` and `tasks`: what there is to look at."""

from pathlib import Path
from typing import Any

import click

from optitune.cli.main import print_json
from optitune.cli.options import study_places

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else there."
)


@click.command()
@click.argument("study", required=False)
@study_places
@json_option
def show(study: str | None, studies_dir: Path, storage: str | None, as_json: bool) -> None:
    """Show a study: settings, standings, best configuration, and why trials ended early."""
    from optitune.cli import standings
    from optitune.cli.choose import choose_study
    from optitune.storage import open_storage
    from optitune.study import find, stored_settings
    from optitune.study import records as read

    home = choose_study(study, studies_dir, storage)
    opened = find(open_storage(home.url, create=False), home.name)
    settings = stored_settings(opened)
    records = read(opened)
    if as_json:
        print_json(
            standings.study_document(
                home.name, settings, opened.user_attrs["data"], opened.user_attrs["versions"], records
            )
        )
    else:
        standings.print_study(home.name, settings, opened.user_attrs["data"], records)


@click.command()
@study_places
@json_option
def studies(studies_dir: Path, storage: str | None, as_json: bool) -> None:
    """List the studies: name, task, trials by state, best value, age."""
    from optitune.cli import standings
    from optitune.overview import overview
    from optitune.storage import shown

    rows, broken = overview(studies_dir, storage)
    if as_json:
        print_json({"studies": [row.document() for row in rows], "unreadable": broken})
        return
    standings.print_studies(rows, shown(storage) if storage else str(studies_dir))
    for message in broken:
        click.echo(f"note: {message}", err=True)


@click.command()
@click.argument("name", required=False)
@json_option
def optimizers(name: str | None, as_json: bool) -> None:
    """List the optimizers that can compete, or show one with its ranges and sources."""
    from optitune.cli.registry import print_optimizer, print_optimizers
    from optitune.optimizers import DEFAULT_OPTIMIZERS, OPTIMIZERS, find

    rows = [find(name)] if name else list(OPTIMIZERS.values())
    if as_json:
        print_json({"optimizers": [_plain(row) for row in rows], "default": list(DEFAULT_OPTIMIZERS)})
    elif name:
        print_optimizer(rows[0])
    else:
        print_optimizers(rows)


def _plain(row: Any) -> dict[str, Any]:
    return {
        "name": row.name,
        "class": row.path.replace(":", "."),
        "known_good": [row.arguments(values) for values in row.known_good],
        "ranges": {key: {"range": str(value), "source": value.source} for key, value in row.ranges.items()},
        "source": row.source,
        "note": row.note,
    }


@click.command()
@json_option
def tasks(as_json: bool) -> None:
    """List the built-in tasks: data and network."""
    from optitune.cli.registry import print_tasks
    from optitune.tasks import TASKS, described

    if as_json:
        print_json(
            {"tasks": [{"name": row.name, "dataset": row.dataset, "about": described(row)} for row in TASKS.values()]}
        )
    else:
        print_tasks(list(TASKS.values()))
