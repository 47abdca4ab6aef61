"""A report: one page that says which optimizer to take, how sure that is, and all that it rests on.

It reads what a search, a comparison and a full training left; nothing is trained, and no data are read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna

from optitune.common.commands import line
from optitune.common.files import write_text
from optitune.common.text import Unit, duration, listed, plural
from optitune.comparing import results as comparison_results
from optitune.comparing.requests import MOST_RUNS
from optitune.comparing.results import Comparison, searched_on
from optitune.comparing.search_on import search_words
from optitune.errors import UsageError
from optitune.report import data as report_data
from optitune.report import figures as report_figures
from optitune.report import retrain_figures
from optitune.report import tables as report_tables
from optitune.report.comparison_tables import comparison_table, costs_table, front_table
from optitune.report.importance import influences
from optitune.report.rendering import Section, rendered_page
from optitune.report.standings import standings_table
from optitune.report.style import Palette, Picture, save_png
from optitune.retraining import results as retrain_results
from optitune.retraining.mistakes import MISTAKES, Mistakes, load_mistakes
from optitune.retraining.repeat_commands import compare_words, retrain_argument, retrain_words
from optitune.retraining.results import Tested
from optitune.searching.conclusions import conclusions
from optitune.storage import studies
from optitune.storage import trials as storage_trials
from optitune.storage.studies import LACKS, StudyLocation
from optitune.study.records import FINISHED, TrialRecord, standings
from optitune.study.steps import examples_text
from optitune.study.study_file import dumps
from optitune.tasks.loading import FROM_PYTHON
from optitune.tasks.metrics import Metric

FOLDER = "report"
"""Within the folder of a study."""


@dataclass(frozen=True)
class Subject:
    """What a report is about.

    Attributes:
        data: what the study knows of its data and metric.
        versions: of everything that decides a result, by stage.
        origin: what the study took from another one.
        search_on: words of the command that searches on, where an optimizer is not tuned to the end.
        options: what leads a typed command to the study.
        retrain_argument: by which `retrain` trains the same again; None where nothing does.
        concluded: what tuning brought, and why more trials would hardly help, in sentences.
    """

    name: str
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, Mapping[str, Any]]
    metric: Metric
    trials: tuple[TrialRecord, ...]
    comparison: Comparison | None
    tested: Tested | None
    mistakes: Mistakes | None
    options: Sequence[str] = ()
    retrain_argument: str | None = "best"
    origin: studies.Origin | None = None
    search_on: tuple[str, ...] = ()
    concluded: tuple[str, ...] = ()

    @property
    def optimizers(self) -> tuple[str, ...]:
        return tuple(self.settings["optimizers"])

    @cached_property
    def unit(self) -> Unit:
        return self.metric.unit

    @cached_property
    def palette(self) -> Palette:
        return Palette(self.optimizers, self.unit)

    def command(self, *words: str) -> str:
        return line([*words, *self.options])

    def compare(self, found: Comparison, max_runs: int | None = None) -> str:
        """The command that led to a comparison, or goes on with it up to so many runs."""
        return self.command(*compare_words(self.name, found, self.settings, self.trials, self.metric, max_runs))


def gather(home: StudyLocation, opened: optuna.Study, options: Sequence[str] = ()) -> Subject:
    """Collect everything that is known of a study: trials, comparison, full training, versions.

    Args:
        home: where the study lives.
        opened: the study.
        options: words that lead a command to the same study, such as `--storage URL`.

    Raises:
        UsageError: it was not made by optitune.
        OptituneError: a file of the comparison is damaged.
    """
    settings, data, trials = (
        studies.stored_settings(opened),
        opened.user_attrs[studies.DATA],
        storage_trials.records(opened),
    )
    metric = studies.metric(opened)
    folder, trained = home.folder / comparison_results.FOLDER, home.folder / "retrain" / "best"
    comparison = comparison_results.load(folder, trials, metric)
    tested = retrain_results.load(trained)
    versions = {"search": opened.user_attrs[studies.VERSIONS]}
    if comparison is not None:
        versions["compare"] = (comparison_results.load_verdict(folder) or {}).get("versions", {})
    if tested is not None:
        versions["retrain"] = tested.versions
    return Subject(
        name=home.name,
        settings=settings,
        data=data,
        versions=versions,
        metric=metric,
        trials=tuple(trials),
        comparison=comparison,
        tested=tested,
        origin=studies.origin(opened),
        mistakes=load_mistakes(trained / MISTAKES) if tested is not None else None,
        options=options,
        retrain_argument=retrain_argument(home, opened, tested) if tested is not None else None,
        search_on=_search_on(home.name, opened, trials, comparison),
        concluded=_concluded(opened, trials, metric.unit),
    )


def _concluded(opened: optuna.Study, trials: Sequence[TrialRecord], unit: Unit) -> tuple[str, ...]:
    try:
        return tuple(conclusions(studies.settings_of(opened), trials).sentences(unit))
    except UsageError:
        # an optimizer of it is not installed here
        return ()


def _search_on(
    name: str, opened: optuna.Study, trials: Sequence[TrialRecord], found: Comparison | None
) -> tuple[str, ...]:
    if found is None or not found.untuned or found.plan.task.startswith(FROM_PYTHON):
        return ()
    try:
        settings = studies.settings_of(opened)
    except UsageError:
        # an optimizer of it is not installed here
        return ()
    first = found.untuned[0]
    return tuple(search_words(name, settings, trials, found.plan.finalist(first.optimizer), first))


def sections(subject: Subject) -> list[Section]:
    """The page's parts in order, those left out that have nothing to show."""
    return [section for part in (*SHOWN, _repeat) if (section := part(subject)) is not None]


