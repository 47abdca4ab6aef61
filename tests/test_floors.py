"""The plan of the house: a module imports from lower floors, or from its own without going in circles."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import optitune

ROOT = Path(optitune.__file__).parent

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "files", "space", "beside", "user_code", "child_process"),
    (
        "validation",
        "optimizer_rows",
        "optimizers",
        "schedules",
        "losses",
        "configuration",
        "search_space",
        "edges",
        "own_optimizers",
        "settings",
        "study_file",
        "records",
        "best",
        "comparison",
        "anytime",
        "verdict",
        "costs",
        "wording",
        "commands",
        "colours",
        "export",
        "report_data",
        "plotly_figures",
    ),
    (
        "pooling_kernels",
        "pooling",
        "graphs",
        "models",
        "muon",
        "sparse_adam",
        "weights",
        "machine",
        "metrics",
        "data",
        "datasets",
        "tasks",
        "given_data",
        "scaling",
        "task_data",
        "task_code",
        "criterion",
        "building",
        "evaluation",
        "engine",
        "preflight_optimizers",
        "preflight_network",
        "preflight",
        "checkpoint",
        "randomness",
    ),
    (
        "steady",
        "storage",
        "databases",
        "journal",
        "patience",
        "proxy",
        "forecast",
        "allocation",
        "sampler",
        "pruner",
        "suggestion",
        "objective",
        "study",
        "made_from",
        "workers",
        "search_worker",
        "ray_cluster",
        "ray_worker",
        "ray_pool",
        "ownership",
        "desk",
        "trial_checkpoint",
        "furthest",
        "trial_guard",
        "crew",
        "keeper",
        "artifacts",
        "trial_story",
        "story",
        "search_story",
        "joining",
        "searching",
        "dashboard",
        "overview",
        "time_left",
        "watching",
    ),
    (
        "retrain_results",
        "retrain_worker",
        "retraining",
        "comparison_results",
        "comparison_plan",
        "comparison_worker",
        "comparing",
        "again",
        "chapters",
        "figures",
        "report_style",
        "report_figures",
        "report_tested",
        "report_tables",
        "report",
        "tables",
        "interchange",
        "shown",
        "results",
    ),
    (
        "cli",
        "cli.main",
        "cli.options",
        "cli.choose",
        "cli.drawing",
        "cli.live",
        "cli.registry",
        "cli.standings",
        "cli.search",
        "cli.worker",
        "cli.watch",
        "cli.completion",
        "cli.retrain",
        "cli.report",
        "cli.compare",
        "cli.compare_view",
        "cli.show",
        "cli.study_view",
        "cli.export",
        "cli.init",
        "cli.dashboard",
        "api",
        "__main__",
    ),
)
"""Every module, by floor. A new one is entered here, on the lowest floor that it can stand on."""

FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}

SCREEN = {"click", "rich", "matplotlib"}
FORBIDDEN: dict[int, set[str]] = {
    2: {"optuna", "optuna_dashboard", "sqlalchemy", *SCREEN},
    3: {"click", "rich"},
    4: {"click", "rich"},
}
"""What no module of a floor may import."""

ALLOWED: dict[int, set[str]] = {0: set(), 1: {"pydantic", "tomli_w", "scipy", "numpy"}}
"""All that a module of the lowest floors may import beside the standard library."""


def module_name(path: Path) -> str:
    """`cli.main` for the file `cli/main.py`; empty for the package itself."""
    return ".".join(part for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
every_module = pytest.mark.parametrize("module", sorted(FLOOR))


def imported(path: Path) -> Iterator[str]:
    """Everything that a file imports, within functions too, as full dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def neighbours(path: Path) -> set[str]:
    """The modules of the package that a file imports."""
    found = set()
    for name in imported(path):
        package, _, inner = name.partition(".")
        if package != "optitune":
            continue
        # `from optitune.cli import standings` names a module, `from optitune.best import load` something in one
        while inner and inner not in MODULES:
            inner = inner.rpartition(".")[0]
        found.add(inner)
    return found - {""}


def others(path: Path) -> set[str]:
    """The packages outside of this one and the standard library that a file imports."""
    return {name.partition(".")[0] for name in imported(path)} - {"optitune", *sys.stdlib_module_names}


def test_the_plan_has_every_module_and_no_other() -> None:
    assert set(FLOOR) == set(MODULES) - {""}
    assert len(FLOOR) == sum(map(len, FLOORS))
    # what it gives is imported when it is asked for
    assert others(MODULES[""]) == set()


@every_module
def test_imports_go_downwards_or_along_the_floor(module: str) -> None:
    above = {name for name in neighbours(MODULES[module]) if FLOOR[name] > FLOOR[module]}
    assert not above


def test_imports_do_not_go_in_circles() -> None:
    try:
        TopologicalSorter({module: neighbours(path) - {module} for module, path in MODULES.items()}).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@every_module
def test_a_floor_keeps_off_the_libraries_of_higher_ones(module: str) -> None:
    packages, floor = others(MODULES[module]), FLOOR[module]
    assert not packages & FORBIDDEN.get(floor, set())
    assert packages <= ALLOWED.get(floor, packages)


def test_figures_alone_draw() -> None:
    drawing = {"trial_story", "figures", "report_style", "report_figures", "report_tested", "shown"}
    assert {name for name, path in MODULES.items() if "matplotlib" in others(path)} == drawing


def test_export_needs_the_data_floor_alone() -> None:
    assert max(FLOOR[name] for name in neighbours(MODULES["export"])) == 1


def test_the_reading_of_imports_sees_all_forms(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import optuna.trial, json\n"
        "from optitune import best, errors\n"
        "def inner():\n    from optitune.cli import standings\n    from optitune.files import replacing\n"
        "if False:\n    from rich.table import Table\n"
    )
    assert neighbours(path) == {"best", "errors", "cli.standings", "files"}
    assert others(path) == {"optuna", "rich"}


def loaded_after(statement: str, names: tuple[str, ...]) -> str:
    """Which of `names` are loaded in a fresh Python after `statement`."""
    code = f"import sys; {statement}; print('loaded:', *[name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.rpartition("loaded:")[2].strip()


def test_help_needs_none_of_the_heavy_libraries() -> None:
    heavy = ("torch", "optuna", "pydantic", "matplotlib", "numpy", "pandas", "scipy", "sqlalchemy", "rich")
    assert loaded_after("import optitune.cli", heavy) == ""
    assert loaded_after("from optitune.cli.main import run; assert run(['--help']) == 0", heavy) == ""


def test_the_data_floor_loads_neither_torch_nor_optuna() -> None:
    modules = ", ".join(f"optitune.{name}" for floor in FLOORS[:2] for name in floor)
    assert loaded_after(f"import {modules}, optitune.export", ("torch", "optuna", "click", "matplotlib", "rich")) == ""
