"""Banks of natural images for structured noise: CIFAR-10, or crops of photographs that libraries ship.

A bank is [N, 28, 28], uint8 grey levels. Training and judging never share an image. Banks are read once a process.
"""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jepa.data.motion import IMAGE_SIZE
from jepa.errors import ConfigError, check_choice

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_SUBFOLDER = "cifar-10-batches-bin"  # where the archive keeps its files
CIFAR10_TRAIN_FILES = tuple(f"data_batch_{index}.bin" for index in range(1, 6))
CIFAR10_TEST_FILES = ("test_batch.bin",)
CIFAR10_IMAGES_PER_FILE = 10_000
CIFAR10_SIZE = 32  # pixels
CIFAR10_RECORD_BYTES = 1 + 3 * CIFAR10_SIZE**2  # a label, then the red, green and blue planes

# (library, picture): natural photographs inside the libraries' wheels; the two lists are alike in mean grey level
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
PHOTO_SHORT_SIDES = (56, 80, 112, 160, 224)  # pixels; each photograph is cropped at these scales
PHOTO_CROPS_PER_SIDE = 16  # crops a scale: a grid of 16 x 16 positions, so that every scale has the same weight

_LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue, ITU-R BT.601

Bytes = npt.NDArray[np.uint8]


@functools.lru_cache(maxsize=8)
def load_bank(source: str, *, cifar10_folder: str | None, judging: bool, device: torch.device) -> torch.Tensor:
    """The bank [N, 28, 28] of ``source`` ("cifar10" or "photos"), uint8 on ``device``; shared by all that ask for it.

    ``judging`` selects the images that probes are judged on, ``cifar10_folder`` where to read CIFAR-10 from (None:
    the user's cache, downloaded when missing). Raises ConfigError where images or a library are missing.
    """
    sources: dict[str, Callable[[], Bytes]] = {
        "cifar10": lambda: cifar10(judging=judging, folder=cifar10_folder),
        "photos": lambda: photos(judging=judging),
    }
    check_choice("dataset.structured_source", source, sources)
    return torch.from_numpy(sources[source]()).to(device)


def greyscale(red: npt.NDArray[Any], green: npt.NDArray[Any], blue: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Luma of three colour planes by ITU-R BT.601, on the scale of the planes, float32."""
    weights = np.asarray(_LUMA, np.float32)
    luma: npt.NDArray[np.float32] = weights[0] * red + weights[1] * green + weights[2] * blue
    return luma


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------------


def cifar10(*, judging: bool, folder: str | None) -> Bytes:
    """CIFAR-10 in grey, its top-left 28x28 pixels: [50000, 28, 28] to train on, or [10000, 28, 28] to judge on.

    ``folder`` holds the binary version's files, or its archive; None means the user's cache folder, where the archive
    is downloaded when missing. Raises ConfigError naming the file and what was expected.
    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """
    names = CIFAR10_TEST_FILES if judging else CIFAR10_TRAIN_FILES
    if folder is None:
        return _read_archive(_download(), names)
    root = Path(folder).expanduser()
    for candidate in (root, root / CIFAR10_SUBFOLDER):
        if any((candidate / name).is_file() for name in names):
            return np.concatenate([_decode(_read_file(candidate / name), str(candidate / name)) for name in names])
    if (root / CIFAR10_ARCHIVE).is_file():
        return _read_archive(_checked_archive(root / CIFAR10_ARCHIVE), names)
    raise ConfigError(
        f"dataset.cifar10_folder={folder!r}: holds neither {names[0]} nor {CIFAR10_ARCHIVE}; expected the files of "
        f"CIFAR-10's binary version ({', '.join((*CIFAR10_TRAIN_FILES, *CIFAR10_TEST_FILES))}) or its archive"
    )


def _download() -> Path:
    """The archive in the user's cache folder, downloaded and its checksum compared if it is not there yet."""
    import pooch  # only needed here

    folder = Path(pooch.os_cache("jepa"))
    try:
        found = pooch.retrieve(
            CIFAR10_URL,
            known_hash=f"md5:{CIFAR10_MD5}",
            fname=CIFAR10_ARCHIVE,
            path=folder,
            downloader=pooch.HTTPDownloader(hooks={"response": _close_a_refusal}),
        )
    except (OSError, ValueError) as error:  # the network, the disk; a wrong checksum
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"dataset.structured_source=cifar10: could not download {CIFAR10_URL} ({reason}); put {CIFAR10_ARCHIVE} "
            "or its .bin files into a folder and set dataset.cifar10_folder to it, or choose "
            "dataset.structured_source=photos"
        ) from error
    return Path(found)


