"""Files that are there whole or not at all: written under another name, then renamed."""

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

# What ``atomic_path`` calls its temporary files, and what earlier versions and copies of results called theirs.
_TEMPORARY = re.compile(r"\..+\.(?P<pid>[0-9]+)(-[0-9a-f]{6}(\.\w+)?|\.tmp)")

_SEAL = b',\n  "checksum": "'


PathLike = str | os.PathLike[str]


class Damaged(ValueError):
    """A file cannot be read, or does not hold what was written there.

    reason: what is wrong, to follow the file's name. path: the file; ``reading`` adds it.
    """

    def __init__(self, reason: str, path: Path | None = None) -> None:
        super().__init__(reason if path is None else f"{path}: {reason}")
        self.reason = reason
        self.path = path


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever the content of ``path`` leads a parser to into ``Damaged``.

    Raises:
        FileNotFoundError: there is no such file.
        Damaged: the file cannot be read; a link that leads nowhere counts as damaged.
    """
    try:
        yield
    except Damaged as damage:
        raise Damaged(damage.reason, path) from damage
    except Exception as error:  # parsers have no common base of their errors
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise
        why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise Damaged(f"cannot be read ({why})", path) from error


def read_json(path: Path) -> Any:
    """The JSON in ``path``, checked where it carries a checksum. Raises as :func:`reading`."""
    with reading(path):
        return parse_sealed_json(path.read_bytes())


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; moved onto ``path`` at the end, removed on an error.

    A reader, and a crash at any moment, finds the old content or the new, never a part. The temporary name keeps the
    suffix, which some writers choose their format by. Folders are made as needed.
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
    """Put ``text`` at ``path``, in UTF-8, as ``atomic_path`` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json_atomic(path: Path, value: Any) -> None:
    """Put ``value`` at ``path`` as JSON, with NaN and infinities, which JSON lacks, as null."""
    write_text_atomic(path, json.dumps(to_plain(value), indent=2, allow_nan=False) + "\n")


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """As :func:`write_json_atomic`, with a last entry ``checksum`` over the text before it."""
    plain = {key: item for key, item in to_plain(value).items() if key != "checksum"}
    body = json.dumps(plain, indent=2, allow_nan=False).removesuffix("\n}")
    write_text_atomic(path, f'{body}{_SEAL.decode()}{_digest(body.encode())}"\n}}\n')


def parse_sealed_json(data: bytes) -> Any:
    """What :func:`write_sealed_json` wrote. JSON without a checksum, as earlier versions and people write, is taken.

    Raises:
        Damaged: the text is not the one that the checksum was made of.
        ValueError: it is no JSON.
    """
    body, seal, digest = data.rpartition(_SEAL)
    if seal and digest.strip(b'" \n}').decode(errors="replace") != _digest(body):
        raise Damaged("does not match its checksum")
    return json.loads(data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def remove_leftovers(*folders: Path) -> None:
    """Remove temporary files that killed processes left in ``folders``; call it while nobody else writes there."""
    for folder in folders:
        with contextlib.suppress(OSError):
            for path in list(folder.iterdir()):
                remove_leftover(path)


def remove_leftover(path: Path) -> None:
    """Remove a temporary file whose process is gone from this machine, or that is older than an hour; no other file."""
    found = _TEMPORARY.fullmatch(path.name)
    with contextlib.suppress(OSError):
        if found and (not _is_running(int(found["pid"])) or time.time() - path.stat().st_mtime > 3600):
            path.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether ``error`` says that there is no space left, or that the user's share of the disk is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full_words(folder: Path) -> str:
    """What to tell a user whose disk is full."""
    return f"no space left on the device of {folder}; free some and give the same command again"


def to_plain(value: Any) -> Any:
    """``value`` as JSON can hold it, in dictionaries and lists throughout.

    Numbers of numpy and torch become Python's, arrays lists, paths text; a float that is not finite becomes None.
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
    except (OSError, OverflowError):  # somebody else's process
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power loss, where the system lets a folder be synchronised (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
