"""The index: what was read from a sweep's run folders, so that unchanged ones need not be read again.

One file, ``index.json``, in the folder that holds the run folders. It may be deleted at any time: the runs' own files
are the truth, and an entry counts only while its stamp (names, modification times, sizes) is that of the files.
It is replaced in one rename, so that readers beside a writer see the old or the new one, each of them right.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from jepa.results.run_files import Record, Stamp

INDEX = "index.json"
VERSION = 1
_KEYS = {"status", "config", "choices", "metrics", "overrides", "fields"}


def load_index(folder: str) -> dict[str, tuple[Stamp, Record]]:
    """Run folder's name -> (stamp, record). Empty where there is no index, or none that can be used."""
    try:
        with open(f"{folder}/{INDEX}", "rb") as file:
            stored = json.loads(file.read())
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
    temporary = f"{folder}/.{INDEX}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({"version": VERSION, "base": base, "runs": runs}, file, separators=(",", ":"))
        os.replace(temporary, f"{folder}/{INDEX}")
    except OSError:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        return False
    return True


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
