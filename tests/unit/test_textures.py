"""Image banks: CIFAR-10's binary format from files, from its archive and over HTTP; crops of shipped photographs."""

import functools
import gc
import hashlib
import http.server
import io
import socket
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch

from jepa.data.textures import cifar10 as textures
from jepa.data.textures import photos
from jepa.data.textures.base import Bank, Texture
from jepa.data.textures.cifar10 import Cifar10
from jepa.errors import ConfigError

IMAGES_PER_FILE = 5
FILES = (*textures.CIFAR10_TRAIN_FILES, *textures.CIFAR10_TEST_FILES)


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textures, "CIFAR10_IMAGES_PER_FILE", IMAGES_PER_FILE)


def record_file(name: str) -> tuple[bytes, np.ndarray]:
    """A file of CIFAR-10's binary version, and its images [N, 32, 32, 3]: written value by value, as its page says."""
    generator = np.random.default_rng(FILES.index(name))
    images = generator.integers(0, 256, (IMAGES_PER_FILE, 32, 32, 3), dtype=np.uint8)
    content = bytearray()
    for label, image in enumerate(images):
        content.append(label)
        for channel in range(3):
            for row in range(32):
                content.extend(int(value) for value in image[row, :, channel])
    return bytes(content), images


def expected_bank(names: tuple[str, ...]) -> np.ndarray:
    images = np.concatenate([record_file(name)[1] for name in names]).astype(np.float64)[:, :28, :28]
    return 0.299 * images[..., 0] + 0.587 * images[..., 1] + 0.114 * images[..., 2]


def write_files(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).write_bytes(record_file(name)[0])
    return folder


def write_archive(path: Path, files: tuple[str, ...] = FILES) -> str:
    """Write the archive; its md5."""
    with tarfile.open(path, "w:gz") as archive:
        for name in files:
            content = record_file(name)[0]
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def assert_bank(found: np.ndarray, names: tuple[str, ...]) -> None:
    assert found.dtype == np.uint8 and found.shape == (IMAGES_PER_FILE * len(names), 28, 28)
    assert np.abs(found - expected_bank(names)).max() <= 0.5 + 1e-4  # rounded to the nearest grey level


def test_official_constants() -> None:
    assert textures.CIFAR10_RECORD_BYTES == 3073
    assert textures.CIFAR10_MD5 == "c32a1d4ab5d03f1284b67883e8d87530"


@pytest.mark.parametrize("subfolder", ["", "cifar-10-batches-bin"])
def test_reads_a_folder_of_files(tmp_path: Path, subfolder: str) -> None:
    write_files(tmp_path / subfolder)
    assert_bank(textures.cifar10(image_size=28, judging=False, folder=str(tmp_path)), textures.CIFAR10_TRAIN_FILES)
    assert_bank(textures.cifar10(image_size=28, judging=True, folder=str(tmp_path)), textures.CIFAR10_TEST_FILES)


def test_reads_an_archive_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textures, "CIFAR10_MD5", write_archive(tmp_path / "cifar-10-binary.tar.gz"))
    assert_bank(textures.cifar10(image_size=28, judging=True, folder=str(tmp_path)), textures.CIFAR10_TEST_FILES)


def test_refuses_an_altered_archive_in_a_folder(tmp_path: Path) -> None:
    write_archive(tmp_path / "cifar-10-binary.tar.gz")
    with pytest.raises(ConfigError, match=r"cifar-10-binary.tar.gz: md5 checksum is .*, expected c32a1d4a"):
        textures.cifar10(image_size=28, judging=True, folder=str(tmp_path))


def test_refuses_an_archive_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    monkeypatch.setattr(textures, "CIFAR10_MD5", write_archive(path, files=FILES[:-1]))
    with pytest.raises(ConfigError, match=r"cannot be read as CIFAR-10's archive .*test_batch\.bin.*not found"):
        textures.cifar10(image_size=28, judging=True, folder=str(tmp_path))


def test_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.cifar10_folder=.*holds neither test_batch\.bin nor cifar-10"):
        textures.cifar10(image_size=28, judging=True, folder=str(tmp_path))


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(ConfigError, match=r"data_batch_3\.bin: cannot be read .*expected 15365 bytes"):
        textures.cifar10(image_size=28, judging=False, folder=str(tmp_path))


