"""Atomic writing and checked reading of files. A file is written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Names of temporary files: those of ``atomic_path``, of earlier versions, and of copied results.
_TEMPORARY = re.compile(r"\..+\.(?P<pid>[0-9]+)(-[0-9a-f]{6}(\.\w+)?|\.tmp)")

_SEAL = b',\n  "checksum": "'


PathLike = str | os.PathLike[str]


class Damaged(ValueError):
    """A file cannot be read, or its content has changed since it was written.

    reason: words that follow the file's name in the message. path: the file; ``reading`` adds it.
    """

    def __init__(self, reason: str, path: Path | None = None) -> None:
        super().__init__(reason if path is None else f"{path}: {reason}")
        self.reason = reason
        self.path = path


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every error of reading or parsing ``path`` into ``Damaged``.

    Raises:
        FileNotFoundError: the file does not exist.
        Damaged: the file cannot be read or parsed, or ``path`` is a broken link.
    """
    try:
        yield
    except Damaged as damage:
        raise Damaged(damage.reason, path) from damage
    except Exception as error:  # the errors of parsers have no common base class
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise
        why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise Damaged(f"cannot be read ({why})", path) from error


def read_json(path: Path) -> Any:
    """Read the JSON in ``path``; verify its checksum if it has one. Raises as :func:`reading`."""
    with reading(path):
        return parse_sealed_json(path.read_bytes())


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; at the end rename it to ``path``, or remove it after an error.

    ``path`` holds the old content or the new content at any moment, never a part, even after a crash. The temporary
    name keeps the suffix, because some writers choose the format by it. Missing folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(3)}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_text_atomic(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json_atomic(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as JSON, atomically. NaN and infinities become null, because JSON lacks them."""
    write_text_atomic(path, json.dumps(to_plain(value), indent=2, allow_nan=False) + "\n")


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """As :func:`write_json_atomic`, plus a last entry ``checksum``: the checksum of the text before this entry."""
    plain = {key: item for key, item in to_plain(value).items() if key != "checksum"}
    body = json.dumps(plain, indent=2, allow_nan=False).removesuffix("\n}")
    write_text_atomic(path, f'{body}{_SEAL.decode()}{_digest(body.encode())}"\n}}\n')


def parse_sealed_json(data: bytes) -> Any:
    """Parse JSON written by :func:`write_sealed_json`. JSON without a checksum is accepted: earlier versions write it.

    Raises:
        Damaged: the text does not match its checksum.
        ValueError: the text is not JSON.
    """
    body, seal, digest = data.rpartition(_SEAL)
    if seal and digest.strip(b'" \n}').decode(errors="replace") != _digest(body):
        raise Damaged("does not match its checksum")
    return json.loads(data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def remove_leftovers(*folders: Path) -> None:
    """Remove temporary files of killed processes in ``folders``. Call it while no other process writes there."""
    for folder in folders:
        with contextlib.suppress(OSError):
            for path in list(folder.iterdir()):
                remove_leftover(path)


def remove_leftover(path: Path) -> None:
    """Remove ``path`` if it is a temporary file that is older than an hour or whose process has ended here."""
    found = _TEMPORARY.fullmatch(path.name)
    with contextlib.suppress(OSError):
        if found and (not _is_running(int(found["pid"])) or time.time() - path.stat().st_mtime > 3600):
            path.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether ``error`` means that the disk is full or the user's disk quota is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full_words(folder: Path) -> str:
    """The message for a user whose disk is full."""
    return f"no space left on the device of {folder}; free some and give the same command again"


def to_plain(value: Any) -> Any:
    """Convert ``value`` to types that JSON can hold, at every level of nesting.

    Mappings become dictionaries, tuples lists, paths text. Numbers of numpy and torch become Python numbers, and their
    arrays become lists. A float that is not finite becomes None.
    """
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # the process of another user
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Synchronise a folder, so that a rename survives a power loss. Windows cannot do this, so skip it there."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
