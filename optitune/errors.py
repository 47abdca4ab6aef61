"""The exceptions of the package; each message names the value, the cause and what to do next."""

import re
from collections.abc import Iterable
from difflib import get_close_matches


class OptituneError(Exception):
    """The base of all errors: something could not be done. The command line prints the message alone."""

    exit_code = 1


class UsageError(OptituneError):
    """An input is wrong: an unknown name, a value out of range."""

    exit_code = 2


class Note(UserWarning):
    """A warning about the user's own code, which may be wrong: one line."""


class NoStudies(OptituneError):
    """A database has no study, which is no error where studies are only listed."""


class Interrupted(OptituneError):
    """The user interrupted the work; finished results are kept."""

    exit_code = 130


def unknown(kind: str, value: str, known: Iterable[str], hint: str = "") -> UsageError:
    """The error for an unknown name, with a suggestion.

    Args:
        kind: what is named, such as `optimizer`.
        value: the unknown name.
        known: all valid names.
        hint: a further sentence, such as the command that lists the names.
    """
    names = sorted(known)
    near = get_close_matches(value, names, n=2, cutoff=0.5)
    if near:
        advice = "did you mean " + " or ".join(f"'{name}'" for name in near) + "?"
    elif names:
        advice = "there are: " + ", ".join(names)
    else:
        advice = "there is none yet"
    return UsageError(f"unknown {kind} '{value}': {advice}" + (f" {hint}" if hint else ""))


SECRET = re.compile(r"(://[^\s:/@]*:)\S*@|([?&]password=)[^\s&]*")
"""A password in a URL, also one with an unescaped @."""


def without_passwords(text: str) -> str:
    """`text` with every password in a URL replaced by stars."""
    return SECRET.sub(lambda found: f"{found[1]}***@" if found[1] else f"{found[2]}***", text)
