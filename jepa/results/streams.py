"""Writing to a standard output that may be closed, full, or without the characters that tables use."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable

from jepa.terminal import ERRORS, silence


def guarded(answer: Callable[[], int]) -> int:
    """The exit code of ``answer``, which writes to standard output, whatever that is.

    0 where the reader closed a pipe, which means that it has seen enough. 1, with one line on standard error, where
    something cannot be written. 130 where the user interrupts. Characters that the encoding lacks are written in ASCII.
    """
    if sys.stdout is None:  # closed by whoever started this process
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - stays open to the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=ERRORS)
    try:
        code = answer()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        code = 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else "standard output: "
        print(f"jepa.results: {where}{error.strerror or type(error).__name__}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    silence(sys.stdout)  # what could not be written is not tried again when the process ends
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    return code
