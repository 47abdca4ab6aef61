"""Studies and trials on the terminal: one study, one of its trials, the list of all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from optitune.common.commands import typed
from optitune.common.schema import inline
from optitune.common.tables import Column
from optitune.common.text import Unit, digest, duration, listed, over_runs, plural, short
from optitune.errors import UsageError
from optitune.retraining.results import Tested
from optitune.retraining.sentences import about_training
from optitune.space.configuration import Configuration, configuration_text
from optitune.storage.listing import StudyRow
from optitune.storage.studies import LACKS, Origin
from optitune.study.records import FINISHED, TrialRecord, best, counts, plain, repeats
from optitune.study.settings import StudySettings
from optitune.study.steps import UNKNOWN_EXAMPLES, examples_text, reported_epoch
from optitune.terminal.drawing import Curve, Fitted, curves
from optitune.terminal.retrain import tested_text
from optitune.terminal.screen import print_next
from optitune.terminal.search import fitted_standings
from optitune.training.export_code import glance

if TYPE_CHECKING:
    from optitune.searching.watch import WatchOutcome

FEW = 8
"""Up to how many trials that ended early are named one by one."""

POINTS = 16
"""How many points of a trial's curve are listed at most."""


@dataclass(frozen=True)
class StudyView:
    """A study, as it is shown.

    Attributes:
        settings: as they are stored.
        data: what it is trained and judged on.
        unit: of what it is judged by.
        target: how many finished trials it is to have; None where it does not say.
        verdict: of its comparison.
        tested: its full trainings, by name.
        place: studies folder and storage, as they were typed.
        origin: what it took from another study; None where it began with nothing.
        outdated: optimizers of the comparison for which the search has found better since.
        recommended: the trial that the comparison says to take; None where it says nothing, or where it is outdated.
    """

    name: str
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    unit: Unit
    records: Sequence[TrialRecord]
    target: int | None
    verdict: Mapping[str, Any] | None
    tested: Mapping[str, Tested]
    place: tuple[Path, str | None]
    origin: Origin | None = None
    outdated: Sequence[str] = ()
    recommended: int | None = None

    @property
    def taken(self) -> int | None:
        """The trial that `retrain best` trains; None where none is complete."""
        leader = best(self.records)
        return leader.number if self.recommended is None and leader is not None else self.recommended

    @property
    def is_trained(self) -> bool:
        """Whether that trial was trained in full; of a file, or by an older version, it is not known of which."""
        return any(each.trial in (None, self.taken) for each in self.tested.values())

    def typed(self, command: str, named: bool = False) -> str:
        return typed(command, *self.place, None, self.name if named else "")


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def trial_document(row: TrialRecord) -> dict[str, Any]:
    """A trial as `--json` prints it."""
    return {
        "number": row.number,
        "outcome": row.outcome,
        "value": row.value,
        "reason": row.reason,
        "seconds": row.seconds,
        "epochs": row.epochs,
        "curve": [list(point) for point in row.curve],
        "run": row.run,
        "repeats": row.repeats,
        "from": {"study": row.from_study, "trial": row.from_trial} if row.from_study else None,
        **(plain(row.configuration) if row.configuration else {}),
    }


def study_document(shown: StudyView, versions: Mapping[str, str]) -> dict[str, Any]:
    """A whole study as `--json` prints it."""
    return {
        "study": shown.name,
        "settings": shown.settings,
        "data": shown.data,
        "versions": versions,
        "target": shown.target,
        "from": asdict(shown.origin) if shown.origin else None,
        "trials": [trial_document(row) for row in shown.records],
        "verdict": shown.verdict,
        "tested": {
            name: {
                "trial": each.trial,
                "metric": each.metric,
                "test_value": vars(each.test_value),
                "epochs": each.plan.epochs,
                "length": each.length and each.length.document(),
                "keep": each.plan.keep,
                "kept_epochs": list(each.kept) if each.plan.keep == "best" else None,
            }
            for name, each in shown.tested.items()
        },
    }


