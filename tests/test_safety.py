"""What the package never does: run code that it was given as data, or start another program."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import optitune

ROOT = Path(optitune.__file__).parent

MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "subprocess", "pty", "runpy", "code"}
"""What is not imported: it reads data that are programs, or runs programs."""

CALLS = {"eval", "exec", "compile", "__import__"}
"""Builtins that are not called."""

ATTRIBUTES = {
    *("torch.load", "torch.save", "torch.hub", "torch.jit.load", "os.system", "os.popen"),
    *("os.execv", "os.execve", "os.execvp", "os.execl", "os.execlp", "os.spawnv", "os.spawnl", "os.posix_spawn"),
}

PARENT = ("loading.py", "find", "cloudpickle.loads")
"""The one exception: a worker process unpacks the task that its own parent sent it."""

RANKS = [
    *(
        ("rank_peers.py", *each)
        for each in (("", "import pickle"), ("send", "pickle.dumps"), ("receive", "pickle.loads"))
    ),
    *(("ranks.py", "", f"import {name}") for name in ("pickle", "cloudpickle")),
    *(("ranks.py", *each) for each in (("on_ranks", "cloudpickle.dumps"), ("_enter", "pickle.loads"))),
]
"""Processes that train together send each other what they report, through pipes that their parent has made."""


def dotted(node: ast.AST) -> str:
    """`a.b.c` for such an expression; empty for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        above = dotted(node.value)
        return f"{above}.{node.attr}" if above else ""
    return ""


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def dangers(tree: ast.AST, within: str = "") -> Iterator[tuple[str, str]]:
    """Everything in a tree that is not to be there, with the function that it is in."""
    for node in ast.iter_child_nodes(tree):
        for name in imported(node):
            if name.partition(".")[0] in MODULES or name in ATTRIBUTES:
                yield within, f"import {name}"
        if isinstance(node, ast.Attribute):
            name = dotted(node)
            if name in ATTRIBUTES or name.startswith(("pickle.", "cloudpickle.")):
                yield within, name
        if isinstance(node, ast.Call):
            if dotted(node.func) in CALLS:
                yield within, dotted(node.func)
            for keyword in node.keywords:
                if keyword.arg in ("allow_pickle", "shell") and not _is_false(keyword.value):
                    yield within, keyword.arg
        inner = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else within
        yield from dangers(node, inner)


def _is_false(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_a_module_runs_nothing_that_it_is_given(path: Path) -> None:
    found = [(path.name, *danger) for danger in dangers(ast.parse(path.read_text(encoding="utf-8")))]
    # what is packed goes to a worker alone, through a pipe
    allowed = [PARENT, ("loading.py", "", "import cloudpickle"), ("loading.py", "packed", "cloudpickle.dumps"), *RANKS]
    assert [danger for danger in found if danger not in allowed] == []


def test_the_one_exception_is_for_bytes_that_no_user_can_name() -> None:
    """A task's name is typed or read from files, and is text; bytes come from a parent process alone."""
    tree = ast.parse((ROOT / "tasks" / "loading.py").read_text(encoding="utf-8"))
    (find,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "find"]
    guarded = [node for node in ast.walk(find) if isinstance(node, ast.If) and "loads" in ast.dump(node)]
    assert [ast.unparse(node.test) for node in guarded] == ["isinstance(source, bytes)"]
    assert [ast.unparse(node) for node in ast.walk(tree) if "loads" in ast.unparse(node) and isinstance(node, ast.Call)]


@pytest.mark.parametrize(
    ("text", "danger"),
    [
        ("import pickle", "import pickle"),
        ("def f():\n    from pickle import loads", "import pickle.loads"),
        ("import torch\ntorch.load(path)", "torch.load"),
        ("from torch import load", "import torch.load"),
        ("x = eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("import os\nrun = os.system", "os.system"),
        ("import numpy\nnumpy.load(path, allow_pickle=True)", "allow_pickle"),
        ("from subprocess import run", "import subprocess.run"),
        ("import yaml", "import yaml"),
    ],
)
def test_each_danger_is_seen(text: str, danger: str) -> None:
    assert danger in [what for _, what in dangers(ast.parse(text))]


def test_what_is_like_a_danger_is_none() -> None:
    text = "model.eval()\nre.compile(x)\nspec.loader.exec_module(m)\nnumpy.load(path, allow_pickle=False)\njson.load(f)"
    assert list(dangers(ast.parse(text))) == []
