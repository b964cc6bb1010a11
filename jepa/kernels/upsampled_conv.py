"""A convolution of upsampled maps, computed without the upsampled maps.

An output pixel sees few different input pixels, each several times. Kernels in which those taps are summed give the
same numbers, zero padding included, with 22 % (5×5 at scale 3) or 44 % (3×3 at scale 2) of the products.
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
    """What ``module(maps)`` gives.

    Args:
        taps: [kernel_size², taps of the summed kernels]: which falls on which.
        narrow: few output channels.
        to_channels_last: change the memory format first.
        maps: [N, in_channels, H, W].

    Returns:
        [N, out_channels, scale * H, scale * W].
    """
    maps = channels_last(maps) if to_channels_last else maps
    with torch.autocast(maps.device.type, enabled=False):  # the sums keep their digits
        kernel = module.conv.weight.flatten(-2) @ taps.to(module.conv.weight.dtype)
    return _by_phases(maps, kernel, module.scale) if narrow else _transposed(module, maps, kernel)


def _transposed(module: UpsampledConv, maps: Tensor, kernel: Tensor) -> Tensor:
    """Upsampling is a transposed convolution with a box of ones, and ``kernel`` has that box convolved into it."""
    padding = module.conv.kernel_size[0] // 2
    size = module.scale + 2 * padding
    kernel = kernel.reshape(*kernel.shape[:2], size, size).transpose(0, 1)
    return F.conv_transpose2d(maps, kernel, stride=module.scale, padding=padding)


def _by_phases(maps: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """A 3×3 convolution with a channel for each pixel that an input pixel becomes; those are then put in place."""
    outputs, inputs = kernel.shape[:2]
    height, width = maps.shape[-2:]
    kernel = kernel.reshape(outputs, inputs, scale, 3, scale, 3).permute(0, 2, 4, 1, 3, 5)
    phases = F.conv2d(maps, kernel.reshape(-1, inputs, 3, 3), padding=1)
    phases = phases.reshape(-1, outputs, scale, scale, height, width).permute(0, 1, 4, 2, 5, 3)
    return phases.reshape(-1, outputs, scale * height, scale * width)


def transposed_taps(kernel_size: int, scale: int) -> Tensor:
    """Along one axis [kernel_size, kernel_size + scale - 1]: 1 where a tap is part of the transposed convolution's tap.

    Input i reaches output scale * i + u - kernel_size // 2 through tap u; that output's pixels of the upsampled maps
    are those of input i for the taps t with 0 <= u + t - (kernel_size - 1) < scale.
    """
    tap = torch.arange(kernel_size).reshape(-1, 1)
    inside = torch.arange(kernel_size + scale - 1) + tap - (kernel_size - 1)
    return ((inside >= 0) & (inside < scale)).float()


def phase_taps(kernel_size: int, scale: int) -> Tensor:
    """Along one axis [kernel_size, scale * 3]: 1 where, for an output pixel of a phase, a tap falls on the input pixel
    at offset -1, 0 or 1 from the one it lies in.
    """
    tap = torch.arange(kernel_size).reshape(-1, 1, 1) - kernel_size // 2
    phase = torch.arange(scale).reshape(-1, 1)
    offset = torch.arange(-1, 2)
    return (torch.div(phase + tap, scale, rounding_mode="floor") == offset).float().flatten(1)
