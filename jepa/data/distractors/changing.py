"""Changing noise: a new overlay for every frame."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.data.distractors.base import Distractor, Extent
from jepa.data.textures.base import Images


class Changing(Distractor):
    """A new overlay for every frame. Source: Sobal et al. 2022 (arXiv 2211.10831), section 3."""

    def draw(self, texture: Images, extent: Extent, generator: torch.Generator) -> Tensor:
        return texture.draw(tuple(extent), generator)

    def frames(self, drawn: Tensor, num_steps: int) -> Tensor:
        return drawn
