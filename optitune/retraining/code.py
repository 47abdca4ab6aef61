"""The code and the configuration of a full training: `train.py` and `config.toml` beside its weights."""

from pathlib import Path
from typing import Any

from optitune.common.commands import line, option_words, place
from optitune.common.files import write_text
from optitune.common.text import plural
from optitune.common.user_modules import file_of
from optitune.retraining.results import Tested
from optitune.retraining.sentences import trained_on
from optitune.study import best_config as best
from optitune.study.best_config import BestConfig
from optitune.training.export_code import length_text, python

CONFIG, CODE = "config.toml", "train.py"


def load(folder: Path) -> BestConfig:
    """Read the configuration that was trained, with the schedule of the search's epochs.

    Args:
        folder: of the full training.

    Raises:
        OptituneError: there is none.
        UsageError: it is not valid.
    """
    return best.load(folder / CONFIG, "an older version left no code; run 'optitune retrain' again, which writes it")


def python_of(config: BestConfig, result: Tested, epochs: int | None = None) -> str:
    """Python that trains as the full training did: `train(model, loader)`.

    Args:
        config: as `load` gives it.
        result: of the full training.
        epochs: default of `train`, at least 1; None for those of the full training.
    """
    plan = result.plan
    about = (
        f"{plan.task}: test {result.metric} {result.judge.unit.value(result.test_value.mean)} after "
        f"{length_text(plan.configuration, plan.epochs)}\n"
        f"on {trained_on(plan)} ({plural(len(plan.seeds), 'seed')}, trial {config.trial})"
    )
    return python(config, plan.epochs if epochs is None else epochs, about)


def write(folder: Path, config: BestConfig, result: Tested, scaling: dict[str, Any], seed: int) -> None:
    """Write code and configuration of a full training, each whole or not at all.

    Args:
        folder: of the full training.
        config: that was asked for, with the schedule of the search's epochs.
        result: of the full training.
        scaling: mean and standard deviation of the targets that it was trained on; empty where they are not scaled.
        seed: that was asked for.

    Raises:
        OptituneError: a file cannot be written.
    """
    plan = result.plan
    config = config.model_copy(update={"precision": plan.precision, "scaling": scaling})
    options: dict[str, object] = {"--epochs": plan.epochs, "--seeds": len(plan.seeds), "--seed": seed or None}
    options |= {"--keep": "best"} if plan.keep == "best" else {}
    words = ["retrain", str(folder / CONFIG), "--study", config.study, *option_words(options)]
    head = (
        f"# What was trained here for {plural(plan.epochs, 'epoch')}: trial {config.trial} of study '{config.study}'.\n"
        f"# Train the same again:  {line([*words, *place(folder.parents[2])])}\n\n"
    )
    write_text(folder / CONFIG, best.dumps(config, head))
    module = config.configuration.optimizer.path.partition(":")[0]
    file = file_of(module, folder.parents[2].resolve()) if module else None
    text = python_of(config, result)
    write_text(folder / CODE, (f"# keep {file} beside this file\n" if file else "") + text + "\n")
