"""What a sweep says goes to a screen, a pipe or a file that may be closed or full; the sweep goes on without it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from jepa.results import streams  # registers the error handler for characters that an encoding lacks


class Tolerant:
    """A text stream that drops what cannot be written."""

    def __init__(self, stream: TextIO | None) -> None:
        """stream: None where it was closed before the program started."""
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=streams.ERRORS)
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write ``text``, or drop it."""
        if self._stream is not None:
            try:
                self._stream.write(text)
            except (OSError, ValueError):
                self._drop()
        return len(text)

    def flush(self) -> None:
        """Bring out what is written, or drop it."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._drop()

    def isatty(self) -> bool:
        """Whether somebody may be looking."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def _drop(self) -> None:
        """Send the stream to nowhere: what it still holds would fail again when the process ends."""
        assert self._stream is not None
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._stream.flush()


@contextlib.contextmanager
def tolerant() -> Iterator[None]:
    """Standard output and standard error are :class:`Tolerant` meanwhile."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Tolerant(out), Tolerant(err)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = out, err
