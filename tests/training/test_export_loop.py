"""What is exported of a training loop of the user's own: the optimizer and the schedulers that the loop was given."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from trainings import pasted

from optitune.common.randomness import seed_everything
from optitune.space.configuration import Configuration
from optitune.space.losses import OF_LOOP
from optitune.study.best_config import BestConfig
from optitune.study.settings import StudySettings
from optitune.tasks.loop_task import LoopTask
from optitune.training.export_code import python
from optitune.training.loops import Loop
from optitune.training.plan import training_plan
from optitune.training.run import Run

EPOCHS, STEPS = 3, 4
INPUTS = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS.sum(1, keepdim=True)


class Losses:
    """A loop that keeps the loss of every step, with what steps after a step and after an epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def train(self, model: nn.Module, optimizer: Any, per_step: list[Any]) -> float:
        total = 0.0
        for batch in range(STEPS):
            optimizer.zero_grad()
            loss = (model(INPUTS[batch::STEPS]) - TARGETS[batch::STEPS]).square().mean()
            loss.backward()
            optimizer.step()
            for each in per_step:
                each.step()
            self.seen.append(loss.item())
            total += loss.item()
        return total / STEPS

    def __call__(self, run: Run) -> None:
        model = network()
        optimizer = run.optimizer(model, name="critic")
        scheduler = run.scheduler(optimizer, steps_per_epoch=STEPS)
        for _ in run.epochs():
            run.report(0.5, loss=self.train(model, optimizer, [scheduler]))


def network() -> nn.Module:
    seed_everything(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))


def loop_of(configuration: Configuration) -> Configuration:
    training = configuration.training.model_copy(update={"loss": OF_LOOP, "groups": {"critic.0.*": 0.5, "0.*": 9.0}})
    return configuration.model_copy(update={"training": training})


@pytest.mark.parametrize("schedule", ["step", "one-cycle", "reduce-on-plateau"])
@pytest.mark.parametrize("name", StudySettings().optimizers)
def test_what_is_exported_trains_as_the_loop_did(
    name: str,
    schedule: str,
    configured: Callable[..., Configuration],
    best_config: Callable[[Configuration], BestConfig],
) -> None:
    warmup = 0.0 if schedule == "one-cycle" else 0.4
    configuration = loop_of(configured(name, schedule, EPOCHS, warmup=warmup))
    loop = Losses()
    task = LoopTask(train=loop, name="loop").judged_by("accuracy")
    Run(training_plan(configuration, task, EPOCHS, 0, "fp32"), lambda *_: False, lambda: False).run(Loop(task))

    again, model = Losses(), network()
    config = best_config(configuration).model_copy(update={"epochs": EPOCHS})
    optimizer, per_step, per_epoch = pasted(python(config))["build"](model, STEPS, of="critic")
    for _ in range(EPOCHS):
        loss = again.train(model, optimizer, per_step)
        for each in per_epoch:
            each.step(*[loss] * (schedule == "reduce-on-plateau"))
    assert again.seen == pytest.approx(loop.seen, rel=1e-5)
    assert len(loop.seen) == EPOCHS * STEPS


def test_what_the_loop_has_to_do_itself_is_in_the_comments(
    configured: Callable[..., Configuration], best_config: Callable[[Configuration], BestConfig]
) -> None:
    configuration = configured("adam", training={"loss": OF_LOOP, "batch_size": 32, "clip_norm": 2.0, "l1": 0.1})
    text = python(best_config(configuration))
    assert "# the loop has batch_size = 32" in text
    assert "clip_grad_norm_(model.parameters(), 2.0)" in text
    assert "0.1 times the sum of absolute weights" in text
    assert "of batches of" not in text
