"""Checkpoints: written atomically, verified before use, read without executing code, exact to the bit on a CPU.

A checkpoint is one ``torch.save`` file of tensors, numbers and strings, so ``torch.load(weights_only=True)`` reads it.
The file is a zip archive. Its comment ends in the SHA-256 of all preceding bytes, because torch verifies no checksum.
A run keeps its last two checkpoints.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import re
import struct
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from jepa.errors import ConfigError, nearest
from jepa.files import atomic_path
from jepa.store.layout import LAST, PREVIOUS, free_name

_Value = TypeVar("_Value")

FORMAT = 1

_MARK = b"jepa-sha256:"  # at the start of the archive's comment; 64 hexadecimal digits follow
_COMMENT_BYTES = len(_MARK) + 64
# Module names: original code base -> this project. The first matching prefix is used. The original's backbone is a
# Sequential if an MLP follows the encoder.
_ORIGINAL_PREFIXES = {"backbone.0.": "encoder.", "backbone.1.": "encoder.mlp.", "backbone.": "encoder."}


class DamagedCheckpoint(ConfigError):
    """A file that is damaged or is not a checkpoint."""


class Latest(NamedTuple):
    """The newest usable checkpoint of a run."""

    state: dict[str, Any] | None  # None: no usable checkpoint
    path: Path | None  # the file of ``state``
    damaged: list[tuple[Path, str]]  # newer checkpoints that cannot be used, each with the reason


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` as the last checkpoint of the run in ``folder``, and keep the old one as the previous checkpoint.

    At every moment, at least one of the two checkpoints is complete.

    Raises:
        OSError: the file cannot be written. The old checkpoints are unchanged.
    """
    content = _sealed({"format": FORMAT, **state})
    last = folder / LAST
    with atomic_path(last) as temporary:
        temporary.write_bytes(content)
        if last.exists():
            os.replace(last, folder / PREVIOUS)


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, lists of them) with a checksum, atomically. :func:`load` reads it."""
    content = _sealed(state)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def latest(folder: Path, config_hash: str | None) -> Latest:
    """Read the last checkpoint of the run in ``folder``, or the previous one if the last is damaged or missing.

    No file is written or moved. config_hash: the hash that the checkpoint must have; None: any.

    Raises:
        ConfigError: a checkpoint lacks read permission, or has another format or configuration.
    """
    damaged: list[tuple[Path, str]] = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            return Latest(load_for_resume(path, config_hash), path, damaged)
        except DamagedCheckpoint as error:
            damaged.append((path, str(error)))
    return Latest(None, None, damaged)


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint to ``<name>.damaged`` (``<name>.damaged.1``, ...). Returns the new path."""
    target = path.with_name(f"{path.name}.damaged")
    return path.rename(free_name(target) if target.exists() else target)


def drop_previous(folder: Path) -> None:
    """Remove the previous checkpoint of a finished run, which no run continues from."""
    with contextlib.suppress(OSError):
        (folder / PREVIOUS).unlink(missing_ok=True)


def load(path: Path, called: str = "checkpoint ") -> dict[str, Any]:
    """Verify the checksum of a checkpoint, then read it onto the CPU. Files of the original code base have no checksum.

    called: the words before the path in messages.

    Raises:
        DamagedCheckpoint: the file is cut short, was changed, or is no checkpoint.
        ConfigError: the file is missing, or lacks read permission.
    """
    if not path.exists():
        raise ConfigError(f"{called}{path}: no such file")
    try:
        content = path.read_bytes()
    except PermissionError as error:
        raise ConfigError(f"{called}{path}: cannot be read ({error.strerror})") from error
    except OSError as error:
        raise DamagedCheckpoint(f"{called}{path}: cannot be read ({error.strerror})") from error
    sealed = _verified(f"{called}{path}", content)
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler raises errors of many kinds for damaged files
        raise DamagedCheckpoint(
            f"{called}{path} ({len(content)} bytes): cut short or no checkpoint ({_first_line(error)})"
        ) from error
    if not isinstance(state, dict):
        raise DamagedCheckpoint(f"{called}{path}: holds a {type(state).__name__}, not a checkpoint's dictionary")
    if state.get("sealed") and not sealed:
        raise DamagedCheckpoint(f"{called}{path}: damaged, its checksum is missing")
    return state


def load_for_resume(path: Path, config_hash: str | None) -> dict[str, Any]:
    """Read the checkpoint of an interrupted run. config_hash: the hash that the checkpoint must have; None: any.

    Raises:
        DamagedCheckpoint: the file cannot be read.
        ConfigError: the checkpoint has another format or another configuration.
    """
    state = load(path)
    if state.get("format") != FORMAT or "model" not in state:
        raise ConfigError(f"checkpoint {path}: format {state.get('format')!r}, this version reads format {FORMAT}")
    if config_hash is not None and state.get("config_hash") != config_hash:
        raise ConfigError(
            f"checkpoint {path}: belongs to configuration {state.get('config_hash')}, this one is {config_hash}; "
            "use another folder, or init_from= to start from its weights"
        )
    return state


