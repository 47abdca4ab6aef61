"""Journal storage: one file, perhaps on a shared disk, to which every process appends lines."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from optitune.common.files import explained, make_folder, replacing
from optitune.errors import OptituneError

POLL_S = 0.002
"""Seconds between two attempts to lock the file."""

BEGINNING = b'{"op_code":'
"""The beginning of every line of a journal."""

CREATE_STUDY = b'"study_name":'
"""In the line that makes a study."""

BLOCK = 1 << 16


class JournalFile(BaseJournalBackend):
    """A journal file whose lines are always whole.

    The system releases the lock beside the file when its holder dies. A partial line of a killed process is removed by
    the next one to append; one that cannot be finished, on a full disk, at once.

    Args:
        path: of an existing file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock = FileLock(f"{self.path}.lock")
        self._read, self._offset, self._inode = 0, 0, 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Iterate over the whole lines from that number on.

        Raises:
            OptituneError: the file cannot be read, or is damaged.
        """
        if log_number_from < self._read:
            self._read, self._offset = 0, 0
        for line in self._new_lines():
            self._read += 1
            self._offset += len(line)
            if self._read > log_number_from:
                yield self._parsed(line)
        if self._read < log_number_from:
            raise OptituneError(self._cut())

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines, all of them or none.

        Raises:
            OptituneError: they cannot be written; the file is then as it was.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with self._locked(), explained(self.path), self.path.open("rb+", buffering=0) as file:
            end = _whole(file)
            if end < file.seek(0, os.SEEK_END):
                file.truncate(end)
                file.seek(end)
            try:
                _write(file, lines)
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(end)
                raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with explained(Path(self._lock.lock_file)):
            self._lock.acquire(poll_interval=POLL_S)
        try:
            yield
        finally:
            self._lock.release()

    def _new_lines(self) -> list[bytes]:
        """The whole lines after those that were read; a last one without its end is still being written."""
        with explained(self.path, "read"):
            now = self.path.stat()
        if now.st_ino != self._inode:
            # at first, and when a study in it was renamed
            self._read, self._offset, self._inode = 0, 0, now.st_ino
        if now.st_size == self._offset:
            return []
        try:
            # a line whose writing fails is cut back before the lock is free
            with self._locked():
                data = self._tail()
        except OptituneError:
            # a process with read access alone cannot lock
            data = self._tail()
        return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)

    def _tail(self) -> bytes:
        with explained(self.path, "read"), self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self._offset:
                raise OptituneError(self._cut())
            file.seek(self._offset)
            return file.read()

    def _cut(self) -> str:
        return f"{self.path} was cut or replaced while it was in use: restore a copy, or start another study"

    def rename_study(self, old: str, new: str) -> None:
        """Give the study called `old` a name that the journal has not seen yet: one line of a new file is another.

        Raises:
            OptituneError: the name was in use, or the file cannot be read or written.
        """
        with self._locked(), explained(self.path):
            mode, lines = self.path.stat().st_mode, self.path.read_bytes().splitlines(keepends=True)
            logs = [self._parsed(line) if CREATE_STUDY in line else {} for line in lines]
            names = [log.get("study_name") for log in logs]
            if new in names:
                raise OptituneError(f"{self.path} had a study of the name '{new}' before: choose another")
            made = len(names) - 1 - names[::-1].index(old)
            line = json.dumps({**logs[made], "study_name": new}, separators=(",", ":"))
            lines[made] = f"{line}\n".encode()
            with replacing(self.path) as scratch:
                scratch.write_bytes(b"".join(lines))
            self.path.chmod(mode)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            log = json.loads(line)
        except ValueError:
            log = None
        if not isinstance(log, dict) or "op_code" not in log:
            raise OptituneError(
                f"{self.path} is damaged or not a journal (line {self._read}): "
                "move it away to start anew, or restore a copy of it"
            )
        return log


def open_journal(path: Path, create: bool) -> JournalStorage:
    """Open the journal at `path`.

    Raises:
        OptituneError: it is missing and `create` is not set, is damaged or another program's, or cannot be read.
    """
    path = path.resolve()
    if not path.exists():
        if not create:
            raise OptituneError(f"there is no storage {path}: run 'optitune search' first, or name another storage")
        make_folder(path.parent)
        with explained(path):
            path.touch()
    _check(path)
    return JournalStorage(JournalFile(path))


def _check(path: Path) -> None:
    """Refuse a file that is not a journal, before anything is appended or cut."""
    with explained(path, "read"), path.open("rb") as file:
        start = file.read(len(BEGINNING))
    if not BEGINNING.startswith(start):
        raise OptituneError(
            f"{path} is damaged or not a journal of Optuna's: "
            "move it away to start anew, restore a copy of it, or name another storage"
        )


def _whole(file: FileIO) -> int:
    """Where the last whole line of a file ends."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _write(file: FileIO, data: bytes) -> None:
    # on a nearly full disk a write may take a part and say so, and only the next one fails
    while data:
        data = data[file.write(data) :]
