"""Write ``run.log``, the log messages of a run for people. No other module does."""

from __future__ import annotations

import contextlib
import logging
import time
from logging.handlers import MemoryHandler
from pathlib import Path

from jepa.store.layout import RUN_LOG


class RunLog:
    """Writes the run's log messages to ``run.log``. Messages before :meth:`open` are buffered.

    Errors while writing do not stop the run.
    """

    def __init__(self) -> None:
        self._buffer = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
        self._file: logging.FileHandler | None = None

    def __enter__(self) -> RunLog:
        self._logger = logging.getLogger("jepa")
        self._level = self._logger.level
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self._buffer)
        return self

    def open(self, folder: Path) -> None:
        """Write to ``folder/run.log`` from now on, after the lines of earlier sittings."""
        self._file = _LogFile(folder / RUN_LOG, encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._buffer.setTarget(self._file)
        self._buffer.flush()
        self._logger.removeHandler(self._buffer)
        self._logger.addHandler(self._file)

    def crash(self, error: BaseException) -> None:
        """Write the traceback of the error that ended the run. The traceback goes to the log only."""
        if self._file is not None:
            record = self._logger.makeRecord("jepa", logging.ERROR, __file__, 0, "the run failed", (), None)
            record.exc_info = (type(error), error, error.__traceback__)
            self._file.handle(record)

    def __exit__(self, *exception: object) -> None:
        self._logger.setLevel(self._level)
        self._logger.removeHandler(self._buffer)
        if self._file is not None:
            self._logger.removeHandler(self._file)
            with contextlib.suppress(OSError):
                self._file.close()
        self._buffer.close()


class _LogFile(logging.FileHandler):
    """A log file that ignores errors such as a full disk. Python would print a traceback for each line."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing."""


def append_failure(folder: Path, error: str, traceback: str) -> None:
    """Append the error and the traceback of a job that could not write ``run.log`` itself."""
    with open(folder / RUN_LOG, "a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} failed: {error}\n{traceback}")
