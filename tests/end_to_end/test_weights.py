"""The weights that `optitune retrain` leaves load into the plain network, however a task wraps it."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from optitune.cli.main import run

pytestmark = pytest.mark.wide

OTHER_NETWORKS = """
import torch
from torch import nn

from optitune import Task

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.module = nn.Linear(4, 4)
        self.out = nn.Linear(4, 4)
        self.out.weight = self.module.weight

    def forward(self, x):
        return self.out(self.module(x).relu())


class Keeping(Net):
    def get_extra_state(self):
        return {"scale": torch.tensor([1.0, 2.0]), "names": ["a", None]}

    def set_extra_state(self, state):
        pass


def wrapped():
    net = Net()
    net.out = torch.compile(net.out, backend="eager")
    return torch.compile(nn.DataParallel(net), backend="eager")


def task(model):
    return Task(model=model, data=(X, (X[:, 0] > 0).long()))


def make_wrapped():
    return task(wrapped)


def make_keeping():
    return task(Keeping)
"""


@pytest.mark.parametrize("kind", ["wrapped", "keeping"])
def test_weights_load_into_the_plain_network(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("others.py").write_text(OTHER_NETWORKS)
    common = ["--study", "s", "--workers", "1", "--device", "cpu", "--epochs", "1", "--quiet"]
    assert run(["search", "--task", f"others.py:make_{kind}", "--trials", "1", "--optimizers", "sgd", *common]) == 0
    assert run(["retrain", "best", "--seeds", "1", *common]) == 0
    path = Path("studies/s/retrain/best/model.safetensors")
    found = load_file(path)
    assert set(found) == {"module.weight", "module.bias", "out.weight", "out.bias"}
    assert found["out.weight"].equal(found["module.weight"])
    if kind == "keeping":
        with safe_open(path, "pt") as opened:
            extra = json.loads(opened.metadata()["extra_state"])
        assert extra == {"_extra_state": {"scale": [1.0, 2.0], "names": ["a", None]}}
