"""Commands that can be typed again: words for a shell, and the options that lead them to the same study."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

PASSWORD = re.compile(r"^[\w+]+://(?:[^:/]*:[^@]+@|.*[?&](?:ssl)?passw(?:or)?d=)")
"""A URL with a password in it."""


def place(studies_dir: Path, storage: str | None = None, data_dir: Path | None = None, ranks: int = 1) -> list[str]:
    """The options by which a command finds the same studies and data, and trains by as many processes.

    Args:
        studies_dir: folder of the studies; `studies` needs no option.
        storage: URL of a database; one with a password is shown as `URL`.
        data_dir: folder of the data sets.
        ranks: how many processes train together.
    """
    words = [] if studies_dir == Path("studies") else ["--studies-dir", str(studies_dir)]
    if data_dir is not None:
        words += ["--data-dir", str(data_dir)]
    if storage:
        words += ["--storage", "URL" if PASSWORD.match(storage) else storage]
    if ranks > 1:
        words += ["--ranks", str(ranks)]
    return words


def typed(
    command: str,
    studies_dir: Path,
    storage: str | None = None,
    data_dir: Path | None = None,
    study: str = "",
    ranks: int = 1,
) -> str:
    """A command as it is typed, with the options that lead it to the same study.

    Args:
        command: its name and words, such as `retrain best`.
        studies_dir: where studies lie; left out where that is the usual folder.
        storage: URL of the storage; None for a file in the study's folder.
        data_dir: where data sets lie; None for the usual folder.
        study: a name for `--study`; empty where the command names it, or needs none.
        ranks: how many processes train together.
    """
    options = ["--study", study] if study else []
    return line([*command.split(), *options, *place(studies_dir, storage, data_dir, ranks)])


def line(words: Sequence[str]) -> str:
    """A command as it is typed."""
    return shlex.join(["optitune", *words])


def option_words(options: Mapping[str, object]) -> list[str]:
    """Options and their values as words, without those that are None."""
    return [word for option, value in options.items() if value is not None for word in (option, str(value))]
