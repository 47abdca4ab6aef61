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
@click.option("--settings", "only_settings", is_flag=True, help="Print the settings alone, as a study's file has them.")
@json_option
def show(study: str | None, studies_dir: Path, storage: str | None, only_settings: bool, as_json: bool) -> None:
    """Show a study: settings, standings, best configuration, why trials ended early, and what its comparison says.

    The settings are printed as a file studies/NAME.toml would have them, so that
    'optitune show NAME --settings > studies/OTHER.toml' makes another study of the same.
    """
    from optitune.cli import standings
    from optitune.cli.choose import choose_study
    from optitune.comparison_results import FOLDER, load_verdict
    from optitune.storage import open_storage
    from optitune.study import find, stored_settings
    from optitune.study import records as read

    home = choose_study(study, studies_dir, storage)
    opened = find(open_storage(home.url, create=False), home.name)
    settings = stored_settings(opened)
    if only_settings and not as_json:
        from optitune.study_file import dumps

        click.echo(dumps(settings), nl=False)
        return
    records = read(opened)
    data, verdict = opened.user_attrs["data"], load_verdict(home.folder / FOLDER)
    if as_json:
        document = standings.study_document(home.name, settings, data, opened.user_attrs["versions"], records)
        print_json({**document, "verdict": verdict})
    else:
        standings.print_study(home.name, settings, data, records)
        if verdict is not None:
            click.echo(f"\nthe comparison says: {verdict['sentence']}")


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
    from optitune.optimizers import DEFAULT_OPTIMIZERS, find, known

    rows = [find(name)] if name else list(known().values())
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
        "also": dict(row.also),
        "source": row.source,
        "note": row.note,
    }


@click.command()
@click.argument("name", required=False)
@json_option
def schedules(name: str | None, as_json: bool) -> None:
    """List the learning-rate schedules that can compete, or show one with its ranges and sources.

    Ranges that depend on the length of the training are those of 10 epochs.
    """
    from optitune.cli.registry import EPOCHS, print_schedule, print_schedules
    from optitune.schedules import DEFAULT_SCHEDULES, SCHEDULES, find

    rows = [find(name)] if name else list(SCHEDULES.values())
    if as_json:
        plain = [
            {
                "name": row.name,
                "class": row.path.replace(":", "."),
                "stepped": row.per,
                "known_good": row.arguments(row.known_good(EPOCHS)),
                "ranges": {
                    key: {"range": str(value), "source": value.source} for key, value in row.ranges(EPOCHS).items()
                },
                "source": row.source,
                "note": row.note,
            }
            for row in rows
        ]
        print_json({"schedules": plain, "epochs": EPOCHS, "default": list(DEFAULT_SCHEDULES)})
    elif name:
        print_schedule(rows[0])
    else:
        print_schedules(rows)


@click.command()
@json_option
def tasks(as_json: bool) -> None:
    """List the built-in tasks: data and network."""
    from optitune.cli.registry import print_tasks
    from optitune.tasks import TASKS

    rows = list(TASKS.values())
    if as_json:
        print_json({"tasks": [{"name": row.name, "dataset": row.dataset, "about": row.described()} for row in rows]})
    else:
        print_tasks(rows)
