"""Records as people read them: tables, numbers, durations, and the next commands to type."""

from pathlib import Path

from optitune.common.commands import line, place
from optitune.comparing.sentences import setting
from optitune.space.configuration import Configuration, TrainingSettings


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


def typed(command: str, studies_dir: Path, storage: str | None, data_dir: Path | None, study: str = "") -> str:
    """A command with the options that lead it to the same study."""
    return line([*command.split(), *(["--study", study] if study else []), *place(studies_dir, storage, data_dir)])
