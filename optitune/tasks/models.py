"""The networks of the built-in tasks.

Layers carry plain names (`conv1`, `fc1`), since parameter groups are chosen by name. Every network
takes float images of shape (batch, channels, height, width) and gives logits of shape (batch, classes).
"""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from optitune.tasks.pooling import max_pool2d_relu


class Cnn(nn.Module):
    """Two 3x3 convolutions, each halved by max-pooling, and two linear layers, with ReLU between them.

    Args:
        size: height and width of the images, in pixels; a multiple of 4.
        channels: output channels of the two convolutions.
        hidden: width of the first linear layer.
        classes: number of classes.
    """

    def __init__(
        self, size: int = 28, channels: tuple[int, int] = (32, 64), hidden: int = 128, classes: int = 10
    ) -> None:
        super().__init__()
        first, second = channels
        self.conv1 = nn.Conv2d(1, first, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(first, second, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(second * (size // 4) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        out = max_pool2d_relu(self.conv1(images))
        out = max_pool2d_relu(self.conv2(out))
        out = functional.relu(self.fc1(out.flatten(1)))
        logits: Tensor = self.fc2(out)
        return logits


class Mlp(nn.Module):
    """Linear layers `fc1`, `fc2`, ... of the given widths, with ReLU between them.

    Args:
        widths: from the pixels of an image to the number of classes.
        relu_at_end: whether the logits pass through ReLU too.
    """

    def __init__(self, widths: tuple[int, ...], relu_at_end: bool = False) -> None:
        super().__init__()
        self.relu_at_end = relu_at_end
        for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            self.add_module(f"fc{number}", nn.Linear(inputs, outputs))

    def forward(self, images: Tensor) -> Tensor:
        out = images.flatten(1)
        layers = list(self.children())
        for layer in layers[:-1]:
            out = functional.relu(layer(out))
        out = layers[-1](out)
        return functional.relu(out) if self.relu_at_end else out


def mnist_cnn() -> nn.Module:
    """Convolutions 1-32-64, linear 3136-128-10."""
    return Cnn()


def mnist_mlp() -> nn.Module:
    """Perceptron 784-300-200-10 with ReLU after every layer, the last included."""
    return Mlp((784, 300, 200, 10), relu_at_end=True)


def mnist_net() -> nn.Module:
    """Perceptron 784-128-10."""
    return Mlp((784, 128, 10))


def digits_cnn() -> nn.Module:
    """Convolutions 1-16-32 for 8x8 images, linear 128-64-10."""
    return Cnn(size=8, channels=(16, 32), hidden=64)


ModelFactory = Callable[[], nn.Module]
