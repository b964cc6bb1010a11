"""Images of dots: an isotropic Gaussian density, which is a product of a factor in x and one in y (docs/science.md)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gaussian_profiles(locations: Tensor, image_size: int, dot_std: float) -> tuple[Tensor, Tensor]:
    """The two factors of a dot's image: densities over columns (x) and over rows (y), [..., image_size] each.

    locations: (x, y) [..., 2], px. dot_std: standard deviation of the dot, px.
    """
    pixels = torch.arange(image_size, device=locations.device, dtype=locations.dtype)
    distances = pixels - locations.unsqueeze(-1)  # [..., 2, image_size]
    densities = torch.exp(distances.square() * (-0.5 / dot_std**2)) * (1 / (dot_std * math.sqrt(2 * math.pi)))
    columns, rows = densities.unbind(-2)
    return columns, rows


def render(locations: Tensor, image_size: int, dot_std: float) -> Tensor:
    """Images [..., H, W] of dots at ``locations`` [..., 2], (x, y) in px; y points down.

    ``I(x, y) = exp(-((x - cx)^2 + (y - cy)^2) / (2 dot_std^2)) / (2 pi dot_std^2)``. Source: docs/science.md.
    """
    columns, rows = gaussian_profiles(locations, image_size, dot_std)
    return rows.unsqueeze(-1) * columns.unsqueeze(-2)


def brightest(columns: Tensor, rows: Tensor) -> Tensor:
    """The largest pixel value [] of all images with these factors, computed without the images.

    It equals ``render(...).max()`` bit for bit: rounding keeps the order of products.
    """
    return (columns.amax(-1) * rows.amax(-1)).amax()
