"""The index: what was read from a sweep's run folders, so that unchanged ones need not be read again.

One file, ``index.json``, in the folder that holds the run folders. It may be deleted at any time: the runs' own files
are the truth, and an entry counts only while its stamp (names, modification times, sizes) is that of the files.
It is replaced in one rename, so that readers beside a writer see the old or the new one, each of them right. Its first
line is a checksum of the rest: a damaged index is rebuilt, never believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from typing import Any

from jepa.results.run_files import Record, Stamp

INDEX = "index.json"
VERSION = 3
_KEYS = {"status", "config", "choices", "metrics", "overrides", "fields"}
_TEMPORARY = re.compile(re.escape(f".{INDEX}.") + r"(\d+)\.[0-9a-f]{8}\.tmp")
_ABANDONED_SECONDS = 60.0  # writing an index takes milliseconds


def load_index(folder: str) -> dict[str, tuple[Stamp, Record]]:
    """Run folder's name -> (stamp, record). Empty where there is no index, or none that can be used."""
    try:
        with open(f"{folder}/{INDEX}", "rb") as file:
            digest, _, body = file.read().partition(b"\n")
        if digest != _digest(body):
            return {}
        stored = json.loads(body)
        if stored["version"] != VERSION:
            return {}
        base = stored["base"]
        return {name: (stamp, _unpack(packed, base)) for name, (stamp, packed) in stored["runs"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def save_index(folder: str, entries: dict[str, tuple[Stamp, Record]]) -> bool:
    """Replace the index of ``folder``; False where that is not possible, which costs time and nothing else."""
    base = next(iter(entries.values()))[1]["config"] if entries else {}
    runs = {name: (stamp, _pack(record, base)) for name, (stamp, record) in entries.items()}
    body = json.dumps({"version": VERSION, "base": base, "runs": runs}, separators=(",", ":")).encode()
    temporary = f"{folder}/.{INDEX}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(_digest(body) + b"\n" + body)
        os.replace(temporary, f"{folder}/{INDEX}")
    except OSError:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        return False
    return True


def is_temporary(name: str) -> bool:
    """Whether a file of that name is an index being written, or one whose writer was killed."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_abandoned(path: str) -> None:
    """Remove the temporary file ``path`` unless its writer may still be at it.

    A writer on another machine whose file is removed under its hands only fails to renew the index.
    """
    match = _TEMPORARY.fullmatch(os.path.basename(path))
    with contextlib.suppress(OSError):
        if match and (not _alive(int(match[1])) or time.time() - os.stat(path).st_mtime > _ABANDONED_SECONDS):
            os.remove(path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _pack(record: Record, base: dict[str, Any]) -> Record:
    """The record with its configuration as the difference from ``base``: a sweep's runs share nearly all of it."""
    config = record["config"]
    changed = {key: value for key, value in config.items() if key not in base or not _same(base[key], value)}
    return {**record, "config": changed, "absent": [key for key in base if key not in config]}


def _unpack(packed: Record, base: dict[str, Any]) -> Record:
    record = dict(packed)
    config = {**base, **packed["config"]}
    for key in record.pop("absent"):
        del config[key]
    record["config"] = config
    if record.keys() != _KEYS:
        raise KeyError("a record of another shape")
    return record


def _same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)
