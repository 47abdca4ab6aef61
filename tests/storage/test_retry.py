import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import optuna
import pytest
import sqlalchemy
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, ProgrammingError

from optitune.errors import OptituneError
from optitune.storage import databases, grpc_proxy, retry
from optitune.storage.retry import Retrier, RetryingStorage, RetryPolicy
from optitune.storage.urls import StorageUrl, open_storage, sqlite_url

GONE = OperationalError("SELECT secret", {}, Exception("server closed\n\tthe connection"))


@pytest.fixture(autouse=True)
def shorter_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)


class Away(Exception):
    """A storage that does not answer."""


def retrier(told: list[str], stopping: Callable[[], bool] = lambda: False, wait_s: float = 600) -> Retrier:
    def unavailable(error: BaseException) -> str | None:
        return "nobody there" if isinstance(error, Away) else None

    return Retrier(RetryPolicy(told.append, stopping, wait_s), "db://me:***@host", unavailable)


def failing(times: int, error: Exception | None = None) -> Callable[[], str]:
    """Fails so many times, then answers."""
    left = times

    def call() -> str:
        nonlocal left
        left -= 1
        if left >= 0:
            raise error or Away
        return "answer"

    return call


def test_a_call_is_repeated_until_it_answers_and_told_twice() -> None:
    told: list[str] = []
    assert retrier(told).call(failing(3)) == "answer"
    assert told == [
        "the storage db://me:***@host does not answer (nobody there); waiting up to 10 min 00 s",
        "the storage db://me:***@host answers again after 0 s",
    ]


def test_a_single_failure_is_not_worth_a_line() -> None:
    told: list[str] = []
    assert retrier(told).call(failing(1)) == "answer"
    assert told == []


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), ValueError(), UpdateFinishedTrialError(), DuplicatedStudyError(), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_are_raised_at_once(error: Exception) -> None:
    told: list[str] = []
    with pytest.raises(type(error)):
        retrier(told).call(failing(1, error))
    assert told == []


def test_patience_ends() -> None:
    told: list[str] = []
    with pytest.raises(OptituneError, match=r"did not answer for 0\.2 s \(nobody there\); what was finished is kept"):
        retrier(told, wait_s=0.2).call(failing(1000))
    assert [line.split("; ")[1] for line in told] == ["waiting up to 0.2 s"]


def test_who_is_to_stop_waits_no_longer() -> None:
    told: list[str] = []
    stop = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(retrier(told, stop.is_set).call, failing(10**6))
        while not told:
            time.sleep(0.01)
        stop.set()
        with pytest.raises(OptituneError, match="no time to wait"):
            answer.result(timeout=30)


def test_a_wait_within_a_wait_does_not_begin_anew() -> None:
    told: list[str] = []
    inner, outer = retrier(told, wait_s=0), retrier(told)
    with pytest.raises(OptituneError, match="did not answer"):
        outer.call(lambda: inner.call(failing(1)))
    assert told == []


def test_threads_that_wait_together_tell_once() -> None:
    told: list[str] = []
    there = threading.Event()

    def call() -> str:
        if not there.is_set():
            raise Away
        return "answer"

    shared = retrier(told)
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(shared.call, call) for _ in range(4)]
        time.sleep(0.5)
        there.set()
        assert [answer.result() for answer in answers] == ["answer"] * 4
    assert ["again" in line for line in told] == [False, True]


def test_every_call_of_a_storage_is_patient() -> None:
    public = {name for name in dir(BaseStorage) if not name.startswith("_")}
    assert public == {name for name in vars(RetryingStorage) if not name.startswith("_")}


class Lossy:
    """A storage that does what it is asked, but whose answers are lost the first times."""

    def __init__(self, inner: BaseStorage, losses: int = 2) -> None:
        self._inner = inner
        self._losses = losses
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self.calls.append(name)
            if self.calls.count(name) <= self._losses:
                raise Away
            return result

        return call


