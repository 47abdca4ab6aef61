"""Losses as trainings call them: labels that do not count, weights of classes, shapes, parameters of their own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optitune.common import checkpoint
from optitune.retraining.mistakes import confusion
from optitune.space.configuration import Configuration, TrainingSettings
from optitune.space.losses import OF_TASK
from optitune.tasks import metrics
from optitune.tasks.data import Examples
from optitune.tasks.task import Loss
from optitune.training import evaluation
from optitune.training.build import build_loss
from optitune.training.criterion import Criterion, fresh, label_left_out
from optitune.training.engine import Training
from optitune.training.evaluation import evaluate
from optitune.training.plan import Plan
from optitune.training.progress import Progress

Configured = Callable[..., Configuration]

ACCURACY = metrics.find("accuracy")


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


class Tagger(nn.Module):
    """A class for every place of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table = nn.Embedding(12, 5)

    def forward(self, places: Tensor) -> Tensor:
        answers: Tensor = self.table(places).mT
        return answers


def sequences(ignored: int) -> Examples:
    """40 sequences of 1 to 6 places that count, and four without any."""
    tokens = torch.arange(240).reshape(40, 6) % 12
    labels = tokens % 5
    lengths = torch.arange(40) % 6 + 1
    lengths[[3, 4, 5, 20]] = 0
    return Examples(tokens, labels.masked_fill(torch.arange(6)[None] >= lengths[:, None], ignored))


def planned(configuration: Configuration, loss: Loss, **other: Any) -> Plan:
    settings: dict[str, Any] = {"metric": ACCURACY, "epochs": 2, "seed": 5, "precision": "fp32", **other}
    return Plan(configuration=configuration, loss=loss, **settings)


LEAVING_OUT = {
    "plain": (-100, build_loss(TrainingSettings(), None)),
    "smooth": (-100, build_loss(TrainingSettings(label_smoothing=0.2), None)),
    "said by the task": (255, build_loss(TrainingSettings(), None, 255)),
    "a module": (255, build_loss(TrainingSettings(loss=OF_TASK), nn.CrossEntropyLoss(ignore_index=255))),
    "a function": (255, Criterion(partial(functional.cross_entropy, ignore_index=255))),
    "a class": (-100, Criterion(nn.CrossEntropyLoss)),
    "weights of classes": (-100, Criterion(nn.CrossEntropyLoss(torch.tensor([1.0, 9.0, 0.5, 2.0, 30.0])))),
}


@pytest.mark.parametrize("name", LEAVING_OUT)
def test_the_judged_loss_is_that_of_the_whole_set_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored, loss = LEAVING_OUT[name]
    data, model = sequences(ignored), Tagger()
    monkeypatch.setitem(evaluation.EVALUATION_BATCH, "cpu", 3)
    found = evaluate(model, data, fresh(loss), ACCURACY, "fp32")
    with torch.no_grad():
        outputs = model(data.inputs)
        assert found.loss == pytest.approx(fresh(loss)(outputs, data.targets).item(), rel=1e-6)
    right, judged = [], outputs.argmax(1)
    for answers, truths in zip(judged.tolist(), data.targets.tolist(), strict=True):
        counted = [answer == truth for answer, truth in zip(answers, truths, strict=True) if truth != ignored]
        right += [sum(counted) / len(counted)] if counted else []
    assert len(right) == 36
    assert found.value == pytest.approx(sum(right) / 36)
    assert found.each is None


@pytest.mark.parametrize("name", LEAVING_OUT)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_training_tells_the_mean_over_what_counts(name: str, accumulation: int, configured: Configured) -> None:
    ignored, loss = LEAVING_OUT[name]
    data, model = sequences(ignored), Tagger()
    training = {"batch_size": 4, "accumulation": accumulation}
    still = configured("sgd", lr=1e-12, training=training)
    (row,) = Training(model, planned(still, loss, epochs=1), data, data).run()
    whole = evaluate(model, data, fresh(loss), ACCURACY, "fp32")
    assert [row.train_loss, row.train_value] == pytest.approx([whole.loss, whole.value], rel=1e-5)
    assert row.validation is not None
    assert row.validation.loss == pytest.approx(whole.loss)


def test_a_step_of_several_batches_has_the_gradient_of_all_that_counts_in_them(configured: Configured) -> None:
    data = sequences(-100).take(slice(0, 8))
    one, several = Tagger(), Tagger()
    for model, size, accumulation in ((one, 8, 1), (several, 2, 4)):
        settings = configured("sgd", lr=1.0, training={"batch_size": size, "accumulation": accumulation})
        list(Training(model, planned(settings, functional.cross_entropy, epochs=1), data).run())
    torch.testing.assert_close(several.table.weight, one.table.weight)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_batch_in_which_nothing_counts_changes_nothing(smoothing: float, configured: Configured) -> None:
    data = Examples(sequences(-100).inputs, torch.full((40, 6), -100))
    model = Tagger()
    before = model.table.weight.detach().clone()
    loss = build_loss(TrainingSettings(label_smoothing=smoothing), None)
    (row,) = Training(model, planned(configured("sgd", lr=1.0, weight_decay=0.0), loss, epochs=1), data, None).run()
    assert row.train_loss == 0
    assert torch.equal(model.table.weight, before)


