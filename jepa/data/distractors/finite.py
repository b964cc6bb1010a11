"""A finite number of backgrounds: every sequence has one of them, and the background's number is its label."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from jepa.data.distractors.base import Distractor, Extent, Load
from jepa.data.textures.base import Images, Texture
from jepa.errors import ConfigError, check_count
from jepa.seeding import generator

_MOST_DRAWS = 100  # the most images that are drawn, as a multiple of the number of different images needed


class Background(NamedTuple):
    """The background of each sequence."""

    overlay: Tensor  # [B, K, H, W]
    label: Tensor  # [B], int64, the number of the background


class Finite(Distractor):
    """One of ``num_backgrounds`` overlays for all frames of a sequence, chosen uniformly.

    The overlays are drawn once, from ``world_seed``: all runs have the same overlays, in training and in judging. An
    overlay is K images, one for each dot. All images are training images of the texture, and all differ. The overlay's
    number is a label in ``Batch.targets``, also if ``coeff`` is 0.
    """

    def __init__(
        self, *, coeff: float, num_backgrounds: int, world_seed: int, texture: Texture | None = None
    ) -> None:
        """num_backgrounds: 2 to 10 000. world_seed: decides the overlays, 0 to 2^63 - 1."""
        super().__init__(coeff=coeff, texture=texture)
        self.num_backgrounds = check_count("num_backgrounds", num_backgrounds, minimum=2, maximum=10_000)
        self.world_seed = check_count("world_seed", world_seed, minimum=0, maximum=2**63 - 1)

    @property
    def num_classes(self) -> int:
        return self.num_backgrounds

    def images(self, load: Load, *, num_dots: int, judging: bool, device: torch.device | str) -> Images:
        """The backgrounds. They are drawn on the CPU, so that they are the same on every device."""
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
    """The overlays of all backgrounds."""

    def __init__(self, overlays: Tensor) -> None:
        """overlays: [N, K, H, W], float32 in [0, 1]."""
        self.overlays = overlays

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Overlays [*shape, K, H, W]; see :class:`Images`."""
        return self.overlays[torch.randint(len(self.overlays), shape, generator=generator, device=generator.device)]

    def mean(self) -> Tensor:
        """[K, H, W]."""
        return self.overlays.mean(0)


def _different(images: Images, count: int, source: torch.Generator) -> Tensor:
    """``count`` different images [N, H, W], in the order in which they are drawn; fewer if there are not so many."""
    found = images.draw((0,), source)
    for _ in range(_MOST_DRAWS):
        found = torch.cat((found, images.draw((count,), source)))
        _, group = torch.unique(found.flatten(1), dim=0, return_inverse=True)
        first = torch.full((len(found),), len(found)).scatter_reduce(0, group, torch.arange(len(found)), "amin")
        found = found[first[first < len(found)].sort().values]
        if len(found) >= count:
            break
    return found[:count]