def pictures(subject: Subject) -> list[Picture]:
    """All figures, in the page's order."""
    return [picture for part in SHOWN if (section := part(subject)) is not None for picture in section.pictures]


def _standings(subject: Subject) -> Section:
    found = subject.comparison
    if found is None:
        table = standings_table(subject.trials, subject.optimizers, subject.unit)
        return Section("standings", "How the optimizers stand in the search", tables=(table,))
    verdict, pictures = found.verdict, []
    if any(place.value for place in verdict.places):
        pictures.append(report_figures.values(verdict.places, subject.palette))
    if verdict.to_leader:
        pictures.append(report_figures.differences(verdict.to_leader, verdict.leader, verdict.epsilon, subject.palette))
    tables = [comparison_table(found), costs_table(found)]
    if (front := front_table(found)) is not None:
        tables.insert(1, front)
    return Section("standings", "How the optimizers stand", tables=tuple(tables), pictures=tuple(pictures))


def _curves(subject: Subject) -> Section | None:
    found, palette, behind = subject.comparison, subject.palette, report_data.search_curves(subject.trials)
    if found is not None and (bands := report_data.bands(found.runs, found.plan.optimizers)):
        # of another length, the schedules are others, and so are the curves
        alike = found.plan.epochs == subject.settings["epochs"]
        pruned = [row for row in behind if row.outcome == "pruned"] if alike else []
        picture = report_figures.curves(bands, found.verdict.contenders, pruned, palette)
    elif behind:
        picture = report_figures.search_curves(behind, palette, subject.metric.sign)
    else:
        return None
    return Section("curves", "Learning curves", pictures=(picture,))


def _learning_rates(subject: Subject) -> Section | None:
    epsilon = subject.comparison.verdict.epsilon if subject.comparison else None
    rows = report_data.basins(subject.trials, subject.optimizers, subject.metric.sign, epsilon)
    if not rows:
        return None
    words = ("The wider the range of learning rates that come near an optimizer's best, the less it needs tuning.",)
    pictures = (report_figures.basins(rows, subject.palette, subject.metric.sign),)
    return Section("learning-rates", "How wide is the good range of the learning rate?", words, pictures=pictures)


def _climbs(subject: Subject) -> Section | None:
    rows = report_data.climbs(subject.trials, subject.optimizers, subject.metric.sign)
    if not rows:
        return None
    pictures = (report_figures.climbs(rows, subject.palette, subject.metric.sign),)
    return Section("best-so-far", "How the search went", subject.concluded, pictures=pictures)


def _budget(subject: Subject) -> Section | None:
    runs = subject.comparison.runs if subject.comparison else ()
    rows = report_data.shares(subject.trials, runs, subject.optimizers)
    if not any(row.complete + row.pruned + row.diverged for row in rows):
        return None
    trained, epochs = duration(sum(row.seconds for row in rows)), round(sum(row.epochs for row in rows))
    words = [f"The search trained {plural(epochs, 'epoch')} in {trained}, all its workers together."]
    if runs:
        spent = duration(sum(run.seconds for run in runs))
        words.append(f"The comparison trained {plural(len(runs), 'run')} in {spent}.")
    return Section(
        "budget", "The budget, and who had it", tuple(words), pictures=(report_figures.shares(rows, subject.palette),)
    )


def _importance(subject: Subject) -> Section | None:
    rows = influences(subject.trials, subject.optimizers, subject.metric.sign)
    if not any(row.trials for row in rows):
        return None
    few = report_tables.too_few(rows)
    pictures = (report_figures.influences(rows),) if any(row.shares for row in rows) else ()
    return Section("importance", "Which settings matter", (few,) if few else (), pictures=pictures)


def _tested(subject: Subject) -> Section | None:
    result, found = subject.tested, subject.comparison
    if result is None:
        return None
    words = report_tables.tested(result, found, subject.unit, subject.metric.sign)
    rows = [(f"test set, {plural(result.plan.epochs, 'epoch')}", result.test_value)]
    place = report_tables.compared_as(result, found) if found is not None else None
    if found is not None and place is not None and place.value is not None:
        rows.insert(0, (f"comparison, {plural(found.plan.epochs, 'epoch')}", place.value))
    pictures = [retrain_figures.tested(rows, result.plan.configuration.optimizer.name, subject.palette)]
    if (matrix := retrain_figures.confusion(result.runs)) is not None:
        pictures.append(matrix)
    if subject.mistakes is not None:
        pictures.append(retrain_figures.mistakes(subject.mistakes))
    return Section("test", "On the test set", tuple(words), pictures=tuple(pictures))