def test_refuses_a_truncated_file(tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(record_file("data_batch_2.bin")[0][:-1])
    with pytest.raises(ConfigError, match=r"data_batch_2\.bin: has 15364 bytes, expected 15365 \(5 records"):
        textures.cifar10(image_size=28, judging=False, folder=str(tmp_path))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a local web server serves the archive from; the download is cached beside it."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(textures, "CIFAR10_URL", f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_downloads_once(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = served / "cifar-10-binary.tar.gz"
    monkeypatch.setattr(textures, "CIFAR10_MD5", write_archive(archive))
    assert_bank(textures.cifar10(image_size=28, judging=False, folder=None), textures.CIFAR10_TRAIN_FILES)
    archive.unlink()  # the second time it comes from the cache
    assert_bank(textures.cifar10(image_size=28, judging=True, folder=None), textures.CIFAR10_TEST_FILES)


def test_offline_nothing_is_downloaded(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = served / "cifar-10-binary.tar.gz"
    monkeypatch.setattr(textures, "CIFAR10_MD5", write_archive(archive))
    monkeypatch.setenv(textures.OFFLINE, "1")
    with pytest.raises(ConfigError, match=r"does not hold .*JEPA_OFFLINE is set.*dataset\.cifar10_folder.*photos"):
        textures.cifar10(image_size=28, judging=False, folder=None)
    assert not (served.parent / "cache").exists()
    monkeypatch.delenv(textures.OFFLINE)
    textures.cifar10(image_size=28, judging=False, folder=None)
    monkeypatch.setenv(textures.OFFLINE, "1")  # what is in the cache is used
    assert_bank(textures.cifar10(image_size=28, judging=True, folder=None), textures.CIFAR10_TEST_FILES)


def test_refuses_a_download_with_another_checksum(served: Path) -> None:
    write_archive(served / "cifar-10-binary.tar.gz")
    with pytest.raises(ConfigError, match=r"could not download .*hash.*dataset\.cifar10_folder.*photos") as caught:
        textures.cifar10(image_size=28, judging=False, folder=None)
    assert "\n" not in str(caught.value)
    assert not list(served.parent.glob("cache/jepa/*"))  # nothing doubtful is kept


def test_a_failed_download_says_how_to_get_on(served: Path) -> None:
    with pytest.raises(ConfigError, match=r"could not download .*404.*dataset\.cifar10_folder.*photos") as caught:
        textures.cifar10(image_size=28, judging=False, folder=None)
    assert "\n" not in str(caught.value)
    sockets = [found for found in gc.get_objects() if type(found) is socket.socket]
    assert not [found for found in sockets if found.fileno() != -1 and "[closed]" in repr(found)]  # half closed


def loaded(texture: Texture, *, image_size: int = 28, judging: bool = False) -> torch.Tensor:
    """The bank of a texture."""
    images = texture.load(image_size=image_size, judging=judging, device="cpu")
    assert isinstance(images, Bank)
    return images.bank


def test_banks_are_tensors_and_read_once(tmp_path: Path) -> None:
    write_files(tmp_path)
    train = loaded(Cifar10(folder=str(tmp_path)))
    assert train.dtype == torch.uint8 and train.shape == (5 * IMAGES_PER_FILE, 28, 28)
    assert loaded(Cifar10(folder=str(tmp_path))) is train
    judge = loaded(Cifar10(folder=str(tmp_path)), judging=True)
    assert not any(torch.equal(image, other) for image in judge for other in train)


@pytest.mark.parametrize("texture", [Cifar10(), photos.Photos()])
def test_larger_images_than_there_are_are_refused(texture: Texture) -> None:
    with pytest.raises(ConfigError, match="not 64"):
        loaded(texture, image_size=64)


# --- Photographs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def banks() -> tuple[np.ndarray, np.ndarray]:
    """Crops to train on and to judge on."""
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    return photos.photos(image_size=28, judging=False), photos.photos(image_size=28, judging=True)


def test_photos_give_thousands_of_varied_crops(banks: tuple[np.ndarray, np.ndarray]) -> None:
    for bank in banks:
        assert bank.dtype == np.uint8 and bank.shape[1:] == (28, 28)
        assert len(bank) >= 5000
        assert len(np.unique(bank.reshape(len(bank), -1), axis=0)) > 0.99 * len(bank)
        contrast = bank.reshape(len(bank), -1).std(1)
        assert np.median(contrast) > 15  # grey levels of 255
    train, judge = banks
    assert abs(train.mean() - judge.mean()) < 15
    assert abs(train.std() - judge.std()) < 15


def test_photos_are_disjoint_for_training_and_judging(banks: tuple[np.ndarray, np.ndarray]) -> None:
    assert not set(photos.TRAINING_PHOTOS) & set(photos.JUDGING_PHOTOS)
    train, judge = ({crop.tobytes() for crop in bank} for bank in banks)
    assert not train & judge


def test_photos_are_the_same_every_time(banks: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(photos.photos(image_size=28, judging=True), banks[1])


def test_crops_equal_slices_of_the_scaled_photograph() -> None:
    pytest.importorskip("skimage")
    photo = np.random.default_rng(0).integers(0, 256, (60, 90)).astype(np.float32)
    crops = photos._crops(photo, 60, 28)  # its own size: nothing is scaled
    assert crops.shape == (256, 28, 28)
    np.testing.assert_array_equal(crops[0], photo[:28, :28])
    np.testing.assert_array_equal(crops[15], photo[:28, -28:])
    np.testing.assert_array_equal(crops[-1], photo[-28:, -28:])


@pytest.mark.parametrize("library", ["skimage", "sklearn"])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    module = {"skimage": "skimage.data", "sklearn": "sklearn.datasets"}[library]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"{library}.* is not installed; install the extra \[photos\]"):
        photos._load_photo(library, "astronaut")
