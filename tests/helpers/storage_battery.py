"""What every storage must do, with real worker processes: a battery that storages of all kinds are put through."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optitune.searching.trial_queue import TrialQueue
from optitune.storage import studies
from optitune.storage.urls import RetryPolicy, StorageUrl, open_storage
from optitune.workers import leases
from optitune.workers.leases import Owner

NAME = "Größe 🌱"
ATTRIBUTES = {"größe": "Zoë 🌱 'quoted' %(x)s", "列表": [1, None, {"a": 0.1}]}
TIMEOUT_S = 120
"""Nothing here takes nearly as long; it keeps a hang from lasting for ever."""

ORPHAN_S = 2.0
"""A trial whose making was not answered is nobody's; no test waits as long for it as users' workers do."""


@dataclass
class Work:
    """What one worker did: the trials it ended, with their parameters and values, and what its storage told."""

    told: dict[int, tuple[dict[str, Any], float]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


PRELOADED = [
    "optitune.searching.trial_queue",
    "optitune.storage.urls",
    "optuna.storages._rdb.models",
    "optuna.samplers._random",
    "alembic.command",
    "alembic.migration",
    "alembic.script",
]
"""What takes long to import: workers are forked from a process that has it."""


def _context() -> Any:
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def work(url: str, folder: Path, target: int, pause: float, done: Any, answers: Any) -> None:
    """Take trials and tell them at once, until there are enough."""
    leases.STALE_S = ORPHAN_S  # type: ignore[assignment]
    result = Work()
    try:
        storage = open_storage(
            StorageUrl.parse(url), create=False, patience=RetryPolicy(result.lines.append, wait_s=TIMEOUT_S)
        )
        opened = studies.find(storage, NAME)
        opened.sampler = optuna.samplers.RandomSampler()
        owner = Owner(folder / "workers")
        desk = TrialQueue(opened, target, owner, folder, StorageUrl.parse(url).is_sqlite)
        while not desk.is_complete():
            taken = desk.claim()
            if taken is None:
                time.sleep(0.05)
                continue
            trial, frozen = taken
            value = trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 10**6, log=True)
            trial.suggest_categorical("kind", ["a", "ß", None])
            for key, attribute in ATTRIBUTES.items():
                trial.set_user_attr(key, attribute)
            trial.report(value, 3)
            time.sleep(pause)
            if desk.report(trial, "complete", value, "", 0.0):
                result.told[frozen.number] = (dict(trial.params), value)
                with done.get_lock():
                    done.value += 1
        desk.close()
        owner.release()
        answers.put(result)
    except BaseException as error:
        answers.put(f"{type(error).__name__}: {error}")
        raise


class Crew:
    """Worker processes on a study of their own; a block in which they run."""

    def __init__(self, url: str, folder: Path, workers: int, target: int, pause: float = 0.0) -> None:
        context = _context()
        self.url, self.target = url, target
        self._done, self._answers = context.Value("i", 0), context.Queue()
        # a folder each would be another machine's; they are of one machine and take turns
        given = (url, folder, target, pause, self._done, self._answers)
        self._processes = [context.Process(target=work, args=given, daemon=True) for _ in range(workers)]

    def __enter__(self) -> "Crew":
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def wait_for(self, trials: int) -> None:
        """Return once the workers have told so many."""
        end = time.monotonic() + TIMEOUT_S
        while self._done.value < trials:
            assert time.monotonic() < end, f"{self._done.value} of {trials} trials told"
            assert self._answers.empty(), self._answers.get()
            time.sleep(0.01)

    def results(self) -> list[Work]:
        """What the workers did, once all of them are done."""
        results = [self._answers.get(timeout=TIMEOUT_S) for _ in self._processes]
        assert all(isinstance(result, Work) for result in results), results
        for process in self._processes:
            process.join(TIMEOUT_S)
        return results


@contextmanager
def using(url: str, create: bool = False) -> Iterator[BaseStorage]:
    """A storage whose connections are closed at the end."""
    storage = open_storage(StorageUrl.parse(url), create)
    try:
        yield storage
    finally:
        storage.remove_session()
        if isinstance(storage, RDBStorage):
            storage.engine.dispose()
        elif isinstance(storage, GrpcStorageProxy):
            storage.close()


def new_study(url: str) -> None:
    """Make the study that workers work on."""
    with using(url, create=True) as storage:
        made = optuna.create_study(storage=storage, study_name=NAME, direction="maximize")
        for key, attribute in ATTRIBUTES.items():
            made.set_user_attr(key, attribute)


def assert_nothing_lost(url: str, results: list[Work], target: int) -> None:
    """Exactly so many trials, each told once, and read back as its worker told it."""
    told = [number for result in results for number in result.told]
    assert sorted(told) == list(range(target))
    with using(url) as storage:
        found = studies.find(storage, NAME)
        assert found.user_attrs == ATTRIBUTES
        assert found.direction == StudyDirection.MAXIMIZE
        trials = found.get_trials(deepcopy=False)
    assert [(trial.number, trial.state) for trial in trials] == [(n, TrialState.COMPLETE) for n in range(target)]
    as_told = {number: row for result in results for number, row in result.told.items()}
    assert {trial.number: (trial.params, trial.value) for trial in trials} == as_told
    for trial in trials:
        assert trial.intermediate_values == {3: trial.value}
        assert {key: trial.user_attrs[key] for key in ATTRIBUTES} == ATTRIBUTES


def made_at_once(url: str, answers: Any, barrier: Any) -> None:
    """One of several processes that make the same study."""
    storage = open_storage(StorageUrl.parse(url), create=True)
    barrier.wait(TIMEOUT_S)
    try:
        storage.create_new_study([StudyDirection.MAXIMIZE], NAME)
        answers.put("made")
    except optuna.exceptions.DuplicatedStudyError:
        answers.put("there")


def assert_made_once(url: str) -> None:
    """Of two processes that make one study at the same moment, one does and the other is told."""
    context = _context()
    answers, barrier = context.Queue(), context.Barrier(2)
    processes = [context.Process(target=made_at_once, args=(url, answers, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    assert sorted(answers.get(timeout=TIMEOUT_S) for _ in processes) == ["made", "there"]
    for process in processes:
        process.join(TIMEOUT_S)
    with using(url) as storage:
        assert optuna.get_all_study_names(storage) == [NAME]