def print_study(shown: StudyView) -> None:
    """What it is, its standings, its best, why trials ended early, what is known for sure, and the next commands."""
    console = _console()
    console.print(Text.assemble((shown.name, "bold"), f": {_about(shown)}"))
    data = shown.data
    train, judged = data["train_examples"], data["validation_examples"]
    others = f"{judged}" if judged > UNKNOWN_EXAMPLES else examples_text(judged)
    examples = f"{examples_text(train)} to train on, {others} to judge on"
    console.print(f"data: {examples}, {digest(data['checksum'])}", markup=False)
    for line in data.get(LACKS, ()):
        console.print(f"  {line}", markup=False)
    console.print(f"set: {_set(shown.settings)}", markup=False)
    console.print(f"all settings: {shown.typed(f'show {shown.name} --settings')}\n", markup=False)
    console.print(fitted_standings(shown.records, shown.settings["optimizers"], shown.unit))
    number = counts(shown.records)
    of = f" of {shown.target}" if shown.target and shown.target > number["finished"] else ""
    rest = ", ".join(f"{count} {outcome}" for outcome, count in number.items() if count and outcome != "finished")
    console.print(f"\n{number['finished']}{of} finished" + (f": {rest}" if rest else ""))
    if again := repeats(shown.records):
        console.print(again)
    if shown.origin is not None:
        console.print(f"of them, taken: {shown.origin.sentence()}", markup=False)
    leader = best(shown.records)
    if leader is not None and leader.configuration is not None:
        value = shown.unit.value(leader.value or 0.0)
        console.print(f"best: trial {leader.number}, validation {shown.unit.metric} {value} ({over_runs(leader.runs)})")
        console.print(f"  {configuration_text(leader.configuration)}", markup=False)
    _print_reasons(console, shown.records)
    if shown.verdict is not None:
        rule = "" if "rule" in shown.verdict else " (judged by the rule of version 0.1)"
        console.print(f"\nthe comparison says: {shown.verdict['sentence']}{rule}", markup=False)
        if shown.outdated:
            console.print(f"  since then the search has found better trials of {listed(shown.outdated)}", markup=False)
    for name, each in shown.tested.items():
        said = tested_text(each.judge.unit, each.test_value, each.test_loss)
        console.print(f"\ntrained in full, {name}: {said}", markup=False)
        length = plural(each.plan.epochs, "epoch")
        console.print(f"  {configuration_text(each.plan.configuration)}; {length}", markup=False)
        if name == "best" and each.trial not in (None, shown.taken):
            console.print(f"  of trial {each.trial}; best is trial {shown.taken} by now", markup=False)
        for line in about_training(each.plan, each.length, each.kept, each.judge.unit):
            console.print(f"  {line}", markup=False)
    print_next(console, _next(shown))


def _about(shown: StudyView) -> str:
    settings = shown.settings
    return f"{settings['task']}, {settings['precision']}"


def _set(settings: Mapping[str, Any]) -> str:
    """The length of a trial, and the settings that are not what they are by themselves."""
    usual = StudySettings().document()
    elsewhere = ("task", "optimizers", "precision", "loss")
    return ", ".join(
        f"{key} = {inline(_paths(value) if key == 'optimizer' else value)}"
        for key, value in settings.items()
        if key == "epochs" or (key not in elsewhere and value != usual.get(key))
    )


def _paths(rows: Any) -> Any:
    """The classes of a study's own optimizers, by name."""
    return {row["name"]: row["path"] for row in rows}


