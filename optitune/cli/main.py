"""The group of commands, loaded by name so that `--help` needs nothing but click; and how errors leave the program."""

import atexit
import errno
import json
import os
import shlex
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

import click
from click.shell_completion import CompletionItem

from optitune.errors import Note, OptituneError, without_passwords

if TYPE_CHECKING:
    from optitune.training.dry_run import DryRun

COMMANDS = {
    "search": ("optitune.cli.search", "Search for the best optimizer and settings."),
    "worker": ("optitune.cli.worker", "Train trials of a study that was begun elsewhere."),
    "watch": ("optitune.cli.watch", "Follow a study that is trained elsewhere."),
    "compare": ("optitune.cli.compare", "Which optimizer, and how sure: train the best of each again on fresh seeds."),
    "retrain": ("optitune.cli.retrain", "Train a configuration in full and test it once on the sealed test set."),
    "judge": ("optitune.cli.judge", "Judge runs that were trained elsewhere: which one, and how sure."),
    "report": ("optitune.cli.report", "Write a page: which optimizer, how sure, and why."),
    "show": ("optitune.cli.show", "Show a study: settings, standings, best configuration."),
    "studies": ("optitune.cli.show", "List the studies."),
    "rename": ("optitune.cli.moving", "Rename a study."),
    "copy": ("optitune.cli.moving", "Copy a study with everything in its folder."),
    "remove": ("optitune.cli.moving", "Remove a study with everything in its folder."),
    "init": ("optitune.cli.init", "Write a commented file that describes a study."),
    "task-template": ("optitune.cli.init", "Write a task of your own to begin with."),
    "optimizers": ("optitune.cli.show", "List the optimizers that can compete, or show one."),
    "schedules": ("optitune.cli.show", "List the learning-rate schedules that can compete, or show one."),
    "tasks": ("optitune.cli.show", "List the built-in tasks."),
    "export": ("optitune.cli.export", "Print a configuration as code, or write all trials as tables."),
    "dashboard": ("optitune.cli.dashboard", "Open a study in optuna-dashboard."),
    "completion": ("optitune.cli.completion", "Print what makes a shell complete commands, options and names."),
}
"""Commands by name: where they are, and their line in the help."""


STOPPING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that ask for an end as Ctrl-C does: a cluster's, and that of a terminal that was closed."""


class Commands(click.Group):
    """Imports a command's module when the command is called, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name.replace("-", "_"))
        from optitune.cli.completion import COMPLETING, completable

        return completable(command) if COMPLETING in os.environ else command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        lines = {name: line for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)}
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=line) for name, line in lines.items()), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from optitune.errors import unknown

            raise unknown("command", name, COMMANDS)
        return super().resolve_command(ctx, args)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="optitune", message="optitune %(version)s")
def optitune() -> None:
    """Which optimizer should I train this model with, with which settings, and how sure are we?"""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0 done, 1 could not, 2 wrong usage, 130 interrupted."""
    if not os.environ.get("OPTITUNE_DEBUG"):
        # what libraries warn of is not the user's to act on, but what their own code does wrong is
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", Note)
        warnings.showwarning = _noted
    typed = sys.argv[1:] if arguments is None else arguments
    if os.path.expanduser("~") == "~":
        from optitune.common.files import with_home

        with_home()
    # a task that reads its own options finds none of ours
    sys.argv = sys.argv[:1]
    handled = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in handled:
        # while workers train, `pool.Pool` decides what these mean; what nohup ignores stays ignored
        signal.signal(number, signal.default_int_handler)
    if hasattr(os, "register_at_fork"):
        # processes that a task makes end when it says so, without a word
        os.register_at_fork(after_in_child=lambda: _as_usual(handled))
    if "--json" in typed and not {"--help", "-h", "--version"} & set(typed):
        _keep_stdout()
    code = run(typed)
    atexit._run_exitfuncs()
    try:
        _stdout().flush()
    except BrokenPipeError:
        code = code or 1
    except OSError as error:
        code = code or _unwritten(error)
    with suppress(OSError):
        sys.stderr.flush()
    # to take all modules of torch apart would keep a user waiting for a second, and changes nothing
    os._exit(code)


def _as_usual(numbers: list[int]) -> None:
    with suppress(ValueError):
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


_kept: list[TextIO] = []
"""Standard output, where nothing but the one JSON object may get to it."""


def _stdout() -> TextIO:
    return _kept[0] if _kept else sys.stdout


