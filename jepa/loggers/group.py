"""The loggers of one run, called together: a logger that raises does not end the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from jepa.errors import error_words
from jepa.loggers.base import Logger

log = logging.getLogger(__name__)


class LoggerGroup:
    """Calls loggers in their order. A logger that has raised is not called again."""

    def __init__(self, loggers: Iterable[Logger]) -> None:
        self._loggers = list(loggers)

    def tell(self, act: Callable[[Logger], None]) -> None:
        """Call ``act`` with each logger.

        Raises:
            Exception: the error of an essential logger. The error of another logger becomes a warning.
        """
        for logger in list(self._loggers):
            try:
                act(logger)
            except Exception as error:
                if logger.essential:
                    raise
                self._loggers.remove(logger)
                log.warning("%s: the run goes on without it: %s", type(logger).__name__, error_words(error))
