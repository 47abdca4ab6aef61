"""How trainings are judged: numbers and sequences, metrics that are means and such that are not, and no numbers."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optitune.space.configuration import Configuration
from optitune.tasks import metrics
from optitune.tasks.data import Examples
from optitune.tasks.metrics import Metric
from optitune.tasks.models import Mlp
from optitune.training import evaluation
from optitune.training.engine import Training
from optitune.training.evaluation import evaluate
from optitune.training.plan import Plan
from optitune.training.progress import Diverged

Configured = Callable[..., Configuration]
Network = Callable[[int], nn.Module]


def planned(configuration: Configuration, **other: Any) -> Plan:
    plan = Plan(configuration, functional.cross_entropy, metrics.find("accuracy"), 3, seed=5, precision="fp32")
    return replace(plan, **other)


def numbers(images: Examples, width: int = 1) -> Examples:
    """The same images with numbers to predict."""
    inputs = images.inputs.float().flatten(1) / 255
    targets = images.targets.float()[:, None] + inputs[:, :width]
    return Examples(inputs, targets[:, 0] if width == 1 else targets)


def regressor(width: int = 1) -> nn.Module:
    torch.manual_seed(2)
    return Mlp((16, 8, width))


@pytest.mark.parametrize("width", [1, 2])
def test_numbers_are_learned_and_judged_by_their_squared_error(
    width: int, configured: Configured, images: Examples
) -> None:
    data, mse = numbers(images, width), metrics.find("mse")
    plan = planned(configured("adam", lr=0.05, training={"loss": "mse"}), loss=mse_of_numbers, metric=mse, epochs=20)
    first, *_, last = Training(regressor(width), plan, data, data).run()
    assert last.train_loss < 0.3 * first.train_loss
    assert last.train_value == pytest.approx(last.train_loss, rel=1e-5)
    assert last.validation is not None
    assert last.validation.value == pytest.approx(last.validation.loss, rel=1e-5)
    assert last.validation.predicted is None


def mse_of_numbers(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs.reshape(targets.shape), targets)


def test_a_metric_that_is_no_mean_is_that_of_all_examples_at_once(
    configured: Configured, images: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(evaluation.EVALUATION_BATCH, "cpu", 7)
    data, r2 = numbers(images), metrics.find("r2")
    model = regressor()
    (row,) = Training(model, planned(configured(), loss=mse_of_numbers, metric=r2, epochs=1), data, data).run()
    assert row.train_value is None
    assert row.validation is not None
    with torch.no_grad():
        outputs = model(data.inputs)[:, 0]
    left = (outputs - data.targets).square().sum() / (data.targets - data.targets.mean()).square().sum()
    assert row.validation.value == pytest.approx(1 - left.item(), rel=1e-5)


def test_the_loss_itself_may_be_the_metric(configured: Configured, network: Network, images: Examples) -> None:
    (row,) = Training(network(0), planned(configured(), metric=metrics.find("loss"), epochs=1), images, images).run()
    assert row.train_value is None
    assert row.validation is not None
    assert row.validation.value == row.validation.loss


def test_evaluations_use_the_evaluation_loss_and_trainings_their_own(
    configured: Configured, network: Network, images: Examples
) -> None:
    def doubled(outputs: Tensor, targets: Tensor) -> Tensor:
        return 2 * functional.cross_entropy(outputs, targets)

    model = network(0)
    (row,) = Training(
        model, planned(configured(), loss=doubled, eval_loss=functional.cross_entropy, epochs=1), images, images
    ).run()
    (alone,) = Training(network(0), planned(configured(), loss=doubled, epochs=1), images).run()
    assert row.validation is not None
    assert (
        row.validation.loss == evaluate(model, images, functional.cross_entropy, metrics.find("accuracy"), "fp32").loss
    )
    assert row.train_loss == alone.train_loss


def test_classes_of_sequences_are_judged_place_by_place(configured: Configured) -> None:
    tokens = torch.arange(60).reshape(20, 3) % 5
    data = Examples(tokens, (tokens + (tokens == 4)) % 5)

    class Next(nn.Module):
        """Answers every token with itself, which is wrong for one in five."""

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding.from_pretrained(5 * torch.eye(5), freeze=False)

        def forward(self, places: Tensor) -> Tensor:
            answers: Tensor = self.table(places).mT
            return answers

    (row,) = Training(Next(), planned(configured("adam", lr=1e-9), epochs=1), data, data).run()
    assert row.train_value == pytest.approx(0.8)
    assert row.validation is not None
    assert row.validation.value == pytest.approx(0.8)
    assert row.validation.predicted is None


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_metric_that_is_no_number_where_the_loss_is_one_is_a_fault_of_the_metric(
    value: float, configured: Configured, network: Network, images: Examples
) -> None:
    metric = Metric("own", "maximize", lambda outputs, targets: value)
    training = Training(network(0), planned(configured(), metric=metric), images, images)
    with pytest.raises(RuntimeError, match=rf"the metric 'own' is {value} on 90 examples, while the loss is 1\."):
        list(training.run())


def test_a_network_that_answers_with_no_numbers_when_judged_diverges(configured: Configured, images: Examples) -> None:
    class Breaking(nn.Module):
        """A network that is sound in training alone, as one with a broken running variance is."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(16, 3)

        def forward(self, pixels: Tensor) -> Tensor:
            outputs: Tensor = self.layer(pixels.flatten(1))
            return outputs if self.training else outputs * nan

    with pytest.raises(Diverged, match="diverged at step 6: loss nan"):
        list(Training(Breaking(), planned(configured()), images, images).run())


