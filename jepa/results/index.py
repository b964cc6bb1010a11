"""The index: a cache of the records of a sweep's runs, so that unchanged run folders need not be read again.

The index is the file ``index.json`` in the folder that holds the run folders. It may be deleted at any time. An entry
is used only if its stamp (names, modification times, sizes) equals that of the run's files. The first line is a
checksum of the rest. A damaged index is rebuilt.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from jepa.files import atomic_path
from jepa.results.run_files import Record, Stamp

INDEX = "index.json"
VERSION = 3
_KEYS = {"status", "config", "choices", "metrics", "overrides", "fields"}
TEMPORARY = ".index."  # the prefix of the index's temporary files


def load_index(folder: str) -> dict[str, tuple[Stamp, Record]]:
    """Read the index: run folder's name -> (stamp, record). Empty if there is no usable index."""
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


def save_index(folder: str, entries: dict[str, tuple[Stamp, Record]]) -> None:
    """Replace the index of ``folder``. If the index cannot be written, the error is ignored."""
    base = next(iter(entries.values()))[1]["config"] if entries else {}
    runs = {name: (stamp, _pack(record, base)) for name, (stamp, record) in entries.items()}
    body = json.dumps({"version": VERSION, "base": base, "runs": runs}, separators=(",", ":")).encode()
    with contextlib.suppress(OSError), atomic_path(Path(folder, INDEX)) as temporary:
        temporary.write_bytes(_digest(body) + b"\n" + body)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _pack(record: Record, base: dict[str, Any]) -> Record:
    """Store a record's configuration as the difference from ``base``, because a sweep's runs share most keys."""
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
