"""Decoders: features [T, B, F] to images [T, B, C, H, W]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa.errors import check_count

_FIRST_SIDE = 3  # side of the Linear's output maps, px; after the convolutions it is 54


class Decoder(nn.Module):
    """The study's decoder: a Linear, then three upsampled convolutions (docs/science.md).

    Linear(F→9·32w) ReLU · ×2, 3×3 ReLU BN · ×3, 5×5→16w ReLU BN · ×3, 5×5→C · bilinear to the image's size. ×n is
    nearest-neighbour upsampling. Convolutions have no bias. In training, BN takes statistics over each time step.

    Args:
        input_size: F, number of features of an image.
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
        self.layers = nn.Sequential(
            UpsampledConv(in_channels=wide, out_channels=wide, kernel_size=3, scale=2),
            nn.ReLU(inplace=True),
            StepNorm2d(wide),
            UpsampledConv(in_channels=wide, out_channels=narrow, kernel_size=5, scale=3),
            nn.ReLU(inplace=True),
            StepNorm2d(narrow),
            UpsampledConv(in_channels=narrow, out_channels=channels, kernel_size=5, scale=3),
        )
        resize = bilinear_matrix(_FIRST_SIDE * 2 * 3 * 3, image_size)
        self.register_buffer("resize", resize.to(self.fc.weight.dtype), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """features: [T, B, F]; returns [T, B, C, H, W]."""
        num_steps, batch_size, _ = features.shape
        maps = self.fc(features.flatten(0, 1)).relu()
        maps = maps.unflatten(-1, (-1, _FIRST_SIDE, _FIRST_SIDE))  # [T*B, 32w, 3, 3]
        for layer in self.layers:
            maps = layer(maps, num_steps) if isinstance(layer, StepNorm2d) else layer(maps)
        images = self.resize @ (maps @ self.resize.mT)  # [T*B, C, H, W], from maps of 54 pixels
        return images.unflatten(0, (num_steps, batch_size))  # type: ignore[no-any-return]


class UpsampledConv(nn.Module):
    """Nearest-neighbour upsampling, then a convolution without bias, which keeps the size.

    Args:
        in_channels, out_channels: channels of the convolution.
        kernel_size: odd.
        scale: factor of the upsampling, at least 2.
    """

    def __init__(self, *, in_channels: int, out_channels: int, kernel_size: int, scale: int) -> None:
        super().__init__()
        assert kernel_size % 2 == 1 and scale >= 2
        self.scale = scale
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """maps: [N, in_channels, H, W]; returns [N, out_channels, scale * H, scale * W]."""
        return self.conv(F.interpolate(maps, scale_factor=self.scale, mode="nearest"))  # type: ignore[no-any-return]


class StepNorm2d(nn.BatchNorm2d):
    """``BatchNorm2d`` called on one time step after another. In training, statistics are taken over each time step."""

    def forward(self, maps: Tensor, num_steps: int) -> Tensor:  # type: ignore[override]
        """maps and returned: [T*B, C, H, W]; num_steps: T."""
        return torch.cat([super(StepNorm2d, self).forward(step) for step in maps.chunk(num_steps)])


def bilinear_matrix(size: int, target: int) -> Tensor:
    """The matrix [target, size], float64, that resizes along one axis as ``F.interpolate(mode="bilinear")`` does."""
    pixels = torch.eye(size, dtype=torch.float64)[None, :, :, None]  # a channel for each input pixel
    resized = F.interpolate(pixels, size=(target, 1), mode="bilinear", align_corners=False)
    return resized[0, :, :, 0].mT.contiguous()
