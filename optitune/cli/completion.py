"""`optitune completion`: what a shell needs to complete a command line, and what it may complete.

Nothing here imports torch: a key was pressed, and somebody waits.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

COMPLETING = "_OPTITUNE_COMPLETE"
"""What a shell sets that asks how a line may go on."""

TASKS = ("mnist-cnn", "mnist-mlp", "mnist-net", "fashion-mnist-cnn", "kmnist-cnn", "digits")
"""The built-in tasks, whose own module would import torch."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options and names.

    \b
    bash:  echo 'eval "$(optitune completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(optitune completion zsh)"' >> ~/.zshrc
    fish:  optitune completion fish > ~/.config/fish/completions/optitune.fish
    """
    source = get_completion_class(shell)
    assert source is not None
    maker = source(click.get_current_context().find_root().command, {}, "optitune", COMPLETING)
    # click's own way looks which bash is there, which may be another than the one that is to read this
    click.echo(maker.source_template % maker.source_vars())


def _optimizers() -> Iterable[str]:
    from optitune.space.optimizers import OPTIMIZERS

    return OPTIMIZERS


def _schedules() -> Iterable[str]:
    from optitune.space.schedules import SCHEDULES

    return SCHEDULES


def _choices(key: str) -> Callable[[], Iterable[str]]:
    """The words that a setting may have."""

    def words() -> Iterable[str]:
        from typing import get_args

        from optitune.study.settings import StudySettings

        return [str(word) for word in get_args(StudySettings.model_fields[key].annotation)]

    return words


def _files(ending: str, incomplete: str) -> list[str]:
    """Files and folders that a path may go on with."""
    folder = Path(incomplete).parent if not incomplete.endswith(("/", os.sep)) else Path(incomplete)
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    named = [f"{path}/" if path.is_dir() else str(path) for path in there if path.is_dir() or path.suffix == ending]
    return [name for name in named if not Path(name).name.startswith((".", "__"))]


def _studies(context: click.Context) -> list[str]:
    if context.params.get("storage") or os.environ.get("OPTITUNE_STORAGE"):
        # to ask a server would keep the user waiting
        return []
    folder = Path(context.params.get("studies_dir") or os.environ.get("OPTITUNE_STUDIES_DIR") or "studies")
    made = {path.parent.name for path in folder.glob("[!.]*/study.db")}
    described = {path.stem for path in folder.glob("*.toml")} if context.info_name == "search" else set()
    return sorted(made | described)


def _last_of_list(words: Iterable[str], incomplete: str) -> list[str]:
    before, comma, _ = incomplete.rpartition(",")
    had = before.split(",")
    return [f"{before}{comma}{word}" for word in words if word not in had]


Completer = Callable[[click.Context, str], Iterable[str]]

COMPLETERS: dict[str, Completer] = {
    "optimizers": lambda context, incomplete: _last_of_list([*_optimizers(), "all"], incomplete),
    "schedules": lambda context, incomplete: _last_of_list([*_schedules(), "all"], incomplete),
    "task": lambda context, incomplete: [*TASKS, *_files(".py", incomplete)],
    "sampler": lambda context, incomplete: _choices("sampler")(),
    "pruner": lambda context, incomplete: _choices("pruner")(),
    "budget_in": lambda context, incomplete: _choices("budget_in")(),
    "precision": lambda context, incomplete: _choices("precision")(),
    "device": lambda context, incomplete: ["auto", "cpu", "cuda"],
    "study": lambda context, incomplete: _studies(context),
    "older": lambda context, incomplete: _studies(context),
    "what": lambda context, incomplete: ["best", *_files(".toml", incomplete)],
    "runs": lambda context, incomplete: [path for end in (".csv", ".parquet") for path in _files(end, incomplete)],
    "old": lambda context, incomplete: _studies(context),
    "remove NAME": lambda context, incomplete: _studies(context),
    "optimizers NAME": lambda context, incomplete: _optimizers(),
    "schedules NAME": lambda context, incomplete: _schedules(),
}
"""What the values of a parameter may be, by its name; of an argument called NAME, by its command's as well."""


def completable(command: click.Command) -> click.Command:
    """The command, its parameters with what they may be completed to."""
    for parameter in command.params:
        arguments = f"{command.name} {(parameter.name or '').upper()}"
        completer = COMPLETERS.get(arguments) or COMPLETERS.get(parameter.name or "")
        if completer is not None:
            parameter._custom_shell_complete = _items(completer)
    return command


def _items(completer: Completer) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            words = completer(context, incomplete)
            return [CompletionItem(word) for word in words if word.startswith(incomplete)]
        except Exception:
            # whoever types has not asked for anything yet, and is told nothing
            return []

    return complete