def test_classes_that_do_not_count_are_in_no_confusion_matrix() -> None:
    data = Examples(torch.zeros(4, 1), torch.tensor([0, 1, 255, 1]))
    assert confusion(data, torch.tensor([0, 0, 1, 1]), 255) == ((1, 0), (1, 1))


@pytest.mark.parametrize(
    ("loss", "label"),
    [
        (functional.cross_entropy, -100),
        (partial(functional.nll_loss, ignore_index=7), 7),
        (nn.NLLLoss(ignore_index=255), 255),
        (nn.CrossEntropyLoss, -100),
        (nn.MSELoss(), None),
        (lambda outputs, targets: outputs.sum(), None),
    ],
)
def test_the_label_that_a_loss_leaves_out_is_known(loss: Any, label: int | None) -> None:
    assert label_left_out(loss) == label
    assert Criterion(loss, 9).ignored == 9


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.L1Loss(), functional.smooth_l1_loss, nn.HuberLoss(), nn.MSELoss])
@pytest.mark.parametrize(("out", "of"), [((6, 1), (6,)), ((6,), (6, 1)), ((6, 3, 1), (6, 3)), ((6, 1, 2), (6, 2))])
def test_torchs_losses_compare_numbers_one_by_one(loss: Any, out: tuple[int, ...], of: tuple[int, ...]) -> None:
    outputs, targets = drawn(*out), drawn(*of) + 1
    plain = loss() if isinstance(loss, type) else loss
    assert torch.equal(fresh(loss)(outputs, targets), plain(outputs.flatten(), targets.flatten()))


def test_a_loss_of_ones_own_gets_what_the_network_gives() -> None:
    shapes = []
    Criterion(lambda outputs, targets: shapes.append((outputs.shape, targets.shape)))(drawn(6, 1), drawn(6))  # type: ignore[arg-type]
    assert shapes == [((6, 1), (6,))]


class Scaled(nn.Module):
    """A loss with a weight that is trained, a buffer, and something that differs in training."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(3))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return functional.cross_entropy(outputs * self.scale, targets) + 0.1 * self.scale.square().sum()


@pytest.mark.parametrize("given", [Scaled, Scaled()], ids=["class", "module"])
def test_the_parameters_of_a_loss_are_trained_reset_and_kept(
    given: Any, configured: Configured, network: Callable[[int], nn.Module], images: Examples, tmp_path: Path
) -> None:
    first = None if isinstance(given, type) else given.scale.detach().clone()

    def begun() -> Training:
        return Training(network(0), planned(configured("adam"), Criterion(given)), images, images)

    def ended(training: Training) -> tuple[list[Progress], Tensor, int]:
        return list(training.run()), training.loss.own.scale.detach().clone(), int(training.loss.own.seen)

    def told(rows: list[Progress]) -> list[tuple[float, float]]:
        return [(row.train_loss, row.validation.loss) for row in rows if row.validation is not None]

    rows, scale, seen = ended(begun())
    again, same, _ = ended(begun())
    assert torch.equal(scale, same), "every trial begins with the same loss"
    assert told(rows) == told(again)
    start = begun().loss.own.scale.detach()
    assert not torch.allclose(start, scale, atol=1e-3)
    if first is not None:
        assert torch.equal(given.scale, first)
    halfway = begun()
    next(halfway.run())
    checkpoint.save(halfway.state_dict(), tmp_path / "half")
    on = begun()
    on.load_state_dict(checkpoint.load(tmp_path / "half"))
    _, later, seen_later = ended(on)
    assert torch.equal(later, scale)
    assert seen == seen_later == 2 * begun().steps_per_epoch
    names = [name for group in on.optimizer.param_groups for name in map(id, group["params"])]
    assert id(on.loss.own.scale) in names


def test_groups_name_the_parameters_of_a_loss(
    configured: Configured, network: Callable[[int], nn.Module], images: Examples
) -> None:
    settings = configured("sgd", lr=0.1, training={"groups": {"loss.*": 10.0}})
    training = Training(network(0), planned(settings, Scaled()), images)
    (group,) = [each for each in training.optimizer.param_groups if each["lr"] == 1.0]
    assert group["params"] == [training.loss.own.scale]


def test_a_checkpoint_of_before_losses_were_kept_is_taken_up(
    configured: Configured, network: Callable[[int], nn.Module], images: Examples
) -> None:
    def begun() -> Training:
        loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
        return Training(network(0), planned(configured("adam"), loss), images, images)

    halfway = begun()
    next(halfway.run())
    old = {key: value for key, value in halfway.state_dict().items() if key != "loss"}
    on = begun()
    on.load_state_dict(old)
    assert [row.train_loss for row in on.run()] == [row.train_loss for row in begun().run()][1:]
