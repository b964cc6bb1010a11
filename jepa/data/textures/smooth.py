"""Smooth noise: neighbouring pixels are correlated over a chosen length."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.data.textures.base import Images, Texture
from jepa.errors import check_number


class Smooth(Texture):
    """A Gaussian random field, mapped so that each pixel is uniform on [0, 1].

    Two pixels of the field at a distance r have the correlation c = exp(-r² / (2 l²)), with l the correlation length.
    The normal distribution function maps the field to [0, 1]. Each pixel then has the mean 1/2 and the variance 1/12
    of uniform noise, and the correlation becomes (6 / π) arcsin(c / 2). Source: Pearson 1907, for the last formula.
    """

    def __init__(self, *, correlation_length: float) -> None:
        """correlation_length: l, px, 0.1 to 1000. At 0.1 the texture is uniform noise, pixel by pixel."""
        self.correlation_length = check_number("correlation_length", correlation_length, minimum=0.1, maximum=1000)

    def load(self, *, image_size: int, judging: bool, device: torch.device | str) -> Images:
        return SmoothImages(image_size, self.correlation_length, device)


class SmoothImages(Images):
    """Draws new noise every time."""

    def __init__(self, image_size: int, correlation_length: float, device: torch.device | str) -> None:
        """image_size: H = W, px. correlation_length: px."""
        pixels = torch.arange(image_size, dtype=torch.float64)
        distances = pixels - pixels.unsqueeze(-1)
        values, vectors = torch.linalg.eigh(torch.exp(-distances.square() / (2 * correlation_length**2)))
        root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T  # [H, H], its square is the covariance along an axis
        self.root: Tensor = root.float().to(device)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """[*shape, H, W]; see :class:`Images`."""
        white = torch.randn(*shape, *self.root.shape, generator=generator, device=generator.device)
        images: Tensor = torch.special.ndtr(self.root @ white @ self.root)
        return images

    def mean(self) -> Tensor:
        return self.root.new_full((), 0.5)