def initial_model(path: Path, expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights to start from (``init_from=``): a checkpoint of this project or one of the original code base.

    Args:
        path: a file holding ``model`` (this project) or ``model_state_dict`` (the original).
        expected: the model's parameters and persistent buffers by name.

    Returns:
        The weights by name, and the names in the file that the model does not use.

    Raises:
        ConfigError: the file cannot be read, or a weight is missing or has another shape.
    """
    weights = our_names(_weights(path), expected)
    _check_fit(path, {name: value.shape for name, value in weights.items()}, expected)
    return {name: weights[name] for name in expected}, sorted(set(weights) - set(expected))


def check_initial_model(path: Path, expected: Mapping[str, Tensor]) -> None:
    """Raise the errors of :func:`initial_model` early. The shapes are cached, so many jobs read a file only once.

    Raises:
        ConfigError: as :func:`initial_model`.
    """
    status = path.stat()
    shapes = _shapes(path, status.st_mtime_ns, status.st_size)
    _check_fit(path, our_names(shapes, expected), expected)


@functools.lru_cache(maxsize=8)
def _shapes(path: Path, mtime_ns: int, size: int) -> Mapping[str, torch.Size]:
    """The shape of each weight in a file. mtime_ns, size: cache keys, which change when the file is replaced."""
    return {name: value.shape for name, value in _weights(path).items()}


def _weights(path: Path) -> dict[str, Tensor]:
    """The weights of a model in a file, by their names in the file."""
    state = load(path, "init_from=")
    weights = state.get("model", state.get("model_state_dict"))
    if not isinstance(weights, dict):
        raise ConfigError(
            f"init_from={path}: holds neither 'model' nor 'model_state_dict' (has: {', '.join(map(str, state))[:200]})"
        )
    return {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}


def _check_fit(path: Path, shapes: Mapping[str, torch.Size], expected: Mapping[str, Tensor]) -> None:
    for name, value in expected.items():
        if name not in shapes:
            hint = nearest(name, shapes)
            raise ConfigError(f"init_from={path}: no weight {name!r}" + (f"; nearest is {hint!r}" if hint else ""))
        if shapes[name] != value.shape:
            raise ConfigError(
                f"init_from={path}: {name!r} has shape {list(shapes[name])}, the model needs {list(value.shape)}"
            )


def _sealed(state: Mapping[str, Any]) -> bytes:
    """The bytes that ``torch.save`` writes for ``state``, with a checksum as the archive's comment."""
    buffer = io.BytesIO()
    torch.save({"sealed": True, **state}, buffer)
    content = bytearray(buffer.getvalue())
    content[-2:] = struct.pack("<H", _COMMENT_BYTES)  # the last field of a zip archive is the length of its comment
    content += _MARK
    return bytes(content) + hashlib.sha256(content).hexdigest().encode()


def _verified(name: str, content: bytes) -> bool:
    """Verify the file's checksums. Returns whether the file has a checksum of this project.

    Without one, the checksums of the zip archive's members are verified.

    Raises:
        DamagedCheckpoint: a checksum differs.
    """
    if content[-_COMMENT_BYTES:].startswith(_MARK):
        if hashlib.sha256(content[:-64]).hexdigest().encode() != content[-64:]:
            raise DamagedCheckpoint(f"{name}: damaged, its checksum differs")
        return True
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            member = archive.testzip()
    except Exception:  # no zip archive: an older torch format, or no checkpoint; torch.load decides
        return False
    if member is not None:
        raise DamagedCheckpoint(f"{name}: damaged, the checksum of its part {member} differs")
    return False


@functools.cache
def _numpy_numbers() -> list[Any]:
    """The functions and types that torch may use to unpickle numpy scalars. They run no code of the file.

    Other programs save numpy scalars beside their tensors.
    """
    scalar = np.float64(0).__reduce__()[0]
    spellings = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*spellings, np.dtype, *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"}]


def our_names(weights: Mapping[str, _Value], expected: Iterable[str]) -> dict[str, _Value]:
    """Rename ``weights`` (or their shapes) to the names of this version's models.

    The original code base and earlier versions have other names for some weights. expected: the model's weight names.
    """
    expected = frozenset(expected)
    return {_name_in_terms(_our_name(name), expected): value for name, value in weights.items()}


def _our_name(name: str) -> str:
    for original, ours in _ORIGINAL_PREFIXES.items():
        if name.startswith(original):
            return ours + name[len(original) :]
    return name


def _name_in_terms(name: str, expected: Collection[str]) -> str:
    """Add the loss term to the name of its weight. Files of earlier versions and of the original omit the term."""
    ending = re.compile(r"terms\.\w+\." + re.escape(name) + "$")
    return next((ours for ours in expected if name not in expected and ending.match(ours)), name)


def _first_line(error: BaseException) -> str:
    """torch's error about a file, in one line, without torch's advice to load the file by executing its code."""
    found = re.search(r"(Unsupported \w+: \w+ [\w.]+|GLOBAL [\w.]+)", str(error))
    if found:
        return f"holds objects that torch reads by running code: {found[1].split()[-1].rstrip('.')}"
    if str(error).startswith("Weights only load failed") or not str(error).strip():
        return type(error).__name__
    return str(error).strip().splitlines()[0][:120]
