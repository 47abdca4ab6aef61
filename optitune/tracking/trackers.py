"""What writes trainings down as they go, by their own libraries: TensorBoard, MLflow and Weights & Biases.

A training is a run there, by its name; its curve is along the steps of its optimizer.
"""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from optitune.common.files import explained, make_folder
from optitune.errors import OptituneError, UsageError
from optitune.report.interchange import TRIAL_TAG, plain_name

Fact = bool | int | float | str


class Tracker(Protocol):
    """Writes runs down."""

    def begin(self, run: str, facts: Mapping[str, Fact]) -> None:
        """A run begins, or goes on, with these settings."""

    def value(self, run: str, name: str, value: float, step: int) -> None:
        """Something was measured in a run that has begun.

        Args:
            run: its name.
            name: of what was measured, such as `validation/accuracy`.
            value: of it.
            step: of the run's optimizer; in a full training its epoch.
        """

    def end(self, run: str, facts: Mapping[str, Fact], came_to: Mapping[str, float], failed: bool) -> None:
        """A run ends.

        Args:
            run: its name.
            facts: all settings, and how it ended.
            came_to: its final values, by name.
            failed: whether it raised an error.
        """

    def close(self) -> None:
        """No more will come."""


class TensorBoard:
    """A folder of event files for each run (https://www.tensorflow.org/tensorboard)."""

    def __init__(self, study: str, folder: Path, place: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = Path(place) if place else folder / "tensorboard"
        with explained(self._folder):
            make_folder(self._folder)
        self._writer = SummaryWriter
        self._open: dict[str, Any] = {}

    def begin(self, run: str, facts: Mapping[str, Fact]) -> None:
        if run not in self._open:
            self._open[run] = self._writer(str(self._folder / run))

    def value(self, run: str, name: str, value: float, step: int) -> None:
        self._open[run].add_scalar(name, value, step)
        # a curve is looked at while it grows
        self._open[run].flush()

    def end(self, run: str, facts: Mapping[str, Fact], came_to: Mapping[str, float], failed: bool) -> None:
        self.begin(run, facts)
        final = {f"final/{name}": value for name, value in came_to.items()}
        # "." is the run itself: by default TensorBoard would show a second one for the settings
        self._open[run].add_hparams(dict(facts), final, run_name=".")
        self._open.pop(run).close()

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


class MlFlow:
    """A run of the experiment that is called as the study (https://mlflow.org/docs/latest/ml/tracking)."""

    def __init__(self, study: str, folder: Path, place: str) -> None:
        from mlflow import MlflowClient

        # of its tables
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        # a server that is not there would be asked for minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        self._client = MlflowClient(tracking_uri=place or None)
        experiment = self._client.get_experiment_by_name(study)
        self._place = experiment.experiment_id if experiment else self._client.create_experiment(study)
        self._ids: dict[str, str] = {}

    def begin(self, run: str, facts: Mapping[str, Fact]) -> None:
        if run in self._ids:
            return
        wanted = f"attributes.run_name = '{plain_name(run)}'"
        there = self._client.search_runs([self._place], filter_string=wanted, max_results=1)
        if there:
            self._ids[run] = there[0].info.run_id
            self._client.update_run(self._ids[run], status="RUNNING")
            return
        self._ids[run] = self._client.create_run(self._place, run_name=plain_name(run)).info.run_id
        self._params(run, facts)

    def _params(self, run: str, facts: Mapping[str, Fact]) -> None:
        from mlflow.entities import Param

        known = self._client.get_run(self._ids[run]).data.params
        new = {plain_name(key): str(value) for key, value in facts.items()}
        # MLflow refuses another value of a parameter, which a run that goes on does not have
        params = [Param(key, value) for key, value in new.items() if key not in known]
        self._client.log_batch(self._ids[run], params=params)

    def value(self, run: str, name: str, value: float, step: int) -> None:
        self._client.log_metric(self._ids[run], plain_name(name), value, step=step)

    def end(self, run: str, facts: Mapping[str, Fact], came_to: Mapping[str, float], failed: bool) -> None:
        self.begin(run, facts)
        self._params(run, facts)
        for name, value in came_to.items():
            self._client.log_metric(self._ids[run], plain_name(f"final/{name}"), value)
        if run.startswith("trial-"):
            # an export does not log it once more
            self._client.set_tag(self._ids[run], TRIAL_TAG, str(int(run.split("-")[1])))
        self._client.set_terminated(self._ids.pop(run), "FAILED" if failed else "FINISHED")

    def close(self) -> None:
        for each in self._ids.values():
            self._client.set_terminated(each, "KILLED")
        self._ids.clear()


class WandB:
    """A run of the project that is called as the study (https://docs.wandb.ai/ref/python/init); offline as it says."""

    def __init__(self, study: str, folder: Path, place: str) -> None:
        import wandb

        self._wandb = wandb
        self._project = place or study
        self._folder = folder
        self._open: dict[str, Any] = {}

    def begin(self, run: str, facts: Mapping[str, Fact]) -> None:
        if run in self._open:
            return
        # the same for a run that goes on after a kill, and for no other study's
        own = hashlib.sha256(f"{self._folder.resolve()}/{run}".encode()).hexdigest()[:16]
        self._open[run] = self._wandb.init(
            project=self._project,
            name=run,
            id=own,
            resume="allow",
            reinit="create_new",
            dir=str(make_folder(self._folder)),
            config=dict(facts),
            settings=self._wandb.Settings(silent=True, console="off"),
        )

    def value(self, run: str, name: str, value: float, step: int) -> None:
        self._open[run].log({name: value}, step=step)

    def end(self, run: str, facts: Mapping[str, Fact], came_to: Mapping[str, float], failed: bool) -> None:
        self.begin(run, facts)
        self._open[run].config.update(dict(facts), allow_val_change=True)
        self._open[run].summary.update({f"final/{name}": value for name, value in came_to.items()})
        self._open.pop(run).finish(exit_code=int(failed))

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].finish(exit_code=1)


