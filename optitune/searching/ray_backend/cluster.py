"""A Ray cluster: finding it, being connected to it without a word of its own, and what it offers."""

import logging
import math
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from optitune.errors import OptituneError, UsageError
from optitune.storage.urls import SHARED_STORAGE, StorageUrl
from optitune.training.device import resolve_device
from optitune.workers.pool import WORKERS_PER_GPU

CLIENT_PORT = 10001
"""Where a Ray cluster listens for `ray://` by default."""

CONNECT_S = 10.0

OBJECTS = 100 * 2**20
"""Bytes of Ray's object store on this machine; a search puts nothing there but events."""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process is connected to.

    Attributes:
        address: as the user typed it.
        cpus: how many cores it has in all.
        gpus: how many GPUs.
        elsewhere: whether a machine other than this one belongs to it.
    """

    address: str
    cpus: int
    gpus: int
    elsewhere: bool

    def device(self, wanted: str) -> torch.device:
        """The device to train on; `auto` takes GPUs where the cluster has some.

        Raises:
            UsageError: it has no such device, or Ray decides which.
        """
        if wanted == "auto":
            return torch.device("cuda" if self.gpus else "cpu")
        if re.fullmatch(r"cuda:\d+", wanted):
            raise UsageError(f"device = '{wanted}': Ray chooses each worker's GPU; write cuda")
        if wanted == "cuda" and (self.gpus or self.elsewhere):
            # that this machine has none means nothing, and a cluster may get some only when they are asked for
            return torch.device(wanted)
        return resolve_device(wanted)

    def workers(self, wanted: int | None, device: torch.device, missing: int) -> int:
        """How many workers to start on the cluster, never more than trials are missing.

        Args:
            wanted: by the user; None for one per core, or a few per GPU.
            device: to train on.
            missing: how many trials are still to be trained.
        """
        sensible = min(self.cpus, WORKERS_PER_GPU * self.gpus) if device.type == "cuda" and self.gpus else self.cpus
        return max(1, min(wanted or sensible, missing))


def checked_address(address: str) -> str:
    """The address of a cluster as a user types it.

    Raises:
        UsageError: it is neither `ray` nor `ray://HOST:PORT`.
    """
    if address == "ray":
        return address
    try:
        parts = urlsplit(address)
        if parts.scheme == "ray" and parts.hostname and address == f"ray://{parts.netloc}" and "@" not in parts.netloc:
            return f"{address}:{CLIENT_PORT}" if parts.port is None else address
    except ValueError:
        pass
    raise UsageError(
        f"cluster = {address}: write ray, for the cluster that RAY_ADDRESS names or else a Ray on this machine, "
        "or ray://HOST:PORT"
    )


@contextmanager
def connected(address: str | None, url: StorageUrl, workers: int | None) -> Iterator[Cluster | None]:
    """Be connected to a Ray cluster; to none where no `address` is given.

    Args:
        address: `ray` or `ray://HOST:PORT`.
        url: of the study's storage, which all machines of the cluster must reach.
        workers: how many are wanted, None for as many as fit; a Ray that is started here has a place for each.

    Raises:
        UsageError: the address is not one, no workers are wanted, or the storage is a file of this machine alone.
        OptituneError: Ray is not installed, or the cluster cannot be reached.
    """
    if address is None:
        yield None
        return
    address = checked_address(address)
    if workers == 0:
        raise UsageError(f"cluster = {address}: has nothing to do with workers = 0; leave one of them out")
    ray = quiet_ray()
    if ray.is_initialized():
        # whoever connected this process wants to stay so
        yield _cluster(ray, address, url)
        return
    try:
        _connect(ray, address, workers)
        with _mute():
            yield _cluster(ray, address, url)
    finally:
        ray.shutdown()


def _cluster(ray: Any, address: str, url: StorageUrl) -> Cluster:
    """What this process is connected to.

    Raises:
        UsageError: the storage is a file of this machine, and the cluster has others.
    """
    with explained_cluster(address):
        hosts = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
        resources = ray.cluster_resources()
    cluster = Cluster(
        address=address,
        cpus=max(1, int(resources.get("CPU", 1))),
        gpus=math.ceil(resources.get("GPU", 0)),
        elsewhere=hosts != {socket.gethostname()},
    )
    if cluster.elsewhere and url.is_sqlite:
        raise UsageError(f"cluster = {address}: its machines cannot share a study in an SQLite file: {SHARED_STORAGE}")
    return cluster


def quiet_ray() -> Any:
    """Ray, which tells the user nothing by itself: what matters to them is an event or an error of ours.

    Raises:
        OptituneError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise OptituneError("Ray is not installed: run pip install 'optitune[ray]'") from None
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    return ray


def _connect(ray: Any, address: str, workers: int | None) -> None:
    quiet = {"configure_logging": False, "log_to_driver": False}
    target = address if address != "ray" else os.environ.get("RAY_ADDRESS") or _running() or "local"
    # Ray takes it for itself, and leaves at once
    handled = signal.getsignal(signal.SIGTERM)
    with explained_cluster(target), _stderr_away():
        if target == "local":
            ray.init("local", num_cpus=workers, object_store_memory=OBJECTS, include_dashboard=False, **quiet)
        else:
            # Ray tries for minutes
            _answers(target)
            ray.init(target, **quiet)
    if threading.current_thread() is threading.main_thread() and handled is not None:
        signal.signal(signal.SIGTERM, handled)


@contextmanager
def _stderr_away() -> Iterator[None]:
    """Let nothing appear on the terminal: Ray's C++ parts write there past all of Python's logging."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _mute() -> Iterator[None]:
    """Let Ray's daemons print nothing through this process, for which Ray has no switch."""
    try:
        from ray._private import worker

        printing = worker.print_to_stdstream
    except (ImportError, AttributeError):
        yield
        return
    worker.print_to_stdstream = lambda *args, **kwargs: None
    try:
        yield
    finally:
        worker.print_to_stdstream = printing


def _running() -> str | None:
    """The address of the Ray that `ray start` began on this machine, if it still runs."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
    with suppress(OSError, ValueError):
        address = (Path(folder) / "ray" / "ray_current_cluster").read_text(encoding="utf-8").strip()
        _answers(address)
        return address
    return None


def _answers(address: str) -> None:
    """Open a connection to `HOST:PORT` or `ray://HOST:PORT` and close it.

    Raises:
        OSError: nobody answers.
    """
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    if parts.scheme == "ray" and parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), CONNECT_S).close()


@contextmanager
def explained_cluster(address: str) -> Iterator[None]:
    """Turn whatever goes wrong between here and the cluster into one message.

    Raises:
        OptituneError: something did.
    """
    try:
        yield
    except OptituneError:
        raise
    except Exception as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
        if address == "local":
            raise OptituneError(f"cannot start Ray on this machine: {text}; try 'ray start --head'") from error
        raise OptituneError(
            f"the Ray cluster at {address} cannot be reached: {text}; check the address, that 'ray status' answers "
            "there, that Ray and Python are of the same versions, and RAY_AUTH_MODE=token is set if it asks for tokens"
        ) from error
