"""Running the user's own code: its errors become one line that names file and line.

The code may read options, call `sys.exit` or change the folder, as in a script of its own.
"""

import argparse
import os
import re
import signal
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from optitune.common.files import write_text
from optitune.errors import OptituneError, UsageError, without_passwords

MOST_TEXT = 400
"""Characters of an error's own message that are shown."""

OF_TORCH: Mapping[str, str] = {
    r".*mat1 and mat2 shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)": r"a layer that takes \3 numbers "
    r"gets \2 (shapes \1 x \2 and \3 x \4): let its in_features be \2",
    r".*expected input\[.*\] to have (\d+) channels, but got (\d+) channels instead": r"a convolution that takes \1 "
    r"channels gets \2: let its in_channels be \2",
    r".*env:// rendezvous: environment variable (\w+) expected, but not set.*": r"torch.distributed finds no \1 in the "
    r"environment: give --ranks N in every stage, or make a group only where run.ranks > 1",
}
"""What torch says of layers that do not fit and of a missing group, as patterns, and what to do about it."""

MOST_TRACEBACK = 20_000
"""Characters of a traceback that are kept, the last ones."""

FAILURES = "failures"
"""Folder of tracebacks within the folder of a study."""

LIBRARIES = {
    Path(__file__).resolve().parent.parent,
    *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")),
}

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

_folder: list[str] = []
"""The folder that the user's code has changed to, if it has."""


