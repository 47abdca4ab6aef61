"""Recorded steps: a training that replays them gives the numbers of one that takes each as it is."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optitune.space.configuration import Configuration
from optitune.tasks import metrics
from optitune.tasks.data import Examples
from optitune.training import cuda_graphs
from optitune.training.cuda_graphs import WARM_UP_STEPS, Given, Replayed, Step
from optitune.training.engine import Training
from optitune.training.plan import Plan
from optitune.training.progress import Progress

Configured = Callable[..., Configuration]
Network = Callable[[int], nn.Module]


class InPlace:
    """Stands in for CUDA graphs on a CPU: what a recorded step gives, and its gradients, stay where they are."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.counted = {"warm-up": 0, "recorded": 0, "replayed": 0}

    def __call__(self, device: torch.device) -> "InPlace":
        return self

    def warm_up(self, step: Step, places: Tensor) -> Given:
        self.counted["warm-up"] += 1
        return step(places)

    def record(self, step: Step, places: Tensor) -> tuple[Given, Callable[[], None]]:
        self.counted["recorded"] += 1
        given = step(places)
        parameters = list(self.model.parameters())
        gradients = [parameter.grad for parameter in parameters]
        for buffer in (*given, *gradients):
            assert buffer is not None
            buffer.zero_()  # recording is not taking

        def replay() -> None:
            self.counted["replayed"] += 1
            for parameter, gradient in zip(parameters, gradients, strict=True):
                assert parameter.grad is gradient, "the optimizer would read other memory than the graph writes"
                parameter.grad = None
            for buffer, fresh in zip(given, step(places), strict=True):
                buffer.copy_(fresh)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                assert gradient is not None
                assert parameter.grad is not None
                gradient.copy_(parameter.grad)
                parameter.grad = gradient

        return given, replay


def planned(configuration: Configuration, epochs: int, precision: Any = "fp32", evaluations: int = 1) -> Plan:
    accuracy = metrics.find("accuracy")
    return Plan(configuration, functional.cross_entropy, accuracy, epochs, 5, precision, evaluations)


def ended(
    monkeypatch: pytest.MonkeyPatch, recorder: Any, model: nn.Module, plan: Plan, images: Examples
) -> tuple[list[Progress], Tensor]:
    monkeypatch.setattr(cuda_graphs, "RECORDERS", MappingProxyType({"cpu": recorder} if recorder else {}))
    progress = list(Training(model, plan, images, images).run())
    return progress, torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("schedule", ["constant", "step"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adadelta"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("training", [{}, {"clip_norm": 0.5, "l1": 0.01}], ids=["plain", "clipped and penalised"])
def test_a_replayed_training_equals_a_plain_one(
    optimizer: str,
    schedule: str,
    training: Mapping[str, float],
    precision: Any,
    configured: Configured,
    network: Network,
    images: Examples,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = planned(configured(optimizer, schedule, training=training), epochs=3, precision=precision, evaluations=2)
    model = network(0)
    recorder = InPlace(model)
    replayed = ended(monkeypatch, recorder, model, plan, images)
    plain = ended(monkeypatch, None, network(0), plan, images)
    # 90 images: five full batches an epoch, and one of 10 that is never replayed
    assert recorder.counted == {"warm-up": WARM_UP_STEPS, "recorded": 1, "replayed": 15 - WARM_UP_STEPS}
    assert torch.equal(replayed[1], plain[1])
    for mine, theirs in zip(replayed[0], plain[0], strict=True):
        assert (mine.train_loss, mine.train_value) == (theirs.train_loss, theirs.train_value)
        assert mine.validation is not None
        assert theirs.validation is not None
        assert mine.validation.loss == theirs.validation.loss


def test_what_cannot_be_recorded_is_trained_as_it_is(
    configured: Configured, network: Network, images: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(configured("adam"), epochs=2)

    class Refusing(InPlace):
        def record(self, step: Step, places: Tensor) -> tuple[Given, Callable[[], None]]:
            self.counted["recorded"] += 1
            raise RuntimeError("operation not permitted when stream is capturing")

    model = network(0)
    recorder = Refusing(model)
    refused = ended(monkeypatch, recorder, model, plan, images)
    plain = ended(monkeypatch, None, network(0), plan, images)
    assert recorder.counted["recorded"] == 1
    assert torch.equal(refused[1], plain[1])


def test_steps_of_several_batches_are_replayed_where_one_is_left_over(
    configured: Configured, network: Network, images: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of four batches and one: the gradients of the one may come from a graph, those of four never do."""
    plan = planned(configured("adam", training={"accumulation": 4, "batch_size": 18}), epochs=6)
    model = network(0)
    recorder = InPlace(model)
    replayed = ended(monkeypatch, recorder, model, plan, images)
    plain = ended(monkeypatch, None, network(0), plan, images)
    assert recorder.counted == {"warm-up": WARM_UP_STEPS, "recorded": 1, "replayed": 6 - WARM_UP_STEPS}
    assert torch.equal(replayed[1], plain[1])
    assert [row.train_loss for row in replayed[0]] == [row.train_loss for row in plain[0]]


def test_an_optimizer_with_a_closure_replays_every_evaluation(
    configured: Configured, network: Network, images: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(configured("lbfgs", training={"batch_size": 45}), epochs=2)
    model = network(0)
    recorder = InPlace(model)
    replayed = ended(monkeypatch, recorder, model, plan, images)
    plain = ended(monkeypatch, None, network(0), plan, images)
    assert recorder.counted["recorded"] == 1
    assert recorder.counted["replayed"] > 4
    assert torch.equal(replayed[1], plain[1])


def test_on_a_cpu_steps_are_taken_as_they_are() -> None:
    parameter = nn.Parameter(torch.ones(2))
    taken = []

    def step(places: Tensor) -> Given:
        taken.append(places)
        assert parameter.grad is None
        (parameter.sum() * len(places)).backward()
        return torch.zeros(()), torch.zeros(())

    replayed = Replayed(step, [parameter], 4)
    for _ in range(10):
        replayed(torch.arange(4))
    assert len(taken) == 10
