"""Docstrings: each public function of three or more parameters explains them, each export all that it takes."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import optitune

ROOT = Path(optitune.__file__).parent


def functions(tree: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef]:
    """The public functions of a module and the public methods of its public classes, without click's commands."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node)
        # the docstring of a command is its help, and each option has a help of its own
        # and a form of an overloaded function has that function's
        decorators = "".join(map(ast.unparse, node.decorator_list)) if isinstance(node, ast.FunctionDef) else ""
        other = "click." in decorators or decorators == "overload"
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not other:
            yield node


def parameters(function: ast.FunctionDef) -> list[str]:
    given = function.args
    every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    return [each.arg for each in every if each is not None and each.arg not in ("self", "cls")]


def unexplained(names: list[str], docstring: str | None) -> list[str]:
    """The names that `Args:` or `Attributes:` of a docstring leave out."""
    _, _, section = re.sub(r"\n *Attributes:", "\n    Args:", docstring or "").partition("Args:\n")
    rows = re.findall(r"^ +([\w, ]+?):", section, re.MULTILINE)
    explained = {name.strip() for row in rows for name in row.split(",")}
    return [name for name in names if name.strip("*") not in explained]


@pytest.mark.parametrize("folder", sorted({path.relative_to(ROOT).parts[0] for path in ROOT.rglob("*.py")}))
def test_functions_of_three_or_more_parameters_explain_them(folder: str) -> None:
    paths = [ROOT / folder] if folder.endswith(".py") else sorted((ROOT / folder).rglob("*.py"))
    # a method without any docstring is a class's own way to do what its protocol, or its base in a library, explains
    implementing = (
        "begin",
        "convert",
        "after_trial",
        "half_widths",
        "set_trial_state_values",
        "find_spec",
        "value",
        "end",
    )
    found = [(path, each) for path in paths for each in functions(ast.parse(path.read_text(encoding="utf-8")))]
    assert [
        f"{path.name}: {each.name}"
        for path, each in found
        if len(parameters(each)) >= 3
        and "Args:" not in (ast.get_docstring(each) or "")
        and (ast.get_docstring(each) or each.name not in implementing)
    ] == []


@pytest.mark.parametrize("name", optitune._PLACES)
def test_what_is_exported_explains_every_parameter(name: str) -> None:
    exported: Any = getattr(optitune, name)
    methods = {key: each for key, each in vars(exported).items() if inspect.isfunction(each) and key[0] != "_"}
    for called, function in {name: exported, **(methods if inspect.isclass(exported) else {})}.items():
        if inspect.isclass(function) and issubclass(function, Exception):
            continue
        names = [each for each in inspect.signature(function).parameters if each != "self" and each[0] != "_"]
        assert len(names) < 3 or unexplained(names, function.__doc__) == [], called
