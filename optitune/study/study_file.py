"""The file of a study, `studies/NAME.toml`, the option `--set`, and a commented template."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from optitune.common.schema import Strict, inline, read_toml, toml_key, validated
from optitune.errors import UsageError
from optitune.study.settings import StudySettings, merged


class Budget(Strict):
    """The budget of a study, which may be raised when it is resumed.

    Attributes:
        trials: number of finished trials to reach.
        timeout: seconds after which no trial begins; None for no limit.
    """

    trials: Annotated[int, Field(ge=1)] = 50
    timeout: Annotated[float, Field(gt=0)] | None = None


def from_file(
    path: Path, prepared: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a study's file; empty where there is none.

    Args:
        path: of the file.
        prepared: what is made of its settings before they are validated.

    Returns:
        (settings by key, budget by key)

    Raises:
        UsageError: a key is unknown or its value not allowed.
    """
    if not path.is_file():
        return {}, {}
    document = read_toml(path)
    settings, budget = parted(document, str(path))
    settings = prepared(settings)
    validated(StudySettings, settings, str(path))
    return settings, budget


def parted(document: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a document into settings and budget.

    Raises:
        UsageError: the budget is not allowed.
    """
    budget = {key: value for key, value in document.items() if key in Budget.model_fields}
    if isinstance(budget.get("timeout"), str):
        try:
            budget["timeout"] = seconds(budget["timeout"])
        except ValueError as error:
            raise UsageError(f"{where}: timeout = {budget['timeout']!r}: {error}") from None
    validated(Budget, budget, where)
    return {key: value for key, value in document.items() if key not in Budget.model_fields}, budget


def seconds(text: str) -> float:
    """Seconds of a time such as 90, 90s, 10m, 2h or 1d.

    Raises:
        ValueError: it is not a time.
    """
    units = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f"'{text}' is not a time: write 90, 90s, 10m or 2h")
    return float(match[1]) * units[match[2]]


def from_text(assignments: Sequence[str]) -> dict[str, Any]:
    """Parse assignments `key=value` as lines of a study's file; quotes around a word may be left out.

    Raises:
        UsageError: one is not of that form.
    """
    document: dict[str, Any] = {}
    for text in assignments:
        key, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not key or not value:
            raise UsageError(f"--set {text}: must be KEY=VALUE, such as --set adam.beta2=0.999 or --set epochs=10")
        try:
            line = tomllib.loads(f"{key} = {value}")
        except tomllib.TOMLDecodeError:
            try:
                line = tomllib.loads(f"{key} = {json.dumps(value)}")
            except tomllib.TOMLDecodeError as error:
                raise UsageError(f"--set {text}: is not a line of a study's file: {error}") from None
        document = merged(document, line)
    return document


def dumps(settings: Mapping[str, Any]) -> str:
    """A study's settings as TOML."""
    lines = [f"{toml_key(key)} = {inline(value)}" for key, value in settings.items() if not isinstance(value, Mapping)]
    for table, values in settings.items():
        if isinstance(values, Mapping):
            lines += [
                "",
                f"[{toml_key(table)}]",
                *(f"{toml_key(key)} = {inline(each)}" for key, each in values.items()),
            ]
    return "\n".join(lines) + "\n"


TEMPLATE = """\
# {name}: run it with   optitune search --study {name}
# What is commented out is off, or has its default. On the command line, any line is --set KEY=VALUE.
# Where a range may stand, one value fixes it: lr = 0.001; a list gives the ends: lr = [1e-4, 0.1].

# One of 'optitune tasks', "my_task.py:make_task", or a training loop of your own, "my_training.py:train".
task = {task}
# metric = "accuracy"                     # what that loop reports; or "distance:minimize"; of no other task

# trials = 50                             # how many finished trials the study ends with
# timeout = "1h"                          # begin no trial after this time
# epochs = 5                              # of a trial
# train_examples = 10000                  # train on a fixed random subset; left out: on all

# Which compete; ["all"] for every one. See 'optitune optimizers' and 'optitune schedules'. An optimizer of another
# package may be named by its class, such as "lion_pytorch:Lion": its ranges follow from its constructor's defaults.
# optimizers = {optimizers}
# schedules = ["step"]
# warmup = 0.0                            # share of the steps over which the lr is ramped up; [0.0, 0.2] searches

# Where to look: for every optimizer that has it ...
# lr = [1e-4, 0.1]
# weight_decay = 0.0
# ... for one of them, or for a schedule; 'optitune optimizers adam' shows what there is.
# adam.beta2 = 0.999
# sgd.nesterov = true
# step.gamma = [0.3, 1.0]

# How batches become steps.
# batch_size = 64                         # [32, 64, 128] lets these compete
# accumulation = 1                        # batches whose gradients make one step
# clip_norm = 0.0                         # largest norm of a step's gradients; 0 for any
# loss = "cross-entropy"                  # or "mse"; left out: the task's own
# label_smoothing = 0.0                   # of cross-entropy
# l1 = 0.0                                # factor of the sum of absolute weights
# decay_biases = false                    # whether weight decay and l1 pull at biases and normalisation too

# Learning rates by the pattern of the parameters' names, as factors of the lr; the first that fits holds.
# groups = {{ "fc*" = 10.0, "conv1.*" = [0.1, 10.0] }}

# sampler = "optitune"                    # or "tpe", "tpe-group", "random", "qmc", "gp", "nsgaii"
# lr_reach = 100.0                        # how far beyond its usual range an lr may go; 1 stays within; of optitune's
# budget_in = "seconds"                   # what shares of optimizers are counted in; or "epochs"
# pruner = "optitune"                     # or "none", "median", "percentile", "successive-halving", "hyperband"
# precision = "auto"                      # or "fp32", "bf16"
# seed = 0

# An optimizer with ranges of your choice, as a row of its own; then name it in optimizers.
# [[optimizer]]
# name = "lion"
# path = "lion_pytorch:Lion"              # module:Class; a module of your own lies beside this file
# known_good = [{{ lr = 1e-4, beta1 = 0.9, beta2 = 0.99 }}]
# [optimizer.ranges]                      # what has no range here stays as in known_good
# lr = {{ low = 1e-5, high = 1e-3, scale = "log" }}
# beta1 = {{ low = 0.5, high = 0.99, scale = "complement" }}
# beta2 = {{ low = 0.9, high = 0.999, scale = "complement" }}
"""
"""A study's file with all of its keys, commented out."""


def template(name: str, task: str) -> str:
    """A commented file for the study called `name`."""
    return TEMPLATE.format(name=name, task=json.dumps(task), optimizers=json.dumps(list(StudySettings().optimizers)))