KINDS: dict[str, tuple[str, str, Callable[[str, Path, str], Tracker]]] = {
    "tensorboard": ("tensorboard", "tensorboard", TensorBoard),
    "mlflow": ("mlflow-skinny", "mlflow", MlFlow),
    "wandb": ("wandb", "wandb", WandB),
}
"""By name, as `--log` takes it: package and module that it needs, and the tracker; the extra has that name, too."""


def check(log: Sequence[str]) -> None:
    """Check values of `--log` as far as nothing needs to be asked or written.

    Args:
        log: names of `KINDS`, each alone or with its place: a folder, an address, a project.

    Raises:
        UsageError: there is no such tracker, or one twice.
        OptituneError: its library is missing.
    """
    names = [each.partition("=")[0] for each in log]
    for name in names:
        if name not in KINDS:
            raise UsageError(f"log = '{name}': must be one of {', '.join(KINDS)}, each alone or as NAME=PLACE")
        if names.count(name) > 1:
            raise UsageError(f"log: {name} was given {names.count(name)} times: give it once")
        package, module, _ = KINDS[name]
        if find_spec(module) is None:
            raise OptituneError(f"{package} is not installed: run pip install 'optitune[{name}]'")


def opened(log: Sequence[str], study: str, folder: Path, note: Callable[[str], None]) -> "Guarded":
    """The trackers of values that `check` has passed.

    Args:
        log: see there.
        study: its name.
        folder: of the study.
        note: takes what the user should know.

    Raises:
        OptituneError: one cannot be written to, or does not answer.
    """
    found: dict[str, Tracker] = {}
    for typed in log:
        name, _, place = typed.partition("=")
        try:
            found[name] = KINDS[name][2](study, folder, place)
        except OptituneError:
            raise
        except Exception as error:
            raise OptituneError(
                f"{name} does not take the log: {cause(error)}; check what stands after --log, or leave it out"
            ) from error
    return Guarded(found, note)


def cause(error: Exception) -> str:
    """An error of a library in a line, without addresses' passwords."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"://[^/@\s]*@", "://***@", text)[:300]


class Guarded:
    """Several trackers; one that fails is left out from then on, and no training ends by it.

    Args:
        trackers: by what they are called in a message.
        note: takes what the user should know.
    """

    def __init__(self, trackers: Mapping[str, Tracker], note: Callable[[str], None]) -> None:
        self._trackers = dict(trackers)
        self._note = note

    def do(self, action: Callable[[Tracker], None]) -> None:
        """Have every tracker that works do something."""
        for name, each in list(self._trackers.items()):
            try:
                action(each)
            except Exception as error:
                del self._trackers[name]
                self._note(f"no longer logged to {name}: {cause(error)}")
