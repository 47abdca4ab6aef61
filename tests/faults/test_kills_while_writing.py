"""Processes that are killed while they write a file: the old one stays whole, and the next run leaves nothing of it."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from itertools import cycle
from pathlib import Path

import pytest
from real_commands import command, environment, held, scratch_files

from optitune.cli.main import run
from optitune.common import checkpoint
from optitune.study.best_config import load as load_best

pytestmark = pytest.mark.wide

ORDERS = "OPTITUNE_TEST_ORDERS"

KILLER = f"""
import fnmatch
import os
import signal
import tempfile

orders = os.environ["{ORDERS}"]
mkstemp, replace = tempfile.mkstemp, os.replace


def obey(moment, name):
    for order in os.listdir(orders):
        wanted, _, pattern = order.partition(" ")
        if wanted == moment and fnmatch.fnmatch(name, pattern):
            try:
                os.unlink(os.path.join(orders, order))
            except FileNotFoundError:
                continue  # another process obeys it
            return True
    return False


def killed_at_mkstemp(suffix=None, prefix=None, *args, **kwargs):
    made = mkstemp(suffix, prefix, *args, **kwargs)
    if prefix and obey("begun", prefix[1:-1] + (suffix or "")):
        os.kill(os.getpid(), signal.SIGKILL)
    return made


def killed_at_replace(source, target, **kwargs):
    name = os.path.basename(target)
    if obey("half", name):
        os.truncate(source, os.path.getsize(source) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    if obey("written", name):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target, **kwargs)
    if obey("renamed", name):
        os.kill(os.getpid(), signal.SIGKILL)


tempfile.mkstemp, os.replace = killed_at_mkstemp, killed_at_replace
"""
"""Kills whoever comes to a moment of writing a file for which there is an order; an order is a file, obeyed once."""

MOMENTS = ("begun", "half", "written", "renamed")

SEARCH = "search --task digits --epochs 6 --optimizers sgd,adam --trials 3 --pruner none --workers 1 --quiet"
COMPARE = "compare digits --max-runs 4 --sensitivity 0 --workers 1 --quiet"
RETRAIN = "retrain best --study digits --epochs 2 --seeds 1 --quiet"

WRITTEN = {
    "init other": ["other.toml"],
    SEARCH: ["data.safetensors", "trial-*.safetensors", "best.toml"],
    COMPARE: ["plan.json", "data.safetensors", "0*-sgd*.safetensors", "verdict.json"],
    RETRAIN: [
        *("train.safetensors", "seed-0.safetensors", "mistakes.safetensors", "seed-0.json"),
        *("model.safetensors", "curves.png", "metrics.json", "config.toml", "train.py"),
    ],
    "report digits": ["report.html"],
}
"""What each command writes, by name, in the order in which a study comes to them."""

READERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_bytes()),
    ".toml": lambda path: tomllib.loads(path.read_text()),
    ".html": lambda path: path.read_text().rindex("</html>"),
    ".png": lambda path: path.read_bytes().rindex(b"IEND"),
}


def whole(folder: Path) -> None:
    """Read everything that has a name to be read by."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith(".") and path.suffix in READERS:
            READERS[path.suffix](path)
    for path in folder.rglob("trial-*.safetensors"):
        if not path.name.startswith("."):
            checkpoint.load(path)


class Killer:
    """Gives orders to whatever is run in its environment."""

    def __init__(self, folder: Path) -> None:
        self._orders = folder / "orders"
        self._orders.mkdir(parents=True)
        (folder / "sitecustomize.py").write_text(KILLER)
        self.environment = {"PYTHONPATH": str(folder), ORDERS: str(self._orders)}

    def order(self, moment: str, pattern: str) -> None:
        (self._orders / f"{moment} {pattern}").touch()

    def left(self) -> list[str]:
        return os.listdir(self._orders)


@pytest.fixture
def killer(tmp_path: Path) -> Killer:
    return Killer(tmp_path / "killer")


REPLACE = """
import sys
from pathlib import Path
from optitune.common.files import write_text
write_text(Path(sys.argv[1]), "new" * 1000)
"""


@pytest.mark.parametrize("old", ["old", None])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_leaves_the_old_file_or_the_new_one_and_the_next_write_leaves_no_other(
    killer: Killer, tmp_path: Path, moment: str, old: str | None
) -> None:
    path = tmp_path / "there" / "result.json"
    path.parent.mkdir()
    if old:
        path.write_text(old)
    killer.order(moment, path.name)
    codes = []
    for _ in range(2):
        words = [sys.executable, "-c", REPLACE, str(path)]
        codes.append(subprocess.run(words, env=environment(killer.environment), check=False).returncode)
        if len(codes) == 1:
            now = path.read_text() if path.exists() else None
            assert now == ("new" * 1000 if moment == "renamed" else old)
    assert codes == [-signal.SIGKILL, 0]
    assert os.listdir(path.parent) == [path.name]


def chain(folder: Path, killer: Killer, kills: Iterable[tuple[str, str]]) -> int:
    """All commands one after the other, each again until it is through; how many runs were killed on the way."""
    killed = 0
    for words, names in WRITTEN.items():
        for name, moment in kills:
            if name in names:
                killer.order(moment, name)
        while killer.left():
            before = killer.left()
            ended = command(*words.split(), folder=folder, extra=killer.environment)
            assert killer.left() != before, f"{words} came to none of {before}: {ended.stderr}"
            assert "Traceback" not in ended.stderr
            assert "a fault of optitune's own" not in ended.stderr
            whole(folder)
            killed += ended.returncode == -signal.SIGKILL
            if ended.returncode == 0:
                assert not killer.left()
        if words != "init other" or not (folder / "other.toml").exists():
            assert run([*words.split(), "--studies-dir", str(folder)]) == 0
        assert not scratch_files(folder), words
    return killed


def check(folder: Path) -> None:
    """That all is there which a chain of commands leaves."""
    found = held(folder, "digits")
    assert found.states == {"COMPLETE": 3}
    load_best(folder / "digits" / "best.toml", "digits")
    assert len(list((folder / "digits" / "compare" / "runs").iterdir())) == 4
    for name in ("compare/verdict.json", "retrain/best/metrics.json", "retrain/best/train.py", "report/report.html"):
        assert (folder / "digits" / name).is_file()
    for name in ("checkpoints", "workers"):
        assert not list((folder / "digits" / name).iterdir())


NAMES = [name for names in WRITTEN.values() for name in names]
BEFORE = [*zip(NAMES, cycle(MOMENTS[:3]), strict=False)]
"""Each file with one of the moments at which the old one is still in its place."""
AFTER = [("trial-*.safetensors", "half"), *((name, MOMENTS[3]) for name in NAMES)]
"""Each file when the new one has just come to its place; a checkpoint before it, too, as two deaths are allowed."""


@pytest.mark.parametrize(
    ("kills", "ended"),
    [pytest.param(BEFORE, 15, id="before"), pytest.param(AFTER, 13, marks=pytest.mark.slow, id="after")],
)
def test_commands_killed_at_each_file_that_they_write_go_on_and_leave_nothing_half_written(
    killer: Killer, tmp_path: Path, kills: list[tuple[str, str]], ended: int
) -> None:
    # the kills of workers end no run
    assert chain(tmp_path / "studies", killer, kills) == ended
    check(tmp_path / "studies")
