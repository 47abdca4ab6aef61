"""What a study tells in optuna-dashboard: a note, figures and files, written anew as there is more to tell.

Each stage, search, comparison and full training, has its part of the note; what a person writes below stays.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna_dashboard import get_note, save_note, save_plotly_graph_object
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

from optitune import artifacts
from optitune.errors import OptituneError

STAGES = ("search", "compare", "retrain")

PART = "optitune:note:"
"""Of the system attributes that hold the stages' parts of the note."""

LINE = "*optitune writes what is above this line, and writes it anew; what you write below it stays.*"


@dataclass(frozen=True)
class Chapter:
    """What a stage tells.

    Attributes:
        text: Markdown.
        figures: by name, as plotly's JSON schema has them.
        files: by name; of the same name as before, in place of it.
    """

    text: str
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Figure:
    """As much of plotly's Figure as the dashboard asks for: it keeps the JSON."""

    document: Mapping[str, Any]

    def to_json(self) -> str:
        return json.dumps(self.document, separators=(",", ":"), allow_nan=False)


def tell(opened: optuna.Study, stage: str, chapter: Chapter, folder: Path) -> str:
    """Let the study tell a stage's chapter; what could not be done, or nothing.

    Args:
        stage: one of `STAGES`.
        folder: of the study.
    """
    storage, number = opened._storage, opened._study_id
    attrs = storage.get_study_system_attrs(number)
    if attrs.get(PART + stage) != chapter.text:
        storage.set_study_system_attr(number, PART + stage, chapter.text)
        attrs[PART + stage] = chapter.text
    written = get_note(opened)
    # a note without the line was there before any of ours
    own = written.partition(LINE)[2] if LINE in written else written
    parts = [*(attrs[PART + each] for each in STAGES if PART + each in attrs), "---", LINE, own.strip()]
    body = "\n\n".join(part for part in parts if part)
    if body != written:
        save_note(opened, body)
    drawn = get_plotly_graph_objects(attrs)
    for name, document in chapter.figures.items():
        if drawn.get(name) != _Figure(document).to_json():
            save_plotly_graph_object(opened, _Figure(document), graph_object_id=name)
    try:
        for name, text in chapter.files.items():
            artifacts.put(opened, name, text.encode(), folder)
    except (OptituneError, OSError) as error:
        return f"the dashboard lacks files of the study: {error}"
    return ""


def table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [headings, ("---",) + ("---:",) * (len(headings) - 1), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
