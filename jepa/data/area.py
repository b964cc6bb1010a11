"""The area in which dots move, and the normalisation of locations (docs/science.md)."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

UNIFORM_STD = math.sqrt(1 / 12)  # standard deviation of a number that is uniform on [0, 1]


class Area(NamedTuple):
    """The square in which locations lie: the image without a margin at its borders."""

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


    def locate(self, uniforms: Tensor) -> Tensor:
        """Map ``uniforms`` [..., 2] in [0, 1) to locations [..., 2] in px, uniform in the area."""
        return uniforms * self.width + self.padding

    def normalize(self, locations: Tensor) -> Tensor:
        """Normalise ``locations`` [..., 2] in px. A location that is uniform in the area gets mean 0 and variance 1."""
        return ((locations - self.padding) / self.width - 0.5) / UNIFORM_STD

    def unnormalize(self, locations: Tensor) -> Tensor:
        """Convert normalised ``locations`` [..., 2] to px."""
        return (locations * UNIFORM_STD + 0.5) * self.width + self.padding
