"""A task's code: what decides a training is noticed, what does not is not."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from optitune.errors import OptituneError
from optitune.tasks.loading import find
from optitune.tasks.metrics import Metric
from optitune.tasks.task import Task
from optitune.training import task_code
from optitune.training.preflight import fresh_model
from optitune.training.task_code import changes, check_unchanged, record

pytestmark = pytest.mark.wide

Command = Callable[..., tuple[int, str, str]]

FILE = '''
import functools
import torch
from torch import nn
from optitune import Metric, Task
from widths import WIDTH, double

RATE = 0.25
WEIGHTS = torch.tensor([1.0, 2.0])
SIZES = [4, 8]


class Net(nn.Module):
    """A network."""

    scale = 1.0

    def __init__(self, dropout):
        super().__init__()
        self.first, self.last, self.dropout = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 2), nn.Dropout(dropout)

    def forward(self, x):
        """Logits."""
        return self.last(self.dropout(self.activate(self.first(x)))) * self.scale

    @staticmethod
    def activate(x):
        return x.relu()


def loss(outputs, targets, smoothing=0.0):
    return nn.functional.cross_entropy(outputs, targets, weight=WEIGHTS, label_smoothing=smoothing)


def right(outputs, targets):
    return double((outputs.argmax(1) == targets).float().mean())


def unrelated():
    return 1


def make_task():
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    model = functools.partial(Net, RATE)
    return Task(model=model, data=(x, (x[:, 0] > 0).long()), loss=loss, metric=Metric("twice", "maximize", right))
'''

BESIDE = """
WIDTH = 8


def double(value):
    return 2 * value