def lossy(tmp_path: Path, kind: str) -> Any:
    if kind == "memory":
        return Lossy(InMemoryStorage())
    inner = open_storage(StorageUrl.parse(f"{kind}:///{tmp_path / 'study'}"), create=True)
    return Lossy(get_storage(inner))


@pytest.mark.parametrize("kind", ["memory", "sqlite", "journal"])
def test_calls_whose_answers_were_lost_are_made_again_and_harm_nothing(kind: str, tmp_path: Path) -> None:
    storage = RetryingStorage(lossy(tmp_path, kind), retrier([]))
    with pytest.raises(DuplicatedStudyError):
        storage.create_new_study([StudyDirection.MAXIMIZE], "a")
    study = optuna.load_study(study_name="a", storage=storage, sampler=optuna.samplers.RandomSampler())
    study.set_user_attr("x", 1)
    trial = study.ask()
    # those whose making was not answered are left to nobody
    assert trial.number == 2
    value = trial.suggest_float("x", 0, 1) + trial.suggest_categorical("kind", [1, 2])
    trial.set_user_attr("y", 2)
    trial.report(value, 1)
    study.tell(trial, value)
    frozen = study.get_trials()[2]
    assert (frozen.state, frozen.value, frozen.params) == (TrialState.COMPLETE, value, trial.params)
    assert (frozen.user_attrs, frozen.intermediate_values) == ({"y": 2}, {1: value})
    pruned = study.ask()
    study.tell(pruned, state=TrialState.PRUNED)
    assert [each.state.name for each in study.get_trials()] == ["RUNNING", "RUNNING", "COMPLETE", "PRUNED"]


def test_a_trial_that_ended_otherwise_meanwhile_is_not_taken_for_ours(tmp_path: Path) -> None:
    inner = open_storage(sqlite_url(tmp_path / "study.db"), create=True)
    study_id = inner.create_new_study([StudyDirection.MAXIMIZE], "a")
    trial = inner.create_new_trial(study_id)

    class Raced:
        lost = False

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def set_trial_state_values(self, *args: Any) -> bool:
            if not self.lost:
                self.lost = True
                inner.set_trial_state_values(trial, TrialState.COMPLETE, [0.25])
                raise Away
            return inner.set_trial_state_values(*args)

    storage = RetryingStorage(Raced(), retrier([]))  # type: ignore[arg-type]
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial, TrialState.COMPLETE, [0.75])
    assert inner.get_trial(trial).value == 0.25


def chained(error: Exception, cause: Exception | None = None, context: Exception | None = None) -> Exception:
    error.__context__ = context
    if cause is not None:
        error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (GONE, True),
        (InterfaceError("", {}, Exception("gone")), True),
        (chained(StorageInternalError(), GONE), True),
        (chained(StorageInternalError(), chained(ProgrammingError("", {}, Exception()), context=GONE)), True),
        (chained(KeyError("x"), context=GONE), False),
        (IntegrityError("", {}, Exception()), False),
        (StorageInternalError(), False),
        (OperationalError("", {}, Exception('FATAL:  password authentication failed for user "me"')), False),
        (OperationalError("", {}, Exception('FATAL:  database "optitune" does not exist')), False),
        (OperationalError("", {}, Exception("FATAL:  the database system is starting up")), True),
    ],
)
def test_what_a_database_raises_when_it_is_away(error: Exception, away: bool) -> None:
    words = databases.unavailable(error)
    assert (words is not None) == away
    assert words is None or "\n" not in words
    assert words is None or "secret" not in words


@pytest.fixture
def flaky(tmp_path: Path) -> Any:
    """A database whose statements fail while `lost` holds a number above zero."""
    backend = open_storage(sqlite_url(tmp_path / "study.db"), create=True)
    assert isinstance(backend, RDBStorage)
    lost = [0]

    def fail(*_: Any) -> None:
        if lost[0] > 0:
            lost[0] -= 1
            raise GONE

    sqlalchemy.event.listen(backend.engine, "before_cursor_execute", fail)
    return backend, lost


