"""Write to a standard output that may be closed or full, or whose encoding may lack characters of tables."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable

from jepa.terminal import ERRORS, silence


def guarded(answer: Callable[[], int]) -> int:
    """Call ``answer``, which writes to standard output, and handle errors of the output.

    Characters that the encoding lacks are written in ASCII.

    Returns:
        The exit code of ``answer``. 0 if the reader closed a pipe. 1, with one line on standard error, if the output
        cannot be written. 130 if the user interrupts.
    """
    if sys.stdout is None:  # the parent process closed standard output
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
        print(f"error: {where}{error.strerror or type(error).__name__}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    silence(sys.stdout)  # discard the rest, so that Python does not try to write it when the process ends
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    return code
