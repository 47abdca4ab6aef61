"""The first convolution of a network on grey images, as a matrix product where that is faster."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class GreyConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` for images of one channel: the same function up to rounding, with the same parameters.

    With a single input channel a convolution kernel has next to nothing to keep in its registers, and
    most of its time goes into the gradient of a few hundred weights. On a CPU the windows of all images
    are therefore laid out as a matrix (im2col; Chellapilla, Puri & Simard 2006) and multiplied, in both
    directions. Elsewhere it is torch's convolution.

    Args:
        out_channels: channels made from the one.
        kernel_size: height and width of the windows, in pixels; odd.
    """

    def __init__(self, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__(1, out_channels, kernel_size, padding=kernel_size // 2)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, height, width) to (n, out_channels, height, width), channels last in memory."""
        if images.device.type != "cpu":
            return super().forward(images)
        assert self.bias is not None
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else images.dtype
        n, _, height, width = images.shape
        size, margin = self.kernel_size[0], self.kernel_size[0] // 2
        padded = functional.pad(images.to(dtype), (margin,) * 4).squeeze(1)
        windows = padded.unfold(1, size, 1).unfold(2, size, 1).permute(3, 4, 0, 1, 2)
        # a row for each place in the window, so that rows of pixels are copied whole, and one for the bias
        columns = padded.new_ones(size * size + 1, n * height * width)
        columns[:-1].view(windows.shape).copy_(windows)
        # laid out so that autograd multiplies matrices as they lie in memory
        weights = torch.cat([self.weight.reshape(self.out_channels, -1).t(), self.bias.unsqueeze(0)]).to(dtype)
        out = columns.t() @ weights
        return out.view(n, height, width, self.out_channels).permute(0, 3, 1, 2)
