"""The networks of the built-in tasks."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optitune.tasks import models
from optitune.tasks.models import Cnn, Mlp

SHAPES: dict[models.ModelFactory, dict[str, tuple[int, ...]]] = {
    models.mnist_cnn: {
        "conv1.weight": (32, 1, 3, 3),
        "conv1.bias": (32,),
        "conv2.weight": (64, 32, 3, 3),
        "conv2.bias": (64,),
        "fc1.weight": (128, 3136),
        "fc1.bias": (128,),
        "fc2.weight": (10, 128),
        "fc2.bias": (10,),
    },
    models.mnist_mlp: {
        "fc1.weight": (300, 784),
        "fc1.bias": (300,),
        "fc2.weight": (200, 300),
        "fc2.bias": (200,),
        "fc3.weight": (10, 200),
        "fc3.bias": (10,),
    },
    models.mnist_net: {
        "fc1.weight": (128, 784),
        "fc1.bias": (128,),
        "fc2.weight": (10, 128),
        "fc2.bias": (10,),
    },
    models.digits_cnn: {
        "conv1.weight": (16, 1, 3, 3),
        "conv1.bias": (16,),
        "conv2.weight": (32, 16, 3, 3),
        "conv2.bias": (32,),
        "fc1.weight": (64, 128),
        "fc1.bias": (64,),
        "fc2.weight": (10, 64),
        "fc2.bias": (10,),
    },
}
COUNTS = {models.mnist_cnn: 421_642, models.mnist_mlp: 297_710, models.mnist_net: 101_770, models.digits_cnn: 13_706}
SIZES = {models.mnist_cnn: 28, models.mnist_mlp: 28, models.mnist_net: 28, models.digits_cnn: 8}

every_network = pytest.mark.parametrize("factory", SHAPES, ids=lambda factory: factory.__name__)


def drawn(images: int, size: int) -> Tensor:
    return torch.randn(images, 1, size, size, generator=torch.Generator().manual_seed(0))


@every_network
def test_the_layers_are_those_of_the_description(factory: models.ModelFactory) -> None:
    model = factory()
    assert {name: tuple(weights.shape) for name, weights in model.named_parameters()} == SHAPES[factory]
    assert sum(weights.numel() for weights in model.parameters()) == COUNTS[factory]


@every_network
def test_an_image_gives_a_logit_per_class(factory: models.ModelFactory) -> None:
    assert factory()(drawn(5, SIZES[factory])).shape == (5, 10)


def test_relu_after_pooling_is_relu_before_it() -> None:
    torch.manual_seed(0)
    model, images = Cnn(size=8, channels=(4, 8), hidden=16, classes=3), drawn(6, 8)
    out = functional.max_pool2d(functional.relu(model.conv1(images)), 2)
    out = functional.max_pool2d(functional.relu(model.conv2(out)), 2)
    assert torch.equal(model(images), model.fc2(functional.relu(model.fc1(out.flatten(1)))))


def test_the_perceptron_is_linear_layers_with_relu_between() -> None:
    torch.manual_seed(0)
    model, images = Mlp((16, 12, 9, 4)), drawn(7, 4)
    first, second, third = model.children()
    plain = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), third)
    assert torch.equal(model(images), plain(images))
    assert model(images).min() < 0


def test_relu_at_the_end_cuts_the_logits_at_zero() -> None:
    torch.manual_seed(0)
    with_relu, images = Mlp((16, 12, 4), relu_at_end=True), drawn(7, 4)
    without = Mlp((16, 12, 4))
    without.load_state_dict(with_relu.state_dict())
    assert torch.equal(with_relu(images), without(images).clamp(min=0))
    assert with_relu(images).min() == 0


def test_the_mnist_perceptron_ends_in_relu_and_the_net_does_not() -> None:
    torch.manual_seed(0)
    images = drawn(64, 28)
    assert models.mnist_mlp()(images).min() == 0
    assert models.mnist_net()(images).min() < 0
