"""Who is at work in a job's folder: a lock that its holder's death releases, and a heartbeat for other machines.

``flock`` tells the truth on one machine, whatever killed the holder. A cluster's file system may not carry it from one
node to another; there the age of the file says whether somebody still touches it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Any, Protocol, TextIO

LEASE = ".lease"
HEARTBEAT_S = 5.0
STALE_S = 60.0  # a holder on another machine that has not touched its lease for so long is dead


class Heartbeat(Protocol):
    """Whatever is to be kept fresh while a job, or a pack of jobs, runs."""

    def touch(self) -> None:
        """Show that the holder is alive."""


class Lease:
    """The right to write into a job's folder; held until :meth:`release` or the end of the process."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file = file
        self._path = path

    @classmethod
    def take(cls, folder: Path, record: dict[str, Any], *, patience_s: float = 0.5) -> Lease | None:
        """Take the lease of ``folder``, which is made where it is missing.

        Args:
            folder: the job's folder.
            record: what others may want to know of the holder; machine, process and time are added.
            patience_s: how long to wait for a holder that is about to leave.

        Returns:
            The lease, or None where somebody else holds it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LEASE
        deadline = time.monotonic() + patience_s
        while True:
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 -- the open file is the lease
            if _lock(file) and not _held_elsewhere(path, file):
                break
            file.close()
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)
        lease = cls(file, path)
        lease.write({**record, "host": socket.gethostname(), "pid": os.getpid(), "started": time.time()})
        return lease

    def write(self, record: dict[str, Any]) -> None:
        """Replace what the lease says of its holder."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(record))
        self._file.flush()

    def touch(self) -> None:
        """Show machines that do not see the lock that the holder is alive."""
        os.utime(self._path)

    def release(self) -> None:
        """Let others in; the record stays, marked as left."""
        self.write({**_read(self._file), "left": True})
        self._file.close()


def holder(folder: Path) -> dict[str, Any] | None:
    """The record of whoever is at work in ``folder``, or None."""
    path = folder / LEASE
    try:
        file = open(path, "r+", encoding="utf-8")  # noqa: SIM115 -- closed below
    except OSError:
        return None
    with file:
        if _lock(file) and not _held_elsewhere(path, file):
            return None
        return _read(file) or {"host": "unknown"}


def last_holder(folder: Path) -> dict[str, Any]:
    """The record of whoever was at work in ``folder`` last; empty where nobody was."""
    try:
        with open(folder / LEASE, encoding="utf-8") as file:
            return _read(file)
    except OSError:
        return {}


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _held_elsewhere(path: Path, file: TextIO) -> bool:
    record = _read(file)
    if not record or record.get("left") or record.get("host") == socket.gethostname():
        return False
    age = time.time() - path.stat().st_mtime
    if age < -STALE_S:  # a clock was set back; a holder that lives touches its lease again
        os.utime(path)
        return True
    return age < STALE_S


def _read(file: TextIO) -> dict[str, Any]:
    file.seek(0)
    try:
        record = json.loads(file.read() or "{}")
    except ValueError:  # cut short by a power loss
        return {}
    return record if isinstance(record, dict) else {}


def forget(folder: Path) -> None:
    """Note that the death of the last holder has been seen, so that it is counted once."""
    held = Lease.take(folder, {})
    if held is not None:
        held.release()
