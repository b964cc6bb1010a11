"""Counts what a command and its processes do to the files of a folder, and kills at the n-th such operation.

Counted are the audit events of opening, renaming, removing and making: Python raises one before the operation, so the
kill comes between the operation before and this one. The count is the length of a file, which all processes of a
command append to. A process that is started anew (a worker of joblib) joins through ``sitecustomize`` (:func:`join`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
VARIABLE = "JEPA_TEST_WATCH"


def watch(folder: str, count_file: str, kill_at: int | None, kill_leader: bool) -> None:
    """From now on count operations below ``folder`` in this process and those it forks.

    Args:
        folder: an absolute path.
        count_file: grows by one byte an operation; outside of ``folder``.
        kill_at: the number of the operation that is not carried out, counted from 1; None: all are.
        kill_leader: whether the session's leader dies of it instead of the process at work.
    """
    os.environ[VARIABLE] = json.dumps([folder, count_file, kill_at, kill_leader])
    counter = os.open(count_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        if not os.path.abspath(os.fsdecode(arguments[0])).startswith(folder):
            return
        os.write(counter, b".")
        if kill_at is not None and os.fstat(counter).st_size == kill_at:
            os.kill(os.getsid(0) if kill_leader else os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def join() -> None:
    """Watch as the process does that started this one."""
    if VARIABLE in os.environ:
        watch(*json.loads(os.environ[VARIABLE]))
