"""Crops of photographs that scikit-image and scikit-learn ship; nothing is downloaded."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from jepa.data.textures.base import Bank, Bytes, Images, Texture, greyscale, to_bytes
from jepa.errors import ConfigError

# (library, picture): natural photographs in the libraries' wheels. The two lists have similar mean grey levels.
TRAINING_PHOTOS = (
    ("skimage", "astronaut"),
    ("skimage", "camera"),
    ("skimage", "coins"),
    ("skimage", "gravel"),
    ("skimage", "brick"),
    ("sklearn", "flower.jpg"),
)
JUDGING_PHOTOS = (
    ("skimage", "chelsea"),
    ("skimage", "coffee"),
    ("skimage", "rocket"),
    ("skimage", "grass"),
    ("sklearn", "china.jpg"),
)
PHOTO_SHORT_SIDES = (56, 80, 112, 160, 224)  # px; each photograph is scaled to each of these shorter sides
PHOTO_CROPS_PER_SIDE = 16  # each scale is cropped at 16 x 16 positions, so that all scales have the same weight


class Photos(Texture):
    """Crops of natural photographs in grey; training and judging use different photographs."""

    def load(self, *, image_size: int, judging: bool, device: torch.device | str) -> Images:
        return Bank(load_bank(image_size, judging, torch.device(device)))


@functools.lru_cache(maxsize=8)
def load_bank(image_size: int, judging: bool, device: torch.device) -> torch.Tensor:
    """The crops [N, H, W], uint8, on ``device``; made once in a process."""
    return torch.from_numpy(photos(image_size=image_size, judging=judging)).to(device)


def photos(*, image_size: int, judging: bool) -> Bytes:
    """Crops [N, H, W] of the photographs.

    Every photograph is scaled down (anti-aliased) to each of ``PHOTO_SHORT_SIDES`` and cropped on a fixed grid.
    Training and judging use different photographs. Raises ConfigError if one of the libraries is not installed.
    """
    if image_size > min(PHOTO_SHORT_SIDES):
        largest = min(PHOTO_SHORT_SIDES)
        raise ConfigError(f"dataset.texture: photographs give crops of {largest} pixels at most, not {image_size}")
    pictures = JUDGING_PHOTOS if judging else TRAINING_PHOTOS
    loaded = [_load_photo(library, picture) for library, picture in pictures]
    return np.concatenate([_crops(photo, side, image_size) for photo in loaded for side in PHOTO_SHORT_SIDES])


def _load_photo(library: str, picture: str) -> npt.NDArray[np.float32]:
    """One photograph in grey [H, W], 0 ... 255."""
    try:
        if library == "skimage":
            import skimage.data  # heavy and optional, as is the next

            pixels = getattr(skimage.data, picture)()
        else:
            import sklearn.datasets

            pixels = sklearn.datasets.load_sample_image(picture)
    except ImportError as error:
        raise ConfigError(
            f"dataset.structured_source=photos: {error.name or library} is not installed; "
            "install the extra [photos] (scikit-image and scikit-learn), or choose dataset.structured_source=cifar10"
        ) from error
    pixels = np.asarray(pixels, np.float32)
    return pixels if pixels.ndim == 2 else greyscale(pixels[..., 0], pixels[..., 1], pixels[..., 2])


def _crops(photo: npt.NDArray[np.float32], short_side: int, image_size: int) -> Bytes:
    """Crops [N, H, W] on a grid over ``photo`` [H, W], scaled so that its shorter side has ``short_side`` pixels."""
    import skimage.transform

    scale = short_side / min(photo.shape)
    height, width = (max(short_side, round(side * scale)) for side in photo.shape)
    resize: Callable[..., npt.NDArray[np.float32]] = skimage.transform.resize  # its signature is not typed
    small = to_bytes(resize(photo, (height, width), order=1, anti_aliasing=True))
    tops, lefts = (
        np.linspace(0, side - image_size, PHOTO_CROPS_PER_SIDE).round().astype(np.intp) for side in (height, width)
    )
    windows = np.lib.stride_tricks.sliding_window_view(small, (image_size, image_size))
    crops: Bytes = windows[tops[:, None], lefts].reshape(-1, image_size, image_size)
    return crops
