"""Starting, watching, killing and reading sweeps, for the engine's tests."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sweep_app

APP = Path(__file__).parent / "sweep_app.py"
REPOSITORY = Path(__file__).parent.parent


def start(
    arguments: list[str], folder: Path, *, app: list[str] | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Start a sweep of the pretending program in ``folder``, in a process group of its own."""
    command = [sys.executable, *(app or [str(APP)]), *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(arguments: list[str], **environment: str) -> Finished:
    """Run a sweep of the pretending program to its end, in this process and its working folder."""
    out, err = io.StringIO(), io.StringIO()
    argv, before = sys.argv, dict(os.environ)
    os.environ.update(environment)
    sys.argv = [str(APP), *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _exit_code(arguments)
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(before)
    return Finished(code, out.getvalue(), err.getvalue())


def _exit_code(arguments: list[str]) -> int:
    try:
        return sweep_app.command_line(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1


class Finished:
    """How a sweep ended, and what it said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


def finish(process: subprocess.Popen[str], timeout_s: float = 120.0) -> Finished:
    """Wait for a sweep; a stuck one is ended."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"stuck\n{out}\n{err}") from None
    return Finished(process.returncode, out, err)


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """By job hash, what is the same whenever and however often a job was run."""
    found = {}
    for path in sorted(folder.glob("*/result.json")):
        result = json.loads(path.read_text())
        found[path.parent.name] = {
            key: result.get(key) for key in ("status", "objective", "chain", "overrides", "metrics")
        }
    return found


def starts(folder: Path) -> dict[str, list[int]]:
    """By job hash, the epochs from which its runs started."""
    return {path.parent.name: [int(line) for line in path.read_text().split()] for path in folder.glob("*/starts.txt")}


def wait_for(condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Wait until ``condition`` holds, and return what it returned."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def wait_held(folder: Path, total: int, jobs: int) -> None:
    """Wait until so many jobs of a sweep started with ``FAKE_HOLD=total`` are held, each in its middle."""
    wait_for(lambda: len(list(folder.glob(f"*/held_{total}"))) == jobs)


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The joblib worker processes of a sweep, found through /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent == process.pid and b"joblib.externals.loky.backend.popen_loky_posix" in words:
            found.append(int(entry.name))
    return found


def kill_hard(process: subprocess.Popen[str]) -> None:
    """SIGKILL, which nobody can catch."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