def _close_a_refusal(response: Any, **_: object) -> None:
    """Close the connection of a ``requests.Response`` that says no: pooch raises, and leaves the socket open."""
    if not response.ok:
        response.close()


def _checked_archive(path: Path) -> Path:
    """``path`` if its checksum is the official one."""
    import pooch

    found = pooch.file_hash(str(path), alg="md5")
    if found != CIFAR10_MD5:
        raise ConfigError(f"{path}: md5 checksum is {found}, expected {CIFAR10_MD5}; the file is truncated or altered")
    return path


def _read_archive(path: Path, names: tuple[str, ...]) -> Bytes:
    """The images of the archive's files ``names``, read without unpacking the archive to disk."""
    images = []
    try:
        with tarfile.open(path, "r:gz") as archive:
            for name in names:
                member = archive.extractfile(f"{CIFAR10_SUBFOLDER}/{name}")
                if member is None:
                    raise ConfigError(f"{path}: {CIFAR10_SUBFOLDER}/{name} is not a file")
                images.append(_decode(member.read(), f"{path}, {name}"))
    except (KeyError, OSError, EOFError, tarfile.TarError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{path}: cannot be read as CIFAR-10's archive ({reason}); delete it and try again"
        ) from error
    return np.concatenate(images)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        expected = CIFAR10_IMAGES_PER_FILE * CIFAR10_RECORD_BYTES
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); expected {expected} bytes of CIFAR-10"
        ) from error


def _decode(content: bytes, name: str) -> Bytes:
    """The grey 28x28 images of one file of CIFAR-10's binary version; ``name`` is for the error."""
    expected = CIFAR10_IMAGES_PER_FILE * CIFAR10_RECORD_BYTES
    if len(content) != expected:
        raise ConfigError(
            f"{name}: has {len(content)} bytes, expected {expected} ({CIFAR10_IMAGES_PER_FILE} records of "
            f"{CIFAR10_RECORD_BYTES} bytes)"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR10_RECORD_BYTES)
    planes = records[:, 1:].reshape(-1, 3, CIFAR10_SIZE, CIFAR10_SIZE)[:, :, :IMAGE_SIZE, :IMAGE_SIZE]
    return _to_bytes(greyscale(planes[:, 0], planes[:, 1], planes[:, 2]))


# --- Photographs ------------------------------------------------------------------------------------------------------


def photos(*, judging: bool) -> Bytes:
    """Crops [N, 28, 28] of the photographs that scikit-image and scikit-learn ship; nothing is downloaded.

    Every photograph is scaled down (anti-aliased) to each of ``PHOTO_SHORT_SIDES`` and cropped on a fixed grid.
    Training and judging use different photographs. Raises ConfigError where one of the libraries is not installed.
    """
    pictures = JUDGING_PHOTOS if judging else TRAINING_PHOTOS
    loaded = [_load_photo(library, picture) for library, picture in pictures]
    return np.concatenate([_crops(photo, short_side) for photo in loaded for short_side in PHOTO_SHORT_SIDES])


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


def _crops(photo: npt.NDArray[np.float32], short_side: int) -> Bytes:
    """Crops [N, 28, 28] on a grid over ``photo`` [H, W], scaled so that its shorter side has ``short_side`` pixels."""
    import skimage.transform

    scale = short_side / min(photo.shape)
    height, width = (max(short_side, round(side * scale)) for side in photo.shape)
    resize: Callable[..., npt.NDArray[np.float32]] = skimage.transform.resize  # its signature is not typed
    small = _to_bytes(resize(photo, (height, width), order=1, anti_aliasing=True))
    tops, lefts = (
        np.linspace(0, side - IMAGE_SIZE, PHOTO_CROPS_PER_SIDE).round().astype(np.intp) for side in (height, width)
    )
    windows = np.lib.stride_tricks.sliding_window_view(small, (IMAGE_SIZE, IMAGE_SIZE))
    crops: Bytes = windows[tops[:, None], lefts].reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
    return crops


def _to_bytes(levels: npt.NDArray[Any]) -> Bytes:
    """Grey levels rounded to the nearest of 0 ... 255."""
    rounded: Bytes = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return rounded
