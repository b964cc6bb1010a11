"""A sitting: one process that runs a sweep. Its files tell its jobs whether it is alive and whether to stop."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jepa.store.layout import SITTINGS
from jepa.store.locks import Lock, is_free


@dataclass(frozen=True)
class Sitting:
    """One process that runs a sweep, and the lock file and the stop file that its jobs watch."""

    folder: Path  # the sweep's folder
    name: str
    host: str
    pid: int

    @classmethod
    def here(cls, folder: Path, name: str) -> Sitting:
        """The sitting of this process. A name that an earlier sitting was stopped under gets a number."""
        found = cls(folder, name, socket.gethostname(), os.getpid())
        number = 1
        while found.stop_file.exists():
            found = cls(folder, f"{name}-{number}", found.host, found.pid)
            number += 1
        return found

    @property
    def lock_file(self) -> Path:
        """The file that the sitting's process keeps locked while it is alive."""
        return self.folder / SITTINGS / f"{self.name}.lock"

    @property
    def stop_file(self) -> Path:
        """The file whose existence tells the sitting's jobs to stop.

        It is not removed, because jobs may still wait in a cluster's queue.
        """
        return self.folder / SITTINGS / f"{self.name}.stop"

    def stop(self) -> None:
        """Tell all jobs of this sitting, on any machine, to save their checkpoints and stop."""
        self.stop_file.parent.mkdir(parents=True, exist_ok=True)
        self.stop_file.touch()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock file, which shows that this sitting is alive."""
        self.lock_file.parent.mkdir(parents=True, exist_ok=True)
        for path in self.lock_file.parent.glob("*.lock"):
            if is_free(path):
                path.unlink(missing_ok=True)  # left by a sitting that was killed
        with Lock(self.lock_file):
            try:
                yield
            finally:
                self.lock_file.unlink(missing_ok=True)

    def is_dead(self) -> bool:
        """Whether the sitting's process on this machine has ended. Always False for a sitting on another machine."""
        return self.host == socket.gethostname() and is_free(self.lock_file)

    def is_here(self) -> bool:
        """Whether this process is the sitting's process."""
        return self.pid == os.getpid() and self.host == socket.gethostname()
