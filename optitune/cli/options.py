"""Options that several commands share, and the kinds of value they take."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from optitune.common.commands import PASSWORD

Command = TypeVar("Command", bound=Callable[..., Any])


class Duration(click.ParamType[Any]):
    """A time such as 90, 90s, 10m or 2h, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        from optitune.study.study_file import seconds

        try:
            return seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Names(click.ParamType[Any]):
    """Names separated by commas."""

    name = "a,b,c"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in str(value).split(",") if name.strip())
        if not names:
            self.fail(f"'{value}' names nothing: write names separated by commas", param, ctx)
        return names


MOST_WORKERS = 4096


class Count(click.ParamType[Any]):
    """A whole number of at least `low`, or `auto`, which is None."""

    name = "N|auto"

    def __init__(self, low: int = 1) -> None:
        self.low = low

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value == "auto":
            return None
        try:
            number = int(value)
        except ValueError:
            number = self.low - 1
        if number < self.low:
            self.fail(f"'{value}' is not a number of at least {self.low}, nor auto", param, ctx)
        if number > MOST_WORKERS:
            self.fail(f"'{value}' is more than {MOST_WORKERS}, which no machine bears", param, ctx)
        return number


LARGEST = 2**31 - 1


class AtLeast(click.ParamType[Any]):
    """A whole number of at least `low` and at most `high`, with one plain message for everything else."""

    name = "N"

    def __init__(self, low: int, high: int = LARGEST) -> None:
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            number = self.low - 1
        if number < self.low:
            self.fail(f"'{value}' is not a whole number of at least {self.low}", param, ctx)
        if number > self.high:
            self.fail(f"'{value}' is more than {self.high}", param, ctx)
        return number


class Epochs(AtLeast):
    """A whole number of at least `low`, or `auto`, which stays."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return value if value == "auto" else super().convert(value, param, ctx)
        except click.BadParameter as error:
            raise click.BadParameter(f"{error.message}, and not auto", ctx, param) from None


class Folder(click.Path):
    """The path of a folder; `~` is the user's home also where the shell leaves it, as in an environment variable."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return Path(os.path.expanduser(os.fsdecode(super().convert(value, param, ctx))))


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order in which the help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _warned_of_password(context: click.Context, option: click.Parameter, url: str | None) -> str | None:
    # what is typed stands in the list of processes for as long as the command runs; the environment does not
    typed = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
    if url is not None and typed and PASSWORD.match(url):
        click.echo(
            f"warning: all users of this machine can read the password in {option.opts[0]} while this runs: "
            + ("put the URL into OPTITUNE_STORAGE, or " if option.envvar else "")
            + "leave the password out of it and put it into PGPASSWORD or ~/.pgpass",
            err=True,
        )
    return url


study_places = together(
    click.option(
        "--studies-dir",
        type=Folder(),
        envvar="OPTITUNE_STUDIES_DIR",
        default=Path("studies"),
        show_default=True,
        show_envvar=True,
        help="Where studies lie.",
    ),
    click.option(
        "--storage",
        metavar="URL",
        envvar="OPTITUNE_STORAGE",
        callback=_warned_of_password,
        help="Database in place of the study's own SQLite file.",
    ),
)

older_study_place = together(
    click.option(
        "--from",
        "older",
        metavar="OLD",
        help="Begin a new study with the trials of another one that lie in its search space; what is not set is as in "
        "that one.",
    ),
    click.option(
        "--from-storage",
        metavar="URL",
        callback=_warned_of_password,
        help="Database with the study OLD, if it is neither with the new one nor in a file of its own.",
    ),
)

data_place = click.option(
    "--data-dir",
    type=Folder(),
    envvar="OPTITUNE_DATA_DIR",
    show_envvar=True,
    help="Where torchvision's data lie, or are downloaded to.  [default: the user's cache folder]",
)

device = click.option(
    "--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda, cuda:1, ..."
)


def workers(low: int = 1, also: str = "") -> Callable[[Command], Command]:
    """How many processes train."""
    text = "Processes that train; auto: one per core, four per GPU" + also
    return click.option("--workers", type=Count(low), default="auto", show_default=True, help=f"{text}.")


ranks = click.option(
    "--ranks",
    type=AtLeast(1),
    default=1,
    show_default=True,
    help="Of a training loop of your own: processes that train each trial together, by torch.distributed.",
)

machine = together(workers(), device, ranks)

trial_timeout = click.option(
    "--trial-timeout",
    type=Duration(),
    metavar="TIME",
    help="Give up a trial that takes longer than this: it hangs, and another is tried.",
)

dry_run = click.option(
    "--dry-run",
    is_flag=True,
    help="Only say what would be trained, on how many examples, for how long, and what it needs on the disk; the time "
    "is estimated from a second of real steps.",
)

log = click.option(
    "--log",
    multiple=True,
    metavar="NAME[=PLACE]",
    help="Write every training down as it goes: tensorboard[=FOLDER] (by default in the study's folder), mlflow[=URI] "
    "or wandb[=PROJECT]; may be given for each.",
)

output = together(
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else there."),
    click.option("--quiet", "-q", is_flag=True, help="No progress, only the result."),
)
