"""A configuration as something to paste: Python that needs torch alone, TOML, or JSON."""

import json

from optitune import optimizers, schedules
from optitune.best import BestConfig, dumps

FORMATS = ("python", "toml", "json")


def export(config: BestConfig, form: str) -> str:
    """`config` in one of `FORMATS`, without a newline at the end."""
    if form == "toml":
        return dumps(config).rstrip()
    if form == "json":
        return json.dumps(config.model_dump(mode="json"), indent=2)
    return python(config)


def python(config: BestConfig) -> str:
    """Python that builds the optimizer and the scheduler for a `model` with torch alone."""
    configuration = config.configuration
    optimizer = optimizers.find(configuration.optimizer.name)
    schedule = schedules.find(configuration.schedule.name)
    lines = [
        "import torch",
        "",
        f"# {config.task}: validation accuracy {config.value:.4f} "
        f"after {config.epochs} epochs of batches of {config.batch_size} (trial {config.trial}, one run)",
        f"optimizer = {_call(optimizer.path, 'model.parameters()', configuration.optimizer.settings)}",
    ]
    if schedule.path:
        lines += [
            f"scheduler = {_call(schedule.path, 'optimizer', configuration.schedule.settings)}",
            "# after every epoch: scheduler.step()",
        ]
    return "\n".join(lines)


def _call(path: str, first: str, settings: dict[str, bool | int | float | list[float]]) -> str:
    """A call of the class at `path`, its tuples written as tuples."""
    arguments = [
        first,
        *(f"{name}={tuple(value) if isinstance(value, list) else value!r}" for name, value in settings.items()),
    ]
    return f"{path.replace(':', '.')}({', '.join(arguments)})"
