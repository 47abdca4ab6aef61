"""The command line: each command parses, calls one function, and prints."""

from optitune.cli.main import main

__all__ = ["main"]
