"""The interface of distractors: drawing random numbers, and making overlays from them."""

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
    """The size of a draw."""

    num_steps: int  # T
    batch_size: int  # B
    num_dots: int  # K, each in an image of its own


class Distractor(ABC):
    """Abstract: overlays that are added to frames, times ``coeff`` and the brightest clean pixel.

    Overlays lie in [0, 1], unless a distractor says otherwise.

    ``draw`` draws all random numbers. ``frames`` is a pure function of them that works under ``torch.func.vmap``, so
    that packed jobs may differ in ``coeff``.
    """

    def __init__(self, *, coeff: float, texture: Texture | None = None) -> None:
        """coeff: strength, 0 to 1000. At 0 the distractor is not drawn, unless its overlays have labels.

        texture: the texture of the overlays; None: the environment's texture.
        """
        self.coeff = float(check_number("coeff", coeff, minimum=0, maximum=1000))
        if texture is not None and not isinstance(texture, Texture):
            raise ConfigError(f"texture={texture!r}: must name a texture's class in _target_, or be null")
        self.texture = texture

    @property
    def num_classes(self) -> int | None:
        """Number of different overlays, if overlays are numbered; None: they are not."""
        return None

    def images(self, load: Load, *, num_dots: int, judging: bool, device: torch.device | str) -> Images:
        """The images for ``draw``, made once for each stream; by default those of the distractor's texture."""
        return load(judging, device)

    @abstractmethod
    def draw(self, texture: Images, extent: Extent, generator: torch.Generator) -> Any:
        """Draw the random numbers of a batch: a pytree of tensors on the generator's device.

        texture: draws images [H, W] (:meth:`images`).
        """

    @abstractmethod
    def frames(self, drawn: Any, num_steps: int) -> Tensor:
        """The overlays [T, B, K, H, W], from the output of ``draw``; may be a view."""

    def label(self, drawn: Any) -> Tensor:
        """The number of each sequence's overlay, int64 [B]. Called only if ``num_classes`` is not None."""
        raise NotImplementedError(f"{type(self).__name__} has classes and no label")
