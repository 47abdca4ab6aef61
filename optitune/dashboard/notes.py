"""A study's note, figures and files in optuna-dashboard, written anew as there is more to show.

Each stage, search, comparison and full training, has its part of the note; what a person writes below stays.

Notes and figures are system attributes of the study. They are written here as optuna-dashboard's `save_note` and
`save_plotly_graph_object` write them, since to import it takes a second and a half of every process; the tests read
them with its own functions.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from optitune.common.tables import Table
from optitune.dashboard import artifacts
from optitune.errors import OptituneError

STAGES = ("search", "compare", "retrain")

PART = "optitune:note:"
"""Of the system attributes that hold the stages' parts of the note."""

FIGURE = "dashboard:plot_data:"

PIECE = 2045
"""How long a piece of a text may be: what some databases hold in a column."""

WIDE_SPACE = "\N{EM SPACE}"

LINE = "*optitune writes what is above this line, and writes it anew; what you write below it stays.*"


@dataclass(frozen=True)
class Chapter:
    """A stage's part of the note, with figures and files.

    Attributes:
        text: Markdown.
        figures: by name, as plotly's JSON schema has them.
        files: by name; of the same name as before, in place of it.
    """

    text: str
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def write(opened: optuna.Study, stage: str, chapter: Chapter, folder: Path) -> str:
    """Write a stage's part of the note; returns what could not be done, or nothing.

    Args:
        stage: one of `STAGES`.
        folder: of the study.
    """
    storage, number = opened._storage, opened._study_id
    attrs = storage.get_study_system_attrs(number)
    if attrs.get(PART + stage) != chapter.text:
        storage.set_study_system_attr(number, PART + stage, chapter.text)
        attrs[PART + stage] = chapter.text
    written = _text(attrs, _note())
    # a note without the line was there before any of ours
    own = written.partition(LINE)[2] if LINE in written else written
    parts = [*(attrs[PART + each] for each in STAGES if PART + each in attrs), "---", LINE, own.strip()]
    _save_note(storage, number, None, "\n\n".join(part for part in parts if part), attrs)
    for name, document in chapter.figures.items():
        text = json.dumps(document, separators=(",", ":"), allow_nan=False)
        _save(storage, number, f"{FIGURE}{name}:", text, attrs)
    try:
        for name, text in chapter.files.items():
            artifacts.put(opened, name, text.encode(), folder)
    except (OptituneError, OSError) as error:
        return f"the dashboard lacks files of the study: {error}"
    return ""


def note_trial(trial: optuna.Trial, text: str) -> None:
    """Give a trial its note, in Markdown."""
    number = trial.study._study_id
    _save_note(trial.storage, number, trial._trial_id, text, trial.storage.get_study_system_attrs(number))


def _note(trial: int | None = None) -> str:
    """How the attributes of a note begin: of a trial, or of the study."""
    return "dashboard:note_" if trial is None else f"dashboard:{trial}:note_"


def _save_note(storage: BaseStorage, study: int, trial: int | None, text: str, attrs: Mapping[str, Any]) -> None:
    key = _note(trial)
    if _text(attrs, key) != text:
        # by it the dashboard knows whether somebody else has written since a person began to
        storage.set_study_system_attr(study, f"{key}ver", attrs.get(f"{key}ver", 0) + 1)
        _save(storage, study, f"{key}str:", text, attrs)


def _text(attrs: Mapping[str, Any], key: str) -> str:
    """A note as it is written."""
    pieces = sum(name.startswith(f"{key}str:") for name in attrs)
    return "".join(attrs[f"{key}str:{place}"] for place in range(pieces))


def _save(storage: BaseStorage, study: int, key: str, text: str, attrs: Mapping[str, Any]) -> None:
    """Write a text in pieces, those alone that have changed."""
    pieces = {f"{key}{begin // PIECE}": text[begin : begin + PIECE] for begin in range(0, len(text), PIECE)}
    left = {name: "" for name in attrs if name.startswith(key) and name not in pieces}
    for name, piece in (pieces | left).items():
        if attrs.get(name) != piece:
            storage.set_study_system_attr(study, name, piece)


def table(shown: Table) -> str:
    """A table in Markdown, without its caption."""
    # the dashboard leaves no room between columns; a browser keeps a wide space, and Markdown does not strip it
    lines = [[cell.replace("|", "/") + WIDE_SPACE for cell in line] for line in (shown.headings, *shown.rows)]
    lines.insert(1, ["---"] + ["---:"] * (len(shown.columns) - 1))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
