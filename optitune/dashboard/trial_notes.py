"""The note of a trial in optuna-dashboard: how it ended, its learning curve, its settings as torch takes them."""

from io import BytesIO
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from optitune.common.text import Unit, plural
from optitune.dashboard import artifacts, notes
from optitune.space.configuration import Configuration, settings_text
from optitune.storage import studies, trials
from optitune.study.records import Outcome
from optitune.training.export_code import glance

PICTURE = "learning-curve.png"


def attach(
    trial: optuna.Trial, outcome: Outcome, value: float | None, reason: str, epochs: int, an_epoch: int, folder: Path
) -> str:
    """Give a trial that is about to end its note and its picture; what could not be done, or nothing.

    Args:
        epochs: of a trial.
        an_epoch: by how many of the steps that were reported it is divided.
        folder: of the study.
    """
    frozen = trial.storage.get_trial(trial._trial_id)
    if trials.CONFIGURATION not in frozen.user_attrs:
        # it failed before one was drawn; its reason is among its attributes
        return ""
    unit, problem, image = studies.metric(trial.study).unit, "", ""
    if frozen.intermediate_values:
        try:
            drawn = picture(frozen, outcome, value, unit, an_epoch)
            image = (
                f"/artifacts/{trial.study._study_id}/{trial._trial_id}/{artifacts.put(trial, PICTURE, drawn, folder)}"
            )
        except UpdateFinishedTrialError:
            raise
        except Exception as error:
            # a trial is worth more than its picture, whatever keeps it from being drawn
            problem = f"trial {trial.number} has no picture in the dashboard: {' '.join(str(error).split())}"
    notes.note_trial(trial, note(frozen, outcome, value, reason, unit, epochs, image))
    return problem


def _ending(outcome: Outcome, value: float | None, unit: Unit) -> str:
    return outcome if value is None else f"{outcome}, validation {unit.metric} {unit.value(value)}"


def note(
    frozen: FrozenTrial, outcome: Outcome, value: float | None, reason: str, unit: Unit, epochs: int, image: str
) -> str:
    """A trial in Markdown.

    Args:
        image: address of its picture; empty for none.
    """
    configuration = Configuration.model_validate(frozen.user_attrs[trials.CONFIGURATION])
    parts = [
        f"**{configuration.optimizer.name}**: {_ending(outcome, value, unit)}"
        + (" (one run)" if value is not None else ""),
        f"Run {frozen.user_attrs[trials.RUN] + 1} of the settings of trial {frozen.user_attrs[trials.REPEATS]}, from "
        "another seed."
        if trials.RUN in frozen.user_attrs
        else "",
        f"Why it ended early: {reason}" if reason and outcome != "complete" else reason,
        f"![learning curve]({image})" if image else "",
        f"As torch takes them, for {plural(epochs, 'epoch')}:\n\n{code(configuration, epochs)}",
        f"All settings: {settings_text(configuration)}",
    ]
    return "\n\n".join(part for part in parts if part)


def code(configuration: Configuration, epochs: int) -> str:
    """Optimizer and schedulers in Markdown, every number as it is: it may be typed again."""
    return "```python\n" + "\n".join(glance(configuration, epochs)) + "\n```"


def picture(frozen: FrozenTrial, outcome: Outcome, value: float | None, unit: Unit, an_epoch: int) -> bytes:
    """Draw a trial's learning curve as a PNG; the trial has one evaluation at least.

    Args:
        frozen: the trial.
        outcome: how it ended.
        value: of the metric at its end; None where it has none.
        unit: how the metric is written.
        an_epoch: how many reported steps are an epoch.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
    from PIL import Image

    seen = sorted(frozen.intermediate_values.items())
    figure = Figure(figsize=(6.4, 2.9), dpi=100)
    # fixed, since to fit the margins would take longer than to draw
    axes = figure.add_axes((0.11, 0.16, 0.86, 0.73))
    heights = [100 * height if unit.percent else height for _, height in seen]
    axes.plot(
        [step / an_epoch for step, _ in seen], heights, color="#0072B2", marker="o", markersize=3.5, linewidth=1.6
    )
    # names are a user's: a dollar in one begins no formula
    title = f"trial {frozen.number}: {_ending(outcome, value, unit)}"
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel(f"validation {unit.heading}", fontsize=9, parse_math=False)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    drawn, file = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png")
    # a quarter of the size, and no eye sees it
    Image.open(drawn).convert("RGB").quantize(32).save(file, format="png")
    return file.getvalue()