"""


def _record(folder: Path, old: str = "", new: str = "") -> dict[str, Any]:
    """What is kept of the task in a folder of its own, after `old` was replaced by `new` in its files."""
    assert old in FILE + BESIDE
    folder.mkdir()
    for name, text in (("code_task.py", FILE), ("widths.py", BESIDE)):
        (folder / name).write_text(text.replace(old, new) if old else text)
    for name in ("code_task", "widths"):
        sys.modules.pop(name, None)
    sys.path.insert(0, str(folder))
    try:
        task = find(f"{folder / 'code_task.py'}:make_task", folder)
        return record(task, fresh_model(task), "code_task.py:make_task")
    finally:
        while str(folder) in sys.path:
            sys.path.remove(str(folder))


@pytest.mark.parametrize(
    ("old", "new", "noticed"),
    [
        ("RATE = 0.25", "RATE = 0.5", "Dropout(p=0.5, inplace=False) (had (dropout): Dropout(p=0.25, inplace=False))"),
        ("x.relu()", "x.tanh()", "Net.activate was changed"),
        ("scale = 1.0", "scale = 2.0", "Net.scale is 2.0 (was 1.0)"),
        ("[1.0, 2.0]", "[1.0, 3.0]", "WEIGHTS was changed"),
        ("smoothing=0.0", "smoothing=0.1", "defaults of loss is [0.1] (was [0.0])"),
        ("weight=WEIGHTS, ", "", "loss was changed"),
        ("WIDTH = 8", "WIDTH = 9", "WIDTH is 9 (was 8)"),
        ("2 * value", "3 * value", "double was changed"),
        (".float().mean()", ".double().mean()", "right was changed"),
        ('"""Logits."""', '"""Others."""', None),
        ('"""A network."""', '"""A small network."""\n    # with a comment', None),
        ("SIZES = [4, 8]", "SIZES = [4]", None),
        ("return 1", "return 2", None),
        ("\n\nclass Net", "\n\n\n\nclass Net", None),
    ],
)
def test_what_decides_a_training_is_noticed_and_nothing_else(
    tmp_path: Path, old: str, new: str, noticed: str | None
) -> None:
    before, now = _record(tmp_path / "before"), _record(tmp_path / "now", old, new)
    found = changes(before, now)
    if noticed is None:
        assert found == []
        assert before["id"] == now["id"]
    else:
        assert any(noticed in each for each in found), found
        assert before["id"] != now["id"]


def _task(**fields: Any) -> Task:
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    return Task(**{"model": lambda: nn.Linear(4, 2), "data": (x, (x[:, 0] > 0).long()), "name": "made", **fields})


def _found(one: Task, other: Task) -> list[str]:
    model = nn.Linear(4, 2)
    return changes(record(one, model, "python:made"), record(other, model, "python:made"))


def test_a_loss_that_is_a_module_counts_by_its_settings_and_numbers() -> None:
    plain = _task(loss=nn.CrossEntropyLoss())
    assert _found(plain, _task(loss=nn.CrossEntropyLoss())) == []
    assert _found(plain, _task(loss=nn.CrossEntropyLoss(weight=torch.ones(2))))
    one, other = (_task(loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, each]))) for each in (2.0, 3.0))
    assert _found(one, other) == ["loss.weight was changed"]
    assert _found(_task(ignore_index=0), _task(ignore_index=1)) == ["ignore_index is 1 (was 0)"]


def test_two_lambdas_of_one_name_are_kept_apart() -> None:
    def made(factor: int) -> Task:
        scale = Metric("scale", "maximize", lambda outputs, targets: outputs.mean() * factor)
        return _task(loss=lambda outputs, targets: outputs.square().mean(), metric=scale)

    assert _found(made(2), made(2)) == []
    assert [each for each in _found(made(2), made(3)) if each.endswith("is 3 (was 2)")]


def test_a_text_is_kept_as_a_digest_since_it_may_be_a_password() -> None:
    secret = "correct horse"  # noqa: S105
    kept = record(_task(model=lambda: nn.Linear(4, 2 if secret else 3)), nn.Linear(4, 2), "python:made")
    assert any(value.startswith("text ") for value in kept["parts"].values())
    assert secret not in repr(kept)


def test_another_version_of_python_or_torch_is_no_change_of_the_code() -> None:
    task, model = _task(), nn.Linear(4, 2)
    before = record(task, model, "python:made")
    now = record(replace(task, model=lambda: nn.Linear(2 * 2, 2, True)), nn.ReLU(), "python:made")
    assert changes(before, now)
    assert changes({**before, "python": "cpython-399", "torch": "99"}, now) == []


def test_a_record_is_the_same_in_another_process(tmp_path: Path) -> None:
    here = _record(tmp_path / "here")
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from optitune.tasks.loading import find; from optitune.training.task_code import record;"
        "from optitune.training.preflight import fresh_model;"
        "task = find(sys.argv[1] + '/code_task.py:make_task', Path());"
        "print(record(task, fresh_model(task), 'x.py:y')['id'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "here")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == here["id"]


def test_a_worker_refuses_a_task_that_was_edited_since_its_search_began() -> None:
    begun, edited = _task(), _task(model=lambda: nn.Linear(4, 2, bias=False))
    before = record(begun, fresh_model(begun), "made.py:make_task")
    check_unchanged(begun, "made.py:make_task", before)
    with pytest.raises(OptituneError, match=r"was changed while this ran: the network has Linear\(.* bias=False\)"):
        check_unchanged(edited, "made.py:make_task", before)
    # a constant may be of the process
    of_process = record(begun, fresh_model(begun), "made.py:make_task")
    check_unchanged(begun, "made.py:make_task", {**of_process, "parts": {**of_process["parts"], "RANK": "1"}})
    # what came along as an object cannot have been edited
    check_unchanged(edited, b"", before)


@pytest.mark.parametrize("stage", ["search", "compare", "retrain"])
def test_a_file_that_is_edited_meanwhile_ends_its_stage_at_the_next_worker(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("edited_task", None)
    # workers see the file as somebody left it after the command began
    (tmp_path / "edited_task.py").write_text(
        "import multiprocessing\nimport os\nimport torch\nfrom torch import nn\nfrom optitune import Task\n\n"
        "EDITED = os.path.exists('edited') and multiprocessing.parent_process() is not None\n\n\ndef net():\n"
        "    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5 if EDITED else 0.0), nn.Linear(8, 2))\n\n\n"
        "def make_task():\n    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))\n"
        "    return Task(model=net, data=(x, (x[:, 0] > 0).long()))\n"
    )
    search = ("search", "--task", "edited_task.py:make_task", "--study", "s", "--epochs", "1", "--workers", "1", "-q")
    search += ("--optimizers", "sgd,adam", "--trials", "2")
    commands = {"search": search, "compare": ("compare", "s"), "retrain": ("retrain", "best", "--study", "s")}
    if stage != "search":
        assert run_command(*search)[0] == 0
    (tmp_path / "edited").touch()
    code, out, error = run_command(*commands[stage])
    assert (code, out) == (1, "")
    assert "was changed while this ran: the network has (1): Dropout(p=0.5" in error


def test_a_study_refuses_changed_code_until_the_change_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "changing_task.py"

    def write(dropout: float) -> None:
        sys.modules.pop("changing_task", None)
        path.write_text(
            "import torch\nfrom torch import nn\nfrom optitune import Task\n\n\ndef net():\n"
            f"    return nn.Sequential(nn.Linear(4, 8), nn.Dropout({dropout}), nn.Linear(8, 2))\n\n\n"
            "def make_task():\n    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))\n"
            "    return Task(model=net, data=(x, (x[:, 0] > 0).long()))\n"
        )

    search = ("search", "--task", "changing_task.py:make_task", "--study", "s", "--epochs", "1", "--workers", "1", "-q")
    search += ("--optimizers", "sgd,adam", "--trials", "2")
    write(0.0)
    assert run_command(*search)[0] == 0
    assert run_command("retrain", "best", "--study", "s", "--seeds", "1", "--workers", "1", "-q")[0] == 0
    write(0.75)
    for words in (search, ("retrain", "best", "--study", "s"), ("compare", "s"), ("worker", "--study", "s")):
        code, out, error = run_command(*words)
        assert (code, out) == (2, "")
        assert "is no longer what study 's' was made with" in error
        assert "Dropout(p=0.75, inplace=False) (had (1): Dropout(p=0.0, inplace=False))" in error
        assert "--study s-2" in error
        assert "--study s --trials 2 --accept-changes'" in error
    assert run_command(*search, "--accept-changes")[0] == 0
    code, out, _ = run_command("retrain", "best", "--study", "s", "--seeds", "1", "--workers", "1")
    assert code == 0
    assert "trained and tested just so before" in out
    write(0.0)
    assert run_command(*search)[0] == 2


def test_a_global_that_functions_assign_while_they_run_is_no_change() -> None:
    text = "calls = {}\ndef model():\n    global calls\n    calls += 1\n    return calls\n"
    found = []
    for start in (0, 7):
        names: dict[str, Any] = {"__name__": "mine"}
        exec(text.format(start), names)  # noqa: S102
        walk = task_code._Walk()
        walk.look("model", names["model"])
        found.append(walk.parts)
    assert found[0] == found[1]
