"""Retries of storage calls: a call that fails because the storage does not answer is repeated, up to a time limit."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from optitune.common.text import duration
from optitune.errors import OptituneError

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0

LOOK_S = 0.2
"""Seconds between two checks, while retrier, whether to stop."""

T = TypeVar("T")


@dataclass
class RetryPolicy:
    """The policy of waiting for a storage that does not answer.

    Attributes:
        notify: called from any thread with a line of text when a wait begins and ends.
        stopping: called while waiting; True ends the wait.
        wait_s: longest wait, in seconds.
    """

    notify: Callable[[str], None]
    stopping: Callable[[], bool] = lambda: False
    wait_s: float = 600


class Retrier:
    """Repeats calls that fail because a storage does not answer; all threads that use the storage share one.

    Args:
        patience: policy of waiting.
        name: of the storage, without a password.
        unavailable: error of a call -> why the storage does not answer; None where the error means something else.
        forget: called before each repetition, in its thread, to discard the state of the failed call.
    """

    def __init__(
        self,
        patience: RetryPolicy,
        name: str,
        unavailable: Callable[[BaseException], str | None],
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        self.forget = forget
        self._patience = patience
        self._name = name
        self._unavailable = unavailable
        self._lock = threading.Lock()
        self._waiting_since: float | None = None
        # not the one that trainings seed and draw from
        self._jitter = random.Random()  # noqa: S311

    def call(self, call: Callable[[], T]) -> T:
        """The result of `call`, repeated until the storage answers.

        Raises:
            OptituneError: it did not answer in time, or the wait was stopped.
        """
        began, failures = time.monotonic(), 0
        while True:
            try:
                result = call()
            except OptituneError:
                raise
            except Exception as error:
                cause = self._unavailable(error)
                if cause is None:
                    raise
                began = began if failures else time.monotonic()
                failures += 1
                self.forget()
                self._wait(began, failures, cause, error)
            else:
                self._answered()
                return result

    def _wait(self, began: float, failures: int, cause: str, error: Exception) -> None:
        if failures == 2:
            # one failure may be a connection that the server closed, and the next is open at once
            self._begin(began, cause)
        end = began + self._patience.wait_s
        longest = min(FIRST_WAIT_S * 2 ** min(failures - 1, 20), LONGEST_WAIT_S)
        until = min(time.monotonic() + longest * self._jitter.uniform(0.5, 1), end)
        while True:
            left = until - time.monotonic()
            if time.monotonic() >= end:
                raise OptituneError(
                    f"the storage {self._name} did not answer for {duration(self._patience.wait_s)} ({cause}); "
                    "what was finished is kept, run the same command again when it is back"
                ) from error
            if self._patience.stopping():
                raise OptituneError(
                    f"the storage {self._name} does not answer ({cause}), and there is no time to wait for it; "
                    "what was finished is kept, run the same command again"
                ) from error
            if left <= 0:
                return
            time.sleep(min(left, LOOK_S))

    def _begin(self, began: float, cause: str) -> None:
        with self._lock:
            if self._waiting_since is not None:
                return
            self._waiting_since = began
        self._patience.notify(
            f"the storage {self._name} does not answer ({cause}); waiting up to {duration(self._patience.wait_s)}"
        )

    def _answered(self) -> None:
        if self._waiting_since is None:
            return
        with self._lock:
            since, self._waiting_since = self._waiting_since, None
        if since is not None:
            self._patience.notify(
                f"the storage {self._name} answers again after {duration(round(time.monotonic() - since))}"
            )


def _retried(name: str) -> Any:
    def call(self: "RetryingStorage", *args: Any, **kwargs: Any) -> Any:
        method = getattr(self.inner, name)
        return self.retrier.call(lambda: method(*args, **kwargs))

    call.__name__ = name
    return call


class RetryingStorage(BaseStorage):
    """A storage whose calls wait while it is away.

    A call that failed may have been carried out all the same, its answer lost, and is then made twice. Most calls
    overwrite, so that twice is once. `create_new_trial` may leave a running trial that nobody owns, and a trial
    set to running may be reported as another's: callers check for both. A study made twice raises Optuna's
    DuplicatedStudyError, which callers catch.

    Args:
        inner: outermost storage, caches included, so that no lock of a cache is held during a wait.
        waiting: for `inner`.
    """

    def __init__(self, inner: BaseStorage, waiting: Retrier) -> None:
        self.inner = inner
        self.retrier = waiting

    create_new_study = _retried("create_new_study")
    delete_study = _retried("delete_study")
    set_study_user_attr = _retried("set_study_user_attr")
    set_study_system_attr = _retried("set_study_system_attr")
    get_study_id_from_name = _retried("get_study_id_from_name")
    get_study_name_from_id = _retried("get_study_name_from_id")
    get_study_directions = _retried("get_study_directions")
    get_study_user_attrs = _retried("get_study_user_attrs")
    get_study_system_attrs = _retried("get_study_system_attrs")
    get_all_studies = _retried("get_all_studies")
    create_new_trial = _retried("create_new_trial")
    set_trial_param = _retried("set_trial_param")
    get_trial_id_from_study_id_trial_number = _retried("get_trial_id_from_study_id_trial_number")
    get_trial_number_from_id = _retried("get_trial_number_from_id")
    get_trial_param = _retried("get_trial_param")
    set_trial_intermediate_value = _retried("set_trial_intermediate_value")
    set_trial_user_attr = _retried("set_trial_user_attr")
    set_trial_system_attr = _retried("set_trial_system_attr")
    get_trial = _retried("get_trial")
    get_all_trials = _retried("get_all_trials")
    get_n_trials = _retried("get_n_trials")
    get_best_trial = _retried("get_best_trial")
    get_trial_params = _retried("get_trial_params")
    get_trial_user_attrs = _retried("get_trial_user_attrs")
    get_trial_system_attrs = _retried("get_trial_system_attrs")
    check_trial_is_updatable = _retried("check_trial_is_updatable")

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        # a trial that ended in an attempt whose answer was lost counts as ended by this call
        attempts = 0

        def attempt() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                return self.inner.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if attempts == 1:
                    raise
                stored = self.inner.get_trial(trial_id)
                if stored.state != state or (values is not None and stored.values != list(values)):
                    raise
                return True

        return self.retrier.call(attempt)

    def remove_session(self) -> None:
        self.retrier.forget()
