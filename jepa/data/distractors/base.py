"""What a distractor process must offer: its random numbers, and the frames that they make."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from jepa.data.distractors.textures import Texture
from jepa.errors import check_number


class Extent(NamedTuple):
    """How much is to be drawn."""

    num_steps: int  # T
    batch_size: int  # B
    num_dots: int  # K, each in an image of its own


class Distractor(ABC):
    """Abstract: overlays in [0, 1], added to the frames in units of the brightest clean pixel times ``coeff``.

    ``draw`` takes everything random. ``frames`` is a pure function of it, fit for ``torch.func.vmap``, so that jobs can
    be packed that differ in ``coeff``.
    """

    def __init__(self, *, coeff: float) -> None:
        """coeff: strength, 0 to 1000; at 0 the process is not drawn."""
        self.coeff = float(check_number("coeff", coeff, minimum=0, maximum=1000))

    @abstractmethod
    def draw(self, texture: Texture, extent: Extent, generator: torch.Generator) -> Tensor:
        """What is random in a batch, in one tensor on the generator's device; ``texture`` draws images [H, W]."""

    @abstractmethod
    def frames(self, drawn: Tensor, num_steps: int) -> Tensor:
        """The overlays [T, B, K, H, W], in [0, 1], that ``drawn`` makes; a view will do."""
