"""How batches become steps: accumulation, clipping, penalties, closures, weights of two modes, streamed data."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset
from trainings import dropping, planned, weights, without_clock

from optitune.space.configuration import Configuration, TrainingSettings
from optitune.study.steps import batches, steps_per_epoch
from optitune.tasks import metrics
from optitune.tasks.data import Batch, Examples, Part, Streamed
from optitune.tasks.models import Mlp
from optitune.training.build import build_loss
from optitune.training.engine import Training
from optitune.training.evaluation import evaluate
from optitune.training.progress import Diverged

Configured = Callable[..., Configuration]
Network = Callable[[int], nn.Module]

ACCURACY = metrics.find("accuracy")


def losses(model: nn.Module, configuration: Configuration, data: Part, **other: Any) -> Sequence[float]:
    return [row.train_loss for row in Training(model, planned(configuration, **other), data).run()]


def met_by(images: Examples, **training: Any) -> Callable[[Configuration], list[int]]:
    """The sizes of the batches that a training goes through."""

    def sizes(configuration: Configuration) -> list[int]:
        seen: list[int] = []

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            seen.append(len(targets))
            return functional.cross_entropy(outputs, targets)

        torch.manual_seed(0)
        list(Training(Mlp((16, 3)), planned(configuration, loss=loss, epochs=1), images).run())
        return seen

    return sizes


@pytest.mark.parametrize(
    ("batch_size", "accumulation"),
    [(15, 2), (9, 5), (10, 9), (1, 90), (30, 1), (16, 2), (16, 4), (40, 2), (25, 3)],
)
def test_accumulated_batches_make_the_step_of_one_large_batch(
    batch_size: int, accumulation: int, configured: Configured, network: Network, images: Examples
) -> None:
    """To rounding, and where the last group is a smaller one too: what counts is every example alike."""
    whole, parts = network(0), network(0)
    large = configured("sgd", "cosine", warmup=0.2, training={"batch_size": batch_size * accumulation})
    small = configured("sgd", "cosine", warmup=0.2, training={"batch_size": batch_size, "accumulation": accumulation})
    one, other = (
        [(row.step, row.lr, row.train_loss, row.train_value) for row in Training(*each, images).run()]
        for each in ((whole, planned(large)), (parts, planned(small)))
    )
    for mine, theirs in zip(one, other, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    torch.testing.assert_close(weights(whole), weights(parts), rtol=1e-3, atol=1e-5)


def test_as_many_batches_go_into_a_step_as_accumulation_says(
    configured: Configured, network: Network, images: Examples
) -> None:
    training = Training(network(0), planned(configured(training={"accumulation": 4})), images)
    # 90 examples: 6 batches, a group of 4 and one of 2
    assert training.steps_per_epoch == 2
    assert [row.step for row in training.run()] == [2, 4, 6]


def test_a_loss_that_turns_bad_in_any_batch_of_a_group_diverges_at_its_step(
    configured: Configured, network: Network, images: Examples
) -> None:
    calls = iter(range(1, 100))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets) * (torch.nan if next(calls) == 6 else 1.0)

    training = Training(network(0), planned(configured(training={"accumulation": 4}), loss=loss), images)
    with pytest.raises(Diverged) as caught:
        list(training.run())
    assert caught.value.step == 2


@given(st.integers(1, 300), st.integers(1, 100), st.integers(1, 20))
def test_every_batch_has_two_examples_at_least_and_every_group_one_batch(
    examples: int, batch_size: int, accumulation: int
) -> None:
    found = batches(examples, batch_size)
    used = min(found * batch_size, examples)
    last = used - (found - 1) * batch_size
    assert 1 <= last <= batch_size
    assert last > 1 or batch_size == 1 or examples == 1
    # no more than one example is left out, and that only where it would be a batch of its own
    assert examples - used in (0, 1)
    assert (examples - used == 1) == (examples % batch_size == 1 and batch_size > 1 and examples > 1)
    steps = steps_per_epoch(examples, TrainingSettings(batch_size=batch_size, accumulation=accumulation))
    assert (steps - 1) * accumulation < found <= steps * accumulation


@pytest.mark.parametrize(
    ("taken", "batch_size", "sizes"),
    [(33, 16, [16, 16]), (34, 16, [16, 16, 2]), (32, 16, [16, 16]), (3, 1, [1, 1, 1]), (1, 16, [1]), (5, 16, [5])],
)
def test_a_last_batch_of_one_example_is_left_out(
    taken: int, batch_size: int, sizes: list[int], configured: Configured, images: Examples
) -> None:
    some = images.take(slice(0, taken))
    assert met_by(some)(configured(training={"batch_size": batch_size})) == sizes


def test_batch_normalisation_trains_where_one_example_is_left_over(configured: Configured, images: Examples) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    assert len(losses(model, configured(), images.take(slice(0, 33)))) == 3


class Watched(torch.optim.SGD):
    """SGD that tells the gradients of every step."""

    norms: list[float] = []  # noqa: RUF012, of the class: the engine builds the instance
    gradients: list[Tensor] = []  # noqa: RUF012

    def step(self, closure: Any = None) -> Any:
        found = torch.cat([p.grad.flatten() for group in self.param_groups for p in group["params"]])
        self.norms.append(found.norm().item())
        self.gradients.append(found.clone())
        return super().step(closure)


@pytest.fixture
def watched(configured: Configured) -> Callable[..., Configuration]:
    """Training settings -> a configuration with `Watched` that has watched nothing yet."""
    Watched.norms, Watched.gradients = [], []

    def build(**training: Any) -> Configuration:
        chosen = configured("sgd", training=training)
        optimizer = {"name": "watched", "path": f"{__name__}:Watched", "settings": {"lr": 0.1}}
        return Configuration.model_validate({**chosen.model_dump(), "optimizer": optimizer})

    return build


def test_clipping_bounds_the_norm_of_every_step_and_leaves_small_ones(
    watched: Callable[..., Configuration], network: Network, images: Examples
) -> None:
    losses(network(0), watched(), images)
    free, Watched.norms = Watched.norms, []
    bound = sorted(free)[len(free) // 2]
    losses(network(0), watched(clip_norm=bound), images)
    assert max(free) > 1.5 * bound
    assert max(Watched.norms) == pytest.approx(bound, rel=1e-4)
    assert min(Watched.norms) < 0.9 * bound


def test_clipping_bounds_the_gradient_of_a_whole_group(
    watched: Callable[..., Configuration], network: Network, images: Examples
) -> None:
    losses(network(0), watched(clip_norm=0.01, accumulation=4), images)
    assert Watched.norms == pytest.approx([0.01] * 6, rel=1e-4)


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("decay_biases", [False, True])
def test_the_penalty_adds_the_sign_of_every_weight_once_a_step(
    decay_biases: bool, accumulation: int, watched: Callable[..., Configuration], network: Network, images: Examples
) -> None:
    settings = {"decay_biases": decay_biases, "accumulation": accumulation}
    losses(network(0), watched(**settings), images)
    plain, Watched.gradients = Watched.gradients[0], []
    losses(network(0), watched(**settings, l1=0.125), images)
    added = [0.125 * each.detach().sign() * (decay_biases or each.ndim > 1) for each in network(0).parameters()]
    torch.testing.assert_close(Watched.gradients[0] - plain, torch.cat([each.flatten() for each in added]))


def test_the_penalty_comes_before_the_clipping(
    watched: Callable[..., Configuration], network: Network, images: Examples
) -> None:
    losses(network(0), watched(l1=100.0, clip_norm=0.5), images)
    assert max(Watched.norms) == pytest.approx(0.5, rel=1e-4)


def test_the_penalty_is_not_in_the_loss_that_is_told(
    configured: Configured, network: Network, images: Examples
) -> None:
    before = evaluate(network(0), images, functional.cross_entropy, ACCURACY, "fp32").loss
    for optimizer in ("sgd", "lbfgs"):
        configuration = configured(optimizer, training={"l1": 10.0, "batch_size": 90})
        assert losses(network(0), configuration, images, epochs=1) == pytest.approx([before], rel=1e-5)


def test_a_penalty_drives_weights_to_zero(configured: Configured, images: Examples) -> None:
    sizes = []
    for l1 in (0.0, 0.05):
        torch.manual_seed(0)
        model = Mlp((16, 8, 3))
        losses(model, configured("adam", lr=0.01, training={"l1": l1}), images, epochs=20)
        sizes.append(model.fc1.weight.abs().mean().item())
    assert sizes[1] < 0.2 * sizes[0]


def test_an_optimizer_with_a_closure_evaluates_a_batch_as_often_as_it_likes(
    configured: Configured, network: Network, images: Examples
) -> None:
    calls: list[int] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(len(targets))
        return functional.cross_entropy(outputs, targets)

    training = {"batch_size": 45}
    told = losses(network(0), configured("lbfgs", training=training), images, loss=loss, epochs=2)
    assert len(calls) > 2 * 4
    assert told[1] < told[0]


def test_the_loss_of_a_closure_is_the_first_that_its_step_met(
    configured: Configured, network: Network, images: Examples
) -> None:
    before = evaluate(network(0), images, functional.cross_entropy, ACCURACY, "fp32")
    plan = planned(configured("lbfgs", training={"batch_size": 90}), epochs=1)
    (row,) = Training(network(0), plan, images).run()
    assert row.train_loss == pytest.approx(before.loss, rel=1e-5)
    assert row.train_value == pytest.approx(before.value)


def test_a_closure_minimises_the_loss_with_its_penalty(configured: Configured, images: Examples) -> None:
    """Least squares with a penalty, whose solution is known: every weight that is worth less than it is zero."""
    inputs = torch.eye(4).repeat(4, 1)
    data = Examples(inputs, torch.tensor([2.0, -1.0, 0.3, 0.0]).repeat(4))
    model = nn.Linear(4, 1, bias=False)
    training = {"batch_size": 16, "loss": "mse", "l1": 0.25}
    configuration = configured("lbfgs", training=training, max_iter=20)
    losses(model, configuration, data, loss=build_loss(configuration.training, None), metric=metrics.find("mse"))
    # the mean over 16 examples has each weight four times: its slope at w is (w - target) / 2
    expected = [2.0 - 0.5, -1.0 + 0.5, 0.0, 0.0]
    assert model.weight[0].tolist() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("name", ["sgd-schedulefree", "adamw-schedulefree"])
def test_looking_changes_nothing_where_weights_have_two_modes(
    name: str, configured: Configured, network: Network, images: Examples
) -> None:
    seen, unseen = network(0), network(0)
    looked = losses(seen, configured(name), images, evaluations=3)
    straight = losses(unseen, configured(name), images)
    assert len(looked) == 3 * len(straight)
    # going from one mode to the other and back is rounded
    torch.testing.assert_close(weights(seen), weights(unseen), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sgd-schedulefree", "adamw-schedulefree"])
def test_at_every_evaluation_and_at_the_end_the_weights_are_those_to_judge(
    name: str, configured: Configured, network: Network, images: Examples
) -> None:
    model = network(0)
    training = Training(model, planned(configured(name), evaluations=2), images, images)
    for row in training.run():
        assert row.validation is not None
        assert row.validation.loss == evaluate(model, images, functional.cross_entropy, ACCURACY, "fp32").loss
        assert not training.optimizer.param_groups[0]["train_mode"]
    judged = weights(model)
    training.optimizer.train()  # type: ignore[attr-defined]
    assert not torch.equal(judged, weights(model))


class Listed(Dataset[Batch]):
    """Examples that are read one by one."""

    def __init__(self, examples: Examples) -> None:
        self.inputs, self.targets = examples.batch(slice(None))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, place: int) -> Batch:
        return self.inputs[place], self.targets[place]


@pytest.mark.parametrize("training", [{}, {"accumulation": 4}, {"batch_size": 89}], ids=str)
@pytest.mark.parametrize("name", ["adam", "lbfgs", "adamw-schedulefree"])
def test_streamed_data_train_to_the_numbers_of_those_in_memory(
    name: str, training: dict[str, int], configured: Configured, images: Examples
) -> None:
    plan = planned(configured(name, "cosine", training=training), evaluations=2)
    streamed = Streamed(Listed(images), torch.arange(90))
    ended = []
    for data in (Examples(*images.batch(slice(None))), streamed):
        model = dropping()
        ended.append((without_clock(Training(model, plan, data, data).run()), weights(model)))
    assert torch.equal(ended[0][1], ended[1][1])
    for mine, theirs in zip(ended[0][0], ended[1][0], strict=True):
        assert mine == theirs


def test_a_part_of_streamed_data_is_its_places_alone(configured: Configured, images: Examples) -> None:
    places = torch.tensor([80, 3, 44, 17, 9, 61])
    dataset = TensorDataset(*images.batch(slice(None)))
    data = Streamed(dataset, torch.arange(90)).take(places)
    in_memory = Examples(*images.batch(slice(None))).take(places)
    configuration = configured("adam", training={"batch_size": 4})
    assert losses(dropping(), configuration, data) == losses(dropping(), configuration, in_memory)
