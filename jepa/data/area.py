"""Where locations lie, and what "normalised" means for them (docs/science.md)."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

UNIFORM_STD = math.sqrt(1 / 12)  # of a location that is uniform on [0, 1]


class Area(NamedTuple):
    """Where a location may lie: a margin away from the borders of an image."""

    padding: float  # the margin, px
    image_size: int  # H = W, px

    @property
    def low(self) -> float:
        """The smallest coordinate, px."""
        return self.padding

    @property
    def high(self) -> float:
        """The largest coordinate, px."""
        return self.image_size - 1 - self.padding

    @property
    def width(self) -> float:
        """The side of the area, px."""
        return self.image_size - 1 - 2 * self.padding

    @property
    def centre(self) -> float:
        """The coordinate of the image's centre, px."""
        return (self.image_size - 1) / 2

    @property
    def location_scale(self) -> float:
        """Pixels per normalised unit of location: what an error in normalised units is multiplied by."""
        return self.width * UNIFORM_STD

    def locate(self, uniforms: Tensor) -> Tensor:
        """Locations [..., 2] (px) that are uniform in the area, from ``uniforms`` [..., 2] on [0, 1)."""
        return uniforms * self.width + self.padding

    def normalize(self, locations: Tensor) -> Tensor:
        """Normalised locations of ``locations`` [..., 2] in px: mean 0 and variance 1 for a uniform location."""
        return ((locations - self.padding) / self.width - 0.5) / UNIFORM_STD

    def unnormalize(self, locations: Tensor) -> Tensor:
        """Locations [..., 2] in px of normalised ``locations``."""
        return (locations * UNIFORM_STD + 0.5) * self.width + self.padding
