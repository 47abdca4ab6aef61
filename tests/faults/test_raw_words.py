"""What a user gets to read of a faulty study file, optimizer row or task: our words, never a library's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from optitune.cli.main import run
from optitune.errors import UsageError
from optitune.study.custom_optimizers import OwnOptimizer
from optitune.study.settings import StudySettings, resolve
from optitune.study.study_file import Budget, from_file
from optitune.training.optimizer_classes import with_rows

pytestmark = pytest.mark.wide

RAW = (
    *("validation error", "pydantic", "put should be", "sqlalche.me", "Traceback", "[type=", "For further information"),
    *("NoneType", "object has no attribute", "unhashable", "not supported between", "is not iterable", "unpack"),
    *(
        "a fault of optitune's own",
        "valid dictionary",
        "valid string",
        "instance of",
        "Extra inputs",
        "mat1",
        "OwnRange",
    ),
)
"""Words of pydantic, torch, SQLAlchemy and Python."""

VALUES = (
    *('""', '"x"', '"a:b"', '"a,b"', '"ü"', "3", "-1", "0", "2.5", "nan", "inf", "1e400", "99999999999999999999999"),
    *(
        "true",
        "[]",
        '["x", "x"]',
        "[1, 2]",
        '[1, "x"]',
        "[[1]]",
        "[{}]",
        "[{ x = 1 }]",
        "{}",
        "{ x = 1 }",
        "1979-05-27",
    ),
)
"""TOML of every kind, for every key."""

ROW = {
    "name": '"mine"',
    "path": '"torch.optim:Adam"',
    "known_good": "[{ lr = 1e-3, beta1 = 0.9, beta2 = 0.999 }]",
    "ranges": "{ lr = [1e-4, 1e-2], beta1 = { low = 0.5, high = 0.99 } }",
}


def ours(message: str, *names: str) -> None:
    """Check that a message is in our words, names the place, and says more than that."""
    for words in RAW:
        assert words not in message
    assert any(name in message for name in names)
    assert len(message) > 20


def refusals(path: Path, texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The messages of those files that are refused, with the key that is at fault in each."""
    for text, key in texts.items():
        path.write_text(text)
        try:
            settings = from_file(path, lambda found: with_rows(found, path.parent))[0]
            resolve({}, settings, None, "mine")
        except UsageError as error:
            yield key, str(error)


@pytest.mark.parametrize("key", [*StudySettings.model_fields, *Budget.model_fields, "lr", "adam", "step", "unheard"])
def test_a_faulty_value_in_a_studys_file_is_refused_in_our_words(key: str, tmp_path: Path) -> None:
    files = {f"{key} = {value}\n": key for value in VALUES} | {f"[{key}]\nx = 1\n": key, f"[[{key}]]\nx = 1\n": key}
    found = list(refusals(tmp_path / "mine.toml", files))
    assert len(found) > 3
    for place, message in found:
        ours(message, place.rstrip("s"))


@pytest.mark.parametrize("key", [*OwnOptimizer.model_fields, "unheard"])
def test_a_faulty_row_is_refused_in_our_words(key: str, tmp_path: Path) -> None:
    files = {}
    for value in VALUES:
        row = "".join(f"{name} = {text}\n" for name, text in {**ROW, key: value}.items())
        files[f'optimizers = ["mine"]\n[[optimizer]]\n{row}'] = key
    found = list(refusals(tmp_path / "mine.toml", files))
    assert len(found) > 3
    for place, message in found:
        ours(message, place, "optimizer")


@pytest.mark.parametrize("key", ["low", "high", "scale", "options", "unheard"])
def test_a_faulty_range_of_a_row_is_refused_in_our_words(key: str, tmp_path: Path) -> None:
    files = {}
    for value in VALUES:
        ends = ", ".join(f"{name} = {text}" for name, text in {"low": "1e-4", "high": "1e-2", key: value}.items())
        row = "".join(f"{name} = {text}\n" for name, text in {**ROW, "ranges": f"{{ lr = {{ {ends} }} }}"}.items())
        files[f'optimizers = ["mine"]\n[[optimizer]]\n{row}'] = key
    found = list(refusals(tmp_path / "mine.toml", files))
    assert len(found) > 3
    for place, message in found:
        ours(message, place, "ranges.lr", "known_good")


NO_TOML = [
    "lr",
    "lr = ",
    "= 3",
    "[lr",
    "lr = 1\nlr = 2",
    "lr = 'x",
    "\x00",
    "[[optimizer]]\n[optimizer]",
    "a.b = 1\na = 2",
]


@pytest.mark.parametrize("text", NO_TOML)
def test_what_is_no_toml_is_refused_with_the_file_and_the_line(text: str, tmp_path: Path) -> None:
    (found,) = refusals(tmp_path / "mine.toml", {text: ""})
    ours(found[1], "mine.toml is not a TOML file")
    assert "mend" in found[1]


TASKS = """
import torch
from torch import nn
from optitune import Task

X, Y = torch.randn(200, 4), torch.arange(200) % 3
good = dict(model=lambda: nn.Linear(4, 3), data=(X, Y))


def task(**fields):
    return lambda: Task(**{**good, **fields})


no_name = 3
nothing = lambda: None
raises = lambda: 1 / 0
missing = lambda: Task(model=good["model"])
unheard = lambda: Task(**good, modle=1)
wide = task(model=lambda: nn.Linear(5, 3))
narrow = task(model=lambda: nn.Linear(4, 2))
no_model = task(model=3)
none_model = task(model=lambda: None)
no_weights = task(model=lambda: nn.Flatten())
short = task(data=(X, Y[:3]))
words = task(data=(X, ["a"] * 200))
no_data = task(data=None)
number = task(data=7)
empty = task(data=(X[:0], Y[:0]))
infinite = task(data=(X / 0, Y))
loss = task(loss="unheard")
loss_type = task(loss=3)
metric = task(metric="unheard")
metric_type = task(metric=3)
validation = task(validation="many")
own_loss = task(loss=lambda outputs, targets: None)
own_metric = task(metric=lambda outputs, targets: "good")
precision = task(precision="fp64")
negative = task(data=(X, Y - 5))
"""

NAMES = [line.partition(" = ")[0] for line in TASKS.splitlines() if " = " in line and line[0].islower()][1:]


@pytest.mark.parametrize("name", [*NAMES, "unwritten"])
def test_a_faulty_task_is_refused_in_our_words(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw_tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    command = ["search", "--task", f"raw_tasks.py:{name}", "--optimizers", "sgd", "--workers", "0", "--study", "mine"]
    assert run(command) == 2
    message = capsys.readouterr().err
    ours(message, f"raw_tasks.py:{name}", name, "Task(")
    assert len(message.splitlines()) == 1
    assert not (tmp_path / "studies" / "mine" / "study.db").exists()
