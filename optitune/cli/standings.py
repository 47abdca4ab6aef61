"""Records as people read them: tables, numbers, durations, and the next commands to type."""

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from optitune.configuration import Configuration, TrainingSettings
from optitune.joining import Result as Joined
from optitune.overview import StudyRow
from optitune.records import TrialRecord, best, counts, plain, standings
from optitune.retraining import Result as Retrained
from optitune.searching import Result
from optitune.study_file import dumps


def number_format(value: float) -> str:
    """A number in a few significant digits."""
    return f"{value:.3g}"


def value_format(value: float, metric: str) -> str:
    """A metric's value: accuracies with all their digits, so that they can be compared down a column."""
    return f"{value:.4f}" if metric == "accuracy" else f"{value:.4g}"


def duration(seconds: float) -> str:
    """A time in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def setting_text(value: Any) -> str:
    """A setting as a person writes it."""
    if isinstance(value, list | tuple):
        return f"({', '.join(setting_text(item) for item in value)})"
    return number_format(value) if isinstance(value, float) else str(value)


def configuration_text(configuration: Configuration) -> str:
    """Optimizer, schedule and their settings in a line."""
    optimizer, schedule = configuration.optimizer, configuration.schedule
    settings = ", ".join(f"{name} {setting_text(value)}" for name, value in optimizer.settings.items())
    shape = dict(schedule.settings) | ({"warmup": schedule.warmup} if schedule.warmup else {})
    curve = ", ".join(f"{name} {setting_text(value)}" for name, value in shape.items())
    usual, training = TrainingSettings(), configuration.training.model_dump(exclude={"groups"})
    other = [f"{name} {setting_text(value)}" for name, value in training.items() if value != getattr(usual, name)] + [
        f'lr of "{pattern}" x {number_format(value)}' for pattern, value in configuration.training.groups.items()
    ]
    return "; ".join(
        [f"{optimizer.name}: {settings}", f"schedule {schedule.name}" + (f": {curve}" if curve else ""), *other]
    )


def standings_table(records: Sequence[TrialRecord], optimizers: Sequence[str], metric: str) -> Table:
    """One row per optimizer, the best first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("optimizer")
    for name in ("finished", "pruned", "diverged", "epochs", f"best {metric}", "lr", "trial"):
        # in a narrow terminal headings break, numbers do not
        table.add_column(name, justify="right", min_width=6)
    for row in standings(records, optimizers):
        leader = row.best
        value = value_format(leader.value, metric) if leader and leader.value is not None else "-"
        lr = number_format(leader.configuration.lr) if leader and leader.configuration else "-"
        trial = str(leader.number) if leader else "-"
        number = [str(count) for count in (row.finished, row.pruned, row.diverged)]
        table.add_row(row.optimizer, *number, f"{row.epochs:.1f}", value, lr, trial)
    return table


def typed(command: str, studies_dir: Path, storage: str | None, data_dir: Path | None, study: str = "") -> str:
    """A command with the options that lead it to the same study.

    A storage URL may hold a password, so its place is only named.
    """
    words = ["optitune", *command.split(), *(["--study", study] if study else [])]
    if studies_dir != Path("studies"):
        words += ["--studies-dir", str(studies_dir)]
    if data_dir is not None:
        words += ["--data-dir", str(data_dir)]
    return shlex.join(words) + (" --storage URL" if storage else "")


def print_result(
    result: Result, studies_dir: Path, storage: str | None, data_dir: Path | None, next_steps: bool = True
) -> None:
    """The end of a search: standings, the best configuration, and the next commands."""
    console = Console(highlight=False, soft_wrap=True)
    number = counts(result.records)
    if not result.begun:
        console.print(f"study '{result.name}' is made; {result.trials} trials are to be trained. On every machine:")
        console.print("  " + typed("worker", studies_dir, storage, data_dir, result.name), markup=False)
        return
    if result.trained == 0:
        console.print(f"study '{result.name}' has {number['finished']} finished trials already; nothing was trained")
    metric = result.metric.name
    console.print(standings_table(result.records, result.settings.optimizers, metric))
    left = f", {number['failed']} failed" if number["failed"] else ""
    console.print(
        f"\n{number['finished']} trials finished: {number['complete']} complete, {number['pruned']} pruned, "
        f"{number['diverged']} diverged{left}; this run took {duration(result.seconds)}"
    )
    dropped = [name for name in result.settings.optimizers if name not in result.competing]
    if dropped:
        console.print(f"no longer in the race, which they would hardly win: {', '.join(dropped)}")
    winner = result.best
    if winner is None or winner.configuration is None or winner.value is None:
        console.print(
            "no trial is complete yet, so there is no best configuration: run the same command with more --trials"
        )
        return
    console.print(f"best: trial {winner.number}, validation {metric} {value_format(winner.value, metric)} (one run)")
    console.print(f"  {configuration_text(winner.configuration)}", markup=False)
    for edge in result.edges():
        console.print(
            f"  {edge.key} {number_format(edge.value)} lies at the edge of its range, {edge.value_range}. To look "
            f"beyond, search as another study with:  --set '{edge.line}'",
            markup=False,
        )
    console.print(f"  saved in {result.best_file}")
    if result.set_aside is not None:
        console.print(f"  the file that stood there was not this search's own; it is kept as {result.set_aside}")
    if not next_steps:
        return
    console.print("\nnext:")
    console.print("  " + typed(f"compare {result.name}", studies_dir, storage, data_dir), markup=False)
    console.print("  " + typed("retrain best", studies_dir, storage, data_dir, result.name), markup=False)
    console.print("  " + typed("dashboard", studies_dir, storage, None, result.name), markup=False)


