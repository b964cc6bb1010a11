"""Whether somebody is at work in a run's folder, found out without taking any of the locks that say so.

A run holds a lock on ``.lock``, and one that a sweep started holds ``.lease`` as well, which it touches every few
seconds for machines that do not see the lock. Trying the locks would be surer, but could keep a run from starting.
"""

from __future__ import annotations

import json
import os
import time

GRACE_SECONDS = 60.0
"""Without a lock to be seen, a folder is at work while its files or its lease are younger than this."""

SILENT_SECONDS = 600.0
"""The same where there is no list of locks (not Linux) and no lease that is touched: a run may write seldom."""

_LOCKS = "/proc/locks"


def at_work(folder: str, newest: float, held: frozenset[int]) -> bool:
    """Whether a run without a result goes on in ``folder``.

    Args:
        newest: when its files changed last, in Unix seconds.
        held: from :func:`locked_inodes`.
    """
    lock, lease = _stat(f"{folder}/.lock"), _stat(f"{folder}/.lease")
    if any(status is not None and status.st_ino in held for status in (lock, lease)):
        return True
    if lease is not None:
        if _left(f"{folder}/.lease"):
            return False
        newest = max(newest, lease.st_mtime)
    patient = lease is None and not os.path.exists(_LOCKS)
    return time.time() - newest < (SILENT_SECONDS if patient else GRACE_SECONDS)


def locked_inodes() -> frozenset[int]:
    """The inodes of all files that somebody on this machine holds a lock on; nothing where the system has no list."""
    try:
        with open(_LOCKS, encoding="ascii") as file:
            places = [word for line in file for word in line.split() if word.count(":") == 2]
    except (OSError, UnicodeDecodeError):
        return frozenset()
    return frozenset(int(place.rpartition(":")[2]) for place in places)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _left(lease: str) -> bool:
    """Whether the lease's last holder said that it was leaving."""
    try:
        with open(lease, encoding="utf-8") as file:
            record = json.loads(file.read())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and bool(record.get("left"))
