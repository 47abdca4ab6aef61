"""What is handed out: a wheel and a source archive that work where no checkout is."""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

HANG_S = 900
"""No command here takes nearly as long."""


def ran(*words: object, cwd: Path) -> str:
    """What a command prints that succeeds; it knows nothing of the checkout."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("OPTITUNE_", "PYTHON"))}
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env=plain, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kept() -> set[str]:
    """The files of the project: what git does not ignore, and is not for git and CI alone."""
    listed = ran("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    return {name for name in listed if name and not name.startswith(".") and (ROOT / name).is_file()}


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, a source archive of it, and the wheel that was built from that archive alone."""
    folder = tmp_path_factory.mktemp("package") / "project"
    for name in kept():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    ran(sys.executable, "-m", "build", "--outdir", folder / "made", folder, cwd=folder.parent)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    (path,) = (source / "made").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def archive(source: Path) -> Path:
    (path,) = (source / "made").glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and of this one all but the checkout."""
    place = tmp_path_factory.mktemp("installed")
    venv.create(place, with_pip=False, symlinks=True)
    paths = sysconfig.get_paths("venv", vars={"base": str(place), "platbase": str(place)})
    # a folder named in a .pth file: the .pth files within it, such as that of an editable install, do not count
    others = "\n".join([*site.getsitepackages(), ""])
    (Path(paths["purelib"]) / "others.pth").write_text(others, encoding="utf-8")
    python = Path(paths["scripts"]) / "python"
    # without looking for what is there already: it would find the checkout's
    words = ("install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", "--disable-pip-version-check")
    ran(sys.executable, "-m", "pip", "--python", python, *words, wheel, cwd=place)
    return python.parent


def test_the_wheel_has_the_package_and_all_that_it_reads_and_nothing_else(source: Path, wheel: Path) -> None:
    package = source / "optitune"
    parts = [
        path
        for path in package.rglob("*")
        if path.suffix in (".py", ".txt", ".html", ".json") or path.name == "py.typed"
    ]
    wanted = sorted(path.relative_to(source).as_posix() for path in parts)
    assert "optitune/report/report.html" in wanted
    assert "optitune/task_template.py.txt" in wanted
    assert "optitune/statistics/boundaries.json" in wanted
    assert "optitune/py.typed" in wanted
    assert [name for name in names(wheel) if ".dist-info/" not in name] == wanted
    # nothing is read from the package that is not among these
    assert {path.suffix for path in package.rglob("*") if path.is_file()} <= {
        ".py",
        ".txt",
        ".html",
        ".json",
        ".typed",
        "",
    }


def test_the_wheel_says_what_the_project_does(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(wheel) as archive:
        (place,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        told = message_from_string(archive.read(place).decode())
        licence = archive.read(place.replace("METADATA", "licenses/LICENSE")).decode()
    assert licence == (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert (told["Name"], told["Version"]) == ("optitune", project["version"])
    assert (told["License-Expression"], told["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    assert told["Description-Content-Type"] == "text/markdown"
    assert sorted(told.get_all("Provides-Extra", [])) == sorted(project["optional-dependencies"])
    assert "Typing :: Typed" in told.get_all("Classifier", [])
    assert told.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_source_archive_has_the_project_and_makes_the_same_wheel(
    source: Path, archive: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    there = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    made = {name for name in there if name.startswith("optitune.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    copied = {name for name in kept() if (source / name).exists()}
    assert there - made == copied
    for name in ("LICENSE", "README.md", "CONTRIBUTING.md", "docs/commands.md", "tests/docs/test_docs.py"):
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()
    straight = source.parent / "straight"
    ran(sys.executable, "-m", "build", "--wheel", "--outdir", straight, source, cwd=source.parent)
    (other,) = straight.iterdir()
    assert other.name == wheel.name
    assert names(other) == names(wheel)


def test_what_is_installed_searches_and_reports_in_an_empty_folder(bin_folder: Path, tmp_path: Path) -> None:
    code = "import optitune, sys; print(optitune.__file__, *sys.path, sep='\\n')"
    place, *path = ran(bin_folder / "python", "-c", code, cwd=tmp_path).splitlines()
    assert Path(place).is_relative_to(bin_folder.parent)
    assert str(ROOT) not in path
    program = bin_folder / "optitune"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert ran(program, "--version", cwd=tmp_path) == f"optitune {version}\n"
    told = ran(program, "search", "--task", "digits", "--trials", "2", "--epochs", "1", cwd=tmp_path)
    assert "2 trials finished" in told
    assert ran(program, "report", cwd=tmp_path) == "studies/digits/report/report.html\n"
    assert "digits" in (tmp_path / "studies" / "digits" / "report" / "report.html").read_text(encoding="utf-8")
    assert ran(program, "task-template", cwd=tmp_path)
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == ["studies"]
