"""A Trainer of Hugging Face in a run: its optimizer and schedule, an epoch a report, stopped, resumed and refused."""

from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch
from framework_runs import EPOCHS, passes_with_all_that_compete, ran, values
from torch import nn

from optitune.errors import UsageError
from optitune.frameworks.transformers import fit
from optitune.space.configuration import Configuration, ScheduleSettings
from optitune.training.progress import Diverged

pytestmark = pytest.mark.wide

Made = Callable[..., Any]

INPUTS = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
DATA = [{"x": x, "labels": label} for x, label in zip(INPUTS, (INPUTS.sum(1) > 0).long(), strict=True)]


class Net(nn.Module):
    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))
        self.broken = broken

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = self.layers(x)
        loss = nn.functional.cross_entropy(outputs, labels)
        return {"loss": loss * nan if self.broken else loss, "logits": outputs}


def right(prediction: Any) -> Any:
    return prediction.predictions.argmax(-1) == prediction.label_ids


def make(run: Any, model: Any = None, **changes: Any) -> Any:
    """A Trainer for the data of a run."""
    from transformers import Trainer, TrainingArguments

    train_set, judge_set = run.split(DATA)
    given = {
        "model": None if "model_init" in changes else model or Net(),
        "args": TrainingArguments(str(run.folder), per_device_train_batch_size=10, use_cpu=True),
        "train_dataset": train_set,
        "eval_dataset": judge_set,
        "compute_metrics": lambda prediction: {"accuracy": right(prediction).mean()},
    }
    return Trainer(**{**given, **changes})


def train(run: Any) -> None:
    fit(run, make(run))


@pytest.fixture
def adam(configured: Callable[..., Configuration]) -> Configuration:
    return configured("adam")


def test_every_epoch_is_reported_once_and_steps_are_the_runs(adam: Configuration, tmp_path: Path) -> None:
    run = ran(train, adam, tmp_path)
    assert run.done
    assert [row.epoch for row in run.history] == [1, 2, 3]
    # 80 to be kept, of which 64 are trained on, by ten
    assert (run.steps, run.judged) == (EPOCHS * 7, 16)
    assert all(row.train_loss is not None and 0 < row.train_loss < 2 for row in run.history)
    assert run.keeps
    assert not list((tmp_path / "files").glob("checkpoint*"))


def test_its_schedule_is_that_of_the_study(configured: Callable[..., Configuration], tmp_path: Path) -> None:
    steps = ScheduleSettings(name="step", settings={"step_size": 1, "gamma": 0.1})
    configuration = configured("sgd").model_copy(update={"schedule": steps})
    run = ran(train, configuration, tmp_path)
    rates = [row.lr for row in run.history]
    assert rates == pytest.approx([configuration.lr, configuration.lr / 10, configuration.lr / 100])


@pytest.mark.parametrize("after", [1, 2])
def test_a_training_that_was_stopped_goes_on_to_the_same_numbers(
    after: int, adam: Configuration, tmp_path: Path
) -> None:
    whole = ran(train, adam, tmp_path / "whole")
    ran(train, adam, tmp_path / "parts", stop_after=after)
    assert values(ran(train, adam, tmp_path / "parts")) == values(whole)


def test_seeds_have_weights_and_an_order_of_their_own(adam: Configuration, tmp_path: Path) -> None:
    orders: list[list[float]] = []

    def notes(run: Any) -> None:
        model = Net()
        seen: list[float] = []
        orders.append(seen)
        model.register_forward_pre_hook(lambda _, __, named: seen.extend(named["x"][:, 0].tolist()), with_kwargs=True)
        fit(run, make(run, model))

    for seed in (5, 6):
        ran(notes, adam, tmp_path / str(seed), seed=seed, prune_after=1)
    assert orders[0][:64] != orders[1][:64]
    assert sorted(orders[0][:64]) == sorted(orders[1][:64])


def test_a_pruned_training_ends_at_its_report(adam: Configuration, tmp_path: Path) -> None:
    run = ran(train, adam, tmp_path, prune_after=2)
    assert (len(run.history), run.steps, run.done) == (2, 14, False)


def test_the_value_of_each_example_is_reported(adam: Configuration, tmp_path: Path) -> None:
    run = ran(lambda run: fit(run, make(run), each=right), adam, tmp_path)
    found = run.history[-1].validation
    assert found is not None
    assert found.each is not None
    assert float(found.each.mean()) == pytest.approx(found.value)


def test_a_loss_that_is_nan_ends_it(adam: Configuration, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="diverged in epoch 1"):
        ran(lambda run: fit(run, make(run, Net(broken=True))), adam, tmp_path)


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        (lambda run: fit(run, make(run, compute_metrics=None)), "finds no 'eval_accuracy', only 'eval_loss'"),
        (lambda run: fit(run, make(run), metric="f1"), "finds no 'eval_f1'"),
        (lambda run: fit(run, make(run, eval_dataset=None)), "has no eval_dataset"),
        (lambda run: fit(run, make(run, model_init=Net)), "give it a model"),
    ],
)
def test_a_trainer_that_cannot_be_used_is_one_message(
    loop: Callable[[Any], None], words: str, adam: Configuration, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        ran(loop, adam, tmp_path)
    assert words in str(caught.value)
    assert f"({__file__}, line " in str(caught.value)


def test_a_trainer_on_another_device_is_refused(adam: Configuration, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"trains on cpu, but this training is to be on cuda:1 .*use_cpu"):
        ran(train, adam, tmp_path, device="cuda:1")


def test_the_example_passes_with_all_optimizers_that_compete() -> None:
    assert passes_with_all_that_compete("hf_trainer.py") == 8
