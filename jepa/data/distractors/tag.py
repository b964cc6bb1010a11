"""A tag: a small pattern in a corner, which tells sequences apart and covers almost nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.data.distractors.base import Distractor, Extent
from jepa.data.textures.base import Images, Texture
from jepa.errors import check_count


class Tag(Distractor):
    """A random pattern for a sequence in the top left corner, ``size`` x ``size`` px; all other pixels are 0.

    The pattern is the corner of an image of the texture.
    """

    def __init__(self, *, coeff: float, size: int, texture: Texture | None = None) -> None:
        """size: side of the tag, px, 1 to 1000 (cut to the image). coeff, texture: as for :class:`Distractor`."""
        super().__init__(coeff=coeff, texture=texture)
        self.size = check_count("size", size, maximum=1000)

    def draw(self, texture: Images, extent: Extent, generator: torch.Generator) -> Tensor:
        overlay = texture.draw((extent.batch_size, extent.num_dots), generator)
        overlay[..., self.size :, :] = 0
        overlay[..., self.size :] = 0
        return overlay

    def frames(self, drawn: Tensor, num_steps: int) -> Tensor:
        return drawn.expand(num_steps, *drawn.shape)
