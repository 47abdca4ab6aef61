"""Records as people read them: tables, numbers, durations, and the next commands to type."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from optitune.common.commands import line, place
from optitune.common.summary import Summary
from optitune.common.text import Unit, many
from optitune.comparing.sentences import no_interval, setting
from optitune.retraining.run import Result as Retrained
from optitune.searching.join import Result as Joined
from optitune.searching.run import Result
from optitune.space.configuration import Configuration, TrainingSettings
from optitune.study.records import TrialRecord, counts, standings
from optitune.terminal.drawing import BAD, GOOD, Cell, Column, Fitted, curves, duration


def number_format(value: float) -> str:
    """A number in a few significant digits."""
    return f"{value:.3g}"


def configuration_text(configuration: Configuration) -> str:
    """Optimizer, schedule and their settings in a line."""
    optimizer, schedule = configuration.optimizer, configuration.schedule
    settings = ", ".join(f"{name} {setting(value)}" for name, value in optimizer.settings.items())
    shape = dict(schedule.settings) | ({"warmup": schedule.warmup} if schedule.warmup else {})
    curve = ", ".join(f"{name} {setting(value)}" for name, value in shape.items())
    usual, training = TrainingSettings(), configuration.training.model_dump(exclude={"groups"})
    other = [f"{name} {setting(value)}" for name, value in training.items() if value != getattr(usual, name)] + [
        f'lr of "{pattern}" x {setting(value)}' for pattern, value in configuration.training.groups.items()
    ]
    return "; ".join(
        [f"{optimizer.name}: {settings}", f"schedule {schedule.name}" + (f": {curve}" if curve else ""), *other]
    )


def standings_table(records: Sequence[TrialRecord], optimizers: Sequence[str], unit: Unit) -> Fitted:
    """One row per optimizer, the best first, each with the learning curve of its best trial."""
    rows = standings(records, optimizers)
    leaders = [row.best for row in rows]
    # a score is a value, or the value with its sign changed
    scored = [row for row in leaders if row is not None and row.value]
    sign = 1 if all(row.score == row.value for row in scored) else -1
    tiny = curves([[value for _, value in leader.curve] if leader else [] for leader in leaders], less=sign < 0)
    top = next((leader.score for leader in leaders if leader), None)

    def told(text: Callable[[TrialRecord], str]) -> list[Cell]:
        return [text(leader) if leader else "-" for leader in leaders]

    values: list[Cell] = [
        Text(text, GOOD if leader and leader.score == top else "") if isinstance(text, str) else text
        for text, leader in zip(told(lambda row: unit.share(row.value or 0.0)), leaders, strict=True)
    ]
    failed = Column("failed", [Text(str(row.failed), BAD if row.failed else "") for row in rows], keep=2)
    return Fitted(
        [
            Column("optimizer", [row.optimizer for row in rows], left=True),
            Column("learning\ncurve", list(tiny), keep=6, left=True),
            Column(f"best\n{unit.metric}", values),
            Column("lr", told(lambda row: number_format(row.configuration.lr) if row.configuration else "-")),
            Column("trial", told(lambda row: str(row.number)), keep=4),
            Column("trials", [str(row.finished) for row in rows], keep=5),
            Column("pruned", [str(row.pruned) for row in rows], keep=3),
            Column("diverged", [Text(str(row.diverged), BAD if row.diverged else "") for row in rows], keep=2),
            *([failed] if any(row.failed for row in rows) else []),
            Column("epochs", [f"{row.epochs:.1f}" for row in rows], keep=1),
        ],
    )


def typed(command: str, studies_dir: Path, storage: str | None, data_dir: Path | None, study: str = "") -> str:
    """A command with the options that lead it to the same study."""
    return line([*command.split(), *(["--study", study] if study else []), *place(studies_dir, storage, data_dir)])


def print_result(
    result: Result, studies_dir: Path, storage: str | None, data_dir: Path | None, next_steps: bool = True
) -> None:
    """The end of a search: standings, the best configuration, and the next commands."""
    console = Console(highlight=False, soft_wrap=True)
    number = counts(result.records)
    if not result.begun:
        console.print(f"study '{result.name}' is made; {result.trials} trials are to be trained. On every machine:")
        console.print("  " + typed("worker", studies_dir, storage, data_dir, result.name), markup=False)
        console.print("to look on:")
        console.print("  " + typed(f"watch {result.name}", studies_dir, storage, None), markup=False)
        return
    if result.trained == 0:
        console.print(f"study '{result.name}' has {number['finished']} finished trials already; nothing was trained")
    unit = result.metric.unit
    console.print(standings_table(result.records, result.settings.optimizers, unit))
    left = f", {number['failed']} failed" if number["failed"] else ""
    console.print(
        f"\n{number['finished']} trials finished: {number['complete']} complete, {number['pruned']} pruned, "
        f"{number['diverged']} diverged{left}; this run took {duration(result.seconds)}"
    )
    if result.dropped:
        console.print(f"no longer in the race, which they would hardly win: {', '.join(result.dropped)}")
    for failing in result.failing():
        console.print(failing.sentence(), style=BAD, markup=False)
    winner = result.best
    if winner is None or winner.configuration is None or winner.value is None:
        console.print(
            "no trial is complete yet, so there is no best configuration: run the same command with more --trials"
        )
        return
    console.print(f"best: trial {winner.number}, validation {unit.metric} {unit.share(winner.value)} (one run)")
    console.print(f"  {configuration_text(winner.configuration)}", markup=False)
    for edge in result.edges():
        console.print(
            f"  {edge.key} {setting(edge.value)} lies at the edge of its range, {edge.value_range}. To look "
            f"beyond, search as another study with:  --set '{edge.line}'",
            markup=False,
        )
    console.print(f"  saved in {result.best_file}")
    for remark in result.remarks:
        console.print(f"  note: {remark}", markup=False)
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


def tested_text(unit: Unit, value: Summary, loss: Summary) -> str:
    """Test metric and loss with their spread."""
    test = f"test {unit.metric} {unit.value(value.mean)}"
    if value.low is None or value.high is None or not value.sd:
        return f"{test} ({no_interval(value.each)}), loss {loss.mean:.4g}"
    return (
        f"{test}, 95 % interval {unit.span(value.low, value.high)} "
        f"(Student's t, {len(value.each)} seeds, standard deviation {unit.bare(value.sd)}{' pp' * unit.percent}); "
        f"loss {loss.mean:.4g}"
    )


def print_retrained(result: Retrained) -> None:
    """The end of a full training: test accuracy and loss with their spread, and where everything lies."""
    console = Console(highlight=False, soft_wrap=True)
    if not result.trained:
        console.print(f"'{result.name}' was trained and tested just so before; nothing was trained")
    console.print(tested_text(result.unit, result.test_value, result.test_loss), markup=False)
    length = many(result.plan.epochs, "epoch")
    console.print(f"  {configuration_text(result.plan.configuration)}; {length}", markup=False)
    of_loss = " and loss.safetensors" * (result.folder / "loss.safetensors").exists()
    console.print(
        f"  {result.folder}: model.safetensors{of_loss} (the first seed's), metrics.json, curves.png", markup=False
    )
