"""The line of folders: each imports only from those before it, imports within functions included."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import optitune

LINE = (
    *("errors", "common", "space", "study", "statistics", "tasks", "training", "frameworks", "storage"),
    *("sampling", "workers", "searching", "comparing", "retraining", "judging", "report"),
    *("tracking", "terminal", "dashboard", "api", "cli"),
)

FIRST = {"optuna": "storage", "sqlalchemy": "storage", "matplotlib": "retraining", "rich": "terminal", "click": "cli"}
"""The first folder in the line that may import a library."""

ROOT = Path(optitune.__file__).parent
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}


def imported(path: Path) -> set[str]:
    """Everything that a file imports, as full dotted names."""
    tree = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    froms = [node for node in tree if isinstance(node, ast.ImportFrom)]
    assert not [node for node in froms if node.level], f"{path} imports relatively"
    plain = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
    return plain | {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


def module_of(name: str) -> str:
    """The module of the package that a dotted name lies in; empty for a name of another package."""
    inner = name.removeprefix("optitune.") if name.startswith("optitune.") else ""
    while inner and inner not in MODULES:
        inner = inner.rpartition(".")[0]
    return inner


def place(module: str) -> int:
    folder, inner, _ = module.partition(".")
    return LINE.index(folder) if folder in LINE and (inner or folder == "errors") else -1


def test_a_folder_imports_only_from_those_before_it() -> None:
    placed = [module for module in MODULES if place(module) >= 0]
    arrows = {(module, module_of(name)) for module in placed for name in imported(MODULES[module])}
    assert [(one, other) for one, other in arrows if place(other) > place(one)] == []


@pytest.mark.parametrize("library", FIRST)
def test_a_library_is_imported_from_its_folder_on(library: str) -> None:
    early = [name for name in MODULES if 0 <= place(name) < LINE.index(FIRST[library])]
    assert [name for name in early if library in {each.partition(".")[0] for each in imported(MODULES[name])}] == []


def loaded_after(statement: str, names: tuple[str, ...]) -> str:
    """Which of `names` are loaded in a fresh Python after `statement`."""
    code = f"import sys; {statement}; print('loaded:', *[name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.rpartition("loaded:")[2].strip()


def test_help_needs_none_of_the_heavy_libraries() -> None:
    heavy = ("torch", "optuna", "pydantic", "matplotlib", "numpy", "pandas", "scipy", "sqlalchemy", "rich")
    assert loaded_after("import optitune.cli", heavy) == ""
    assert loaded_after("from optitune.cli.main import run; assert run(['--help']) == 0", heavy) == ""


def test_data_and_statistics_load_neither_torch_nor_optuna() -> None:
    light = [LINE.index(folder) for folder in ("errors", "space", "study", "statistics")]
    names = [name for name in MODULES if place(name) in light]
    modules = ", ".join(f"optitune.{name.removesuffix('.__init__')}" for name in names)
    assert loaded_after(f"import {modules}", ("torch", "optuna", "click", "matplotlib", "rich")) == ""


@pytest.mark.parametrize("command", ["show', 'mnist-cnn-reference", "studies"])
def test_studies_are_shown_without_torch(command: str) -> None:
    folder = ROOT.parent / "studies"
    shown = f"from optitune.cli.main import run; assert run(['{command}', '--studies-dir', '{folder}']) == 0"
    assert loaded_after(shown, ("torch", "scipy", "pandas", "matplotlib")) == ""
