"""The convolution of grey images as a matrix product: torch's function, up to rounding."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optitune.convolution import GreyConv2d


def both_ways(layer: nn.Conv2d, images: Tensor, upstream: Tensor, as_matrix: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Output, gradient of the weights, gradient of the bias."""
    layer.zero_grad()
    out = layer(images) if as_matrix else functional.conv2d(images, layer.weight, layer.bias, padding=layer.padding)
    out.backward(upstream.to(out.dtype))
    assert layer.weight.grad is not None
    assert layer.bias is not None
    assert layer.bias.grad is not None
    return out.detach(), layer.weight.grad.clone(), layer.bias.grad.clone()


@pytest.mark.parametrize(("height", "width", "kernel_size"), [(28, 28, 3), (8, 8, 3), (7, 10, 5), (4, 4, 1)])
@pytest.mark.parametrize("weights_last", [True, False], ids=["weights channels last", "weights channels first"])
def test_it_is_torchs_convolution(height: int, width: int, kernel_size: int, weights_last: bool) -> None:
    torch.manual_seed(0)
    layer = GreyConv2d(6, kernel_size)
    if weights_last:
        layer = layer.to(memory_format=torch.channels_last)
    images, upstream = torch.randn(5, 1, height, width), torch.randn(5, 6, height, width)
    mine, theirs = both_ways(layer, images, upstream, True), both_ways(layer, images, upstream, False)
    for found, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_under_autocast_it_multiplies_in_bfloat16_and_its_parameters_stay_float32() -> None:
    torch.manual_seed(0)
    layer = GreyConv2d(32).to(memory_format=torch.channels_last)
    images, upstream = torch.randn(8, 1, 28, 28), torch.randn(8, 32, 28, 28)
    exact = both_ways(layer, images, upstream, False)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = both_ways(layer, images, upstream, True)
    assert rounded[0].dtype == torch.bfloat16
    assert rounded[1].dtype == rounded[2].dtype == torch.float32
    for found, expected in zip(rounded, exact, strict=True):
        torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


def test_its_output_lies_channels_last() -> None:
    out = GreyConv2d(32)(torch.randn(8, 1, 28, 28))
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_its_parameters_begin_as_torchs_do() -> None:
    torch.manual_seed(3)
    mine = GreyConv2d(6)
    torch.manual_seed(3)
    theirs = nn.Conv2d(1, 6, 3, padding=1)
    assert torch.equal(mine.weight, theirs.weight)
    assert mine.state_dict().keys() == theirs.state_dict().keys()
