"""Groups and time through search, comparison and full training, of a task and of a loop of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import optitune
from optitune import Task
from optitune.errors import UsageError
from optitune.report.comparison_tables import comparison_table

GROUPS = np.arange(120) // 6


def data() -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(120, 3, generator=torch.Generator().manual_seed(0))
    return inputs, (inputs.sum(1) > 0).long()


def loop(run: Any) -> None:
    (inputs, targets, times), (held, truths, later) = run.split((*data(), torch.arange(120)), split="time")
    assert times.max() < later.min()
    assert run.stage != "compare" or times.equal(torch.arange(int(later.min()) - len(times), int(later.min())))
    model = nn.Linear(3, 2)
    optimizer = run.optimizer(model)
    run.keep(model=model, optimizer=optimizer)
    for _ in run.epochs():
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        right = (model(held).argmax(1) == truths).float()
        run.report(right.mean(), each=right)


def task(**fields: Any) -> Task:
    return Task(model=lambda: nn.Linear(3, 2), data=data(), name="mine", **fields)


@pytest.mark.parametrize(
    ("trained", "split", "says"),
    [
        (task(groups=GROUPS), "groups", "of other groups"),
        (loop, "time", "that follow in time"),
    ],
)
def test_all_three_stages_split_alike_and_the_verdict_says_what_varies(
    trained: Any, split: str, says: str, tmp_path: Path
) -> None:
    places: dict[str, Any] = {"study": "mine", "studies_dir": tmp_path, "workers": 1, "progress": False}
    how: dict[str, Any] = {"trials": 2, "epochs": 1, "optimizers": ["sgd", "adam"], "schedules": ["constant"]}
    judged = {"metric": "accuracy"} if trained is loop else {}
    optitune.search(trained, **how, **places, **judged)
    given: Any = {"task": trained}
    found = optitune.compare(**given, max_runs=6, sensitivity=0, **places).comparison
    assert found.plan.split == split
    caption = comparison_table(found).caption
    assert says in caption
    assert "Rounds differ in their seeds and in the" in caption
    assert found.plan.train_examples == {"groups": 60, "time": 41}[split]
    tested = optitune.retrain(**given, seeds=1, epochs=1, **places)
    assert tested.test_value is not None
    if isinstance(trained, Task):
        with pytest.raises(UsageError, match="split by other groups"):
            optitune.search(task(groups=GROUPS // 2), **how, **places)
        with pytest.raises(UsageError, match="split by other groups"):
            optitune.compare(task=task(), **places)
