"""`optitune show`, `studies`, `optimizers` and `tasks`: what there is to look at."""

from pathlib import Path
from typing import Any

import click

from optitune.cli.main import print_json
from optitune.cli.options import AtLeast, study_places

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else there."
)


@click.command()
@click.argument("study", required=False)
@study_places
@click.option("--trial", type=AtLeast(0), help="Show one trial: its settings as torch takes them, its curve, its end.")
@click.option("--settings", "only_settings", is_flag=True, help="Print the settings alone, as a study's file has them.")
@json_option
def show(
    study: str | None, studies_dir: Path, storage: str | None, trial: int | None, only_settings: bool, as_json: bool
) -> None:
    """Show a study: settings, standings, best configuration, why trials ended early, and what its comparison says.

    The settings are printed as a file studies/NAME.toml would have them, so that
    'optitune show NAME --settings > studies/OTHER.toml' makes another study of the same.
    """
    from optitune.comparing.results import FOLDER, load_plan, load_verdict, searched_on, taken
    from optitune.retraining.results import load
    from optitune.storage.listing import choose_study
    from optitune.storage.studies import TRIALS, metric, origin, stored_settings
    from optitune.storage.trials import record
    from optitune.storage.trials import records as read
    from optitune.study.records import standings
    from optitune.terminal import study as study_view

    home = choose_study(study, studies_dir, storage)
    opened = home.open()
    settings = stored_settings(opened)
    if only_settings and not as_json:
        from optitune.study.study_file import dumps

        click.echo(dumps(settings), nl=False)
        return
    trained = {path.parent.name: load(path.parent) for path in sorted(home.folder.glob("retrain/*/metrics.json"))}
    folder, records = home.folder / FOLDER, read(opened)
    plan = load_plan(folder)
    leaders = {row.optimizer: row.best.number for row in standings(records, settings["optimizers"]) if row.best}
    shown = study_view.StudyView(
        name=home.name,
        settings=settings,
        data=opened.user_attrs["data"],
        unit=metric(opened).unit,
        records=records,
        target=opened.user_attrs.get(TRIALS),
        origin=origin(opened),
        verdict=load_verdict(folder),
        outdated=searched_on(plan, records) if plan else (),
        recommended=taken(folder, leaders),
        tested={name: found for name, found in trained.items() if found is not None},
        place=(studies_dir, storage),
    )
    if trial is not None:
        row = record(opened, trial)
        if as_json:
            print_json({"study": home.name, "trial": study_view.trial_document(row)})
        else:
            study_view.print_trial(shown, row)
    elif as_json:
        print_json(study_view.study_document(shown, opened.user_attrs["versions"]))
    else:
        study_view.print_study(shown)


@click.command()
@study_places
@json_option
def studies(studies_dir: Path, storage: str | None, as_json: bool) -> None:
    """List the studies: name, task, trials by state, best value, age."""
    from optitune.storage.listing import overview
    from optitune.storage.urls import StorageUrl
    from optitune.terminal import study as study_view

    rows, broken = overview(studies_dir, storage)
    if as_json:
        print_json({"studies": [row.document() for row in rows], "unreadable": broken})
        return
    study_view.print_studies(rows, StorageUrl.parse(storage).shown if storage else str(studies_dir))
    for message in broken:
        click.echo(f"note: {message}", err=True)


@click.command()
@click.argument("name", required=False)
@json_option
def optimizers(name: str | None, as_json: bool) -> None:
    """List the optimizers that can compete, or show one with its ranges and sources.

    NAME may be a class as module:Class, such as lion_pytorch:Lion: its ranges follow from the defaults of its
    constructor.
    """
    from optitune.space.optimizers import DEFAULT_OPTIMIZERS, find, known
    from optitune.terminal.registry import print_optimizer, print_optimizers

    if name and ":" in name:
        from optitune.training.optimizer_classes import row_at

        rows = [row_at(name, Path("studies"))]
    else:
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
    from optitune.space.schedules import DEFAULT_SCHEDULES, SCHEDULES, find
    from optitune.terminal.registry import EPOCHS, print_schedule, print_schedules

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
    from optitune.tasks.builtin import TASKS
    from optitune.terminal.registry import print_tasks

    rows = list(TASKS.values())
    if as_json:
        print_json({"tasks": [{"name": row.name, "dataset": row.dataset, "about": row.described()} for row in rows]})
    else:
        print_tasks(rows)
