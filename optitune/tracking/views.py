"""Views of the stages that write down what they show."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from optitune.common.text import Unit
from optitune.comparing import run as comparing
from optitune.comparing.events import RunFinished, RunProgress
from optitune.comparing.results import Comparison
from optitune.report.dataframes import settings
from optitune.report.interchange import facts, run_name
from optitune.retraining import seeds as retraining
from optitune.retraining.events import SeedFinished, SeedProgress
from optitune.retraining.results import FullPlan
from optitune.retraining.sentences import Judged
from optitune.searching import supervisor as searching
from optitune.searching.events import TrialFailed, TrialFinished, TrialProgress, TrialStarted
from optitune.space.configuration import Configuration
from optitune.statistics.runs import TUNED, Plan, RunId
from optitune.study.records import TrialRecord
from optitune.study.settings import StudySettings
from optitune.tracking.trackers import Fact, Guarded, Tracker, check, opened
from optitune.workers.events import Event


def of(configuration: Configuration) -> dict[str, Fact]:
    """The settings of a training, without those that are empty."""
    found = {"optimizer": configuration.optimizer.name, **settings(configuration)}
    return {key: value for key, value in found.items() if value is not None and value != ""}


class _Tracked:
    """What all have: trackers that are opened when trainings begin, and closed with the view.

    Args:
        view: of the terminal.
        log: as `trackers.check` takes it; checked here.
        study: its name.
        folder: of the study.
        note: takes what the user should know.

    Raises:
        UsageError: there is no such tracker.
        OptituneError: its library is missing.
    """

    _view: Any

    def __init__(
        self, view: Any, log: str | Sequence[str], study: str, folder: Path, note: Callable[[str], None]
    ) -> None:
        self._view = view
        log = (log,) if isinstance(log, str) else log
        check(log)
        self._open = partial(opened, log, study, folder, note)
        self._trackers: Guarded | None = None
        self._name = ""

    def _ready(self, name: str) -> None:
        self._name = name
        self._trackers = self._trackers or self._open()

    def _do(self, action: Callable[[Tracker], None]) -> None:
        if self._trackers is not None:
            self._trackers.do(action)

    def _begin(self, run: str, known: dict[str, Fact]) -> None:
        self._do(lambda each: each.begin(run, known))

    def _value(self, run: str, name: str, value: float | None, step: int) -> None:
        if value is not None:
            self._do(lambda each: each.value(run, name, float(value), step))

    def _end(self, run: str, known: dict[str, Fact], value: float | None, failed: bool) -> None:
        came_to = {} if value is None else {self._name: float(value)}
        self._do(lambda each: each.end(run, known, came_to, failed))

    def tick(self) -> None:
        self._view.tick()

    def end(self) -> None:
        # a full training may go on to another length
        self._do(lambda each: each.close())
        self._view.end()


class TrackedSearch(_Tracked):
    """A search, each trial a run `trial-0007-adam`."""

    def __init__(self, view: searching.View, log: str | Sequence[str], study: str, folder: Path) -> None:
        super().__init__(view, log, study, folder, view.note)

    def begin(
        self,
        name: str,
        settings: StudySettings,
        unit: Unit,
        target: int,
        records: list[TrialRecord],
        workers: int,
    ) -> None:
        self._ready(f"validation/{unit.metric}")
        self._view.begin(name, settings, unit, target, records, workers)

    def show(self, event: Event, records: list[TrialRecord]) -> None:
        match event:
            case TrialStarted(number=number, optimizer=optimizer, lr=lr):
                self._begin(run_name(number, optimizer), {"optimizer": optimizer, "lr": lr})
            case TrialProgress(number=number, optimizer=optimizer, lr=lr, value=value, step=step):
                run = run_name(number, optimizer)
                self._begin(run, {"optimizer": optimizer, "lr": lr})
                self._value(run, self._name, value, step)
            case TrialFinished(number=number) | TrialFailed(number=number):
                row = next((each for each in records if each.number == number), None)
                if row is not None and row.outcome not in ("running", "waiting"):
                    self._end(run_name(number, row.optimizer), facts(row), row.value, row.outcome == "failed")
        self._view.show(event, records)

    def note(self, text: str) -> None:
        self._view.note(text)


class TrackedComparison(_Tracked):
    """A comparison, each run called `compare-round-01-adam`, with its variant behind."""

    def __init__(
        self, view: comparing.View, log: str | Sequence[str], study: str, folder: Path, note: Callable[[str], None]
    ) -> None:
        super().__init__(view, log, study, folder, note)
        self._plan: Plan | None = None

    def begin(self, name: str, plan: Plan, unit: Unit, workers: int, most: int) -> None:
        self._plan = plan
        self._ready(f"validation/{unit.metric}")
        self._view.begin(name, plan, unit, workers, most)

    def show(self, event: Event) -> None:
        match event:
            case RunProgress(key=key, value=value, step=step):
                self._begin(self._run(key), self._known(key))
                self._value(self._run(key), self._name, value, step)
            case RunFinished(key=key, value=value, diverged=diverged):
                known = {**self._known(key), "outcome": "diverged" if diverged else "complete"}
                self._end(self._run(key), known, None if diverged else value, False)
        self._view.show(event)

    def _run(self, key: RunId) -> str:
        variant = "" if key.variant == TUNED else f"-{key.variant.replace(' ', '-')}"
        return f"compare-round-{key.round + 1:02d}-{key.optimizer}{variant}"

    def _known(self, key: RunId) -> dict[str, Fact]:
        assert self._plan is not None
        return of(self._plan.finalist(key.optimizer).variant(key.variant))

    def judged(self, found: Comparison | None, done: int) -> None:
        self._view.judged(found, done)

    def others(self, runs: int) -> None:
        self._view.others(runs)


class TrackedRetrain(_Tracked):
    """A full training, each seed a run `retrain-best-12-epochs-seed-1`, along its epochs."""

    def __init__(self, view: retraining.View, log: str | Sequence[str], study: str, folder: Path, what: str) -> None:
        super().__init__(view, log, study, folder, view.note)
        self._what = what
        self._metric = ""
        self._plan: FullPlan | None = None

    def begin(
        self,
        plan: FullPlan,
        unit: Unit,
        workers: int,
        done: Collection[int] = (),
        judged: Judged = "test",
    ) -> None:
        self._plan, self._metric = plan, unit.metric
        self._ready(f"{judged}/{unit.metric}")
        self._view.begin(plan, unit, workers, done, judged)

    def show(self, event: Event) -> None:
        assert self._plan is not None
        match event:
            case SeedProgress(seed=seed, row=row, fresh=True):
                run = self._run(seed)
                self._begin(run, self._known(seed))
                self._value(run, "train/loss", row.train_loss, row.epoch)
                self._value(run, f"train/{self._metric}", row.train_value, row.epoch)
                self._value(run, f"validation/{self._metric}", row.validation_value, row.epoch)
                self._value(run, "lr", row.lr, row.epoch)
            case SeedFinished(seed=seed, value=value):
                self._end(self._run(seed), self._known(seed), value, False)
        self._view.show(event)

    def _run(self, seed: int) -> str:
        assert self._plan is not None
        return f"retrain-{self._what}-{self._plan.epochs}-epochs-seed-{seed + 1}"

    def _known(self, seed: int) -> dict[str, Fact]:
        assert self._plan is not None
        return {**of(self._plan.configuration), "epochs": self._plan.epochs, "seed": self._plan.seeds[seed]}

    def note(self, text: str) -> None:
        self._view.note(text)
