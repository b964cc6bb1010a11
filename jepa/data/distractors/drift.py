"""Noise that moves: one overlay for a sequence, which drifts in a random direction."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from jepa.data.distractors.base import Distractor, Extent
from jepa.data.textures.base import Images, Texture
from jepa.errors import check_number


class Drifting(NamedTuple):
    """The overlays of a batch and their directions."""

    overlay: Tensor  # [B, K, H, W]
    direction: Tensor  # [B, K], share of a full turn, uniform on [0, 1)


class Drift(Distractor):
    """One overlay for a sequence, which moves at a constant velocity: F_t(x) = F_0(x - round(t v)).

    The velocity v = speed · (cos φ, sin φ) has a random direction φ for each sequence. The overlay moves by whole
    pixels, so that its values stay as they are, and it wraps around at the borders.
    """

    def __init__(self, *, coeff: float, speed: float, texture: Texture | None = None) -> None:
        """speed: length of the velocity, px a frame, 0 to 1000. coeff, texture: as for :class:`Distractor`."""
        super().__init__(coeff=coeff, texture=texture)
        self.speed = float(check_number("speed", speed, minimum=0, maximum=1000))

    def draw(self, texture: Images, extent: Extent, generator: torch.Generator) -> Drifting:
        shape = (extent.batch_size, extent.num_dots)
        overlay = texture.draw(shape, generator)
        return Drifting(overlay, torch.rand(shape, generator=generator, device=generator.device))

    def frames(self, drawn: Drifting, num_steps: int) -> Tensor:
        angle = 2 * math.pi * drawn.direction
        velocity = self.speed * torch.stack((angle.cos(), angle.sin()))  # [2, B, K], px a frame
        steps = torch.arange(num_steps, device=velocity.device).view(-1, 1, 1, 1)
        offset = (steps * velocity).round().long()  # [T, 2, B, K], px
        height, width = drawn.overlay.shape[-2:]
        columns = (torch.arange(width, device=offset.device) - offset[:, 0, ..., None]) % width  # [T, B, K, W]
        rows = (torch.arange(height, device=offset.device) - offset[:, 1, ..., None]) % height  # [T, B, K, H]
        sources = (rows.unsqueeze(-1) * width + columns.unsqueeze(-2)).flatten(-2)  # [T, B, K, H * W]
        pixels = drawn.overlay.flatten(-2).expand(num_steps, -1, -1, -1)
        return pixels.gather(-1, sources).view(*sources.shape[:-1], height, width)