SHOWN: tuple[Callable[[Subject], Section | None], ...] = (
    _standings,
    _curves,
    _learning_rates,
    _climbs,
    _budget,
    _importance,
    _tested,
)
"""The parts of the page that show what was found."""


def _repeat(subject: Subject) -> Section:
    found, result = subject.comparison, subject.tested
    seeds = [f"search {subject.settings.get('seed', 0)}"]
    own = [row for row in subject.trials if row.outcome in FINISHED and row.from_study is None]
    begun = subject.origin.options() if subject.origin is not None else []
    words = ["search", "--study", subject.name, *begun, "--trials", str(len(own))]
    commands = [subject.command(*words)] if own else []
    if found is not None:
        seeds.append(f"comparison {found.plan.seed}")
        commands.append(subject.compare(found))
    if result is not None:
        seeds.append(f"full trainings {', '.join(map(str, result.plan.seeds))}")
        if subject.retrain_argument is not None:
            words = retrain_words(subject.name, result, subject.retrain_argument, subject.settings)
            commands.append(subject.command(*words))
    if str(subject.settings.get("task", "")).startswith(FROM_PYTHON):
        begin = f" and from_study={subject.origin.study!r}" if subject.origin is not None else ""
        commands = []
        how = f"Its task was given from Python: give it to optitune.search again, with these settings{begin}."
    else:
        how = f"Save the settings as studies/{subject.name}.toml, and run the commands."
    notes = (
        how,
        f"Data: {examples_text(subject.data['train_examples'])} to train on and "
        f"{examples_text(subject.data['validation_examples'])} to judge on in the search; "
        f"checksum {subject.data['checksum']}.",
        *(f"{each[:1].upper()}{each[1:]}." for each in subject.data.get(LACKS, ())),
        f"Seeds: {'; '.join(seeds)}.",
    )
    tables = [report_tables.versions(subject.versions)]
    if rows := _chosen(subject):
        tables.insert(0, report_tables.configurations(rows))
    code = ["\n".join(commands)] * bool(commands) + [dumps(subject.settings)]
    return Section("repeat", "To repeat it", notes, tuple(tables), code=tuple(code))


def _chosen(subject: Subject) -> list[tuple[str, int, Any]]:
    """Each optimizer's configuration that was compared, or else is its best."""
    if subject.comparison is not None:
        return [(each.optimizer, each.trial, each.configuration) for each in subject.comparison.plan.finalists]
    rows = standings(subject.trials, subject.optimizers)
    return [(row.optimizer, row.best.number, row.best.configuration) for row in rows if row.best is not None]


def verdict(subject: Subject) -> tuple[str, str, str]:
    """The page's first words: a headline, advice, and the next command, which may be empty."""
    found = subject.comparison
    if found is None:
        headline, advice = report_tables.unsure(subject.name, subject.trials, subject.unit)
        complete = any(row.outcome == "complete" for row in subject.trials)
        words = ["compare", subject.name] if complete else ["search", "--study", subject.name]
        return headline, advice, subject.command(*words)
    advice = found.advice
    if later := searched_on(found.plan, subject.trials):
        advice += f" Since then the search has found better trials of {listed(later)}; to compare those:"
        return found.sentence, advice, subject.compare(found, MOST_RUNS)
    if found.old_rule and found.verdict.status == "undecided":
        advice += " That is by the rule of version 0.1; to compare anew:"
        return found.sentence, advice, subject.compare(found, MOST_RUNS)
    if most := found.goes_on_to:
        return found.sentence, f"{advice} To go on:", subject.compare(found, most)
    if subject.search_on:
        return found.sentence, f"{advice} To search on:", subject.command(*subject.search_on)
    return found.sentence, advice, "" if subject.tested else subject.command("retrain", "best", "--study", subject.name)


def write_page(subject: Subject, folder: Path) -> Path:
    """Write `report.html`, all of it or nothing.

    Raises:
        OptituneError: the file cannot be written.
    """
    headline, advice, command = verdict(subject)
    settings, metric = subject.settings, subject.metric
    page = rendered_page(
        title=f"{subject.name}: which optimizer?",
        about=f"{subject.name} · task {settings['task']} · {settings['epochs']} epochs a trial · validation "
        f"{metric.name}, {'more' if metric.sign == 1 else 'less'} is better",
        headline=headline,
        advice=advice,
        command=command,
        sections=sections(subject),
        palette=subject.palette,
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def write_pictures(subject: Subject, folder: Path) -> list[Path]:
    """Write every figure as a PNG.

    Raises:
        OptituneError: a file cannot be written.
    """
    paths = []
    for picture in pictures(subject):
        paths.append(folder / f"{picture.name}.png")
        save_png(picture, paths[-1])
    return paths
