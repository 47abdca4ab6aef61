"""Client of Optuna's gRPC storage proxy."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import grpc
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import GrpcStorageProxy

READY_S = 5.0

DEADLINE_S = 60.0
"""After this long a proxy that holds the connection but does not answer counts as away."""

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_reconnect_backoff_ms", 5_000)]
"""Trials of a long study are a long message; by itself a channel would look for a lost proxy every two minutes only."""

RETRIED = (
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
)
"""What Optuna's client makes errors of its own of."""

AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

ITS_DATABASE = re.compile(r"OperationalError|InterfaceError|raised during the commit")
"""Pattern of the errors that a proxy sends where its own database failed; Optuna has no code for it."""

PREFIX = "Exception calling application: "


class ProxyError(StorageInternalError):
    """A call to the proxy failed; `away` if it may succeed when it is repeated."""

    def __init__(self, message: str, unavailable: bool) -> None:
        super().__init__(message)
        self.unavailable = unavailable


class _Calls:
    """The proxy's calls, each with a deadline, and with errors that a storage may raise."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        method = getattr(self._stub, name)

        def call(request: Any) -> Any:
            try:
                return method(request, timeout=DEADLINE_S)
            except grpc.RpcError as error:
                code, details = error.code(), " ".join((error.details() or "").split())
                if code in RETRIED:
                    raise
                its_database = code == grpc.StatusCode.UNKNOWN and ITS_DATABASE.search(details) is not None
                words = "its database failed: " + details.removeprefix(PREFIX) if its_database else details
                message = f"{code.name.lower().replace('_', ' ')}: {words}"
                raise ProxyError(message, code in AWAY or its_database) from None

        return call


class Proxy(GrpcStorageProxy):
    """Optuna's client, which notices a proxy that hangs and finds one that was started anew."""

    def __init__(self, host: str, port: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(host=host, port=port)

    def _setup(self) -> None:
        super()._setup()
        stub_of = type(self._stub)
        self._channel.close()
        self._channel = grpc.insecure_channel(f"{self._host}:{self._port}", options=OPTIONS)
        calls: Any = _Calls(stub_of(self._channel))
        self._stub = self._cache.grpc_client = calls

    def wait_server_ready(self, timeout: float | None = None) -> None:
        """Wait until the proxy can be called.

        Raises:
            ProxyError: it could not within so many seconds.
        """
        ready = grpc.channel_ready_future(self._channel)
        try:
            ready.result(timeout=timeout)
        except grpc.FutureTimeoutError:
            raise ProxyError(f"nothing answers as a gRPC proxy within {timeout:.0f} s", unavailable=True) from None
        finally:
            ready.cancel()

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """As Optuna's, also where the proxy was restarted since the trial was made.

        Args:
            trial_id: Optuna's.
            param_name: of the parameter.
            param_value_internal: of the parameter.
            distribution: of the parameter.
        """
        given = (trial_id, param_name, param_value_internal, distribution)
        try:
            super().set_trial_param(*given)
        except KeyError:
            # the proxy takes parameters only of trials that somebody read through it
            for study_id in list(self._cache.studies):
                self._cache.get_all_trials(study_id, None)
            super().set_trial_param(*given)


def connect(host: str, port: int) -> Proxy:
    """The proxy at that address.

    Raises:
        ProxyError: it does not answer.
    """
    proxy = Proxy(host, port)
    try:
        proxy.wait_server_ready(READY_S)
    except ProxyError:
        proxy.close()
        raise
    return proxy


def unavailable(error: BaseException) -> str | None:
    """Why the proxy does not answer; None if it did."""
    return str(error) if isinstance(error, ProxyError) and error.unavailable else None
