"""Where the module of a study's own optimizer is looked for, in every command and in its worker processes."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optitune.errors import UsageError
from optitune.study.custom_optimizers import find_modules

STUDY = """
task = "digits"
optimizers = ["own", "sgd"]
epochs = 1
train_examples = 128

[[optimizer]]
name = "own"
path = "PATH"
known_good = [{ lr = 0.05 }]
[optimizer.ranges]
lr = { low = 0.01, high = 0.2, scale = "log" }
"""

OPTIMIZER = """
import torch


class Own(torch.optim.SGD):
    def __init__(self, params, lr=0.05):
        super().__init__(params, lr=lr)
"""

NAMES = ("my_own_opt", "my_own_pkg", "my_own_helper")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a folder of studies, that one is in; what is imported from there is forgotten."""
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in [each for each in sys.modules if each.partition(".")[0] in NAMES]:
        del sys.modules[name]


def imported(path: str) -> str:
    """The file that the optimizer's module comes from, found as commands and workers find it."""
    from optitune.training.build import at

    find_modules({"own": path}, Path("studies"))
    file = sys.modules[at(path).__module__].__file__
    assert file is not None
    return str(Path(file).relative_to(Path.cwd()))


def test_it_is_found_beside_the_studys_file(here: Path) -> None:
    (here / "studies" / "my_own_opt.py").write_text(OPTIMIZER)
    assert imported("my_own_opt:Own") == "studies/my_own_opt.py"


def test_it_is_found_in_the_present_folder(here: Path) -> None:
    (here / "my_own_opt.py").write_text(OPTIMIZER)
    assert imported("my_own_opt:Own") == "my_own_opt.py"


def test_of_two_the_one_beside_the_studys_file_is_taken(here: Path) -> None:
    for folder in (here, here / "studies"):
        (folder / "my_own_opt.py").write_text(OPTIMIZER)
    sys.path.insert(0, str(here))
    assert imported("my_own_opt:Own") == "studies/my_own_opt.py"


def test_a_package_is_found_and_what_lies_beside_it(here: Path) -> None:
    package = here / "studies" / "my_own_pkg"
    package.mkdir()
    (package / "opt.py").write_text(f"import my_own_helper\nfrom . import rate\n{OPTIMIZER}")
    (package / "rate.py").write_text("")
    (here / "studies" / "my_own_helper.py").write_text("")
    assert imported("my_own_pkg.opt:Own") == "studies/my_own_pkg/opt.py"


def test_a_folder_of_a_study_is_no_module(here: Path) -> None:
    (here / "studies" / "my_own_opt").mkdir()
    (here / "my_own_opt.py").write_text(OPTIMIZER)
    assert imported("my_own_opt:Own") == "my_own_opt.py"


def test_what_is_installed_is_found_as_ever(here: Path) -> None:
    before = [*sys.path]
    find_modules({"own": "torch.optim:Adam", "registered": ""}, here / "studies")
    assert sys.path == before


def test_one_that_is_nowhere_is_refused_with_the_folders(here: Path) -> None:
    said = f"optimizer 'own' (my_own_opt.Own): there is no module 'my_own_opt' in {here / 'studies'} and {here}, "
    with pytest.raises(UsageError, match=re.escape(said)):
        find_modules({"own": "my_own_opt:Own"}, Path("studies"))


def test_one_that_bears_the_name_of_a_module_of_pythons_is_named(here: Path) -> None:
    (here / "studies" / "random.py").write_text(OPTIMIZER)
    with pytest.raises(UsageError, match=r"studies/random.py bears the name of a module that Python or optitune needs"):
        find_modules({"own": "random:Own"}, Path("studies"))


def test_a_name_that_means_another_file_in_this_process_is_refused(here: Path) -> None:
    (here / "my_own_opt.py").write_text(OPTIMIZER)
    imported("my_own_opt:Own")
    (here / "studies" / "my_own_opt.py").write_text(OPTIMIZER)
    with pytest.raises(UsageError, match=f"{here}/my_own_opt.py was imported by that name before: rename one"):
        imported("my_own_opt:Own")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "import my_own_helper",
            "ModuleNotFoundError: No module named 'my_own_helper' (studies/my_own_opt.py, line 1)",
        ),
        ("x = (", "SyntaxError: '(' was never closed (studies/my_own_opt.py, line 1)"),
        ("import argparse\nargparse.ArgumentParser().error('no')", "sys.exit(2)"),
        (OPTIMIZER.replace("Own", "Other"), "AttributeError: module 'my_own_opt' has no attribute 'Own'"),
    ],
    ids=["its import", "syntax", "options", "class"],
)
def test_one_that_cannot_be_imported_is_one_line(
    here: Path, text: str, reason: str, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    (here / "studies" / "my_own_opt.py").write_text(text)
    (here / "studies" / "mine.toml").write_text(STUDY.replace("PATH", "my_own_opt:Own"))
    code, _, err = run_command("search", "--study", "mine")
    assert code == 2
    assert f"optimizer 'own' (my_own_opt.Own): cannot be imported: {reason}" in err
    assert len(err.splitlines()) == 1
    assert not (here / "studies" / "mine" / "study.db").exists()


def test_every_command_and_its_workers_find_it_from_another_folder(
    here: Path, run_command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = here / "studies"
    (studies / "my_own_opt.py").write_text(f"import my_own_helper\n{OPTIMIZER}")
    (studies / "my_own_helper.py").write_text("")
    # keeps the folder out of what a worker inherits
    (studies / "random.py").write_text("")
    (studies / "mine.toml").write_text(STUDY.replace("PATH", "my_own_opt:Own"))

    def done(*words: str) -> str:
        code, out, err = run_command(*words, "--studies-dir", str(studies))
        assert code == 0, out + err
        return out + err

    done("search", "--study", "mine", "--trials", "2", "--workers", "1", "-q")
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    search = ("search", "--study", "mine", "--trials", "4")
    done(*search, "--workers", "0")
    done("worker", "--study", "mine", "--workers", "1", "-q")
    assert "4 trials finished: 4 complete" in done(*search, "-q")
    assert "own" in done("compare", "mine", "--max-runs", "2", "--sensitivity", "0", "--workers", "1", "-q")
    done("retrain", "0", "--study", "mine", "--epochs", "1", "--seeds", "1", "-q")
    assert "own" in done("show", "mine")
    printed = done("export", "0", "--study", "mine")
    assert "import my_own_opt\n" in printed
    assert (
        f"note: the code imports my_own_opt, which is {studies / 'my_own_opt.py'}: keep both in one folder" in printed
    )
