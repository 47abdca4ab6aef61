"""Following a study that is trained elsewhere."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from report_world import facts, home

from optitune.searching.events import StudySized, TrialFailed, TrialFinished, TrialLeft, TrialProgress, TrialStarted
from optitune.searching.watch import IDLE_POLLS, POLL_S, watch
from optitune.space.configuration import Configuration
from optitune.storage import studies, study_checks, trials
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import open_storage
from optitune.study.settings import StudySettings
from optitune.tasks.metrics import METRICS
from optitune.workers.events import Event

Run = Callable[..., tuple[int, str, str]]
SETTINGS = StudySettings(task="digits", optimizers=("sgd", "adam"), precision="fp32", epochs=3)
STEPS = 18
"""In an epoch of `facts`."""


class Told:
    """A view that keeps what it is told."""

    def __init__(self) -> None:
        self.begun: tuple[Any, ...] = ()
        self.events: list[Event] = []
        self.notes: list[str] = []
        self.ended = 0

    def begin(self, *about: Any) -> None:
        self.begun = about

    def show(self, event: Event, records: Any) -> None:
        self.events.append(event)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def tick(self) -> None: ...

    def end(self) -> None:
        self.ended += 1

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class World:
    """A study whose trials a test begins and ends, as workers would."""

    def __init__(self, place: StudyLocation, configured: Callable[..., Configuration], target: int) -> None:
        place.folder.mkdir(parents=True)
        self._configured = configured
        self.study = study_checks.create_or_resume(
            open_storage(place.url, create=True), place.name, SETTINGS, facts(METRICS["accuracy"]), METRICS["accuracy"]
        )
        self.study.set_user_attr(studies.TRIALS, target)

    def begin(self, optimizer: str = "sgd", owner: str = "a") -> int:
        trial = create_trial(
            state=TrialState.RUNNING,
            user_attrs={
                trials.CONFIGURATION: self._configured(optimizer).model_dump(mode="json"),
                trials.OWNER: {"lock": owner},
            },
        )
        trial.datetime_start = datetime.now() - timedelta(minutes=5)
        self.study.add_trial(trial)
        return len(self.study.get_trials(deepcopy=False)) - 1

    def _id(self, number: int) -> int:
        return self.study.get_trials(deepcopy=False)[number]._trial_id

    def report(self, number: int, step: int, value: float) -> None:
        self.study._storage.set_trial_intermediate_value(self._id(number), step, value)

    def end(self, number: int, value: float | None) -> None:
        if value is None:
            self.study._storage.set_trial_user_attr(self._id(number), trials.REASON, "RuntimeError: no")
        state = TrialState.COMPLETE if value is not None else TrialState.FAIL
        self.study._storage.set_trial_state_values(self._id(number), state, None if value is None else [value])

    def give_back(self, number: int) -> None:
        self.study._storage.set_trial_state_values(self._id(number), TrialState.WAITING)


@pytest.fixture
def place(tmp_path: Path) -> StudyLocation:
    return home(tmp_path)


@pytest.fixture
def world(place: StudyLocation, configured: Callable[..., Configuration]) -> World:
    return World(place, configured, target=2)


def script(*steps: Callable[[], Any]) -> Callable[[float], None]:
    """What happens between one look and the next."""
    left = list(steps)

    def wait(seconds: float) -> None:
        assert seconds == POLL_S
        left.pop(0)()

    return wait


def test_a_study_is_followed_to_its_last_trial(place: StudyLocation, world: World) -> None:
    told = Told()
    first = world.begin("adam")
    world.report(first, STEPS, 0.5)
    result = watch(
        place,
        told,
        script(
            lambda: world.report(first, 2 * STEPS, 0.8),
            lambda: None,
            lambda: (world.end(first, 0.9), world.begin("sgd", "b")),
            lambda: world.end(1, 0.95),
        ),
    )
    name, settings, unit, target, records, workers = told.begun
    assert (name, settings, unit, target, workers) == ("digits", SETTINGS, METRICS["accuracy"].unit, 2, 1)
    assert records[0].outcome == "running"
    assert [event.number for event in told.of(TrialStarted)] == [0, 1]
    assert told.of(TrialStarted)[0].since == pytest.approx(300, abs=100)
    assert [(event.epoch, event.value, event.fresh) for event in told.of(TrialProgress)] == [
        (1.0, 0.5, False),
        (2.0, 0.8, True),
    ]
    assert [event.number for event in told.of(TrialFinished)] == [0, 1]
    assert [event.worker for event in told.of(TrialStarted)] == [0, 1]
    assert told.ended == 1
    assert result.document()["best"] == {"number": 1, "value": 0.95, "optimizer": "sgd", "runs": 1}
    assert result.document()["trials"]["finished"] == 2


def test_failed_trials_and_those_given_back_are_no_longer_under_way(place: StudyLocation, world: World) -> None:
    told = Told()
    world.begin()
    world.begin(owner="b")

    def finish() -> None:
        for _ in range(2):
            world.end(world.begin(), 0.9)

    watch(place, told, script(lambda: world.end(0, None), lambda: world.give_back(1), finish))
    assert [(event.number, event.reason) for event in told.of(TrialFailed)] == [(0, "RuntimeError: no")]
    assert [event.number for event in told.of(TrialLeft)] == [1]
    assert len(told.of(TrialFinished)) == 2


def test_a_study_may_grow_while_it_is_followed(place: StudyLocation, world: World) -> None:
    told = Told()
    world.end(world.begin(), 0.9)

    def grow() -> None:
        world.study.set_user_attr(studies.TRIALS, 3)
        world.end(world.begin(), 0.8)

    result = watch(place, told, script(grow, lambda: world.end(world.begin(), 0.7)))
    assert [event.target for event in told.of(StudySized)] == [2, 3, 3]
    assert result.target == 3


def test_who_works_on_nothing_is_told_once_how_to_go_on(place: StudyLocation, world: World) -> None:
    told = Told()
    idle: list[Callable[[], Any]] = [lambda: None] * (2 * IDLE_POLLS)
    watch(
        place, told, script(*idle, lambda: [world.end(world.begin(), 0.9) for _ in range(2)]), ["--studies-dir", "a b"]
    )
    assert len(told.notes) == 1
    assert told.notes[0].endswith("optitune search --study digits --studies-dir 'a b'")


def test_nothing_is_written(place: StudyLocation, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.end(world.begin(), 0.9)
    running = world.begin()
    world.report(running, STEPS, 0.5)
    written: list[str] = []

    def last() -> None:
        for name in dir(optuna.storages.RDBStorage):
            if name.startswith(("set_", "create_", "delete_")):
                monkeypatch.undo()
        world.end(running, 0.95)

    for name in dir(optuna.storages.RDBStorage):
        if name.startswith(("set_", "create_", "delete_")):
            monkeypatch.setattr(optuna.storages.RDBStorage, name, lambda *_, name=name, **__: written.append(name))
    watch(place, Told(), script(lambda: None, lambda: None, last))
    assert written == []


def test_ctrl_c_ends_the_view_and_exits_130(
    place: StudyLocation, world: World, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    told = Told()
    with pytest.raises(KeyboardInterrupt):
        watch(place, told, interrupt)
    assert told.ended == 1
    monkeypatch.setattr("optitune.searching.watch.watch", lambda *_, **__: interrupt(0))
    assert run_command("watch", "digits", "--studies-dir", str(place.folder.parent))[0] == 130


def test_a_complete_study_is_told_at_once(place: StudyLocation, world: World, run_command: Run) -> None:
    for value in (0.9, 0.95):
        world.end(world.begin("adam"), value)
    code, out, err = run_command("watch", "digits", "--studies-dir", str(place.folder.parent))
    assert (code, err) == (0, "")
    assert "2 of 2 trials finished" in out
    assert "best: trial 1, validation accuracy 95.00 %" in out
    assert "optitune compare digits" in out


@pytest.mark.parametrize("words", [["watch", "nothing"], ["watch", "foreign"]])
def test_what_is_no_study_of_ours_is_refused_in_a_line(
    words: list[str], place: StudyLocation, world: World, run_command: Run
) -> None:
    foreign = place.folder.parent / "foreign"
    foreign.mkdir()
    optuna.create_study(storage=f"sqlite:///{foreign}/study.db", study_name="foreign")
    code, out, err = run_command(*words, "--studies-dir", str(place.folder.parent))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


def test_a_study_without_a_number_of_trials_is_refused(place: StudyLocation, world: World, run_command: Run) -> None:
    world.study.set_user_attr(studies.TRIALS, None)
    code, _, err = run_command("watch", "digits", "--studies-dir", str(place.folder.parent))
    assert code == 1
    assert "optitune search --study digits --trials N" in err
