"""A convolution of upsampled maps, computed without the upsampled maps.

For each output pixel, several taps of the kernel read the same input pixel. Summing those taps first gives the same
numbers, zero padding included, with 22 % (5×5 at scale 3) or 44 % (3×3 at scale 2) of the multiplications.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa.kernels.setting import Setting, channels_last, replace
from jepa.models.decoders import UpsampledConv

# Below this many output channels a transposed convolution wastes most of each vector instruction.
_NARROW = 8


def install(module: UpsampledConv, setting: Setting) -> None:
    """Replace the forward pass of ``module``."""
    kernel_size, narrow = module.conv.kernel_size[0], module.conv.out_channels < _NARROW
    assert 3 <= kernel_size <= 2 * module.scale + 1
    along = phase_taps(kernel_size, module.scale) if narrow else transposed_taps(kernel_size, module.scale)
    taps = torch.kron(along, along).to(module.conv.weight)
    replace(module, "forward", upsampled_conv, taps, narrow, not setting.batched)


def upsampled_conv(module: UpsampledConv, taps: Tensor, narrow: bool, to_channels_last: bool, maps: Tensor) -> Tensor:
    """Compute ``module(maps)``.

    Args:
        taps: [kernel_size², number of summed taps]: 1 where a tap of the kernel is part of a summed tap.
        narrow: whether there are fewer than 8 output channels.
        to_channels_last: whether to change the maps to channels-last format first.
        maps: [N, in_channels, H, W].

    Returns:
        [N, out_channels, scale * H, scale * W].
    """
    maps = channels_last(maps) if to_channels_last else maps
    with torch.autocast(maps.device.type, enabled=False):  # sum the taps in the weight's precision
        kernel = module.conv.weight.flatten(-2) @ taps.to(module.conv.weight.dtype)
    return _by_phases(maps, kernel, module.scale) if narrow else _transposed(module, maps, kernel)


def _transposed(module: UpsampledConv, maps: Tensor, kernel: Tensor) -> Tensor:
    """Upsample and convolve by one transposed convolution.

    Upsampling is a transposed convolution with a box of ones; ``kernel`` is the convolution's kernel convolved with it.
    """
    padding = module.conv.kernel_size[0] // 2
    size = module.scale + 2 * padding
    kernel = kernel.reshape(*kernel.shape[:2], size, size).transpose(0, 1)
    return F.conv_transpose2d(maps, kernel, stride=module.scale, padding=padding)


def _by_phases(maps: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """Upsample and convolve by one 3×3 convolution.

    Each input pixel becomes scale × scale output pixels. The convolution computes each of them as a channel of its own;
    the channels are then rearranged into pixels.
    """
    outputs, inputs = kernel.shape[:2]
    height, width = maps.shape[-2:]
    kernel = kernel.reshape(outputs, inputs, scale, 3, scale, 3).permute(0, 2, 4, 1, 3, 5)
    phases = F.conv2d(maps, kernel.reshape(-1, inputs, 3, 3), padding=1)
    phases = phases.reshape(-1, outputs, scale, scale, height, width).permute(0, 1, 4, 2, 5, 3)
    return phases.reshape(-1, outputs, scale * height, scale * width)


def transposed_taps(kernel_size: int, scale: int) -> Tensor:
    """[kernel_size, kernel_size + scale - 1], along one axis: 1 where tap t is part of tap u.

    t counts the taps of the kernel, u those of the transposed convolution. Through tap u, input i
    contributes to output scale * i + u - kernel_size // 2. For that output, tap t reads a copy of input i in the
    upsampled maps if 0 <= u + t - (kernel_size - 1) < scale.
    """
    tap = torch.arange(kernel_size).reshape(-1, 1)
    inside = torch.arange(kernel_size + scale - 1) + tap - (kernel_size - 1)
    return ((inside >= 0) & (inside < scale)).float()


def phase_taps(kernel_size: int, scale: int) -> Tensor:
    """[kernel_size, scale * 3], along one axis: 1 where a tap reads the input pixel at offset -1, 0 or 1.

    The offset is counted from the input pixel that the output pixel lies in. phase: the output pixel's position
    inside that input pixel, 0 to scale - 1.
    """
    tap = torch.arange(kernel_size).reshape(-1, 1, 1) - kernel_size // 2
    phase = torch.arange(scale).reshape(-1, 1)
    offset = torch.arange(-1, 2)
    return (torch.div(phase + tap, scale, rounding_mode="floor") == offset).float().flatten(1)