def _print_reasons(console: Console, records: Sequence[TrialRecord]) -> None:
    """Why trials ended early or were not trained: one by one where they are few, else how many and where."""
    explained = [row for row in records if row.reason]
    for heading, again in (("ended early", False), ("not trained again", True)):
        rows = [row for row in explained if (row.same_as is not None) == again]
        if not rows:
            continue
        console.print(f"\n{heading}:")
        named = rows if len(rows) <= FEW else [row for row in rows if row.outcome == "failed"][:FEW]
        if len(rows) > FEW:
            for outcome, count in Counter(row.outcome for row in rows).most_common():
                console.print(f"  {_summed([row for row in rows if row.outcome == outcome], count, outcome)}")
        for row in named:
            lr = f" lr {short(row.configuration.lr)}" if row.configuration else ""
            console.print(f"  trial {row.number}, {row.optimizer}{lr}: {row.reason}", markup=False)


def _summed(rows: Sequence[TrialRecord], count: int, outcome: str) -> str:
    """Trials of one outcome in a line: how many, when, and of which optimizers."""
    epochs = sorted(row.epochs for row in rows)
    first, middle, last = (f"{value:g}" for value in (epochs[0], epochs[len(epochs) // 2], epochs[-1]))
    when = f" at epoch {first}" if first == last else f" at epoch {first} to {last}, half of them by {middle}"
    owners = Counter(row.optimizer or "?" for row in rows).most_common()
    return f"{count} {outcome}{when if epochs[-1] else ''}: {', '.join(f'{name} {of}' for name, of in owners)}"


def _next(shown: StudyView) -> list[str]:
    number = counts(shown.records)
    commands = []
    if number["running"]:
        commands.append(shown.typed(f"watch {shown.name}"))
    elif shown.target is not None and number["finished"] < shown.target:
        own = shown.target - (len(shown.origin.trials) if shown.origin else 0)
        commands.append(shown.typed(f"search --trials {own}", named=True))
    leader = best(shown.records)
    if leader is not None:
        if shown.verdict is None or shown.outdated:
            commands.append(shown.typed(f"compare {shown.name}"))
        if not shown.is_trained:
            commands.append(shown.typed("retrain best", named=True))
        commands.append(shown.typed(f"report {shown.name}"))
        commands.append(shown.typed(f"show {shown.name} --trial {leader.number}"))
    return commands


def print_trial(shown: StudyView, row: TrialRecord) -> None:
    """One trial: how it ended, its settings as torch takes them, its curve, and what to do with it."""
    console = _console()
    value = "" if row.value is None else f", validation {shown.unit.metric} {shown.unit.value(row.value)}"
    length = f" after {row.epochs:g} of {plural(shown.settings['epochs'], 'epoch')}" if row.epochs else ""
    took = f", {duration(row.seconds)} of training" if row.seconds else ""
    console.print(f"[bold]trial {row.number}[/bold] of {shown.name}: {row.outcome}{value}{length}{took}")
    if row.from_study is not None:
        console.print(
            f"  taken from trial {row.from_trial} of study '{row.from_study}', which trained it", markup=False
        )
    if row.which_run:
        console.print(
            f"  {row.which_run}, from another seed: {shown.typed(f'show {shown.name} --trial {row.repeats}')}"
        )
    if row.reason:
        console.print(f"  {row.reason}", markup=False)
    if row.began is not None:
        ended = f", ended {row.ended:%Y-%m-%d %H:%M:%S}" if row.ended else ""
        console.print(f"  began {row.began:%Y-%m-%d %H:%M:%S}{ended}")
    if row.configuration is None:
        console.print("\nits settings are not drawn yet")
        return
    lines = [configuration_text(row.configuration), *as_code(row.configuration, shown.settings["epochs"])]
    console.print("\n" + "\n".join(f"  {line}" for line in lines), markup=False)
    if row.curve:
        console.print()
        console.print(_curve_table(row, shown.unit, reported_epoch(shown.records)))
    tested = next((each for each in shown.tested.values() if each.plan.configuration == row.configuration), None)
    if tested is not None:
        console.print(
            f"\ntrained in full: {tested_text(tested.judge.unit, tested.test_value, tested.test_loss)}", markup=False
        )
    if row.outcome == "complete":
        commands = [f"export {row.number}", *([] if tested else [f"retrain {row.number}"])]
        print_next(console, [shown.typed(command, named=True) for command in commands])


def as_code(configuration: Configuration, epochs: int) -> list[str]:
    """A configuration as lines of Python that build optimizer and scheduler; none where its package is missing."""
    try:
        return glance(configuration, epochs)
    except UsageError:
        return []


def _curve_table(row: TrialRecord, unit: Unit, an_epoch: float | None) -> Fitted:
    """Points of a trial's curve, evenly chosen where they are many; the last always."""
    count = min(len(row.curve), POINTS)
    chosen = [row.curve[(place + 1) * len(row.curve) // count - 1] for place in range(count)]
    values = [value for _, value in row.curve]
    less = row.value is not None and row.score != row.value
    heights = curves([values], less)[0].heights
    tiny: list[Curve] = [
        Curve((heights[values.index(value)],)) if len(heights) == len(values) else Curve(()) for _, value in chosen
    ]
    return Fitted(
        [
            Column("epoch", [f"{step / an_epoch:.2f}" if an_epoch else "-" for step, _ in chosen]),
            Column(unit.metric, [unit.value(value) for _, value in chosen]),
            Column("", tiny, left=True),
        ]
    )


def print_studies(rows: Sequence[StudyRow], place: str) -> None:
    """A line per study, the latest first."""
    console = _console()
    if not rows:
        console.print(f"no studies in {place}; make one with: optitune search --task digits", markup=False)
        return
    now = datetime.now()

    def ago(row: StudyRow) -> str:
        return f"{duration(max(0, int((now - row.changed).total_seconds())))} ago" if row.changed else "-"

    def number(row: StudyRow) -> str:
        of = f" of {row.target}" if row.target is not None else ""
        return f"{row.trials['finished']}{of}"

    def rest(row: StudyRow) -> str:
        outcomes = ("complete", "pruned", "diverged", "failed", "running")
        return ", ".join(f"{row.trials[outcome]} {outcome}" for outcome in outcomes if row.trials[outcome]) or "none"

    table = Fitted(
        [
            Column("study", [row.name for row in rows], left=True),
            Column("task", [row.task for row in rows], keep=5, left=True),
            Column("trials", [number(row) for row in rows], keep=7),
            Column("", [rest(row) for row in rows], keep=1, left=True),
            Column("curve", [curves([row.curve], row.less)[0] for row in rows], keep=3, left=True),
            Column("best", [row.unit.value(row.best) if row.best is not None else "-" for row in rows]),
            Column("metric", [row.unit.metric for row in rows], keep=2, left=True),
            Column("optimizer", [row.optimizer or "-" for row in rows], keep=6, left=True),
            Column("changed", [ago(row) for row in rows], keep=4),
        ]
    )
    console.print(table)


def print_watched(result: "WatchOutcome", studies_dir: Path, storage: str | None) -> None:
    """Print the end of a study that was followed.

    Args:
        result: of the watch.
        studies_dir: the folder of all studies, as it was typed.
        storage: the URL of the storage, as it was typed; None for the study's own file.
    """
    console, unit = _console(), result.metric.unit
    console.print(fitted_standings(result.records, result.settings.optimizers, unit))
    done = sum(row.outcome in FINISHED for row in result.records)
    console.print(f"\nstudy '{result.study}' has {done} of {result.target} trials finished", markup=False)
    leader = best(result.records)
    if leader is not None and leader.configuration is not None:
        value = unit.value(leader.value or 0.0)
        console.print(f"best: trial {leader.number}, validation {unit.metric} {value} ({over_runs(leader.runs)})")
        console.print(f"  {configuration_text(leader.configuration)}", markup=False)
        commands = [f"compare {result.study}", f"show {result.study}"]
        print_next(console, [typed(command, studies_dir, storage) for command in commands])
