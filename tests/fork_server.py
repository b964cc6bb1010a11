"""A process that has imported the program and forks for every command: a command then takes a second less.

It reads one request a line from its standard input and answers each with one line, both in JSON:
``{"start": {...}}`` -> ``{"pid": 123}`` and ``{"poll": 123}`` -> ``{"code": null}`` while the command runs, afterwards
its exit code or minus the signal's number. Run by :class:`harness.Server`.

A started command is the leader of a session of its own. The keys of ``start``: ``module`` (one of ``ENTRIES``, or
``script``, whose path is the first argument), ``arguments``, ``folder`` (its working folder), ``out`` and ``err``
(files), ``environment``, ``at`` (a time of the monotonic clock to wait for), and what
:func:`file_operations.watch` takes.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import sys
import time
from typing import Any

from file_operations import watch

# What a run, a search and their launchers import while they work. None of them starts a thread.
PRELOADED = (
    *("torch", "optuna", "numpy", "matplotlib.figure", "rich.progress", "hydra.core.plugins", "jepa.run"),
    *("jepa.training.trainer", "jepa.prepare", "jepa.sweep.searching", "jepa.sweep.packed_core", "jepa.results.cli"),
    "jepa.import_config",
)
ENTRIES = {
    "run": ("jepa.run", "command_line"),
    "results": ("jepa.results.cli", "main"),
    "plan": ("jepa.plan", "command_line"),
    "import_config": ("jepa.import_config", "command_line"),
}


def main() -> None:
    """Serve until the standard input ends."""
    for name in PRELOADED:
        importlib.import_module(name)
    sys.modules["hydra.core.plugins"].Plugins.instance()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        [(verb, value)] = json.loads(line).items()
        print(json.dumps(start(value) if verb == "start" else poll(value)), flush=True)


def start(request: dict[str, Any]) -> dict[str, int]:
    """Fork a command."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = command(request)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return {"pid": child}


def poll(child: int) -> dict[str, int | None]:
    """The exit code of a command, if it has ended."""
    ended, status = os.waitpid(child, os.WNOHANG)
    return {"code": os.waitstatus_to_exitcode(status) if ended else None}


def command(request: dict[str, Any]) -> int:
    """Become the command that ``request`` asks for, and run it."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    sys.path.insert(0, os.getcwd())  # as "python -m" does
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the process's own
    os.environ.update(request["environment"])
    arguments = request["arguments"]
    watch(request["folder"], request["count_file"], request["kill_at"], request["kill_leader"])
    while time.monotonic() < request["at"]:
        time.sleep(0.001)
    try:
        if request["module"] == "script":
            sys.argv = arguments
            sys.path.insert(0, os.path.dirname(arguments[0]))
            runpy.run_path(arguments[0], run_name="__main__")
            return 0
        module, function = ENTRIES[request["module"]]
        sys.argv = [f"{module}.py", *arguments]
        return int(getattr(importlib.import_module(module), function)(arguments) or 0)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


if __name__ == "__main__":
    main()
