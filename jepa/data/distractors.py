"""Distractor overlays: what may be added to a frame that says nothing of the dot (SPEC §2).

An overlay draws images with values in [0, 1]; how strongly they are added, and whether anew for every frame, is the
stream's business. A further kind of noise is one more subclass.
"""

from __future__ import annotations

import abc
import functools

import torch
from torch import Tensor


class Overlay(abc.ABC):
    """A source of distractor images."""

    @abc.abstractmethod
    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Images [*shape, H, W], float32 in [0, 1], independent of each other, on the generator's device."""


class Uniform(Overlay):
    """Pixels independent and uniform on [0, 1]."""

    def __init__(self, *, image_size: int) -> None:
        """``image_size``: H = W in pixels."""
        self.image_size = image_size

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """[*shape, H, W]; see ``Overlay``."""
        return torch.rand(
            *shape, self.image_size, self.image_size, generator=generator, device=generator.device, dtype=torch.float32
        )


class Structured(Overlay):
    """Natural images, each drawn uniformly, with replacement, from a bank."""

    def __init__(self, *, bank: Tensor) -> None:
        """``bank``: [N, H, W], uint8 grey levels; lies on the device that images are drawn on."""
        self.bank = bank

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """[*shape, H, W]; see ``Overlay``."""
        indices = torch.randint(len(self.bank), shape, generator=generator, device=self.bank.device)
        return self.bank[indices].to(torch.float32).div_(255)


def roll_static(overlay: Tensor, *, num_steps: int, speed: float) -> Tensor:
    """Frames [T, ..., H, W] of a fixed ``overlay`` [..., H, W]: at step t rolled by int(t * speed) pixels along x.

    Rolling wraps around; a positive speed moves the overlay to the right. Without speed the result is a view.
    Source: SPEC §2.
    """
    if speed == 0:
        return overlay.expand(num_steps, *overlay.shape)
    width = overlay.shape[-1]
    columns = _rolled_columns(num_steps, width, speed, overlay.device)
    return overlay.index_select(-1, columns).reshape(*overlay.shape[:-1], num_steps, width).movedim(-2, 0)


@functools.lru_cache(maxsize=16)
def _rolled_columns(num_steps: int, width: int, speed: float, device: torch.device) -> Tensor:
    """For each step and column the column of the unrolled overlay, [T * W]; cached so that it is sent only once."""
    sources = [(column - int(step * speed)) % width for step in range(num_steps) for column in range(width)]
    return torch.tensor(sources, dtype=torch.long, device=device)
