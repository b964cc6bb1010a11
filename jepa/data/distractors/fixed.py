"""Fixed noise: one overlay for a whole sequence, at rest or rolling along x."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from jepa.data.distractors.base import Distractor, Extent
from jepa.data.textures.base import Images, Texture


class Fixed(Distractor):
    """One overlay for all frames of a sequence. Source: Sobal et al. 2022 (arXiv 2211.10831), section 3."""

    def __init__(self, *, coeff: float, speed: float = 0.0, texture: Texture | None = None) -> None:
        """speed: px a frame by which the overlay rolls along x and wraps around; it moves by whole pixels.

        coeff, texture: as for :class:`Distractor`.
        """
        super().__init__(coeff=coeff, texture=texture)
        self.speed = speed

    def draw(self, texture: Images, extent: Extent, generator: torch.Generator) -> Tensor:
        return texture.draw((extent.batch_size, extent.num_dots), generator)

    def frames(self, drawn: Tensor, num_steps: int) -> Tensor:
        return rolled(drawn, num_steps=num_steps, speed=self.speed)


def rolled(overlay: Tensor, *, num_steps: int, speed: float) -> Tensor:
    """Frames [T, ..., H, W] of a fixed ``overlay`` [..., H, W]; at step t it is rolled by int(t * speed) px along x.

    Rolling wraps around. A positive speed (px a frame) moves the overlay to the right. At speed 0 the result is a view.
    """
    if speed == 0:
        return overlay.expand(num_steps, *overlay.shape)
    width = overlay.shape[-1]
    columns = _rolled_columns(num_steps, width, speed, overlay.device)
    return overlay.index_select(-1, columns).reshape(*overlay.shape[:-1], num_steps, width).movedim(-2, 0)


@functools.lru_cache(maxsize=16)
def _rolled_columns(num_steps: int, width: int, speed: float, device: torch.device) -> Tensor:
    """For each step and column, the column of the overlay before rolling, [T * W]. Cached on the device."""
    sources = [(column - int(step * speed)) % width for step in range(num_steps) for column in range(width)]
    return torch.tensor(sources, dtype=torch.long, device=device)
