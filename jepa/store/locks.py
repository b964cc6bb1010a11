"""File locks and leases, which show whether a process works in a folder.

A file lock is released when its process ends, also when the process is killed. On a cluster, the shared file system may
not show a lock to other nodes. Therefore the holder of a lease also touches the file regularly, and other machines look
at the age of the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from jepa.store.layout import LEASE, LOCK

POLL_S = 0.005  # interval between attempts to take a lock
HEARTBEAT_S = 5.0  # interval at which the holder touches a lease
STALE_S = 60.0  # a lease of another machine is free if it was not touched for this long
SILENT_S = 600.0  # the same for a folder without a lease if locks cannot be listed: a run may write rarely
_LISTED = "/proc/locks"


class Lock:
    """Mutual exclusion among processes and threads by a lock on a file. The file stays when the lock is released."""

    def __init__(self, path: Path) -> None:
        """path: the file to lock. A missing file is created; its folder must exist."""
        self.path = path
        self.file: TextIO | None = None  # open while the lock is held
        self._threads = threading.Lock()

    def acquire(self, patience_s: float | None = None) -> bool:
        """Take the lock. On a file system without locks, every process succeeds.

        Args:
            patience_s: how long to wait for another holder, in seconds; None: without limit.

        Returns:
            Whether this object holds the lock now.

        Raises:
            OSError: the file cannot be opened.
        """
        deadline = None if patience_s is None else time.monotonic() + patience_s
        if not self._threads.acquire(timeout=-1 if patience_s is None else patience_s):
            return False
        try:
            while not self._try():
                if deadline is not None and time.monotonic() >= deadline:
                    break
                time.sleep(POLL_S)
        finally:
            if self.file is None:
                self._threads.release()
        return self.file is not None

    def _try(self) -> bool:
        from filelock import lock_descriptor  # late, because tables of results take no lock

        file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 -- the open file is the lock
        try:
            free = lock_descriptor(file.fileno(), blocking=False)
        except OSError:  # the file system has no locks
            free = True
        except BaseException:
            file.close()
            raise
        if free and self.suits(file):
            self.file = file
            return True
        file.close()
        return False

    def suits(self, file: TextIO) -> bool:
        """Whether to keep a lock that was just taken. Subclasses may refuse it."""
        return True

    def release(self) -> None:
        """Release the lock."""
        assert self.file is not None
        file, self.file = self.file, None
        file.close()
        self._threads.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()


def is_free(path: Path) -> bool:
    """Whether no process on this machine holds the lock on ``path``. True if the file does not exist."""
    if not path.exists():
        return True
    lock = Lock(path)
    with contextlib.suppress(OSError):
        if not lock.acquire(0):
            return False
        lock.release()
    return True


# --- the lease of a sweep's job --------------------------------------------------------------------------------------


class Lease(Lock):
    """The right to work in a job's folder, until :meth:`release` or the end of the process. Records its holder."""

    @classmethod
    def take(cls, folder: Path, record: dict[str, Any], *, patience_s: float = 0.5) -> Lease | None:
        """Take the lease of ``folder``.

        Args:
            folder: the job's folder; created if it is missing.
            record: facts about the holder. Machine, process id and time are added.
            patience_s: how long to wait for a holder that is about to leave, in seconds.

        Returns:
            The lease; None if another process holds it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lease = cls(folder / LEASE)
        if not lease.acquire(patience_s):
            return None
        lease.write({**record, "host": socket.gethostname(), "pid": os.getpid(), "started": time.time()})
        return lease

    def suits(self, file: TextIO) -> bool:
        """Whether no other machine holds the lease: the last holder left, or did not touch the lease for STALE_S."""
        record = _read(file)
        if not record or record.get("left") or record.get("host") == socket.gethostname():
            return True
        age = time.time() - self.path.stat().st_mtime
        if age < -STALE_S:  # a clock was set back: reset the time, then wait for a living holder to touch the lease
            os.utime(self.path)
            return False
        return age >= STALE_S

    def write(self, record: dict[str, Any]) -> None:
        """Replace the record of the holder."""
        assert self.file is not None
        self.file.seek(0)
        self.file.truncate()
        self.file.write(json.dumps(record))
        self.file.flush()

    def touch(self) -> None:
        """Renew the file's time, which tells other machines that the holder is alive."""
        os.utime(self.path)

    def release(self) -> None:
        """Release the lease. Its record stays and is marked as left."""
        assert self.file is not None
        self.write({**_read(self.file), "left": True})
        super().release()


class Leases:
    """The leases of all jobs of a pack."""

    def __init__(self, leases: Iterable[Lease]) -> None:
        self._leases = list(leases)

    def touch(self) -> None:
        """Touch every lease."""
        for held in self._leases:
            held.touch()


def holder(folder: Path) -> dict[str, Any] | None:
    """The record of the process that works in the job's ``folder``; None if no process does."""
    lease = Lease(folder / LEASE)
    try:
        if not lease.path.exists():
            return None
        if not lease.acquire(0):
            return last_holder(folder) or {"host": "unknown"}
    except OSError:
        return None
    Lock.release(lease)  # the record stays as it is
    return None


def last_holder(folder: Path) -> dict[str, Any]:
    """The record of the present or last process that worked in the job's ``folder``; empty if there was none."""
    try:
        with open(folder / LEASE, encoding="utf-8") as file:
            return _read(file)
    except OSError:
        return {}


def forget(folder: Path) -> None:
    """Mark the last holder as left, so that its death is counted only once."""
    held = Lease.take(folder, {})
    if held is not None:
        held.release()


def _read(file: TextIO) -> dict[str, Any]:
    file.seek(0)
    try:
        record = json.loads(file.read() or "{}")
    except ValueError:  # cut short by a power loss
        return {}
    return record if isinstance(record, dict) else {}


# --- without taking a lock -------------------------------------------------------------------------------------------


def at_work(folder: str, newest: float, held: frozenset[int]) -> bool:
    """Whether a process works on an unfinished run in ``folder``, judged without taking its locks.

    Taking the locks would be more reliable, but could prevent a run from starting.

    Args:
        newest: the last modification time of the run's files, in Unix seconds.
        held: from :func:`locked_inodes`.
    """
    lock, lease = _stat(f"{folder}/{LOCK}"), _stat(f"{folder}/{LEASE}")
    if any(status is not None and status.st_ino in held for status in (lock, lease)):
        return True
    if lease is not None:
        if last_holder(Path(folder)).get("left"):
            return False
        newest = max(newest, lease.st_mtime)
    patient = lease is None and not os.path.exists(_LISTED)
    return time.time() - newest < (SILENT_S if patient else STALE_S)


def locked_inodes() -> frozenset[int]:
    """The inodes of all locked files on this machine; empty if the system has no list of locks."""
    try:
        with open(_LISTED, encoding="ascii") as file:
            places = [word for line in file for word in line.split() if word.count(":") == 2]
    except (OSError, UnicodeDecodeError):
        return frozenset()
    return frozenset(int(place.rpartition(":")[2]) for place in places)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
