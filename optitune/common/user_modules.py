"""Imports of modules beside a task's file, which hide no module that Python or optitune needs."""

import multiprocessing
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path
from re import match
from types import ModuleType


class FolderFinder:
    """A finder for `sys.meta_path` that finds the modules in a folder.

    Args:
        folder: searched before `sys.path`.
        hidden: names that are not looked for there.
    """

    def __init__(self, folder: Path, hidden: Sequence[str]) -> None:
        self.folder = folder
        self.hidden = hidden

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # a path is the search path of a package: its modules are found in the package
        if path is not None or name in self.hidden:
            return None
        return PathFinder.find_spec(name, [str(self.folder)], target)


def importable(folder: Path) -> dict[str, Path]:
    """Make the modules in `folder` importable, before all others but those that Python and optitune need.

    Returns:
        Files that cannot be imported because a needed module has their name, by that name.
    """
    if any(isinstance(each, FolderFinder) and each.folder == folder for each in sys.meta_path):
        return {}
    before = [*sys.path]
    # not in sys.path, which every child process inherits
    sys.path[:] = [each for each in before if each != str(folder)]
    hidden = hiding(folder)
    if not hidden:
        sys.path[:] = before if str(folder) in before else [str(folder), *before]
        return {}
    sys.meta_path.insert(0, FolderFinder(folder, tuple(hidden)))
    return hidden


def importable_with_note(folder: Path) -> None:
    """Make the modules in `folder` importable, and print a note on those whose names are in use."""
    hidden = importable(folder)
    if hidden and multiprocessing.parent_process() is None:
        names = ", ".join(f"{path.name} ('import {name}')" for name, path in hidden.items())
        print(
            f"note: {names} in {folder}: left out, since Python or a library that optitune needs has a module of that "
            "name, which is imported in its place; rename the file if the task needs it",
            file=sys.stderr,
        )


def file_of(module: str, folder: Path) -> str | None:
    """The file of a module in `folder`, by its dotted name; None where there is none."""
    within, parts, spec = [str(folder)], module.split("."), None
    for number in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:number]), within)
        if spec is None:
            return None
        within = list(spec.submodule_search_locations or [])
    return spec.origin if spec else None


def hiding(folder: Path) -> dict[str, Path]:
    """The files in `folder` that would hide a module that Python or optitune needs, by its name."""
    endings = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)
    there = {}
    try:
        for path in sorted(folder.iterdir()):
            if path.name.endswith(endings):
                there[path.name.partition(".")[0]] = path
            elif (path / "__init__.py").is_file():
                there[path.name] = path
    except OSError:
        return {}
    elsewhere = [each for each in sys.path if each and Path(each).resolve() != folder]
    standard = {name: path for name, path in there.items() if name in sys.stdlib_module_names}
    others = [name for name in there if name not in standard and PathFinder.find_spec(name, elsewhere) is not None]
    needed = _needed() if others else set()
    return standard | {name: there[name] for name in others if name in needed}


def _needed() -> set[str]:
    """The names of the modules of all packages that optitune depends on, directly or not."""
    from importlib import metadata

    needed: set[str] = set()
    left = ["optitune"]
    while left:
        name = left.pop()
        if name in needed:
            continue
        needed.add(name)
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for each in requirements:
            found = match(r"[\w.-]+", each)
            if found and "extra ==" not in each:
                left.append(found[0].lower().replace("_", "-").replace(".", "-"))
    folded = {name.replace("-", "_") for name in needed}
    return {
        module
        for module, packages in metadata.packages_distributions().items()
        if any(each.lower().replace("-", "_").replace(".", "_") in folded for each in packages)
    }
