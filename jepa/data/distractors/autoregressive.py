"""Noise between changing and fixed: a first-order autoregressive process, AR(1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jepa.data.distractors.base import Distractor, Extent
from jepa.data.textures.base import Images, Texture
from jepa.errors import check_number


class Autoregressive(Distractor):
    """An overlay that changes gradually: F_0 = U_0, and F_t = m + ρ (F_{t-1} - m) + √(1 - ρ²) (U_t - m).

    U_0 ... U_{T-1} are independent images of the texture, and m is the mean image of the texture. Each frame therefore
    has the texture's mean and variance in every pixel, and two frames t apart have the correlation ρ^t. ρ = 0 is
    changing noise, ρ = 1 is fixed noise. For other ρ a sum of images leaves [0, 1]. Values are not clipped, because
    clipping would change mean and variance.
    """

    def __init__(self, *, coeff: float, correlation: float, texture: Texture | None = None) -> None:
        """correlation: ρ, of successive frames, 0 to 1. coeff, texture: as for :class:`Distractor`."""
        super().__init__(coeff=coeff, texture=texture)
        self.correlation = check_number("correlation", correlation, minimum=0, maximum=1)

    def draw(self, texture: Images, extent: Extent, generator: torch.Generator) -> Tensor:
        overlays = texture.draw(tuple(extent), generator)
        if self.correlation == 0:
            return overlays
        new = math.sqrt(1 - self.correlation**2)
        constant = texture.mean() * (1 - self.correlation - new)  # 0 for fixed noise
        for step in range(1, extent.num_steps):
            overlays[step].mul_(new).add_(overlays[step - 1], alpha=self.correlation).add_(constant)
        return overlays

    def frames(self, drawn: Tensor, num_steps: int) -> Tensor:
        return drawn