@contextmanager
def calling(task: str, doing: str) -> Iterator[None]:
    """Run a user's own code in the block: any error becomes one message that names file and line.

    Args:
        task: its name, for the message.
        doing: what is called, such as `model()`.

    Raises:
        UsageError: the code failed.
        KeyboardInterrupt: the user stopped it.
    """
    try:
        with _undisturbed(), script(None):
            yield
    except (OptituneError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        what = f"task '{task}': {doing} "
        if isinstance(error, SystemExit):
            raise UsageError(f"{what}leaves by {described(error)}{_place(error)}") from error
        raise UsageError(f"{what}fails: {described(error)}{_place(error)}") from error


@contextmanager
def script(path: Path | None) -> Iterator[None]:
    """Run code with the `sys.argv` of a script without options; `argparse` reports refused options in `SystemExit`.

    Args:
        path: of the script; None to leave `sys.argv` as it is.
    """
    before, refuse = sys.argv, argparse.ArgumentParser.error
    if path is not None:
        sys.argv = [str(path)]
    argparse.ArgumentParser.error = _refuse  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        sys.argv = before
        argparse.ArgumentParser.error = refuse  # type: ignore[method-assign]


def _refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    leaving = SystemExit(2)
    leaving.add_note(f"its options were refused ({message}); give each one a default, since none can be given here")
    raise leaving


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Run code in the folder that it has changed to; restore our folder, signal handlers and streams afterwards."""
    ours = _here()
    streams = sys.stdout, sys.stderr
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS} if main else {}
    if _folder:
        with suppress(OSError):
            os.chdir(_folder[0])
    began = _here()
    try:
        yield
    finally:
        if (left := _here()) != began:
            _folder[:] = [left]
        if left != ours:
            os.chdir(ours)
        sys.stdout, sys.stderr = streams
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler and handler is not None:
                signal.signal(number, handler)


def _here() -> str:
    """The present folder; empty where it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def described(error: BaseException) -> str:
    """An error in one line: its type and message, shortened where necessary."""
    name = type(error).__name__
    if isinstance(error, SystemExit):
        message = f"sys.exit({'' if error.code is None else repr(error.code)})"
    elif isinstance(error, BaseExceptionGroup):
        first = error.exceptions[0]
        message = f"{name} of {len(error.exceptions)}, the first {described(first)}"
    elif isinstance(error, SyntaxError):
        message = f"{name}: {error.msg}"
    elif isinstance(error, AlreadyDescribed):
        message = str(error)
    else:
        try:
            message = str(error)
        except Exception as worse:
            message = f"its message cannot be shown ({type(worse).__name__})"
        for pattern, words in OF_TORCH.items():
            message = re.sub(pattern, words, message)
        message = f"{name}: {message}" if message.strip() else name
    if isinstance(error, SystemExit):
        message = ": ".join([message, *getattr(error, "__notes__", [])])
    line = " ".join(message.split())
    return line if len(line) <= MOST_TEXT else f"{line[: MOST_TEXT - 3]}..."


def reason(error: BaseException) -> str:
    """An error in one line, with the file and line of the user's code, as seen from the present folder."""
    return described(error) + _place(error, near=True)


def _place(error: BaseException, near: bool = False) -> str:
    """The last line of the user's own code on the way to an error, in brackets; empty where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        file, line = error.filename, error.lineno
    else:
        while isinstance(error, BaseExceptionGroup) and not _own_frames(error):
            error = error.exceptions[0]
        frames = _own_frames(error)
        if not frames:
            return ""
        file, line = frames[-1].filename, frames[-1].lineno
    if near:
        with suppress(ValueError):
            file = str(Path(file).relative_to(Path.cwd()))
    return f" ({file}, line {line})"


def code_place(function: Any) -> str:
    """File and line of a function, in brackets; empty where it has none."""
    code = getattr(function, "__code__", None)
    return f" ({code.co_filename}, line {code.co_firstlineno})" if code is not None else ""


def caller_place() -> str:
    """File and line of the user's code that called optitune, in brackets; empty where none did."""
    frame = sys._getframe(1)
    while frame is not None and of_a_library(frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    return f" ({frame.f_code.co_filename}, line {frame.f_lineno})" if frame is not None else ""


@contextmanager
def running() -> Iterator[None]:
    """Run a training loop of the user's own: its errors pass, while folder, signals and `sys.argv` stay ours."""
    with _undisturbed(), script(None):
        yield


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    return [each for each in traceback.extract_tb(error.__traceback__) if not of_a_library(each.filename)]


def of_a_library(file: str) -> bool:
    """Whether a file belongs to Python, an installed package or optitune, rather than to the user."""
    if file.startswith("<"):
        return True
    path = Path(file)
    return "site-packages" in path.parts or any(path.is_relative_to(each) for each in LIBRARIES)


def whole(error: BaseException) -> str:
    """An error's traceback as text, also of an error whose message cannot be shown."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return "".join(traceback.format_tb(error.__traceback__)) + described(error) + "\n"


def kept(error: BaseException, folder: Path, name: str, about: Mapping[str, object]) -> str:
    """Write an error's traceback into the folder of a study.

    Args:
        error: to be described.
        folder: of the study.
        name: of the file, without suffix.
        about: further lines of the file by heading, such as the settings that were trained.

    Returns:
        The error in one line, with the path of the file.
    """
    line = without_passwords(reason(error))
    path = _written(error, line, folder, name, about)
    return f"{line}; traceback: {path}" if path else line


def _written(error: BaseException, line: str, folder: Path, name: str, about: Mapping[str, object]) -> Path | None:
    path, traced = folder / FAILURES / f"{name}.txt", whole(error)
    if len(traced) > MOST_TRACEBACK:
        traced = f"(the earlier part is left out)\n{traced[-MOST_TRACEBACK:]}"
    parts = [line, *(f"{heading}: {value}" for heading, value in about.items()), traced]
    try:
        write_text(path, without_passwords("\n\n".join(parts)).encode(errors="replace").decode())
    except OptituneError:
        # why it failed is worth more than why that could not be kept
        return None
    return path


@contextmanager
def keeping(folder: Path, name: str, doing: str, about: Mapping[str, object]) -> Iterator[None]:
    """Turn any error of a training into one line, and keep its traceback in the folder of a study.

    Args:
        folder: of the study.
        name: of the traceback's file, without suffix.
        doing: what fails, for the message.
        about: further lines of the file, by heading.

    Raises:
        OptituneError: the block failed.
    """
    try:
        yield
    except UsageError as error:
        cause = error.__cause__
        path = _written(cause, str(error), folder, name, about) if cause is not None else None
        raise UsageError(f"{error}; traceback: {path}" if path else str(error)) from cause
    except (OptituneError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise OptituneError(f"{doing} failed: {kept(error, folder, name, about)}") from error


class AlreadyDescribed(Exception):
    """The user's code has failed in another process; the message names the error and its line."""


class WorkerTraceback(Exception):
    """The traceback of an error in a worker, as text: not every error can be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"in a worker:\n{self.text}"


def traced(cause: BaseException | None) -> str:
    """The traceback of an error's cause as text; empty where it has none."""
    if cause is None:
        return ""
    return cause.text if isinstance(cause, WorkerTraceback) else whole(cause)


def raised_from(error: OptituneError, text: str) -> OptituneError:
    """The error with the traceback of its cause in a worker, where there is one."""
    if text:
        error.__cause__ = WorkerTraceback(text)
    return error
