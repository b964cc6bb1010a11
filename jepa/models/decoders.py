"""Decoders: features [T, B, F] to images [T, B, C, H, W], for all time steps in one call."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa.errors import check_count
from jepa.models.encoders import channels_last
from jepa.models.normalization import normalize_step_maps

_FIRST_SIDE = 3  # side of the maps that the Linear makes, pixels; the convolutions make them 54

# Below this many output channels a transposed convolution wastes most of each vector instruction.
_NARROW = 8


class Decoder(nn.Module):
    """The study's decoder: a Linear, then three times nearest-neighbour upsampling and a convolution (docs/science.md).

    Linear(F→9·32w) ReLU · ×2, 3×3 ReLU BN · ×3, 5×5→16w ReLU BN · ×3, 5×5→C · bilinear to the image's size. The
    convolutions have no bias; in training each time step is normalised by statistics of its own.

    Args:
        input_size: F, features of an image.
        channels: C.
        image_size: H = W, pixels.
        width_factor: w.
    """

    resize: Tensor  # [H, 54], bilinear interpolation along one axis

    def __init__(self, *, input_size: int, channels: int, image_size: int, width_factor: int) -> None:
        super().__init__()
        check_count("model.decoder.width_factor", width_factor, maximum=512)
        narrow, wide = (size * width_factor for size in (16, 32))
        self.fc = nn.Linear(input_size, wide * _FIRST_SIDE**2)
        self.layers = nn.ModuleList(
            [
                UpsampledConv(in_channels=wide, out_channels=wide, kernel_size=3, scale=2),
                nn.ReLU(inplace=True),
                nn.BatchNorm2d(wide),
                UpsampledConv(in_channels=wide, out_channels=narrow, kernel_size=5, scale=3),
                nn.ReLU(inplace=True),
                nn.BatchNorm2d(narrow),
                UpsampledConv(in_channels=narrow, out_channels=channels, kernel_size=5, scale=3),
            ]
        )
        resize = bilinear_matrix(_FIRST_SIDE * 2 * 3 * 3, image_size)
        self.register_buffer("resize", resize.to(self.fc.weight.dtype), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """features: [T, B, F]; returns [T, B, C, H, W]."""
        steps = features.shape[:2]
        maps = self.fc(features.flatten(0, 1)).relu_()
        maps = channels_last(maps.reshape(len(maps), -1, _FIRST_SIDE, _FIRST_SIDE))
        for layer in self.layers:
            if isinstance(layer, nn.BatchNorm2d):  # behind a ReLU, which it takes along
                maps = normalize_step_maps(layer, maps, steps[0], rectify=True)
            elif not isinstance(layer, nn.ReLU):
                maps = layer(maps)
        images = self.resize @ (maps @ self.resize.mT)
        return images.reshape(*steps, *images.shape[1:])  # type: ignore[no-any-return]


class UpsampledConv(nn.Module):
    """``conv(upsample(maps))`` with nearest-neighbour upsampling, computed without the upsampled maps.

    An output pixel sees few different input pixels, each several times. Kernels in which those taps are summed give the
    same numbers, zero padding included, with 22 % (5×5 at scale 3) or 44 % (3×3 at scale 2) of the products.

    Args:
        in_channels, out_channels: of the convolution, which has no bias.
        kernel_size: odd, from 3 to 2 * scale + 1.
        scale: enlargement, at least 2.
    """

    taps: Tensor  # [kernel_size², taps of the summed kernels]: which falls on which

    def __init__(self, *, in_channels: int, out_channels: int, kernel_size: int, scale: int) -> None:
        super().__init__()
        assert kernel_size % 2 == 1 and 3 <= kernel_size <= 2 * scale + 1
        self.scale = scale
        self.padding = kernel_size // 2
        self.narrow = out_channels < _NARROW
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=self.padding, bias=False)
        along = phase_taps(kernel_size, scale) if self.narrow else transposed_taps(kernel_size, scale)
        self.register_buffer("taps", torch.kron(along, along), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """maps: [N, in_channels, H, W]; returns [N, out_channels, scale * H, scale * W]."""
        with torch.autocast(maps.device.type, enabled=False):  # the sums keep their digits
            kernel = self.conv.weight.flatten(-2) @ self.taps
        return self._by_phases(maps, kernel) if self.narrow else self._transposed(maps, kernel)

    def _transposed(self, maps: Tensor, kernel: Tensor) -> Tensor:
        """Upsampling is a transposed convolution with a box of ones, and ``kernel`` has that box convolved into it."""
        size = self.scale + 2 * self.padding
        kernel = kernel.reshape(*kernel.shape[:2], size, size).transpose(0, 1)
        return F.conv_transpose2d(maps, kernel, stride=self.scale, padding=self.padding)

    def _by_phases(self, maps: Tensor, kernel: Tensor) -> Tensor:
        """A 3×3 convolution with a channel for each pixel that an input pixel becomes; those are then put in place."""
        outputs, inputs = kernel.shape[:2]
        scale, (height, width) = self.scale, maps.shape[-2:]
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


def bilinear_matrix(size: int, target: int) -> Tensor:
    """The matrix [target, size], float64, that resizes along one axis as ``F.interpolate(mode="bilinear")`` does."""
    pixels = torch.eye(size, dtype=torch.float64)[None, :, :, None]  # a channel for each input pixel
    resized = F.interpolate(pixels, size=(target, 1), mode="bilinear", align_corners=False)
    return resized[0, :, :, 0].mT.contiguous()
