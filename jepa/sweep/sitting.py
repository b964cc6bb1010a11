"""One process that runs a sweep. Its jobs see in its files whether it lives and whether they should stop."""

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
    """Names one process that runs a sweep, and the files by which its jobs know it."""

    folder: Path  # of the sweep
    name: str
    host: str
    pid: int

    @classmethod
    def here(cls, folder: Path, name: str) -> Sitting:
        """The sitting of this process."""
        return cls(folder, name, socket.gethostname(), os.getpid())

    @property
    def lock_file(self) -> Path:
        """Locked by the sitting as long as it lives."""
        return self.folder / SITTINGS / f"{self.name}.lock"

    @property
    def stop_file(self) -> Path:
        """Tells the sitting's jobs to stop. It stays, for jobs that still wait in a cluster's queue."""
        return self.folder / SITTINGS / f"{self.name}.stop"

    def stop(self) -> None:
        """Tell every job of this sitting to save its checkpoint and leave, wherever it runs."""
        self.stop_file.parent.mkdir(parents=True, exist_ok=True)
        self.stop_file.touch()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Show that this sitting lives, until it ends or is killed."""
        self.lock_file.parent.mkdir(parents=True, exist_ok=True)
        for path in self.lock_file.parent.glob("*.lock"):
            if is_free(path):
                path.unlink(missing_ok=True)  # of a sitting that was killed
        with Lock(self.lock_file):
            try:
                yield
            finally:
                self.lock_file.unlink(missing_ok=True)

    def is_dead(self) -> bool:
        """Whether the sitting was on this machine and is no more; a process of another machine cannot tell."""
        return self.host == socket.gethostname() and is_free(self.lock_file)

    def is_here(self) -> bool:
        """Whether this very process is the sitting."""
        return self.pid == os.getpid() and self.host == socket.gethostname()
