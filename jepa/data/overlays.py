"""All distractors of an environment: draws their overlays and adds them to frames."""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from jepa.data.distractors.base import Distractor, Extent, Load
from jepa.data.distractors.changing import Changing
from jepa.data.distractors.fixed import Fixed
from jepa.data.draws import MOTION, Coefficients, Streams
from jepa.data.textures.base import Images, Texture
from jepa.data.textures.cifar10 import Cifar10
from jepa.data.textures.photos import Photos
from jepa.data.textures.uniform import Uniform
from jepa.errors import ConfigError, check_choice, check_flag

SOURCES = ("cifar10", "photos")


class Overlays:
    """Distractors by name, and the texture of the distractors that have no texture of their own."""

    def __init__(self, distractors: Mapping[str, Distractor], texture: Texture, image_size: int) -> None:
        """image_size: H = W, px."""
        self.distractors = dict(distractors)
        self.texture = texture
        self.image_size = image_size

    @property
    def drawn(self) -> frozenset[str]:
        """The names of the distractors that are drawn: the coefficient is above zero, or the overlays have labels."""
        return frozenset(
            name for name, part in self.distractors.items() if part.coeff > 0 or part.num_classes is not None
        )

    @property
    def classes(self) -> dict[str, int]:
        """The number of overlays of each distractor that numbers its overlays."""
        return {name: part.num_classes for name, part in self.distractors.items() if part.num_classes is not None}

    def coefficients(self, device: torch.device | str) -> Coefficients:
        """The distractors' coefficients by name, as tensors [] on ``device``."""
        return {name: torch.tensor(part.coeff, device=device) for name, part in self.distractors.items()}

    def images(self, *, num_dots: int, judging: bool, device: torch.device | str) -> dict[str, Images]:
        """The images that each distractor draws from. Raises ConfigError if images are missing."""
        shared = self._loader(self.texture)
        return {
            name: part.images(
                shared if part.texture is None else self._loader(part.texture),
                num_dots=num_dots,
                judging=judging,
                device=device,
            )
            for name, part in self.distractors.items()
        }

    def _loader(self, texture: Texture) -> Load:
        """A function that loads ``texture`` at its first call, and returns the same images after that."""

        @functools.cache
        def load(judging: bool, device: torch.device | str) -> Images:
            return texture.load(image_size=self.image_size, judging=judging, device=device)

        return load

    def draw(
        self, streams: Streams, images: Mapping[str, Images], extent: Extent, drawn: Collection[str] | None
    ) -> dict[str, Any]:
        """Draw the overlays of a batch, by distractor. drawn: the distractors to draw; None: :attr:`drawn`."""
        wanted = self.drawn if drawn is None else drawn
        return {
            name: part.draw(images[name], extent, streams.generators[name])
            for name, part in self.distractors.items()
            if name in wanted
        }

    def nothing(self, coefficients: Coefficients) -> Tensor:
        """A zero [] that depends on every coefficient.

        Added to a tensor, it gives the tensor vmap's job axis, which adding overlays in place requires.
        """
        return 0 * functools.reduce(operator.add, coefficients.values())

    def add_to(self, frames: Tensor, drawn: Mapping[str, Any], coefficients: Coefficients, unit: Tensor) -> None:
        """Add ``unit · coefficient · overlay`` of every distractor to ``frames`` [T, B, K, H, W], in place.

        A single run uses the same operations as a pack, so that packed jobs get the same bits. vmap has no rule for
        ``addcmul_``, so it is not used.
        """
        for name, values in drawn.items():
            frames.add_(self.distractors[name].frames(values, frames.shape[0]) * (unit * coefficients[name]))

    def targets(self, drawn: Mapping[str, Any], num_steps: int) -> dict[str, Tensor]:
        """The labels of the overlays by distractor, int64 [T, B] each."""
        labels = {name: self.distractors[name].label(drawn[name]) for name in self.classes if name in drawn}
        return {name: label.expand(num_steps, -1) for name, label in labels.items()}


def published_overlays(
    *,
    noise: float,
    static_noise: float,
    static_noise_speed: float,
    distractors: Mapping[str, Distractor],
    texture: Texture,
    image_size: int,
) -> Overlays:
    """The fixed and the changing distractor, which have short keys in the configuration, and ``distractors``.

    Raises:
        ConfigError: a name of ``distractors`` is taken.
    """
    own: dict[str, Distractor] = {
        "static": Fixed(coeff=static_noise, speed=static_noise_speed),
        "changing": Changing(coeff=noise),
    }
    for name in distractors:
        if name in own or name == MOTION:
            raise ConfigError(f"dataset.distractors.{name}: this name is taken; choose another")
    return Overlays({**own, **distractors}, texture, image_size)


def chosen_texture(
    texture: Texture | None, *, structured_noise: bool, structured_source: str | None, cifar10_folder: str | None
) -> Texture:
    """``texture`` if it is given, else the texture that the short keys choose.

    Raises:
        ConfigError: a value cannot be used, or ``texture`` and the short keys both choose.
    """
    check_flag("dataset.structured_noise", structured_noise)
    if structured_source is not None:
        check_choice("dataset.structured_source", structured_source, SOURCES)
    cifar10 = Cifar10(folder=cifar10_folder)  # checks the folder
    if texture is not None:
        for key, value in (("structured_noise", structured_noise), ("structured_source", structured_source)):
            if value:
                shown = "true" if value is True else value
                raise ConfigError(f"dataset.{key}={shown}: dataset/texture chooses the texture too; leave one out")
        return texture
    if not structured_noise:
        return Uniform()
    if structured_source is None:
        raise ConfigError(
            "dataset.structured_source=null: structured noise needs images, choose dataset.structured_source=cifar10 "
            "(a download of 170 MB, or read from dataset.cifar10_folder) or dataset.structured_source=photos (crops of "
            "photographs that scikit-image and scikit-learn ship)"
        )
    return cifar10 if structured_source == "cifar10" else Photos()
