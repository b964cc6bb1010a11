"""CIFAR-10's images in grey, read from a folder or an archive, or downloaded once."""

from __future__ import annotations

import functools
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jepa.data.textures.base import Bank, Bytes, Images, Texture, greyscale, to_bytes
from jepa.errors import ConfigError

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_SUBFOLDER = "cifar-10-batches-bin"  # the folder of the files in the archive
CIFAR10_TRAIN_FILES = tuple(f"data_batch_{index}.bin" for index in range(1, 6))
CIFAR10_TEST_FILES = ("test_batch.bin",)
CIFAR10_IMAGES_PER_FILE = 10_000
CIFAR10_SIZE = 32  # px a side
OFFLINE = "JEPA_OFFLINE"  # an environment variable; if it is set, nothing is downloaded
CIFAR10_RECORD_BYTES = 1 + 3 * CIFAR10_SIZE**2  # a label, then the red, green and blue planes


class Cifar10(Texture):
    """The top-left corners of CIFAR-10's images, in grey: training images for training, test images for judging.

    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """

    def __init__(self, *, folder: str | None = None) -> None:
        """folder: holds the files of the binary version or its archive; None: the user's cache, downloaded once."""
        if folder is not None and not isinstance(folder, str):
            raise ConfigError(f"dataset.cifar10_folder={folder!r}: must be a path or null")
        self.folder = folder

    def load(self, *, image_size: int, judging: bool, device: torch.device | str) -> Images:
        return Bank(load_bank(self.folder, image_size, judging, torch.device(device)))


@functools.lru_cache(maxsize=8)
def load_bank(folder: str | None, image_size: int, judging: bool, device: torch.device) -> torch.Tensor:
    """The images [N, H, W], uint8, on ``device``; read once in a process."""
    return torch.from_numpy(cifar10(image_size=image_size, judging=judging, folder=folder)).to(device)


def cifar10(*, image_size: int, judging: bool, folder: str | None) -> Bytes:
    """The top-left corners of all images, in grey: [50000, H, W] for training, [10000, H, W] for judging.

    Args:
        image_size: H = W, px.
        judging: the test images, else the training images.
        folder: as for :class:`Cifar10`.

    Raises:
        ConfigError: a file is missing or damaged; names the file and what was expected.
    """
    if image_size > CIFAR10_SIZE:
        raise ConfigError(f"dataset.texture: CIFAR-10's images have {CIFAR10_SIZE} pixels a side, not {image_size}")
    files = _read(folder, CIFAR10_TEST_FILES if judging else CIFAR10_TRAIN_FILES)
    corners = (images[:, :, :image_size, :image_size] for images in files)
    return np.concatenate([to_bytes(greyscale(*(planes[:, colour] for colour in range(3)))) for planes in corners])


def _read(folder: str | None, names: tuple[str, ...]) -> list[Bytes]:
    """The images [N, 3, 32, 32] of each file of ``names``."""
    if folder is None:
        return _read_archive(_download(), names)
    root = Path(folder).expanduser()
    for candidate in (root, root / CIFAR10_SUBFOLDER):
        if any((candidate / name).is_file() for name in names):
            return [_decode(_read_file(candidate / name), str(candidate / name)) for name in names]
    if (root / CIFAR10_ARCHIVE).is_file():
        return _read_archive(_checked_archive(root / CIFAR10_ARCHIVE), names)
    raise ConfigError(
        f"dataset.cifar10_folder={folder!r}: holds neither {names[0]} nor {CIFAR10_ARCHIVE}; expected the files of "
        f"CIFAR-10's binary version ({', '.join((*CIFAR10_TRAIN_FILES, *CIFAR10_TEST_FILES))}) or its archive"
    )


def _download() -> Path:
    """The archive in the user's cache folder; downloaded and checked against its checksum if it is missing."""
    import pooch  # only needed here

    folder = Path(pooch.os_cache("jepa"))
    instead = (
        f"put {CIFAR10_ARCHIVE} or its .bin files into a folder and set dataset.cifar10_folder to it, or choose "
        "dataset.structured_source=photos"
    )
    if os.environ.get(OFFLINE) and not (folder / CIFAR10_ARCHIVE).is_file():
        raise ConfigError(
            f"dataset.structured_source=cifar10: {folder} does not hold {CIFAR10_ARCHIVE}, and {OFFLINE} is set, so it "
            f"is not downloaded; {instead}"
        )
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
            f"dataset.structured_source=cifar10: could not download {CIFAR10_URL} ({reason}); {instead}"
        ) from error
    return Path(found)


def _close_a_refusal(response: Any, **_: object) -> None:
    """Close the connection of a failed ``requests.Response``; pooch raises without closing the socket."""
    if not response.ok:
        response.close()


def _checked_archive(path: Path) -> Path:
    """Return ``path`` if its checksum is the official one. Raises ConfigError otherwise."""
    import pooch

    found = pooch.file_hash(str(path), alg="md5")
    if found != CIFAR10_MD5:
        raise ConfigError(f"{path}: md5 checksum is {found}, expected {CIFAR10_MD5}; the file is truncated or altered")
    return path


def _read_archive(path: Path, names: tuple[str, ...]) -> list[Bytes]:
    """The images of each file of ``names`` in the archive, without unpacking the archive to disk."""
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
    return images


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        expected = CIFAR10_IMAGES_PER_FILE * CIFAR10_RECORD_BYTES
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); expected {expected} bytes of CIFAR-10"
        ) from error


def _decode(content: bytes, name: str) -> Bytes:
    """The images [N, 3, 32, 32] of one file of the binary version; ``name`` is for the error message."""
    expected = CIFAR10_IMAGES_PER_FILE * CIFAR10_RECORD_BYTES
    if len(content) != expected:
        raise ConfigError(
            f"{name}: has {len(content)} bytes, expected {expected} ({CIFAR10_IMAGES_PER_FILE} records of "
            f"{CIFAR10_RECORD_BYTES} bytes)"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR10_RECORD_BYTES)
    return records[:, 1:].reshape(-1, 3, CIFAR10_SIZE, CIFAR10_SIZE)
