"""Noise that is redrawn every few frames."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.data.distractors.base import Distractor, Extent
from jepa.data.textures.base import Images, Texture
from jepa.errors import check_count


class Redrawn(Distractor):
    """One overlay for ``every`` successive frames, then a new one: F_t = U_{floor(t / every)}.

    The first overlay begins at frame 0. ``every`` = 1 is changing noise; ``every`` >= T is fixed noise.
    """

    def __init__(self, *, coeff: float, every: int, texture: Texture | None = None) -> None:
        """every: number of frames that share an overlay, 1 to 10 000. coeff, texture: as for :class:`Distractor`."""
        super().__init__(coeff=coeff, texture=texture)
        self.every = check_count("every", every, maximum=10_000)

    def draw(self, texture: Images, extent: Extent, generator: torch.Generator) -> Tensor:
        num_overlays = -(-extent.num_steps // self.every)
        return texture.draw((num_overlays, extent.batch_size, extent.num_dots), generator)

    def frames(self, drawn: Tensor, num_steps: int) -> Tensor:
        overlays = [drawn[step // self.every] for step in range(num_steps)]
        return torch.stack(overlays)
