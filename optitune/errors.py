"""The few kinds of error a user meets; each message names the value, the cause and what to do next."""

import re
from collections.abc import Iterable
from difflib import get_close_matches


class OptituneError(Exception):
    """Something could not be done. The message is printed as it stands, without a traceback."""

    exit_code = 1


class UsageError(OptituneError):
    """What was asked for makes no sense as asked: an unknown name, a value out of range."""

    exit_code = 2


class Note(UserWarning):
    """What a user should know of their own code, though nothing is wrong for certain: one line."""


class NoStudies(OptituneError):
    """A database without a single study, which is no fault where studies are only listed."""


class Interrupted(OptituneError):
    """The user stopped the work; what was finished is kept."""

    exit_code = 130


def unknown(kind: str, value: str, known: Iterable[str], hint: str = "") -> UsageError:
    """An error for a name that is not among the `known` ones, with the nearest of them."""
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
"""A password in a URL, wherever it was typed; one with an unescaped @ included."""


def without_passwords(text: str) -> str:
    """`text` with stars in place of every password of a URL."""
    return SECRET.sub(lambda found: f"{found[1]}***@" if found[1] else f"{found[2]}***", text)