def print_joined(result: Joined) -> None:
    """The end of a machine's help."""
    console = Console(highlight=False, soft_wrap=True)
    best = f", best {result.best:.4g}" if result.best is not None else ""
    console.print(
        f"study '{result.study}' has {result.trials['finished']} of {result.target} trials finished{best}; "
        f"this machine helped for {duration(result.seconds)}",
        markup=False,
    )


def print_retrained(result: Retrained) -> None:
    """The end of a full training: test accuracy and loss with their spread, and where everything lies."""
    console = Console(highlight=False, soft_wrap=True)
    if not result.trained:
        console.print(f"'{result.name}' was trained and tested just so before; nothing was trained")
    value, loss, metric = result.test_value, result.test_loss, result.metric
    as_percent = metric == "accuracy"

    def shown(number: float) -> str:
        return f"{100 * number:.2f}" if as_percent else f"{number:.4g}"

    unit, points = (" %", " pp") if as_percent else ("", "")
    if value.low is None or value.high is None or value.sd is None:
        console.print(f"test {metric} {shown(value.mean)}{unit} (one seed: no interval), loss {loss.mean:.4g}")
    else:
        console.print(
            f"test {metric} {shown(value.mean)}{unit}, "
            f"95 % interval {shown(value.low)} to {shown(value.high)}{unit} "
            f"(Student's t, {len(value.each)} seeds, standard deviation {shown(value.sd)}{points}); "
            f"loss {loss.mean:.4g}"
        )
    console.print(f"  {configuration_text(result.plan.configuration)}; {result.plan.epochs} epochs")
    console.print(f"  {result.folder}: model.safetensors (the first seed's), metrics.json, curves.png")


def study_document(
    name: str, settings: dict[str, Any], data: dict[str, Any], versions: dict[str, str], records: Sequence[TrialRecord]
) -> dict[str, Any]:
    """A whole study as `--json` prints it."""
    return {
        "study": name,
        "settings": settings,
        "data": data,
        "versions": versions,
        "trials": [
            {
                "number": row.number,
                "outcome": row.outcome,
                "value": row.value,
                "reason": row.reason,
                "seconds": row.seconds,
                "epochs": row.epochs,
                "curve": [list(point) for point in row.curve],
                **(plain(row.configuration) if row.configuration else {}),
            }
            for row in records
        ],
    }


def print_study(name: str, settings: dict[str, Any], data: dict[str, Any], records: Sequence[TrialRecord]) -> None:
    """Settings, standings, the best configuration, and why trials ended early."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{name}[/bold]")
    console.print(dumps(settings), markup=False)
    examples = f"{data['train_examples']} examples to train on, {data['validation_examples']} to judge on"
    console.print(f"data: {examples}, {data['checksum'][:19]}...\n")
    metric = data["metric"]
    console.print(standings_table(records, settings["optimizers"], metric))
    number = counts(records)
    console.print("\n" + ", ".join(f"{count} {outcome}" for outcome, count in number.items() if count))
    leader = best(records)
    if leader is not None and leader.configuration is not None:
        console.print(
            f"best: trial {leader.number}, validation {metric} {value_format(leader.value or 0.0, metric)} (one run)"
        )
        console.print(f"  {configuration_text(leader.configuration)}", markup=False)
    explained = [row for row in records if row.reason]
    for heading, again in (("ended early", False), ("not trained again", True)):
        rows = [row for row in explained if (row.same_as is not None) == again]
        if rows:
            console.print(f"\n{heading}:")
        for row in rows:
            lr = f" lr {number_format(row.configuration.lr)}" if row.configuration else ""
            console.print(f"  trial {row.number}, {row.optimizer}{lr}: {row.reason}", markup=False)


def print_studies(rows: Sequence[StudyRow], place: str) -> None:
    """A line per study, the latest first."""
    console = Console(highlight=False, soft_wrap=True)
    if not rows:
        console.print(f"no studies in {place}; make one with: optitune search --task digits")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("study", "task", "trials", "best", "metric", "changed"):
        table.add_column(heading, justify="right" if heading == "best" else "left")
    for row in rows:
        number = ", ".join(
            f"{count} {outcome}" for outcome, count in row.trials.items() if count and outcome != "finished"
        )
        ago = f"{duration((datetime.now() - row.changed).total_seconds())} ago" if row.changed else "-"
        table.add_row(
            row.name,
            row.task,
            number or "none",
            value_format(row.best, row.metric) if row.best is not None else "-",
            row.metric,
            ago,
        )
    console.print(table)
