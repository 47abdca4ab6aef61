"""A study for other programs: CSV and Parquet tables, TensorBoard's event files, MLflow's runs."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from optitune.common.files import explained, make_folder, replacing
from optitune.errors import OptituneError, UsageError
from optitune.report import dataframes
from optitune.study.records import TrialRecord
from optitune.study.steps import own_steps

EXTRAS = {"parquet": "pyarrow", "tensorboard": "tensorboard", "mlflow": "mlflow-skinny"}
"""The package that each format needs beside ours; its extra is called as the format."""


def _missing(form: str) -> OptituneError:
    return OptituneError(f"{EXTRAS[form]} is not installed: run pip install 'optitune[{form}]'")


def write_tables(records: Sequence[TrialRecord], folder: Path, form: str, examples: int | None = None) -> list[Path]:
    """Write `trials` and `curves`, each of them whole or not at all.

    Args:
        form: `csv` or `parquet`.
        examples: that every trial trains on.

    Raises:
        OptituneError: a file cannot be written, or the library for it is missing.
    """
    if form == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise _missing(form) from None
    written = {
        folder / f"trials.{form}": dataframes.trials(records),
        folder / f"curves.{form}": dataframes.curves(records, examples),
    }
    with ExitStack() as stack:
        scratches = [stack.enter_context(replacing(path)) for path in written]
        for table, scratch in zip(written.values(), scratches, strict=True):
            if form == "csv":
                table.to_csv(scratch, index=False)
            else:
                table.to_parquet(scratch, engine="pyarrow", index=False)
    return list(written)


def write_tensorboard(records: Sequence[TrialRecord], metric: str, folder: Path, examples: int | None = None) -> Path:
    """Write a TensorBoard run for each trial that has ended: its curve, its settings and its value.

    Args:
        records: the study's trials, finished and running.
        metric: name of the metric.
        folder: to write to; it must be empty or not exist.
        examples: that every trial trains on; without it, no step is known where batch sizes differ.

    Raises:
        UsageError: something lies in the folder, which TensorBoard would show as well.
        OptituneError: a file cannot be written, or TensorBoard is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise _missing("tensorboard") from None
    times = own_steps(records, examples)
    with explained(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is not empty: remove it, or name another folder with --out")
        with TemporaryDirectory(prefix=f".{folder.name}-", dir=make_folder(folder.parent)) as scratch:
            for row in _ended(records):
                place = Path(scratch) / folder.name / run_name(row.number, row.optimizer)
                with SummaryWriter(str(place)) as writer:
                    for step, value in _own(row, times):
                        writer.add_scalar(f"validation/{metric}", value, step)
                    came_to = {} if row.value is None else {f"final/{metric}": row.value}
                    # "." is the run itself: by default TensorBoard would show a second one for the settings
                    writer.add_hparams(facts(row), came_to, run_name=".")
            if folder.exists():
                folder.rmdir()
            (Path(scratch) / folder.name).rename(folder)
    return folder


TRIAL_TAG = "optitune.trial"


def write_mlflow(
    study: str, records: Sequence[TrialRecord], metric: str, uri: str | None, examples: int | None = None
) -> tuple[int, int]:
    """Log a run per trial that has ended to the experiment called as the study; one that is there is left as it is.

    Args:
        uri: of the tracking server or its files; None for what MLflow takes from its environment.

    Returns:
        (trials logged, trials that were there before)

    Raises:
        OptituneError: MLflow is missing, or does not take them.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise _missing("mlflow") from None
    before = logged = 0
    times = own_steps(records, examples)
    # a server that is not there would be asked for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    try:
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(study)
        place = experiment.experiment_id if experiment else client.create_experiment(study)
        # as many as one answer may hold
        there = {run.data.tags.get(TRIAL_TAG) for run in client.search_runs([place], max_results=50_000)}
        for row in _ended(records):
            if str(row.number) in there:
                before += 1
                continue
            began, ended = _milliseconds(row.began), _milliseconds(row.ended)
            points = [Metric(plain_name(metric), value, ended, step) for step, value in _own(row, times)]
            if row.value is not None:
                points.append(Metric("value", row.value, ended, 0))
            params = [Param(plain_name(key), str(value)) for key, value in facts(row).items()]
            run = client.create_run(place, start_time=began, run_name=run_name(row.number, row.optimizer)).info.run_id
            # as many as one request may hold
            for begin in range(0, len(points), 1000):
                client.log_batch(run, metrics=points[begin : begin + 1000])
            # last, so that what was interrupted does not pass for being there
            client.log_batch(run, params=params, tags=[RunTag(TRIAL_TAG, str(row.number))])
            client.set_terminated(run, "FAILED" if row.outcome == "failed" else "FINISHED", end_time=ended)
            logged += 1
    except MlflowException as error:
        cause = " ".join(str(error).split())
        raise OptituneError(f"MLflow does not take the trials: {cause}; check the address after --out") from error
    return logged, before


def _ended(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """What will not change any more."""
    return [row for row in records if row.outcome not in ("running", "waiting")]


def _own(row: TrialRecord, times: Mapping[int, float]) -> list[tuple[int, float]]:
    """The curve by the steps of the trial's own optimizer; as it was reported where those are not known."""
    return [(round(step * times.get(row.number, 1.0)), value) for step, value in row.curve]


def run_name(number: int, optimizer: str | None) -> str:
    """What a trial is called there."""
    return f"trial-{number:04d}" + (f"-{optimizer}" if optimizer else "")


def facts(row: TrialRecord) -> dict[str, bool | int | float | str]:
    """Settings and end of a trial without those that are empty."""
    settings = dataframes.settings(row.configuration) if row.configuration else {}
    found = {"optimizer": row.optimizer, **settings, "outcome": row.outcome, "epochs": row.epochs, "reason": row.reason}
    found |= {"from_study": row.from_study, "from_trial": row.from_trial}
    return {key: value for key, value in found.items() if value is not None and value != ""}


def _milliseconds(time: datetime | None) -> int:
    """As MLflow counts; now where it is not known."""
    return round(1000 * (time or datetime.now()).timestamp())


def plain_name(name: str) -> str:
    """A name of the letters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name)
