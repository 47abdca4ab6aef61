"""The ranks of a training to each other: what they send, and the environment that `torch.distributed` reads."""

import os
import pickle
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from torch import distributed

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Asked:
    """Something that rank 0 asks its worker."""

    question: Any


@dataclass(frozen=True)
class Group:
    """Where the store is that `torch.distributed` finds all ranks by."""

    port: int


class RankLost(Exception):
    """Another rank has gone."""


class RankPeers:
    """The ranks of a training, as one of them sees them; see `optitune.training.ranks.Peers`.

    Args:
        rank: of this process.
        ranks: how many there are.
        others: rank 0's connections to each other rank, or another's to rank 0.
        worker: connection to the worker.
    """

    def __init__(self, rank: int, ranks: int, others: Sequence[Connection], worker: Connection) -> None:
        self.rank, self.ranks = rank, ranks
        self._others = others
        self._worker = worker
        self._turn = threading.Lock()

    def send(self, message: Any) -> None:
        """Send something to the worker."""
        # what a task prints may come from threads of its own
        with self._turn, suppress(BrokenPipeError, ConnectionResetError):
            send(self._worker, message)

    def ask(self, question: Any) -> Any:
        """What the worker answers; for rank 0."""
        self.send(Asked(question))
        return receive(self._worker)

    def gather(self, value: Any) -> list[Any]:
        if self.rank == 0:
            return [value, *map(receive, self._others)]
        send(self._others[0], value)
        return []

    def share(self, value: Any) -> Any:
        if self.rank:
            return receive(self._others[0])
        for each in self._others:
            # that one has gone is found by its worker
            with suppress(BrokenPipeError, ConnectionResetError):
                send(each, value)
        return value

    @contextmanager
    def group(self) -> Iterator[None]:
        with self._store() as port:
            os.environ.update(
                RANK=str(self.rank),
                WORLD_SIZE=str(self.ranks),
                LOCAL_RANK=str(self.rank),
                LOCAL_WORLD_SIZE=str(self.ranks),
                GROUP_RANK="0",
                GROUP_WORLD_SIZE="1",
                MASTER_ADDR=HOST,
                MASTER_PORT=str(port),
                # rank 0 must not open a store at that port once more, and libraries are not to start ranks of their own
                TORCHELASTIC_USE_AGENT_STORE="True",
                TORCHELASTIC_RUN_ID=f"optitune-{port}",
            )
            if sys.platform == "linux":
                # what the machine's name resolves to may not be reachable
                os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            try:
                yield
            finally:
                if distributed.is_initialized():
                    distributed.destroy_process_group()

    @contextmanager
    def _store(self) -> Iterator[int]:
        """A store that all ranks know the port of, and of which nobody else could take it."""
        if self.rank:
            self.gather(Group(0))
            while not isinstance(message := self.share(None), Group):
                # of a loop before that rank 0 has left earlier
                pass
            yield message.port
            return
        for each in self._others:
            while not isinstance(receive(each), Group):
                pass
        listener = socket.create_server((HOST, 0))
        port = listener.getsockname()[1]
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
        )
        self.share(Group(port))
        yield port
        del store


def send(connection: Connection, message: Any) -> None:
    """Send something to another process of a training."""
    # as plain bytes: torch would share tensors in memory, which ends with this process
    connection.send_bytes(pickle.dumps(message))


def receive(connection: Connection) -> Any:
    """What another process of a training sends.

    Raises:
        RankLost: it has gone.
    """
    try:
        return pickle.loads(connection.recv_bytes())  # noqa: S301 - of a process of ours
    except (EOFError, OSError):
        raise RankLost("another process of this training has gone") from None
