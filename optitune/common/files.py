"""Atomic writing of files: each is written under a scratch name, then renamed into place. Locks and sweeping."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from optitune.errors import OptituneError

try:
    import fcntl
except ImportError:  # not on Windows, where what a killed process was writing stays
    fcntl = None  # type: ignore[assignment]

REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "the file would pass the size limit of this shell or disk; raise it and run the same command again",
    errno.EROFS: "the file system is read-only; choose another folder as studies_dir",
    errno.EACCES: "permission denied; choose a folder of yours as studies_dir",
    errno.EPERM: "the operation is not permitted; choose a folder of yours as studies_dir",
    errno.EEXIST: "a file of that name is in the way; move it, or choose another folder as studies_dir",
    errno.ENOTDIR: "a part of that path is a file, not a folder; choose another as studies_dir",
}


@contextmanager
def explained(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn an `OSError` into an `OptituneError` with a remedy; `doing` is the verb for `path` in its message."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, f"{error.strerror or error}; check the path and try again")
        raise OptituneError(f"cannot {doing} {path}: {remedy}") from error


def make_folder(path: Path) -> Path:
    """Create a folder and its parents.

    Raises:
        OptituneError: the folder cannot be made.
    """
    with explained(path, "create the folder"):
        path.mkdir(parents=True, exist_ok=True)
    return path


def move_aside(path: Path) -> Path:
    """Rename a file or folder to the first free name of the form `STEM-before-N`; the new path.

    Raises:
        OptituneError: it cannot be renamed.
    """
    for number in count(1):
        target = path.with_name(f"{path.stem}-before-{number}{path.suffix}")
        with explained(path, "rename"):
            try:
                _rename(path, target)
            except OSError:
                if not os.path.lexists(target):
                    raise
            else:
                return target
    raise AssertionError("there is always another number")


def _rename(path: Path, target: Path) -> None:
    """Rename without replacing a file that another process has just made."""
    if path.is_file():
        try:
            # unlike a rename, a second name takes no other file's place
            os.link(path, target)
        except FileExistsError:
            raise
        except OSError:
            pass  # not on every file system
        else:
            path.unlink(missing_ok=True)
            return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    path.rename(target)


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield the path of a scratch file beside `path`, and rename it to `path` if the block succeeds.

    Args:
        path: of the file to write or replace; its folder is made.
        durable: whether to wait for the disk. If not, a killed process still leaves a whole file, but a crash of the
            machine may leave a damaged one: only for files that are checked when read.

    Raises:
        OptituneError: the folder or the file cannot be written; `path` is unchanged.
    """
    make_folder(path.parent)
    with explained(path):
        sweep(path.parent, re.escape(path.stem), re.escape(path.suffix))
        handle, scratch = _scratch(path)
        try:
            yield scratch
            if durable:
                with scratch.open("rb+") as file:
                    os.fsync(file.fileno())
            # mkstemp makes private files; these are results, as readable as any other file of the user's
            umask = os.umask(0)
            os.umask(umask)
            scratch.chmod(0o666 & ~umask)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
            if fcntl is not None:
                os.close(handle)


def _scratch(path: Path) -> tuple[int, Path]:
    """Make a scratch file beside `path`, open and locked until this process closes it or ends."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        if fcntl is None:
            os.close(handle)
            return handle, Path(name)
        with suppress(OSError):  # where files cannot be locked, nobody sweeps any
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.lexists(name):
            return handle, Path(name)
        # swept by another process in the moment when it was not locked yet
        os.close(handle)


def sweep(folder: Path, stem: str, suffix: str) -> None:
    """Remove the scratch files of killed processes; running ones hold locks on theirs.

    Args:
        folder: of the files; need not exist.
        stem: regular expression for the names of the files that were being written, without suffix.
        suffix: regular expression for their suffix.
    """
    for found in _named(folder, rf"\.(?:{stem})-[a-z0-9_]{{8}}(?:{suffix})"):
        with suppress(OSError), found.open("rb+") as file:
            if fcntl is not None and _lock(file.fileno()):
                found.unlink()


def clear(folder: Path, stem: str, suffix: str, also: str = "(?!)") -> None:
    """Remove files and their scratch files from a folder that no other process uses, then the folder if it is empty.

    Args:
        folder: of the files; need not exist.
        stem: regular expression for their names, without suffix.
        suffix: regular expression for their suffix.
        also: regular expression for whole names of further files.
    """
    sweep(folder, stem, suffix)
    for found in _named(folder, rf"(?:{stem})(?:{suffix})|{also}"):
        with suppress(OSError):
            found.unlink()
    with suppress(OSError):
        folder.rmdir()


def _named(folder: Path, name: str) -> list[Path]:
    """The files of a folder whose names match a regular expression; none where it cannot be read."""
    with suppress(OSError):
        return [each for each in folder.iterdir() if re.fullmatch(name, each.name) and each.is_file()]
    return []


def _lock(handle: int) -> bool:
    """Lock an open file; False where another process holds the lock, or files cannot be locked."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, all of it or nothing."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Hold a lock on the results in `folder`: one process at a time works on them.

    Raises:
        OptituneError: another process holds it.
    """
    path = make_folder(folder.parent / "partial") / f"{folder.name}.lock"
    lock = FileLock(path)
    with explained(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise OptituneError(f"another process is at work on {folder}: wait for it, or stop it first") from None
    try:
        yield
    finally:
        lock.release()


def data_folder(given: Path | None) -> Path:
    """The folder of the data sets: `given`, or by default one in the user's cache."""
    return cache_folder() / "data" if given is None else expanded(given)


def expanded(path: Path) -> Path:
    """`path` with the home of a user in place of `~` or `~NAME`, unless there is none."""
    return Path(os.path.expanduser(path))


def cache_folder() -> Path:
    """Our folder in the user's cache."""
    from platformdirs import user_cache_path

    with_home()
    return user_cache_path("optitune", appauthor=False)


def with_home() -> None:
    """Give this process and its children a home where neither HOME nor an entry of the user database names one.

    Libraries that look for a folder of the user's would fail without; this one is for temporary files.
    """
    if os.path.expanduser("~") != "~":
        return
    home = Path(tempfile.gettempdir()) / f"optitune-{os.getuid()}"
    with explained(home, "create the folder"):
        home.mkdir(mode=0o700, exist_ok=True)
        about = home.stat()
    # another user's, who may have put something into it
    foreign = about.st_uid != os.getuid() or about.st_mode & 0o022
    os.environ["HOME"] = tempfile.mkdtemp(prefix="optitune-") if foreign else str(home)
    os.environ.setdefault("USER", str(os.getuid()))
