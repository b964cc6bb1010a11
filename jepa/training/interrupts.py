"""Turns SIGINT, SIGTERM and SIGHUP into a request that the training loop checks between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heeded() -> list[signal.Signals]:
    """The signals that ask this process to stop. Under ``nohup``, which ignores SIGHUP, SIGHUP is not among them."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in SIGNALS if not (ignored and number == signal.SIGHUP)]


class StopRequest:
    """While active, the first signal only sets :attr:`requested`; the next SIGINT or SIGTERM acts as usual.

    A second SIGHUP changes nothing, because closing a terminal sends SIGHUP twice (from the kernel and the shell).
    Python installs signal handlers in the main thread only; in another thread :attr:`requested` stays false.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in heeded()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore(SIGNALS)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore((signal.SIGINT, signal.SIGTERM))

    def _restore(self, numbers: tuple[signal.Signals, ...]) -> None:
        for number in numbers:
            if number in self._previous:
                signal.signal(number, self._previous.pop(number))
