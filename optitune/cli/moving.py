"""`optitune rename`, `copy` and `remove`."""

import sys
from pathlib import Path

import click

from optitune.cli.main import print_json
from optitune.cli.options import study_places

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else there."
)


@click.command()
@click.argument("old")
@click.argument("new")
@study_places
@json_option
def rename(old: str, new: str, studies_dir: Path, storage: str | None, as_json: bool) -> None:
    """Rename a study: its folder, its settings file, and the study in its database.

    A study with a file of its own may as well be renamed, moved or copied by the shell: its name is that of its folder.
    One that is being trained is refused. A rename that was interrupted is finished by the same command.
    """
    from optitune.api.moving import rename as renamed
    from optitune.common.commands import typed
    from optitune.dashboard.result_notes import write_searched

    home = renamed(old, new, studies_dir, storage)
    unwritten = write_searched(home)
    if as_json:
        print_json({"study": home.name, "before": old, "folder": str(home.folder)})
        return
    click.echo(f"study '{old}' is '{new}' now: {home.folder if storage is None else home.url.shown}")
    if unwritten:
        click.echo(f"note: {unwritten}", err=True)
    if (home.folder / "report" / "report.html").exists():
        click.echo(f"its report still names '{old}'; write it again: {typed(f'report {new}', studies_dir, storage)}")


@click.command()
@click.argument("old")
@click.argument("new")
@study_places
@json_option
def copy(old: str, new: str, studies_dir: Path, storage: str | None, as_json: bool) -> None:
    """Copy a study with everything in its folder, to go on with the copy in another way.

    Also while it is trained: the copy has what was finished by then.
    """
    from optitune.api.moving import copy as copied
    from optitune.errors import UsageError

    if storage is not None:
        raise UsageError("--storage: only a study with a file of its own can be copied; copy the database itself")
    home = copied(old, new, studies_dir)
    if as_json:
        print_json({"study": home.name, "of": old, "folder": str(home.folder)})
    else:
        click.echo(f"study '{new}' is a copy of '{old}': {home.folder}")


@click.command()
@click.argument("name")
@study_places
@click.option("--yes", is_flag=True, help="Remove it without asking.")
@json_option
def remove(name: str, studies_dir: Path, storage: str | None, yes: bool, as_json: bool) -> None:
    """Remove a study with everything in its folder: trials, comparison, full trainings, report.

    Asks first. Its settings file studies/NAME.toml stays. One that is being trained is refused.
    """
    from optitune.api import moving
    from optitune.errors import UsageError

    home, contents = moving.found(name, studies_dir, storage)
    if not yes:
        if as_json or not (sys.stdin and sys.stdin.isatty()):
            raise UsageError(f"study '{name}' ({contents}) would be removed for good: say so with --yes")
        if not click.confirm(f"Remove study '{name}' ({contents}) for good?"):
            click.echo("nothing was removed")
            return
    moving.remove(home)
    if as_json:
        print_json({"removed": name, "folder": str(home.folder)})
        return
    click.echo(f"removed study '{name}'")
    if (kept := moving.settings_file(home)).exists():
        click.echo(f"{kept} stays: 'optitune search --study {name}' would begin anew from it")
