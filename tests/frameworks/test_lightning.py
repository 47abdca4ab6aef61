"""A Trainer of Lightning in a run: its optimizer and schedule, an epoch a report, stopped, resumed and refused."""

from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch
from framework_runs import EPOCHS, passes_with_all_that_compete, ran, values
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from optitune.errors import UsageError
from optitune.frameworks.lightning import fit
from optitune.space.configuration import Configuration, ScheduleSettings
from optitune.training.progress import Diverged

pytestmark = [
    pytest.mark.wide,
    # Lightning's advice to load data in more processes, and torch's to Lightning
    pytest.mark.filterwarnings(r"ignore:The '\w+_dataloader' does not have many workers"),
    pytest.mark.filterwarnings(r"ignore:.isinstance\(treespec, LeafSpec\). is deprecated:FutureWarning"),
]

INPUTS = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(INPUTS, (INPUTS.sum(1) > 0).long())


def module(broken: bool = False, logs: bool = True, by_hand: Any = None) -> Any:
    """A small module; `by_hand` is the run of one that optimizes by hand."""
    from lightning import LightningModule

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))
            self.automatic_optimization = by_hand is None

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            loss = functional.cross_entropy(self.layers(batch[0]), batch[1])
            if by_hand is not None:
                for optimizer in self.optimizers():
                    optimizer.zero_grad()
                self.manual_backward(loss)
                for optimizer in self.optimizers():
                    optimizer.step()
            return loss * nan if broken else loss

        def validation_step(self, batch: Any, index: int) -> None:
            if logs:
                self.log("accuracy", (self.layers(batch[0]).argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self) -> Any:
            assert by_hand is not None
            parts = {"first": self.layers[0], "last": self.layers[2]}
            return [by_hand.optimizer(part, name=name) for name, part in parts.items()]

    return Module()


def trainer(**options: Any) -> Any:
    from lightning import Trainer

    return Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, **options)


def fitted(run: Any, given: Any, how: Any = None, **options: Any) -> None:
    train_set, judge_set = run.split(DATA)
    loaders = DataLoader(train_set, batch_size=10, shuffle=True), DataLoader(judge_set, batch_size=100)
    fit(run, how or trainer(), given, *loaders, **options)


def train(run: Any) -> None:
    fitted(run, module())


@pytest.fixture
def adam(configured: Callable[..., Configuration]) -> Configuration:
    return configured("adam")


def test_every_epoch_is_reported_once_and_steps_are_the_runs(
    adam: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = ran(train, adam, tmp_path)
    assert run.done
    assert [row.epoch for row in run.history] == [1, 2, 3]
    assert (run.steps, run.judged) == (EPOCHS * 7, 16)
    assert all(row.train_loss is not None and 0 < row.train_loss < 2 for row in run.history)
    assert run.keeps
    # no checkpoint of its own, no log
    assert list(tmp_path.iterdir()) == [tmp_path / "checkpoint"]


def test_its_schedule_is_that_of_the_study(configured: Callable[..., Configuration], tmp_path: Path) -> None:
    steps = ScheduleSettings(name="step", settings={"step_size": 1, "gamma": 0.1})
    configuration = configured("sgd").model_copy(update={"schedule": steps})
    run = ran(lambda run: fitted(run, module(), trainer(accumulate_grad_batches=2)), configuration, tmp_path)
    assert run.steps == EPOCHS * 4
    rates = [row.lr for row in run.history]
    assert rates == pytest.approx([configuration.lr, configuration.lr / 10, configuration.lr / 100])
    assert all(row.train_loss is not None and 0.2 < row.train_loss < 1.5 for row in run.history)


@pytest.mark.parametrize("after", [1, 2])
def test_a_training_that_was_stopped_goes_on_to_the_same_numbers(
    after: int, adam: Configuration, tmp_path: Path
) -> None:
    whole = ran(train, adam, tmp_path / "whole")
    ran(train, adam, tmp_path / "parts", stop_after=after)
    assert values(ran(train, adam, tmp_path / "parts")) == values(whole)


def test_a_module_that_optimizes_by_hand_keeps_all_its_optimizers(adam: Configuration, tmp_path: Path) -> None:
    def loop(run: Any) -> None:
        fitted(run, module(by_hand=run))

    whole = ran(loop, adam, tmp_path / "whole")
    assert [*whole.optimizers] == ["first", "last"]
    ran(loop, adam, tmp_path / "parts", stop_after=2)
    assert values(ran(loop, adam, tmp_path / "parts")) == values(whole)


def test_a_pruned_training_ends_at_its_report(adam: Configuration, tmp_path: Path) -> None:
    run = ran(train, adam, tmp_path, prune_after=2)
    assert (len(run.history), run.steps, run.done) == (2, 14, False)


def test_a_loss_that_is_nan_ends_it(adam: Configuration, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="diverged in epoch 1"):
        ran(lambda run: fitted(run, module(broken=True)), adam, tmp_path)


def test_a_metric_that_is_not_logged_is_one_message(adam: Configuration, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        ran(lambda run: fitted(run, module(logs=False)), adam, tmp_path)
    assert "finds no 'accuracy', only nothing" in str(caught.value)
    assert f"({__file__}, line " in str(caught.value)
    with pytest.raises(UsageError, match="finds no 'f1', only 'accuracy'"):
        ran(lambda run: fitted(run, module(), metric="f1"), adam, tmp_path)


def test_a_trainer_on_another_device_or_on_several_is_refused(adam: Configuration, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"trains on cpu, but this training is to be on cuda:1 .*accelerator="):
        ran(train, adam, tmp_path, device="cuda:1")
    with pytest.raises(UsageError, match=r"trains on 2 devices, but may use one .*devices=1"):
        ran(lambda run: fitted(run, module(), trainer(devices=2, strategy="ddp_fork")), adam, tmp_path)


def test_the_example_passes_with_all_optimizers_that_compete() -> None:
    assert passes_with_all_that_compete("lightning_loop.py") == 8
