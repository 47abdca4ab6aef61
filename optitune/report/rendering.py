"""Pages as HTML that need no other file, from templates that lie beside this file."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from optitune.common.tables import Table
from optitune.report.style import DARK, Palette, Picture, svg, variable
from optitune.storage import studies


@dataclass(frozen=True)
class Section:
    """A part of the page; `code` is what can be typed or saved."""

    key: str
    title: str
    words: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    code: tuple[str, ...] = ()


def rendered(template: str, **values: Any) -> str:
    """A template that lies beside this file as HTML, every value in it escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("optitune.report", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(**values)


def rendered_page(
    title: str, about: str, headline: str, advice: str, command: str, sections: Sequence[Section], palette: Palette
) -> str:
    """A page as HTML that needs no other file.

    Args:
        title: of the window.
        about: what it is about, above the headline.
        headline: the verdict.
        advice: below it.
        command: to type next; empty for none.
        sections: the parts of the page.
        palette: of the optimizers.
    """
    return rendered(
        "report.html",
        title=title,
        about=about,
        headline=headline,
        advice=advice,
        command=command,
        sections=sections,
        drawn=svg,
        colours={name: variable(palette.colour(name)) for name in palette.optimizers},
        papers={variable(light): (light, dark) for light, dark in DARK.items()},
        writer=studies.versions()["optitune"],
        written=datetime.now().astimezone(),
    )
