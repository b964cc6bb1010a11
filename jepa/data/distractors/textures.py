"""Textures: images with values in [0, 1] that distractors are made of."""

from __future__ import annotations

import abc

import torch
from torch import Tensor


class Texture(abc.ABC):
    """A source of distractor images."""

    @abc.abstractmethod
    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Images [*shape, H, W], float32 in [0, 1], independent of each other, on the generator's device."""


class Uniform(Texture):
    """Pixels independent and uniform on [0, 1]."""

    def __init__(self, *, image_size: int) -> None:
        """``image_size``: H = W in pixels."""
        self.image_size = image_size

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """[*shape, H, W]; see ``Texture``."""
        return torch.rand(
            *shape, self.image_size, self.image_size, generator=generator, device=generator.device, dtype=torch.float32
        )


class Structured(Texture):
    """Natural images, each drawn uniformly, with replacement, from a bank."""

    def __init__(self, *, bank: Tensor) -> None:
        """``bank``: [N, H, W], uint8 grey levels; lies on the device that images are drawn on."""
        self.bank = bank

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """[*shape, H, W]; see ``Texture``."""
        indices = torch.randint(len(self.bank), shape, generator=generator, device=self.bank.device)
        return self.bank[indices].to(torch.float32).div_(255)
