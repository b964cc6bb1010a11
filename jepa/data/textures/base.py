"""The interface of textures, and the images that distractors draw from a texture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue, ITU-R BT.601

Bytes = npt.NDArray[np.uint8]


class Images(ABC):
    """Abstract: a source of images on one device; ``Texture.load`` returns one."""

    @abstractmethod
    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw independent images [*shape, H, W], float32 in [0, 1], on the generator's device; a new tensor."""

    @abstractmethod
    def mean(self) -> Tensor:
        """The mean of all images, [H, W], or [] if it is the same in every pixel; on the images' device."""


class Bank(Images):
    """Draws uniformly, with replacement, from a fixed set of images."""

    def __init__(self, bank: Tensor) -> None:
        """bank: all images [N, H, W], uint8 grey levels, on the device on which images are drawn."""
        self.bank = bank

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """[*shape, H, W]; see :class:`Images`."""
        indices = torch.randint(len(self.bank), shape, generator=generator, device=self.bank.device)
        return self.bank[indices].to(torch.float32).div_(255)

    def mean(self) -> Tensor:
        return self.bank.sum(0, dtype=torch.int64).to(torch.float32).div_(255 * len(self.bank))


class Texture(ABC):
    """Abstract: the kind of images that distractors draw. The object holds settings only; ``load`` makes the images."""

    @abstractmethod
    def load(self, *, image_size: int, judging: bool, device: torch.device | str) -> Images:
        """The images of this texture.

        Args:
            image_size: H = W, px.
            judging: load the images that probes are judged on, else those for training. A texture with a limited number
                of images shares no image between both.
            device: the device on which images are drawn.

        Raises:
            ConfigError: images or a library are missing.
        """


def greyscale(red: npt.NDArray[Any], green: npt.NDArray[Any], blue: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Luma of three colour planes by ITU-R BT.601, float32, on the scale of the planes."""
    weights = np.asarray(_LUMA, np.float32)
    luma: npt.NDArray[np.float32] = weights[0] * red + weights[1] * green + weights[2] * blue
    return luma


def to_bytes(levels: npt.NDArray[Any]) -> Bytes:
    """Grey levels rounded to the nearest of 0 ... 255."""
    rounded: Bytes = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return rounded
