"""What a distractor process must offer: its random numbers, and the frames that they make."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jepa.data.textures.base import Images, Texture
from jepa.errors import ConfigError, check_number

# Loads a distractor's texture: load(judging, device).
Load = Callable[[bool, "torch.device | str"], Images]


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

    def __init__(self, *, coeff: float, texture: Texture | None = None) -> None:
        """coeff: strength, 0 to 1000; at 0 the process is not drawn, unless it has a label.

        texture: what its images look like; None: the data set's.
        """
        self.coeff = float(check_number("coeff", coeff, minimum=0, maximum=1000))
        if texture is not None and not isinstance(texture, Texture):
            raise ConfigError(f"texture={texture!r}: must name a texture's class in _target_, or be null")
        self.texture = texture

    @property
    def num_classes(self) -> int | None:
        """How many different overlays there are, where they are numbered; None: they are not."""
        return None

    def images(self, load: Load, *, num_dots: int, judging: bool, device: torch.device | str) -> Images:
        """What ``draw`` is given to draw from, made once a stream: here the images of the distractor's texture."""
        return load(judging, device)

    @abstractmethod
    def draw(self, texture: Images, extent: Extent, generator: torch.Generator) -> Any:
        """What is random in a batch, a pytree of tensors on the generator's device; ``texture`` draws images [H, W]."""

    @abstractmethod
    def frames(self, drawn: Any, num_steps: int) -> Tensor:
        """The overlays [T, B, K, H, W], in [0, 1], that ``drawn`` makes; a view will do."""

    def label(self, drawn: Any) -> Tensor:
        """The number of each sequence's overlay, int64 [B]; asked for only where ``num_classes`` is given."""
        raise NotImplementedError(f"{type(self).__name__} has classes and no label")
