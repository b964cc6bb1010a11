"""Where a result comes from: versions, commit, command, time. Torch-free."""

from __future__ import annotations

import functools
import platform
import shlex
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from jepa import __version__

_CHECKOUT = Path(__file__).resolve().parent.parent


def timestamp() -> str:
    """Now, as ISO 8601 in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of this package, of torch and of Python."""
    return {"jepa": __version__, "torch": metadata.version("torch"), "python": platform.python_version()}


@functools.cache
def git_commit() -> str | None:
    """The checkout's commit, with ``-dirty`` where tracked files differ from it; None outside a checkout."""
    if not (_CHECKOUT / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def command(overrides: Sequence[str]) -> str:
    """The command line that runs this configuration again, alone."""
    return shlex.join(["python", "-m", "jepa.run", *overrides])


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(_CHECKOUT), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()
