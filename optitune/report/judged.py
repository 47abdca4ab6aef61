"""Runs that were trained elsewhere, judged: tables, figures and a page of their own."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import wrap

from optitune.common.files import write_text
from optitune.common.tables import Table, Tone, column
from optitune.common.text import Unit, duration, few, plural
from optitune.comparing.sentences import at_most, chance
from optitune.judging.ratios import RatioUnit
from optitune.judging.results import Judged, Judgement
from optitune.report import figures
from optitune.report.rendering import Section, rendered_page
from optitune.report.style import Palette, Picture
from optitune.statistics.verdict import Place


def judged_table(found: Judgement) -> Table:
    """How good every arm is, and how sure that is."""
    verdict, unit = found.verdict, found.unit
    add = partial(column, verdict.places)
    columns = [
        add("arm", lambda place: place.optimizer),
        add(
            "\n".join(wrap(unit.metric, 24)),
            lambda place: None if place.value is None else unit.value(place.value.mean),
        ),
        add("95 %\ninterval", lambda place: _interval(place, unit), keep=4),
        add("tasks" if found.tasks else "runs", lambda place: str(_runs(place)), keep=3),
        add("P(best)", lambda place: chance(place.best), keep=3),
        add(f"may lose,\nat most{unit.points}", lambda place: at_most(place.regret, unit)),
        add(
            f"against\n{verdict.leader}{unit.points}",
            lambda place: None if place.to_leader is None else unit.change(place.to_leader.mean),
            keep=2,
        ),
        add(f"its bounds,\n95 %{unit.points}", lambda place: _bounds(place, unit)),
    ]
    if found.seconds:
        columns.append(add("a run\ntakes", lambda place: _times(found, place), keep=1))
    columns.append(add("verdict", lambda place: relation(found, place), tone=_tone(found)))
    pairs = "runs of one seed compared with each other" if found.paired else "runs not paired"
    runs = f"{plural(verdict.runs, 'run')} in all, {pairs}"
    if found.tasks:
        runs = f"{plural(found.tasks, 'task')}, the means of each compared with each other"
    caption = (
        f"{runs}. The interval is of each arm over its own {'tasks' if found.tasks else 'runs'}; P(best) is the "
        f"probability of being best. With 95 % confidence, {_looks(found)}, the best is not among those called worse, "
        f"and none is better than an arm by more than that one may lose. Less than {unit.difference(verdict.epsilon)} "
        f"does not matter ({found.epsilon_from})."
    )
    return Table(caption, tuple(columns))


def _looks(found: Judgement) -> str:
    """For which looks the verdict holds."""
    if found.tasks:
        return "for tasks that are drawn as these were"
    return f"at every look until {found.rounds} rounds" if found.rounds else "however often one looks"


def _interval(place: Place, unit: Unit) -> str | None:
    value = place.value
    return None if value is None or value.low is None or value.high is None else unit.span(value.low, value.high)


def _bounds(place: Place, unit: Unit) -> str | None:
    apart = place.to_leader
    if apart is None or abs(apart.low) == float("inf") or abs(apart.high) == float("inf"):
        return None
    return unit.between(apart.low, apart.high)


def _runs(place: Place) -> int:
    return (len(place.value.each) if place.value else 0) + place.diverged


def _times(found: Judgement, place: Place) -> str | None:
    seconds = found.seconds.get(place.optimizer)
    return None if seconds is None else duration(seconds)


def relation(found: Judgement, place: Place) -> str:
    """The last cell of an arm's row: how it stands to the leader."""
    if place.diverged:
        return f"diverged in {place.diverged}"
    if place.optimizer == found.verdict.leader:
        return "leads"
    if place.out:
        return "worse"
    return place.to_leader.relation if place.to_leader is not None else "undecided"


def _tone(found: Judgement) -> Callable[[Place], Tone]:
    def tone(place: Place) -> Tone:
        return "bad" if place.diverged else "good" if place.optimizer == found.verdict.leader else ""

    return tone


def tasks_table(found: Judged) -> Table:
    """The verdict on each task, a row each."""
    rows = [
        (
            each.task,
            each.verdict.leader,
            each.verdict.status,
            str(each.verdict.runs),
            few([place.optimizer for place in each.verdict.places if place.out] or ["none"]),
        )
        for each in found.tasks
    ]
    return Table.of("The verdict on each task.", ("task", "leader", "verdict", "runs", "out"), rows, optimizers=False)


def pictures(found: Judgement, palette: Palette, name: str = "") -> list[Picture]:
    """The arms' values, and how far each is from the leader.

    Args:
        found: what was judged.
        palette: of the arms.
        name: what the names of the figures begin with.
    """
    verdict, drawn = found.verdict, []
    ratios = isinstance(found.unit, RatioUnit)
    if ratios:
        # an axis shows what is kept
        palette = replace(palette, unit=replace(found.unit, metric=f"log of {found.unit.metric}"))
    if any(place.value for place in verdict.places):
        picture = figures.values(verdict.places, palette, measured="")
        caption = (
            "Mean and 95 % interval of each arm over its runs, the small strokes. The intervals hold for whoever leads."
        )
        drawn.append(replace(picture, name=f"{name}values", caption=caption))
    if verdict.to_leader:
        picture = figures.differences(verdict.to_leader, verdict.leader, verdict.epsilon, palette)
        caption = picture.caption.replace("Difference to", "Difference of logarithms to") if ratios else picture.caption
        drawn.append(replace(picture, name=f"{name}differences", caption=caption))
    return drawn


def palette_of(found: Judged, judgement: Judgement) -> Palette:
    """Colours of the arms, the same for each task, and the unit of one of them."""
    arms = dict.fromkeys(arm for each in found.tasks for arm in sorted(each.arms))
    return Palette(tuple(sorted(arms)), judgement.unit)


def sections(found: Judged) -> list[Section]:
    """The page's parts: over all tasks, then each task."""
    parts = []
    if found.overall is not None:
        drawn = pictures(found.overall, palette_of(found, found.overall))
        tables = (judged_table(found.overall), tasks_table(found))
        parts.append(Section("all", "Over all tasks", found.overall.notes, tables, tuple(drawn)))
    for number, each in enumerate(found.tasks, 1):
        several = len(found.tasks) > 1
        words = (each.sentence, each.advice, *each.notes) if several else each.notes
        drawn = pictures(each, palette_of(found, each), f"task-{number}-" if several else "")
        title = f"Task {each.task}" if several else "How the arms stand"
        parts.append(Section(f"task-{number}", title, words, (judged_table(each),), tuple(drawn)))
    return [*parts, Section("runs", "The runs", found.notes)]


def write_page(found: Judged, path: Path) -> Path:
    """Write the page, all of it or nothing.

    Args:
        found: what was judged.
        path: of the HTML file.

    Raises:
        OptituneError: the file cannot be written.
    """
    main = found.main
    better = "more" if found.sign == 1 else "less"
    tasks = f" · {plural(len(found.tasks), 'task')}" if len(found.tasks) > 1 else ""
    runs = sum(each.verdict.runs for each in found.tasks)
    page = rendered_page(
        title=f"{found.source}: which one?",
        about=f"{found.source} · {plural(runs, 'run')}{tasks} · {found.metric}, {better} is better",
        headline=main.sentence,
        advice=main.advice,
        command="",
        sections=sections(found),
        palette=palette_of(found, main),
    )
    write_text(path, page)
    return path
