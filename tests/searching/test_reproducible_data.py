"""Data that are others at every reading are refused before the search, wherever their chance comes from."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import optitune
from optitune import Task
from optitune.errors import UsageError
from optitune.searching import reproducible_data
from optitune.tasks import loading, split_checks, splits
from optitune.workers.pool import warm_up

pytestmark = pytest.mark.wide

HEAD = """
import os, random, time
import numpy as np, torch
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import Dataset, TensorDataset, random_split
from optitune import Task

X = np.random.default_rng(0).normal(size=(80, 3)).astype("float32")
Y = np.arange(80) % 2


class Noisy(Dataset):
    def __init__(self, draw, order=range(80)):
        self.draw, self.order = draw, list(order)

    def __len__(self):
        return 80

    def __getitem__(self, place):
        return X[self.order[place]] + self.draw(), Y[place]


def task(data, **fields):
    return Task(model=lambda: nn.Linear(3, 2), data=data, **fields)
"""

MOVING = {
    "a split without a random_state": """
def make_task():
    a, b, c, d = train_test_split(X, Y, test_size=0.2)
    return task((a, c), test=(b, d))
""",
    "a split of torch's without a generator": """
def make_task():
    train, test = random_split(TensorDataset(torch.tensor(X), torch.tensor(Y)), [0.8, 0.2])
    return task(train, test=test)
""",
    "numpy in data()": """
def make_task():
    def data():
        order = np.random.permutation(80)
        return X[order], Y[order]
    return task(data)
""",
    "a generator without a seed, at import": """
ORDER = np.random.default_rng().permutation(80)
def make_task():
    return task((X[ORDER], Y[ORDER]))
""",
    "random.shuffle": """
def make_task():
    order = list(range(80))
    random.shuffle(order)
    return task((X[order], Y[order]))
""",
    "the order of a set of words": """
def make_task():
    order = [int(word) for word in {str(place) for place in range(80)}]
    return task((X[order], Y[order]))
""",
    "the time": """
def make_task():
    order = np.random.default_rng(time.time_ns()).permutation(80)
    return task((X[order], Y[order]))
""",
    "inputs in another order, streamed, with targets that are all the same": """
Y = np.zeros(80, dtype=int)
def make_task():
    return task(Noisy(lambda: 0, torch.randperm(80).tolist()), in_memory=False)
""",
    "the same, augmented by chance": """
Y = np.zeros(80, dtype=int)
def make_task():
    return task(Noisy(lambda: torch.randn(3).numpy(), torch.randperm(80).tolist()))
""",
}

STEADY = {
    "a random_state": """
def make_task():
    a, b, c, d = train_test_split(X, Y, test_size=0.2, random_state=0)
    return task((a, c), test=(b, d))
""",
    "a seed of all": """
torch.manual_seed(0)
ORDER = torch.randperm(80)
def make_task():
    return task((X[ORDER], Y[ORDER]))
""",
    "augmented by chance": """
def make_task():
    return task(Noisy(lambda: torch.randn(3).numpy()))
""",
    "augmented by a generator of its own": """
def make_task():
    own = np.random.default_rng()
    return task(Noisy(lambda: own.normal(size=3).astype("float32")))
""",
}


def held(source: str, folder: Path) -> None:
    """Find a task, read its data, and hold them against another reading."""
    found = loading.find(source, folder)
    reproducible_data.check(found, source, folder, splits.search_data(found, None))


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a task's file; where it is."""
    warm_up("optitune.searching.reproducible_data", "sklearn.model_selection")
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(body: str) -> str:
        (tmp_path / "moving.py").write_text(HEAD + body)
        sys.modules.pop("moving", None)
        return f"{tmp_path / 'moving.py'}:make_task"

    return write