def _keep_stdout() -> None:
    """Let whatever else is printed, by a task, a library in C or a process of theirs, go to standard error."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except (AttributeError, OSError):
        return
    _kept[:] = [os.fdopen(kept, "w", encoding="utf-8")]
    try:
        os.dup2(2, 1)
    except OSError:
        # standard error is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def run(typed: list[str]) -> int:
    """Run a command line; its exit code."""
    as_json = "--json" in typed
    try:
        left = optitune.main(args=typed, prog_name="optitune", standalone_mode=False)
    except OptituneError as error:
        if os.environ.get("OPTITUNE_DEBUG"):
            traceback.print_exc()
        return _fail(str(error), error.exit_code, as_json)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        # what is shown is help, and exit code 2 is click's
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.exceptions.NoSuchOption as error:
        return _fail(_as_setting(error, typed) or error.format_message(), error.exit_code, as_json)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code, as_json)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 130, as_json)
    except BrokenPipeError:
        # whoever read the output has gone; nothing more can be said to them
        os.dup2(os.open(os.devnull, os.O_WRONLY), _stdout().fileno())
        return 1
    except Exception as error:
        if os.environ.get("OPTITUNE_DEBUG"):
            traceback.print_exc()
        if isinstance(error, OSError) and error.filename is None and error.errno in NO_ROOM:
            # files say themselves which of them cannot be written
            return _unwritten(error)
        if isinstance(error, OSError) and error.filename is not None and not isinstance(error, FileNotFoundError):
            # a place that was named: its name is too long for the system, or it lies where nobody may look
            return _fail(f"cannot use {error.filename}: {error.strerror}; choose another", 1, as_json)
        storage = sys.modules.get("optitune.storage.urls")
        if storage is not None and isinstance(error, storage.STORAGE_ERRORS):
            cause = storage.databases.cause(error)
            message = f"the storage failed: {cause}; if its file is damaged, move it away, or restore a copy of it"
            return _fail(message, 1, as_json)
        fault = f"a fault of optitune's own: {type(error).__name__}: {error}"
        message = f"{fault} (set OPTITUNE_DEBUG=1 to see where, and please report it)"
        return _fail(message, 1, as_json)
    # what a command leaves with by click's own way
    return left if isinstance(left, int) else 0


def _as_setting(error: click.exceptions.NoSuchOption, typed: list[str]) -> str:
    """What is said of an option that is a setting of a study; empty for any other."""
    key = error.option_name.lstrip("-").replace("-", "_")
    command = error.ctx.info_name if error.ctx else None
    if command not in ("search", "compare", "retrain"):
        return ""
    from optitune.space.optimizers import OPTIMIZERS
    from optitune.space.schedules import SCHEDULES
    from optitune.study.settings import reserved_names

    key = "lr" if key == "learning_rate" else key
    owner, _, name = key.rpartition(".")
    if (owner and owner not in {*OPTIMIZERS, *SCHEDULES}) or name not in reserved_names() - set(SCHEDULES):
        return ""
    value = "VALUE"
    for place, word in enumerate(typed):
        option, sign, after = word.partition("=")
        if option == error.option_name:
            value = after if sign else next((each for each in typed[place + 1 : place + 2]), value)
    value = "VALUE" if value.startswith("--") or not value else value
    if command == "search":
        return f"there is no option {error.option_name}: it is a setting of the study: {_typed_set(key, value)}"
    return (
        f"there is no option {error.option_name}: {command} trains what a search has found; to train other values, "
        + (f"search with {_typed_set(key, value)}" if command == "compare" else "edit a copy of best.toml and name it")
    )


def _typed_set(key: str, value: str) -> str:
    return shlex.join(["--set", f"{key}={value}"])


def _noted(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as a line."""
    click.echo(f"note: {message}", err=True)


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What writing to a file that standard output was sent to may meet."""


def _unwritten(error: OSError) -> int:
    """Say that standard output cannot be written, which is therefore no place for it."""
    return _fail(f"cannot write to standard output: {error.strerror}; what was finished is kept", 1, as_json=False)


def _fail(message: str, code: int, as_json: bool) -> int:
    message = without_passwords(message)
    # one whose own output has nowhere to go either has only the exit code
    with suppress(OSError):
        if as_json:
            click.echo(json.dumps({"error": message}), file=_stdout())
        else:
            click.echo(f"{'' if code == 130 else 'error: '}{message}", err=True)
    return code


def print_json(document: dict[str, Any]) -> None:
    """The one object of a `--json` run."""
    click.echo(json.dumps(document), file=_stdout())


def show_dry_run(found: "DryRun", as_json: bool) -> None:
    """Print a dry run, as the one object of a `--json` run or in words."""
    if as_json:
        print_json(found.document())
        return
    from optitune.terminal.dry_run import print_dry_run

    print_dry_run(found)