class Table(nn.Module):
    """Keeps a table of angles, and makes it anew for a larger batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.table = nn.Linear(16, 3), torch.zeros(0, 16)

    def forward(self, pixels: Tensor) -> Tensor:
        if len(self.table) < len(pixels):
            self.table = torch.ones_like(pixels.flatten(1))
        outputs: Tensor = self.layer(pixels.flatten(1) * self.table[: len(pixels)])
        return outputs


class Memory(nn.Module):
    """Goes on from what the batch before left, as a recurrent network that keeps its state does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.memory = nn.Linear(16, 3), torch.ones(3)

    def forward(self, pixels: Tensor) -> Tensor:
        outputs: Tensor = self.layer(pixels.flatten(1)) * self.memory
        self.memory = 1 + torch.tanh(outputs.mean(0)).detach()
        return outputs


class Force(nn.Module):
    """Answers with a derivative by its inputs, judged or not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        with torch.enable_grad():
            inputs = pixels.flatten(1).requires_grad_()
            (slope,) = torch.autograd.grad(self.layer(inputs).sum(), inputs, create_graph=self.training)
        return slope[:, :3]


@pytest.mark.parametrize("kind", [Table, Memory, Force])
def test_what_a_network_keeps_while_it_is_judged_serves_its_training(
    kind: type[nn.Module], configured: Configured, images: Examples
) -> None:
    rows = list(Training(kind(), planned(configured()), images, images).run())
    assert len(rows) == 3
    assert all(row.validation is not None and row.validation.loss > 0 for row in rows)


def test_a_network_that_changes_its_inputs_in_place_leaves_the_data_alone(configured: Configured) -> None:
    data = Examples(torch.ones(20, 4), torch.arange(20) % 3)

    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.layer(inputs.mul_(2))
            return outputs

    list(Training(InPlace(), planned(configured()), data, data).run())
    assert bool((data.inputs == 1).all())


def test_only_sums_are_in_double_precision_and_nowhere_on_a_device_without_it(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = torch.arange(60).reshape(20, 3) % 5
    data = Examples(tokens, (tokens + 1) % 5)

    def told() -> list[float]:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Embedding(5, 5), nn.Flatten(1), nn.Unflatten(1, (5, 3)))
        (row,) = Training(model, planned(configured(training={"batch_size": 7}), epochs=1), data, data).run()
        assert row.validation is not None
        return [row.train_loss, row.train_value or 0.0, row.validation.loss, row.validation.value]

    usual = told()
    assert metrics.dtype_of_sums(torch.device("mps")) == torch.float32
    assert metrics.dtype_of_sums(torch.device("cpu")) == torch.float64
    for module in ("training.engine", "training.evaluation", "tasks.metrics"):
        monkeypatch.setattr(f"optitune.{module}.dtype_of_sums", lambda device: torch.float32)
    made = []
    plain = Tensor.to
    monkeypatch.setattr(Tensor, "double", lambda self: made.append("double"))
    monkeypatch.setattr(Tensor, "to", lambda self, *args, **kwargs: made.append(args) or plain(self, *args, **kwargs))
    assert told() == pytest.approx(usual, rel=1e-6)
    assert not [each for each in made if "double" in each or torch.float64 in each]


class Doubling(nn.Module):
    """Converts its inputs itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 1).double()

    def forward(self, pixels: Tensor) -> Tensor:
        outputs: Tensor = self.layer(pixels.double())
        return outputs


@pytest.mark.parametrize(
    ("make", "exact"),
    [(lambda: nn.Linear(16, 1).double(), 1e-7), (Doubling, 1e-7), (lambda: nn.Linear(16, 1).bfloat16(), 1e-2)],
    ids=["double", "itself", "half"],
)
@pytest.mark.parametrize("loss", [mse_of_numbers, nn.HuberLoss()], ids=["own", "torch"])
def test_inputs_are_of_the_networks_numbers(
    make: Callable[[], nn.Module], exact: float, loss: Any, configured: Configured, images: Examples
) -> None:
    data, model = numbers(images), make()
    plan = planned(configured("sgd", lr=0.01), loss=loss, metric=metrics.find("mse"), epochs=1)
    (row,) = Training(model, plan, data, data).run()
    assert row.validation is not None
    with torch.no_grad():
        kind = next(model.parameters()).dtype
        outputs = model(data.inputs.to(kind)).double()[:, 0]
    assert row.validation.value == pytest.approx((outputs - data.targets).square().mean().item(), rel=exact)
