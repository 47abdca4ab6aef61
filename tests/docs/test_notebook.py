"""The example notebook: kept without outputs, and it runs as it stands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "example.ipynb"

HANG_S = 900
"""It takes nowhere near as long."""

EXECUTE = """
import sys

import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=800, kernel_name="python3").execute()
nbformat.write(notebook, "executed.ipynb")
"""


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_it_is_kept_without_outputs_and_without_places_of_a_machine() -> None:
    assert len(cells(NOTEBOOK)) > 10
    for cell in cells(NOTEBOOK):
        assert (cell["outputs"], cell["execution_count"], cell["metadata"]) == ([], None, {})
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|work|tmp|Users)\b", text)
    assert json.loads(text)["metadata"]["kernelspec"]["name"] == "python3"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Its code cells after all of it ran, in an empty folder."""
    folder = tmp_path_factory.mktemp("notebook")
    # nothing that whoever runs the tests has set up for their own notebooks takes part
    jupyter = {f"JUPYTER_{name}_DIR": str(folder / "jupyter") for name in ("CONFIG", "DATA", "RUNTIME")}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OPTITUNE_")}
    alone = {**plain, **jupyter, "JUPYTER_PREFER_ENV_PATH": "1", "IPYTHONDIR": str(folder / "ipython")}
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(NOTEBOOK)],
        cwd=folder,
        env=alone,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "studies" / "notebook" / "retrain" / "best" / "metrics.json").is_file()
    return cells(folder / "executed.ipynb")


def shown(cells: list[dict[str, Any]], last_line: str) -> dict[str, str]:
    """What a cell that ends so shows in the end, by kind."""
    ends = {source(each).splitlines()[-1]: each for each in cells}
    cell = ends.get(last_line) or next(each for end, each in ends.items() if end.startswith(last_line))
    *_, output = cell["outputs"]
    if output["output_type"] == "stream":
        return {output["name"]: "".join(output["text"])}
    return {kind: "".join(data) for kind, data in output["data"].items()}


@pytest.mark.slow
def test_it_runs_as_it_stands_and_shows_tables_figures_and_words(executed: list[dict[str, Any]]) -> None:
    assert not [output for cell in executed for output in cell["outputs"] if output.get("name") == "stderr"]
    assert "but that is one lucky run." in shown(executed, "found")["text/html"]
    # progress is one output, which was replaced as the search went on
    (searched,) = (cell for cell in executed if source(cell).startswith("found = optitune.search("))
    progress, _ = searched["outputs"]
    assert "12/12" in re.sub(r"<.*?>", "", "".join(progress["data"]["text/html"]))
    for last in ("found.standings", "best_first", "verdict.standings", "full.confusion"):
        assert 'class="dataframe"' in shown(executed, last)["text/html"]
    for last in ("found.figure()", 'found.figure("best-so-far")', "verdict.figure()", "full.figure()"):
        assert len(shown(executed, last)["image/png"]) > 5_000
    assert " " in shown(executed, "print(verdict.advice)")["stdout"]
    assert "test accuracy" in shown(executed, "full")["text/html"]
    assert "def train(model, loader" in shown(executed, "print(code)")["stdout"]
    losses = json.loads(shown(executed, 'pasted["train"]')["text/plain"])
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert shown(executed, "again, ")["text/plain"].count("Result: ") == 3
