"""A finite number of backgrounds: each sequence lies over one of them, which has a number."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from jepa.data.distractors.base import Distractor, Extent, Load
from jepa.data.textures.base import Images, Texture
from jepa.errors import ConfigError, check_count
from jepa.seeding import generator

_MOST_DRAWS = 100  # times as many images are drawn at most as there are to be different ones


class Background(NamedTuple):
    """Each sequence's background."""

    overlay: Tensor  # [B, K, H, W]
    label: Tensor  # [B], int64, its number


class Finite(Distractor):
    """One of ``num_backgrounds`` overlays for all frames of a sequence, drawn uniformly.

    The overlays are drawn once, from a seed of their own: all runs, in training and in judging, live in one world. Each
    is K images, one for each dot. All are taken from a texture's training images, and no two images are equal. The
    overlay's number is a label in ``Batch.targets``, whatever ``coeff`` is.
    """

    def __init__(
        self, *, coeff: float, num_backgrounds: int, world_seed: int, texture: Texture | None = None
    ) -> None:
        """num_backgrounds: 2 to 10 000. world_seed: decides which they are, 0 to 2^63 - 1."""
        super().__init__(coeff=coeff, texture=texture)
        self.num_backgrounds = check_count("num_backgrounds", num_backgrounds, minimum=2, maximum=10_000)
        self.world_seed = check_count("world_seed", world_seed, minimum=0, maximum=2**63 - 1)

    @property
    def num_classes(self) -> int:
        return self.num_backgrounds

    def images(self, load: Load, *, num_dots: int, judging: bool, device: torch.device | str) -> Images:
        """The world's backgrounds. They are drawn on the CPU: they are the same on every device."""
        count = self.num_backgrounds * num_dots
        images = _different(load(False, "cpu"), count, generator(self.world_seed, "world/backgrounds"))
        if len(images) < count:
            raise ConfigError(
                f"dataset.distractors: num_backgrounds={self.num_backgrounds}: the texture has too few different images"
            )
        return Backgrounds(images.view(self.num_backgrounds, num_dots, *images.shape[1:]).to(device))

    def draw(self, texture: Images, extent: Extent, generator: torch.Generator) -> Background:
        assert isinstance(texture, Backgrounds)
        label = torch.randint(
            self.num_backgrounds, (extent.batch_size,), generator=generator, device=generator.device
        )
        return Background(texture.overlays[label], label)

    def frames(self, drawn: Background, num_steps: int) -> Tensor:
        return drawn.overlay.expand(num_steps, *drawn.overlay.shape)

    def label(self, drawn: Background) -> Tensor:
        return drawn.label


class Backgrounds(Images):
    """The overlays of a world."""

    def __init__(self, overlays: Tensor) -> None:
        """overlays: [N, K, H, W], float32 in [0, 1]."""
        self.overlays = overlays

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Overlays [*shape, K, H, W]; see :class:`Images`."""
        return self.overlays[torch.randint(len(self.overlays), shape, generator=generator, device=generator.device)]


def _different(images: Images, count: int, source: torch.Generator) -> Tensor:
    """``count`` images [N, H, W] that all differ, in the order of drawing; fewer where there are no more."""
    found = images.draw((0,), source)
    for _ in range(_MOST_DRAWS):
        found = torch.cat((found, images.draw((count,), source)))
        _, group = torch.unique(found.flatten(1), dim=0, return_inverse=True)
        first = torch.full((len(found),), len(found)).scatter_reduce(0, group, torch.arange(len(found)), "amin")
        found = found[first[first < len(found)].sort().values]
        if len(found) >= count:
            break
    return found[:count]