@pytest.mark.parametrize("body", MOVING.values(), ids=MOVING)
def test_a_task_whose_data_move_is_refused(body: str, written: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the data differ from reading to reading.*random_state=0"):
        held(written(body), tmp_path)


@pytest.mark.parametrize("body", STEADY.values(), ids=STEADY)
def test_a_task_whose_data_stay_is_not(body: str, written: Any, tmp_path: Path) -> None:
    held(written(body), tmp_path)


def test_a_function_of_an_object_is_called_again_and_the_users_draws_go_on(tmp_path: Path) -> None:
    inputs, targets = torch.rand(60, 3), torch.arange(60) % 2

    def shuffled() -> tuple[torch.Tensor, torch.Tensor]:
        order = torch.randperm(60)
        return inputs[order], targets[order]

    mine = Task(model=lambda: nn.Linear(3, 2), data=shuffled, name="mine")
    with pytest.raises(UsageError, match="differ from reading to reading"):
        optitune.search(mine, study="mine", studies_dir=tmp_path, trials=1, epochs=1, progress=False)
    assert not (tmp_path / "mine").exists()
    fixed = Task(model=lambda: nn.Linear(3, 2), data=lambda: (inputs, targets), name="mine")
    data = splits.search_data(fixed, None)
    torch.manual_seed(3)
    reproducible_data.check(fixed, b"", tmp_path, data)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)


def test_a_worker_that_reads_another_data_set_refuses_it(tmp_path: Path) -> None:
    inputs, targets = torch.rand(60, 3), torch.zeros(60, dtype=torch.int64)

    def mine(order: Any) -> Task:
        given = TensorDataset(inputs[order], targets)
        pairs = [given[place] for place in range(60)]
        return Task(model=lambda: nn.Linear(3, 2), data=pairs, in_memory=False, name="mine")

    splits.save(splits.search_data(mine(torch.arange(60)), None), tmp_path / "shared")
    splits.load(tmp_path / "shared", mine(torch.arange(60)))
    with pytest.raises(UsageError, match="differ from reading to reading"):
        splits.load(tmp_path / "shared", mine(torch.arange(60).flip(0)))


def test_a_splitter_of_another_version_cannot_move_what_is_sealed_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Task(model=lambda: nn.Linear(3, 2), data=(torch.rand(60, 3), torch.arange(60) % 2), name="mine")
    words: dict[str, Any] = {"study": "mine", "studies_dir": tmp_path, "progress": False}
    optitune.search(mine, trials=2, epochs=1, optimizers="sgd,adam", pruner="none", **words)

    def otherwise(*given: Any, **fields: Any) -> Any:
        kept, away = split(*given, **fields)
        return kept.flip(0), away.flip(0)

    split = splits.split
    monkeypatch.setattr(splits, "split", otherwise)
    calls = {
        "search": lambda: optitune.search(mine, trials=2, epochs=1, optimizers="sgd,adam", pruner="none", **words),
        "compare": lambda: optitune.compare(mine, **words),
        "retrain": lambda: optitune.retrain(mine, seeds=1, **words),
    }
    for call in calls.values():
        with pytest.raises(UsageError, match="another version of scikit-learn"):
            call()


def test_a_study_without_digests_goes_on(tmp_path: Path) -> None:
    mine = Task(model=lambda: nn.Linear(3, 2), data=(torch.rand(60, 3), torch.arange(60) % 2), name="mine")
    found = splits.search_data(mine, None)
    assert set(found.digests) == {"sealed", "held_out"}
    assert not split_checks.differs({"checksum": found.checksum}, found)
    assert split_checks.split_change({"checksum": found.checksum, "validation_examples": 10}, found.digests) == ""


def test_a_full_training_reads_its_data_and_its_test_set_once(tmp_path: Path) -> None:
    """And sends neither to its workers with the task: they lie in files."""
    reads = tmp_path / "reads"
    reads.write_text("")
    inputs, targets = torch.rand(60, 3), torch.arange(60) % 2

    def read(what: str, first: int, last: int) -> Any:
        with reads.open("a") as file:
            file.write(f"{what} ")
        return inputs[first:last], targets[first:last]

    mine = Task(
        model=lambda: nn.Linear(3, 2), data=lambda: read("data", 0, 50), test=lambda: read("test", 50, 60), name="mine"
    )
    words: dict[str, Any] = {"study": "mine", "studies_dir": tmp_path, "progress": False}
    optitune.search(mine, trials=1, epochs=1, optimizers="sgd", **words)
    assert "test" not in reads.read_text()
    reads.write_text("")
    full = optitune.retrain(mine, seeds=2, epochs=1, **words)
    assert reads.read_text().split() == ["data", "test"]
    assert np.isfinite(full.test_value.mean)