def test_a_session_that_lost_its_connection_is_not_used_again(flaky: Any) -> None:
    backend, lost = flaky
    told: list[str] = []
    storage = RetryingStorage(
        get_storage(backend), Retrier(RetryPolicy(told.append), "db", databases.unavailable, backend.forget)
    )
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "a")
    trial = storage.create_new_trial(study_id)
    calls: list[Callable[[], Any]] = [
        lambda: storage.get_all_trials(study_id),
        lambda: storage.get_trial(trial),
        lambda: storage.set_trial_user_attr(trial, "x", 1),
        lambda: storage.set_trial_intermediate_value(trial, 1, 0.5),
        lambda: storage.get_study_user_attrs(study_id),
        lambda: storage.set_trial_state_values(trial, TrialState.COMPLETE, [0.5]),
    ]
    for call in calls:
        lost[0] = 3
        call()
        assert lost[0] <= 0
    frozen = storage.get_all_trials(study_id)[0]
    assert (frozen.value, frozen.user_attrs, frozen.intermediate_values) == (0.5, {"x": 1}, {1: 0.5})
    assert told
    assert len(told) % 2 == 0


def test_a_file_is_never_away(tmp_path: Path) -> None:
    for url in (sqlite_url(tmp_path / "study.db"), StorageUrl.parse(f"journal:///{tmp_path / 'study.log'}")):
        assert not isinstance(open_storage(url, create=True, patience=RetryPolicy(print)), RetryingStorage)


@pytest.mark.parametrize("url", ["postgresql://me:secret@127.0.0.1:9/x", "grpc://127.0.0.1:9"])
def test_opening_waits_as_well(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_proxy, "READY_S", 0.2)
    told: list[str] = []
    with pytest.raises(OptituneError, match="did not answer for 1 s") as error:
        open_storage(StorageUrl.parse(url), create=True, patience=RetryPolicy(told.append, wait_s=1))
    assert len(told) == 1
    assert "secret" not in str(error.value) + told[0]


class Answer(grpc.RpcError):
    """What a proxy answers when it fails."""

    def __init__(self, code: grpc.StatusCode, details: str | None) -> None:
        self._answer = code, details

    def code(self) -> grpc.StatusCode:
        return self._answer[0]

    def details(self) -> str | None:
        return self._answer[1]


def asked(code: grpc.StatusCode, details: str | None) -> Exception:
    """What a call raises that the proxy answers so."""

    class Stub:
        def GetTrial(self, request: Any, timeout: float) -> None:
            assert 0 < timeout < 600
            raise Answer(code, details)

    with pytest.raises((grpc_proxy.ProxyError, grpc.RpcError)) as error:
        grpc_proxy._Calls(Stub()).GetTrial(None)
    return error.value


@pytest.mark.parametrize(
    ("code", "details", "away"),
    [
        ("UNAVAILABLE", "Socket closed", True),
        ("DEADLINE_EXCEEDED", None, True),
        ("CANCELLED", "", True),
        ("UNKNOWN", "Exception calling application: (psycopg.OperationalError) connection\nrefused", True),
        ("UNKNOWN", "Exception calling application: An exception is raised during the commit. This", True),
        ("UNKNOWN", "Exception calling application: list index out of range", False),
        ("UNIMPLEMENTED", "Method not found!", False),
    ],
)
def test_what_a_proxy_answers_when_it_is_away(code: str, details: str | None, away: bool) -> None:
    error = asked(grpc.StatusCode[code], details)
    assert isinstance(error, StorageInternalError)
    assert (grpc_proxy.unavailable(error) is not None) == away
    assert str(error).startswith(code.lower().replace("_", " ") + ": ")
    assert "\n" not in str(error)


@pytest.mark.parametrize("code", ["NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "INVALID_ARGUMENT"])
def test_what_optunas_client_understands_is_left_to_it(code: str) -> None:
    assert isinstance(asked(grpc.StatusCode[code], ""), Answer)
