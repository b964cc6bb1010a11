"""The lock of a search's journal file. Optuna's own locks are files that a killed process leaves behind."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path


class FileLock:
    """Mutual exclusion among processes by ``flock`` and among threads; what Optuna's journal wants of a lock."""

    def __init__(self, path: Path) -> None:
        """path: the file to lock; made where it is missing."""
        self._path = path
        self._threads = threading.Lock()
        self._descriptor = -1

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._threads.acquire()
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise
        return True

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others in."""
        os.close(self._descriptor)
        self._threads.release()


def mend(path: Path, lock: FileLock) -> None:
    """Cut off a last line that a power loss left unfinished: Optuna would take what is appended to it for nonsense."""
    if not path.exists():
        return
    with lock, open(path, "r+b") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
