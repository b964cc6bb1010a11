"""Child processes that are forked from this one."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable


def forked() -> int:
    """Flush the output, then fork: buffered text would be printed twice. Returns the value of ``os.fork``."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about threads: no thread holds a lock here
        return os.fork()


def in_child(compute: Callable[[], str]) -> str:
    """What ``compute`` returns, computed in a forked child process; empty if it fails: its traceback is printed.

    The child keeps CUDA uninitialised in this process, whose later children could not use it otherwise.
    """
    reading, writing = os.pipe()
    child = forked()
    if child == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            with os.fdopen(writing, "w") as pipe:
                pipe.write(compute())
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            return pipe.read()
    finally:
        os.waitpid(child, 0)
