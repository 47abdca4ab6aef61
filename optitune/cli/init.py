"""`optitune init` and `task-template`: files to begin with."""

from pathlib import Path

import click

from optitune.cli.options import study_places


@click.command()
@click.argument("name")
@click.option("--task", metavar="NAME", default="mnist-cnn", show_default=True, help="What the study trains.")
@study_places
def init(name: str, task: str, studies_dir: Path, storage: str | None) -> None:
    """Write a commented file that describes a study.

    All settings of a search stand in studies/NAME.toml; 'optitune search --study NAME' reads it.
    """
    from optitune.common.commands import typed
    from optitune.study.settings import checked_study_name
    from optitune.study.study_file import template

    path = studies_dir / f"{checked_study_name(name)}.toml"
    _write_new(path, template(name, task))
    click.echo(f"wrote {path}; edit it, then: {typed('search', studies_dir, storage, None, name)}")


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("my_task.py"))
def task_template(path: Path) -> None:
    """Write a task of your own to begin with: a model, data, loss and metric in 25 lines.

    It works as it stands; put your own model and data in their places.
    """
    import shlex
    from importlib.resources import files

    text = files("optitune").joinpath("task_template.py.txt").read_text(encoding="utf-8")
    _write_new(path, text)
    task = shlex.quote(f"{path}:make_task")
    click.echo(f"wrote {path}; edit it, then: optitune search --task {task} --epochs 20 --trials 20")


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet.

    Raises:
        OptituneError: it is there, or cannot be written.
    """
    from optitune.common.files import write_text
    from optitune.errors import OptituneError

    if path.exists():
        raise OptituneError(f"{path} is there already: choose another name, or remove it first")
    write_text(path, text)
