"""Uniform noise, independent for each pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.data.textures.base import Images, Texture


class Uniform(Texture):
    """Pixels independent and uniform on [0, 1]."""

    def load(self, *, image_size: int, judging: bool, device: torch.device | str) -> Images:
        return UniformImages(image_size, device)


class UniformImages(Images):
    """Draws new noise every time."""

    def __init__(self, image_size: int, device: torch.device | str) -> None:
        """image_size: H = W, px."""
        self.image_size = image_size
        self.device = device

    def mean(self) -> Tensor:
        return torch.full((), 0.5, device=self.device)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """[*shape, H, W]; see :class:`Images`."""
        size = self.image_size
        return torch.rand(*shape, size, size, generator=generator, device=generator.device, dtype=torch.float32)
